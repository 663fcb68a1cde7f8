"""The adapter for Anthropic alone, through the real SDK and over sockets."""

import gc
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from pynector._async.adapters.anthropic import AsyncAnthropicAdapter
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import move_on_after
from pynector._sdk.events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from pynector._sdk.request import SdkRequest, make_request
from pynector.errors import (
    ConfigurationError,
    ConnectionError,
    ConnectionTimeoutError,
    IncompleteStreamError,
    InvalidRequestError,
    RateLimitError,
    SdkTransportError,
    TransportError,
)
from pynector.testing import LocalServer
from servers.anthropic_wire import AnthropicApp
from servers.provider import Received

KEY = "sk-canary-key"
WEATHER = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class City(BaseModel):
    name: str


@pytest.fixture
def app() -> AnthropicApp:
    return AnthropicApp()


@pytest.fixture
def provider(app: AnthropicApp) -> Iterator[LocalServer]:
    with LocalServer(app) as server:
        yield server


@pytest.fixture
async def adapter(provider: LocalServer) -> AsyncIterator[AsyncAnthropicAdapter]:
    made = AsyncAnthropicAdapter(KEY, provider.url, timeout=0.5)
    yield made
    await made.aclose()


def ask(data: Any, **fields: Any) -> SdkRequest:
    return make_request(data, {"model": "claude-sonnet-5-5", **fields}, {})


async def events_of(adapter: AsyncAnthropicAdapter, request: SdkRequest) -> list[StreamEvent]:
    return [event async for event in adapter.stream(request)]


async def failure_of(
    adapter: AsyncAnthropicAdapter, request: SdkRequest, *, streamed: bool, seen: list[StreamEvent]
) -> Exception:
    try:
        if streamed:
            async for event in adapter.stream(request):
                seen.append(event)
        else:
            await adapter.complete(request)
    except Exception as error:
        return adapter.translate_error(error)
    pytest.fail("it did not fail")


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


# What goes over the wire


async def test_a_request_on_the_wire(adapter: AsyncAnthropicAdapter, app: AnthropicApp) -> None:
    request = ask("Hi", system="Be brief.", temperature=0.0, stop="END", headers={"X-Mine": "yes"}, extra={"top_k": 3})
    adapter.check(request)
    answer = await adapter.complete(request)
    [received] = app.requests
    assert received.path == "/messages"
    assert received.body == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": "Be brief.",
        "stop_sequences": ["END"],
        "temperature": 0.0,
        "top_k": 3,
    }
    assert KEY in (received.headers.get("x-api-key", "") + received.headers.get("authorization", ""))
    assert received.headers["x-mine"] == "yes"
    assert (answer.text, answer.finish_reason, answer.model) == ("echo: Hi", "stop", "claude-sonnet-5-5")
    assert answer.request_id == answer.headers["request-id"]
    assert answer.request_id
    assert isinstance(answer.raw, anthropic.types.Message)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.cached_tokens, answer.usage.cache_write_tokens) == (3, 1, 0)


async def test_headers_and_options_of_the_adapter(provider: LocalServer, app: AnthropicApp) -> None:
    adapter = AsyncAnthropicAdapter(KEY, provider.url, headers={"X-Mine": "yes"}, default_query={"beta": "true"})
    await adapter.complete(ask("Hi"))
    await adapter.aclose()
    assert app.requests[0].headers["x-mine"] == "yes"
    assert provider.requests.recent[0].query == [("beta", "true")]
    with pytest.raises(ConfigurationError, match="organization"):
        AsyncAnthropicAdapter(KEY, organization="mine")


async def test_a_long_answer_in_one_piece_is_no_error_of_the_sdk(adapter: AsyncAnthropicAdapter) -> None:
    assert (await adapter.complete(ask("Hi", max_tokens=1_000_000))).text == "echo: Hi"


