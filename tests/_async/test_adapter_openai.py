"""The adapter for OpenAI, alone, with the real SDK over sockets."""

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from pynector._async.adapters.openai import AsyncOpenAIAdapter
from pynector._messages.sdk import SdkMessage, ToolCall
from pynector._sdk.events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from pynector._sdk.request import SdkRequest, make_request
from pynector.concurrency import current_time, move_on_after
from pynector.errors import (
    ConfigurationError,
    ConnectionError,
    ConnectionTimeoutError,
    IncompleteStreamError,
    RateLimitError,
    SdkTransportError,
)
from servers.openai_wire import embedding
from servers.provider_server import ProviderServer
from servers.scripted import Connection, ScriptedServer

KEY = "sk-canary-key-0123456789"
TOOL = {"name": "look_up", "parameters": {"type": "object", "properties": {"of": {"type": "string"}}}}

pytestmark = pytest.mark.usefixtures("no_leaks")


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
def provider(openai_server: ProviderServer) -> ProviderServer:
    openai_server.app.forget()
    return openai_server


@pytest.fixture(params=["chat", "responses"])
async def adapter(request: pytest.FixtureRequest, provider: ProviderServer) -> AsyncIterator[AsyncOpenAIAdapter]:
    made = AsyncOpenAIAdapter(KEY, provider.url, 0.4, api=request.param)
    await made.connect()
    yield made
    await made.aclose()


def asked(data: Any, **fields: Any) -> SdkRequest:
    return make_request(data, fields, {"model": "gpt-5"})


async def told(adapter: AsyncOpenAIAdapter, request: SdkRequest) -> Exception:
    """The error that a request comes to, as the transport hands it on."""
    try:
        await adapter.complete(request)
    except Exception as error:
        return adapter.translate_error(error)
    raise AssertionError("it was answered")


@asynccontextmanager
async def reading(stream: AsyncGenerator[StreamEvent, None]) -> AsyncIterator[AsyncGenerator[StreamEvent, None]]:
    """As the transport reads it: closed, however it ends."""
    try:
        yield stream
    finally:
        await stream.aclose()


async def events_of(stream: AsyncGenerator[StreamEvent, None]) -> list[StreamEvent]:
    async with reading(stream) as events:
        return [event async for event in events]


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


def end_of(events: list[StreamEvent]) -> SdkMessage:
    assert isinstance(events[-1], EndEvent)
    return events[-1].message


async def test_a_prompt_is_answered(adapter: AsyncOpenAIAdapter, provider: ProviderServer) -> None:
    request = asked("Hello there, you?", system="Be brief.", temperature=0.0, headers={"x-trace": "7"})
    message = await adapter.complete(request)
    assert (message.text, message.model, message.finish_reason) == ("echo: Hello there, you?", "gpt-5", "stop")
    assert message.usage is not None
    assert (message.usage.input_tokens, message.usage.output_tokens, message.usage.cached_tokens) == (5, 4, 2)
    assert message.request_id == message.headers["x-request-id"]
    assert message.headers["x-ratelimit-limit-requests"] == "10000"
    [received] = provider.app.requests
    assert (received.body["temperature"], received.headers["x-trace"]) == (0.0, "7")
    assert received.headers["authorization"] == f"Bearer {KEY}"


async def test_the_old_name_of_max_tokens_for_other_servers(provider: ProviderServer) -> None:
    adapter = AsyncOpenAIAdapter(KEY, provider.url)
    message = await adapter.complete(asked("one two three", max_tokens=2))
    await adapter.aclose()
    assert (message.text, message.finish_reason) == ("echo: one", "length")
    assert provider.app.requests[0].body["max_tokens"] == 2


async def test_what_only_the_provider_knows_goes_over_all_else(provider: ProviderServer) -> None:
    adapter = AsyncOpenAIAdapter(KEY, provider.url, organization="org-1", project="p-1", default_query={"v": "1"})
    await adapter.complete(asked("Hello", temperature=1.0, extra={"temperature": 0.5, "of_a_gateway": {"a": 1}}))
    await adapter.aclose()
    [received] = provider.app.requests
    assert (received.body["temperature"], received.body["of_a_gateway"]) == (0.5, {"a": 1})
    assert (received.headers["openai-organization"], received.headers["openai-project"]) == ("org-1", "p-1")


async def test_tools_are_called(adapter: AsyncOpenAIAdapter) -> None:
    message = await adapter.complete(asked("call look_up a tree", tools=[TOOL]))
    [call] = message.tool_calls
    assert (call.name, call.arguments, message.finish_reason) == ("look_up", {"of": "a tree"}, "tool_calls")
    answered = [
        {"role": "user", "content": "call look_up a tree"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call.id, "content": "It is an oak."},
    ]
    assert (await adapter.complete(asked({"messages": answered}, tools=[TOOL]))).text == "echo: It is an oak."
    named = await adapter.complete(asked("a tree", tools=[TOOL], tool_choice="look_up"))
    assert named.tool_calls[0].arguments == {"of": "a tree"}