async def test_tools_and_the_form_of_an_answer(adapter: AsyncAnthropicAdapter) -> None:
    for text, wanted in (("call weather Oslo", {"city": "Oslo"}), ('call weather {"city": "Rome"}', {"city": "Rome"})):
        answer = await adapter.complete(ask(text, tools=[WEATHER]))
        events = await events_of(adapter, ask(text, tools=[WEATHER]))
        pieces = [event for event in events if isinstance(event, ToolCallEvent)]
        assert isinstance(events[-1], EndEvent)
        for message in (answer, events[-1].message):
            assert message.finish_reason == "tool_calls"
            assert [(call.name, call.arguments) for call in message.tool_calls] == [("weather", wanted)]
        assert [pieces[0].name, pieces[0].arguments] == ["weather", ""]
        assert {piece.id for piece in pieces} == {events[-1].message.tool_calls[0].id}
        back = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": "", "tool_calls": list(answer.tool_calls)},
            {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "rain"},
        ]
        assert (await adapter.complete(ask({"messages": back}, tools=[WEATHER]))).text == "echo: rain"
    assert (await adapter.complete(ask("Oslo", response_format=City))).parsed == City(name="Oslo")
    assert (await events_of(adapter, ask("Oslo", response_format=City)))[-1].message.parsed == City(name="Oslo")  # type: ignore[union-attr]


async def test_a_stream(adapter: AsyncAnthropicAdapter, app: AnthropicApp) -> None:
    events = await events_of(adapter, ask("one two three"))
    assert app.requests[0].body["stream"] is True
    assert text_of(events) == "echo: one two three"
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert end.message.text == "echo: one two three"
    assert end.message.finish_reason == "stop"
    assert end.message.request_id
    assert isinstance(end.message.raw, anthropic.types.Message)
    assert end.message.raw.content[0].text == "echo: one two three"
    usages = [event.usage for event in events if isinstance(event, UsageEvent)]
    assert usages[-1] == end.message.usage
    assert usages[0].input_tokens == usages[-1].input_tokens > 0
    plain = await adapter.complete(ask("one two three"))
    assert (plain.usage, plain.text) == (end.message.usage, end.message.text)


async def test_connections_are_used_again(adapter: AsyncAnthropicAdapter, provider: LocalServer) -> None:
    for _ in range(3):
        await adapter.complete(ask("Hi"))
        await events_of(adapter, ask("Hi"))
    assert provider.connections.total == 1


# What goes wrong

UNEXPECTED = "200, but the body"
FAULTS: dict[tuple[str, bool], tuple[type[TransportError], str]] = {
    ("400", False): (InvalidRequestError, "400"),
    ("400", True): (InvalidRequestError, "400"),
    ("429_after", False): (RateLimitError, "429"),
    ("429_after", True): (RateLimitError, "429"),
    ("529", False): (SdkTransportError, "529: Overloaded"),
    ("529", True): (SdkTransportError, "529: Overloaded"),
    ("error_event", False): (SdkTransportError, "529: Overloaded"),
    ("error_event", True): (SdkTransportError, "529: Overloaded"),
    ("empty", False): (SdkTransportError, r"200, but the body \(application/json\) is not a message: it is empty"),
    ("empty", True): (IncompleteStreamError, "without its end marker, after 0"),
    ("html", False): (SdkTransportError, r"is not a message: it begins with '<!doctype html>"),
    ("html", True): (IncompleteStreamError, r"is not a stream of events: it begins with '<!doctype html>"),
    ("malformed", False): (SdkTransportError, r"is not a message: it begins with '{\"id\""),
    ("malformed", True): (IncompleteStreamError, "broke off"),
    ("wrong_type", False): (SdkTransportError, r"the body \(text/plain; charset=utf-8\) is not a message"),
    ("truncate", True): (IncompleteStreamError, "without its end marker"),
    ("drop", False): (ConnectionError, ""),
    ("drop", True): (ConnectionError, ""),
    ("drop_mid", True): (IncompleteStreamError, "broke off"),
    ("stall", False): (ConnectionTimeoutError, ""),
    ("stall", True): (IncompleteStreamError, "broke off"),
}


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize(("fault", "streamed"), FAULTS)
async def test_faults(adapter: AsyncAnthropicAdapter, app: AnthropicApp, fault: str, streamed: bool) -> None:
    text = f"tell me all scenario={fault}"
    cls, words = FAULTS[fault, streamed]
    seen: list[StreamEvent] = []
    error = await failure_of(adapter, ask(text), streamed=streamed, seen=seen)
    gc.collect()  # what was left half way would be reported
    assert type(error) is cls, repr(error)
    assert re.search(words, str(error))
    assert app.count(text) == 1  # the SDK does not try again
    if isinstance(error, IncompleteStreamError):
        assert error.partial == text_of(seen)
        assert bool(error.partial) is (fault not in ("empty", "html"))
        assert error.request_id
    if fault in ("stall", "drop_mid") and streamed:
        assert isinstance(error.__cause__, ConnectionError)
    assert KEY not in f"{error!r} {error.__cause__!r}"
    assert (await adapter.complete(ask("and now"))).text == "echo: and now"


async def test_the_events_are_read_whatever_they_are_called(adapter: AsyncAnthropicAdapter) -> None:
    text = "tell me all scenario=wrong_type"
    assert text_of(await events_of(adapter, ask(text))) == f"echo: {text}"


class Babbler(AnthropicApp):
    """Goes on after the end of its answer, with what is no event."""

    def events(self, received: Received) -> list[bytes]:
        return [*super().events(received), self.broken_event(received)]


async def test_nothing_spoils_an_answer_after_its_end() -> None:
    with LocalServer(Babbler()) as server:
        adapter = AsyncAnthropicAdapter(KEY, server.url)
        events = await events_of(adapter, ask("Hi"))
        await adapter.aclose()
    assert isinstance(events[-1], EndEvent)
    assert events[-1].message.text == "echo: Hi"


@pytest.mark.usefixtures("no_leaks")
async def test_a_stream_that_nobody_wants_the_rest_of(
    adapter: AsyncAnthropicAdapter, app: AnthropicApp, provider: LocalServer
) -> None:
    app.pause = 0.02
    for wanted in (1, 2, 4):
        events = adapter.stream(ask("one two three four five six seven eight nine ten"))
        for _ in range(wanted):
            await anext(events)
        await events.aclose()
    del events
    gc.collect()
    assert (await adapter.complete(ask("Hi"))).text == "echo: Hi"
    with move_on_after(5):
        while provider.connections.open > 1:
            await sleep(0.01)
    assert provider.connections.open == 1


@pytest.mark.usefixtures("no_leaks")
async def test_a_stall_is_left_at_once_when_the_time_is_up(
    provider: LocalServer, adapter: AsyncAnthropicAdapter
) -> None:
    patient = AsyncAnthropicAdapter(KEY, provider.url, timeout=30)
    for streamed in (False, True):
        with move_on_after(0.2) as scope:
            if streamed:
                await events_of(patient, ask("tell me all scenario=stall"))
            else:
                await patient.complete(ask("tell me all scenario=stall"))
        assert scope.cancelled_caught
    await patient.aclose()


# The client inside


def spans_of(client: Any) -> bool:
    """Whether the SDK makes spans; its first versions can't."""
    return hasattr(client, "open_telemetry") and client.open_telemetry["traces"]["enabled"] is not False


async def test_the_spans_of_the_sdk_are_switched_off(adapter: AsyncAnthropicAdapter) -> None:
    await adapter.connect()
    assert not spans_of(adapter._client)
    assert adapter._client.max_retries == 0


async def test_a_client_of_your_own(provider: LocalServer, app: AnthropicApp) -> None:
    own = anthropic.AsyncAnthropic(api_key="sk-own", base_url=provider.url, timeout=2, max_retries=5)
    app.pause = 0.02  # so that its first events are read before it breaks off
    adapter = AsyncAnthropicAdapter(client=own)
    assert (await adapter.complete(ask("Hi", max_tokens=1_000_000))).text == "echo: Hi"
    assert not spans_of(adapter._client)
    assert spans_of(own) is hasattr(own, "open_telemetry")
    for fault in ("drop_mid", "malformed", "error_event", "truncate"):
        text = f"tell me all scenario={fault}"
        error = await failure_of(adapter, ask(text), streamed=True, seen=[])
        assert type(error) is (SdkTransportError if fault == "error_event" else IncompleteStreamError)
        assert app.count(text) == 1
    events = adapter.stream(ask("one two three"))
    assert isinstance(await anext(events), UsageEvent)
    await events.aclose()
    await adapter.aclose()
    assert (await own.messages.create(model="claude-x", max_tokens=5, messages=[{"role": "user", "content": "Hi"}])).id
    await own.close()


async def test_a_key_is_nowhere_to_be_seen(adapter: AsyncAnthropicAdapter) -> None:
    await adapter.connect()
    assert KEY not in repr(adapter)
    assert KEY not in repr(vars(adapter))