async def test_an_answer_in_the_form_that_was_asked_for(adapter: AsyncOpenAIAdapter) -> None:
    message = await adapter.complete(asked("Ulm", response_format=City))
    assert message.parsed == City(name="Ulm", people=3)
    events = await events_of(adapter.stream(asked("Ulm", response_format=City)))
    assert end_of(events).parsed == City(name="Ulm", people=3)


async def test_a_stream(adapter: AsyncOpenAIAdapter) -> None:
    request = asked("one two three")
    whole = await adapter.complete(request)
    events = await events_of(adapter.stream(request))
    assert [event for event in events if isinstance(event, TextEvent)] == [
        TextEvent(each) for each in ("echo:", " one", " two", " three")
    ]
    message = end_of(events)
    assert isinstance(events[-2], UsageEvent)
    assert events[-2].usage == message.usage == whole.usage
    assert (message.text, message.finish_reason, message.model) == (whole.text, "stop", "gpt-5")
    assert message.request_id == message.headers["x-request-id"] != whole.request_id


async def test_streamed_calls_of_tools(adapter: AsyncOpenAIAdapter) -> None:
    request = asked('call look_up {"of": "an oak"}; call look_up', tools=[TOOL])
    events = await events_of(adapter.stream(request))
    calls = end_of(events).tool_calls
    assert [call.arguments for call in calls] == [{"of": "an oak"}, {"of": ""}]
    assert end_of(events).finish_reason == "tool_calls"
    pieces = [event for event in events if isinstance(event, ToolCallEvent)]
    for number, call in enumerate(calls):
        own = [event for event in pieces if event.index == number]
        assert {(event.id, event.name) for event in own} == {(call.id, "look_up")}
        assert own[0].arguments == ""
        assert len(own) > 2 or number
        parsed = "".join(event.arguments for event in own)
        assert ToolCall(call.id, call.name, {"of": call.arguments["of"]}) == call
        assert call.arguments["of"] in parsed


async def test_streams_use_one_connection(adapter: AsyncOpenAIAdapter, provider: ProviderServer) -> None:
    before = provider.server.connections.total
    for number in range(3):
        assert text_of(await events_of(adapter.stream(asked(f"again {number}")))) == f"echo: again {number}"
        await adapter.complete(asked("and whole"))
    assert provider.server.connections.total - before == 1


async def test_a_stream_that_nobody_reads_to_its_end(adapter: AsyncOpenAIAdapter, provider: ProviderServer) -> None:
    provider.app.pause = 0.05
    try:
        async with reading(adapter.stream(asked("one two three four five"))) as events:
            assert await anext(events) == TextEvent("echo:")
    finally:
        provider.app.pause = 0.0
    assert text_of(await events_of(adapter.stream(asked("and now")))) == "echo: and now"


async def test_a_stream_that_is_cancelled(adapter: AsyncOpenAIAdapter) -> None:
    seen: list[StreamEvent] = []
    with move_on_after(0.15) as scope:
        async with reading(adapter.stream(asked("one two three scenario=stall"))) as events:
            async for event in events:
                seen.append(event)
    assert scope.cancelled_caught
    assert seen[0] == TextEvent("echo:")
    assert (await adapter.complete(asked("and now"))).text == "echo: and now"


@pytest.mark.parametrize("fault", ["drop_mid", "stall", "truncate", "malformed"])
async def test_a_stream_that_breaks_off(adapter: AsyncOpenAIAdapter, fault: str) -> None:
    seen: list[StreamEvent] = []
    with pytest.raises(IncompleteStreamError) as caught:
        async with reading(adapter.stream(asked(f"one two three scenario={fault}"))) as events:
            async for event in events:
                seen.append(event)
    error = caught.value
    assert (error.partial, error.provider) == (text_of(seen), "openai")
    assert error.partial
    assert (error.request_id or "").startswith("req_")
    kinds = {"drop_mid": ConnectionError, "stall": ConnectionTimeoutError, "malformed": SdkTransportError}
    assert isinstance(error.__cause__, kinds.get(fault, type(None)))
    assert (await adapter.complete(asked("and now"))).text == "echo: and now"


@pytest.mark.parametrize("fault", ["error_event", "failed"])
async def test_a_stream_in_which_an_error_is_told(adapter: AsyncOpenAIAdapter, fault: str) -> None:
    with pytest.raises(Exception, match="The server had an error") as caught:
        await events_of(adapter.stream(asked(f"one two three scenario={fault}")))
    error = adapter.translate_error(caught.value)
    assert type(error) is SdkTransportError
    assert (error.status_code, error.code, error.transient) == (500, "server_error", True)


@pytest.mark.parametrize("fault", ["empty", "html"])
async def test_what_is_no_stream(adapter: AsyncOpenAIAdapter, fault: str) -> None:
    with pytest.raises(IncompleteStreamError) as caught:
        await events_of(adapter.stream(asked(f"Hello scenario={fault}")))
    assert caught.value.partial == ""
    assert ("Sign in" in str(caught.value)) is (fault == "html")


@pytest.mark.parametrize("fault", ["drop", "stall_before", "429", "hard_quota"])
async def test_a_stream_that_does_not_begin(adapter: AsyncOpenAIAdapter, fault: str) -> None:
    kinds = {"drop": ConnectionError, "stall_before": ConnectionTimeoutError}
    try:
        await events_of(adapter.stream(asked(f"Hello scenario={fault}")))
    except Exception as error:
        error = adapter.translate_error(error)
        assert type(error) is kinds.get(fault, RateLimitError)
        assert error.transient is (fault != "hard_quota")
    else:
        raise AssertionError("it began")


@pytest.mark.parametrize("fault", ["malformed", "empty", "html", "wrong_type"])
async def test_what_is_no_answer(adapter: AsyncOpenAIAdapter, fault: str) -> None:
    error = await told(adapter, asked(f"Hello scenario={fault}"))
    assert type(error) is SdkTransportError
    assert (error.status_code, error.provider, error.transient) == (200, "openai", False)
    assert (error.request_id or "").startswith("req_")
    shown = {"malformed": '{"id":', "empty": "empty", "html": "<!doctype", "wrong_type": "text/plain"}
    assert shown[fault] in str(error)


@pytest.mark.parametrize("fault", ["error_event", "failed"])
async def test_an_error_with_the_status_200(adapter: AsyncOpenAIAdapter, fault: str) -> None:
    error = await told(adapter, asked(f"Hello scenario={fault}"))
    assert type(error) is SdkTransportError
    assert (error.code, error.transient) == ("server_error", True)
    assert "The server had an error" in str(error)


async def test_embeddings(adapter: AsyncOpenAIAdapter, provider: ProviderServer) -> None:
    request = asked({"input": ["a tree", "two"]}, model="text-embedding-3-small", extra={"dimensions": 3})
    message = await adapter.complete(request)
    assert message.embeddings == [embedding("a tree", 3), embedding("two", 3)]
    assert message.usage is not None
    assert message.usage.input_tokens == 3
    assert provider.app.requests[0].body["encoding_format"] == "float"
    with pytest.raises(ConfigurationError, match="in one piece"):
        await events_of(adapter.stream(request))
    with pytest.raises(ConfigurationError, match="tools is for answers in words"):
        adapter.check(asked({"input": "a tree"}, tools=[TOOL]))
    assert provider.app.count() == 1


# Of a client that is not ours the SDK leaves to the garbage collector what reads the events.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_a_client_of_ones_own(provider: ProviderServer) -> None:
    client = openai.AsyncOpenAI(api_key=KEY, base_url=provider.url, max_retries=5)
    adapter = AsyncOpenAIAdapter(client=client)
    assert (await adapter.complete(asked("Hello"))).text == "echo: Hello"
    assert text_of(await events_of(adapter.stream(asked("Hello you")))) == "echo: Hello you"
    async with reading(adapter.stream(asked("one two three four five"))) as events:
        assert await anext(events) == TextEvent("echo:")
    with pytest.raises(IncompleteStreamError):
        await events_of(adapter.stream(asked("one two three scenario=drop_mid")))
    assert isinstance(await told(adapter, asked("Hello scenario=500")), SdkTransportError)
    assert provider.app.count("Hello scenario=500") == 1
    await adapter.aclose()
    assert (await adapter.complete(asked("open still"))).text == "echo: open still"
    await client.close()


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigurationError, match="api: 'completions' is not accepted"):
        AsyncOpenAIAdapter(KEY, api="completions")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="organization"):
        AsyncOpenAIAdapter(KEY, organisation="org-1")
    assert "canary" not in repr(AsyncOpenAIAdapter(KEY)) + repr(vars(AsyncOpenAIAdapter(KEY)))


def test_the_sdk_is_imported_on_first_use() -> None:
    code = f"""
import sys
import {AsyncOpenAIAdapter.__module__} as module
module.AsyncOpenAIAdapter("sk-of-a-test")
print([name for name in ("openai", "httpx2", "pydantic") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_body_that_does_not_end_after_its_end_mark() -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\n'
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + chunk + b"data: [DONE]\n\n"

    def answer_and_stay(conn: Connection) -> None:
        conn.read_request()
        conn.send(answer)
        assert conn.wait(5)  # for the client to leave

    with ScriptedServer(answer_and_stay) as server:
        adapter = AsyncOpenAIAdapter(KEY, server.url, 20.0)
        began = current_time()
        assert text_of(await events_of(adapter.stream(asked("Hello?")))) == "Hello"
        assert current_time() - began < 2
        await adapter.aclose()
