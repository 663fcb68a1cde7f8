"""What users do with language models, over the real SDKs and servers that speak their wire formats."""

import gc
import importlib.util
import json
import pickle
import socket
from typing import Any

import pytest

from pynector import AsyncPynector, RateLimit
from pynector._policies.rate_limit import RateLimiter, Ticket
from pynector.errors import (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    IncompleteStreamError,
    SdkTransportError,
    TimeoutError,
)
from pynector.testing import LocalServer, ServerRequest, ServerResponse
from pynector.transport import Message
from pynector.transport.sdk import (
    AsyncSdkTransport,
    AsyncSdkTransportFactory,
    EndEvent,
    SdkMessage,
    TextEvent,
    ToolCall,
    ToolCallEvent,
    UsageEvent,
)
from servers.provider_server import ProviderServer

pytestmark = pytest.mark.needs("openai", "anthropic")

WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CITY = {
    "title": "City",
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


def client_of(provider: ProviderServer, **options: Any) -> AsyncPynector:
    return AsyncPynector(**provider.options(**options), retry=None)


def body_of(provider: ProviderServer) -> dict[str, Any]:
    return dict(provider.app.requests[-1].body)


async def test_a_prompt(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        message = await client.request("Name three rivers.")
    assert isinstance(message, SdkMessage)
    assert isinstance(message, Message)
    assert message.text == "echo: Name three rivers."
    assert (message.finish_reason, message.tool_calls, message.parsed) == ("stop", (), None)
    assert message.model.startswith(provider.model)
    assert message.usage.input_tokens == 3
    assert message.usage.output_tokens == 4
    assert message.usage.cached_tokens == 1
    assert message.request_id
    assert message.raw is not None
    assert message.headers["content-type"] == "application/json"
    assert provider.app.count() == 1


async def test_bytes_are_text(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        assert (await client.request("Größe?".encode())).text == "echo: Größe?"


async def test_the_same_words_for_every_provider(provider: ProviderServer) -> None:
    """What is asked is the same mapping; what goes over the wire is each provider's own."""
    asked = {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "One two three four five six"},
        ],
        "max_tokens": 3,
        "temperature": 0.0,
    }
    async with client_of(provider) as client:
        message = await client.request(asked)
    assert message.text.split() == ["echo:", "One", "two"]
    assert message.finish_reason == "length"
    assert body_of(provider)["temperature"] == 0.0


async def test_options_of_client_call_and_request(provider: ProviderServer) -> None:
    async with client_of(provider, temperature=0.1, max_tokens=50) as client:
        await client.request("a")
        assert body_of(provider)["temperature"] == 0.1
        await client.request("a", temperature=0.2)
        assert body_of(provider)["temperature"] == 0.2
        await client.request({"prompt": "a", "temperature": 0.3}, temperature=0.2)
        assert body_of(provider)["temperature"] == 0.3
        await client.request("a", extra={"temperature": 0.4, "of_the_future": [1]})
        assert body_of(provider)["temperature"] == 0.4
        assert body_of(provider)["of_the_future"] == [1]
        await client.request("a", headers={"x-own": "1"})
        assert provider.app.requests[-1].headers["x-own"] == "1"


async def test_a_conversation_with_a_tool(provider: ProviderServer) -> None:
    talk: list[Any] = [{"role": "user", "content": 'call weather {"city": "Oslo", "days": 3}'}]
    async with client_of(provider, tools=[WEATHER]) as client:
        first = await client.request({"messages": talk})
        assert first.finish_reason == "tool_calls"
        (call,) = first.tool_calls
        assert call == ToolCall(call.id, "weather", {"city": "Oslo", "days": 3})
        talk += [
            {"role": "assistant", "content": first.text, "tool_calls": first.tool_calls},
            {"role": "tool", "tool_call_id": call.id, "content": "rain"},
        ]
        second = await client.request({"messages": talk})
        assert (second.text, second.finish_reason) == ("echo: rain", "stop")
        forced = await client.request("no call", tool_choice="weather")
        assert [each.name for each in forced.tool_calls] == ["weather"]


async def test_a_schema(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        message = await client.request("Oslo", response_format=CITY)
    assert message.parsed == {"name": "Oslo", "people": 4}
    assert json.loads(message.text) == message.parsed


async def test_a_pydantic_model(provider: ProviderServer) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str
        people: int

    async with client_of(provider) as client:
        message = await client.request("Oslo", response_format=City)
        cut = await client.request("Oslo in Norway", response_format=City, max_tokens=1)
    assert message.parsed == City(name="Oslo", people=4)
    assert (cut.parsed, cut.finish_reason) == (None, "length")


async def test_a_picture(provider: ProviderServer) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "data": b"\x89PNG", "media_type": "image/png"},
    ]
    async with client_of(provider) as client:
        message = await client.request({"messages": [{"role": "user", "content": parts}]})
    assert message.text == "echo: What is this?"
    assert "iVBORw==" in json.dumps(body_of(provider)) or "iVBORw" in json.dumps(body_of(provider))


async def test_a_stream_of_text(provider: ProviderServer) -> None:
    async with client_of(provider) as client, client.stream("Tell me a story.") as answer:
        assert answer.message is None
        pieces = [piece async for piece in answer]
        assert len(pieces) > 2
        assert "".join(pieces) == answer.text == "echo: Tell me a story."
        assert answer.finish_reason == "stop"
        assert answer.usage == answer.message.usage
        assert answer.usage.input_tokens == 4
        assert answer.message.request_id
        assert answer.message.text == answer.text


async def test_events_of_a_stream(provider: ProviderServer) -> None:
    text = 'call weather {"city": "Oslo", "days": 3}'
    async with client_of(provider, tools=[WEATHER]) as client, client.stream(text) as answer:
        events = [event async for event in answer.events()]
    calls = [event for event in events if isinstance(event, ToolCallEvent)]
    assert {event.name for event in calls} == {"weather"}
    assert len(calls) > 2
    assert json.loads("".join(event.arguments for event in calls)) == {"city": "Oslo", "days": 3}
    assert any(isinstance(event, UsageEvent) for event in events)
    assert not any(isinstance(event, TextEvent) for event in events)
    end = events[-1]
    assert isinstance(end, EndEvent)
    assert end.message.tool_calls[0].arguments == {"city": "Oslo", "days": 3}
    assert end.message.finish_reason == "tool_calls"


async def test_a_stream_that_is_left(provider: ProviderServer, no_leaks: None) -> None:
    async with client_of(provider) as client:
        async with client.stream("one two three four five six seven") as answer:
            async for _ in answer:
                break
        async with client.stream("one two three four five six seven") as answer:
            async for event in answer.events():
                if isinstance(event, TextEvent):
                    break
            gc.collect()  # trio would warn of a generator that is left
            assert (await answer.read()).text == answer.text == "echo: one two three four five six seven"
            assert [event async for event in answer.events()] == []
        async with client.stream("nothing is read of this"):
            pass
        with pytest.raises(ClosedError, match="not open"):
            await answer.read()
        assert (await client.request("after")).text == "echo: after"


async def test_a_streamed_schema(provider: ProviderServer) -> None:
    async with client_of(provider) as client, client.stream("Oslo", response_format=CITY) as answer:
        assert (await answer.read()).parsed == {"name": "Oslo", "people": 4}


async def test_a_deadline(provider: ProviderServer, no_leaks: None) -> None:
    async with client_of(provider) as client:
        with pytest.raises(TimeoutError, match=r"no answer within 0\.2 s"):
            await client.request("scenario=stall_before", timeout=0.2)
        with pytest.raises(TimeoutError, match=r"not read to its end within 0\.2 s"):
            async with client.stream("and then scenario=stall", timeout=0.2) as answer:
                await answer.read()
        assert answer.text
        assert (await client.request("after")).text == "echo: after"


async def test_a_batch(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        items: list[Any] = [f"item {n}" for n in range(50)]
        items[7] = {"prompt": "item 7", "key": "seven"}
        items[8] = ({"prompt": "item 8"}, {"max_tokens": 1})
        items[9] = {"prompt": "item 9", "temprature": 1}
        results = await client.batch_request(items, max_concurrency=10, max_tokens=100)
    assert [o.value.text for o in results.outcomes if o.index not in (8, 9)] == [
        f"echo: item {n}" for n in range(50) if n not in (8, 9)
    ]
    assert results.outcomes[7].key == "seven"
    assert results[8].finish_reason == "length"
    assert isinstance(results[9], ConfigurationError)
    assert "did you mean 'temperature'" in str(results[9])
    assert results.outcomes[9].attempts == 0
    assert results.outcomes[0].usage.input_tokens == 2
    assert results.outcomes[0].request_id == results[0].request_id
    assert results.summary().usage.input_tokens == 98
    assert provider.app.count() == 49


async def test_a_batch_and_its_rate_limit(provider: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens of answers are what a rate limit counts, and headers tell it of the rest."""
    settled: list[tuple[int, int | None, int | None]] = []
    settle = RateLimiter.settle

    def seen(limiter: RateLimiter, ticket: Ticket, now: float, **used: Any) -> None:
        settled.append((ticket.tokens, used["tokens"], used["output_tokens"]))
        settle(limiter, ticket, now, **used)

    told: list[bool] = []
    monkeypatch.setattr(RateLimiter, "settle", seen)
    monkeypatch.setattr(RateLimiter, "learn", lambda _, headers, now, wall: told.append("tokens" in str(headers)))
    limit = RateLimit(requests_per_minute=60_000, tokens_per_minute=6_000_000, learn_headers=True)
    async with AsyncPynector(**provider.options(), retry=None, rate_limit=limit) as client:
        results = await client.batch_request([f"item {n}" for n in range(20)], max_tokens=1_000, max_concurrency=1)
        async with client.stream_batch(["item 20", "scenario=400"]) as run:
            outcomes = [outcome async for outcome in run]
    assert all(outcome.ok for outcome in results.outcomes)
    assert sorted(outcome.ok for outcome in outcomes) == [False, True]
    # `item`, a number, and `echo:` before them; of a refusal nothing is known, and the estimate stands.
    assert sorted(used is None for _, used, _ in settled) == [False] * 21 + [True]
    assert {each[1:] for each in settled if each[1] is not None} == {(5, 3)}
    assert told == [True] * 22
    # What the first answer was estimated by is what it may be; those behind it are as long as the others were.
    assert settled[0][0] > 1_000
    assert all(estimated < 10 for estimated, used, _ in settled[1:])


async def test_a_checkpoint(provider: ProviderServer, tmp_path: Any) -> None:
    path = tmp_path / "run.jsonl"
    items = [{"prompt": f"item {n}", "key": f"k{n}"} for n in range(10)]
    async with client_of(provider) as client:
        for source in ("network", "checkpoint"):
            async with client.stream_batch(items, checkpoint=path, ordered=True) as run:
                outcomes = [outcome async for outcome in run]
            assert [outcome.value.text for outcome in outcomes] == [f"echo: item {n}" for n in range(10)]
            assert {outcome.source for outcome in outcomes} == {source}
            assert outcomes[0].usage.input_tokens == 2
    assert provider.app.count() == 10


async def test_duplicates(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        async with client.stream_batch(["same"] * 5, dedupe=True) as run:
            texts = [outcome.value.text async for outcome in run]
    assert texts == ["echo: same"] * 5
    assert provider.app.count() == 1


async def test_a_refused_key_ends_a_batch(provider: ProviderServer) -> None:
    async with client_of(provider, api_key="wrong") as client:
        results = await client.batch_request([f"item {n}" for n in range(200)], max_concurrency=2)
    assert provider.app.count() < 20
    assert {outcome.state for outcome in results.outcomes} == {"failed", "not_sent"}


async def test_no_secret_shows(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        await client.request("hello")
        transport = client._transport
        for shown in (client, transport, transport.adapter, vars(transport), vars(transport.adapter)):
            assert "sk-canary-key" not in repr(shown)


async def test_a_message_can_be_kept(provider: ProviderServer) -> None:
    async with client_of(provider) as client:
        message = await client.request("hello", response_format=CITY)
    for copy in (SdkMessage.deserialize(message.serialize()), pickle.loads(pickle.dumps(message))):
        assert copy == message
        assert copy.usage == message.usage


async def test_a_bare_transport(provider: ProviderServer) -> None:
    options = provider.options()
    del options["transport_type"]
    transport = AsyncSdkTransport(**options)
    async with transport as sdk:
        await sdk.send("one")
        await sdk.send("two", timeout=10)
        assert [message.text async for message in sdk.receive()] == ["echo: one", "echo: two"]
        assert (await sdk.request("three")).text == "echo: three"
        async with sdk.stream("four") as answer:
            assert "".join([piece async for piece in answer]) == "echo: four"
    with pytest.raises(ClosedError):
        await transport.request("five")
    factory = AsyncSdkTransportFactory(**options)
    async with AsyncPynector(factory.create_transport(temperature=0.5)) as client:
        assert (await client.request("six")).text == "echo: six"


async def test_many_at_once_on_few_connections(provider: ProviderServer, no_leaks: None) -> None:
    before = provider.server.connections.total
    async with client_of(provider) as client:
        results = await client.batch_request([f"item {n}" for n in range(300)], max_concurrency=150)
    assert [result.text for result in results] == [f"echo: item {n}" for n in range(300)]
    # An SDK's own client opens 100 at most, or 1,000; here it is one for each worker.
    assert provider.server.connections.total - before <= 150
    # However many those are.
    assert client._transport.adapter._settings.max_connections >= 100_000


@pytest.mark.parametrize("name", ["openai", pytest.param("anthropic", marks=pytest.mark.full)])
async def test_two_thousand_completions(
    name: str, openai_server: ProviderServer, anthropic_server: ProviderServer, no_leaks: None
) -> None:
    provider = {"openai": openai_server, "anthropic": anthropic_server}[name]
    provider.app.forget()
    async with client_of(provider) as client:
        results = await client.batch_request((f"item {n}" for n in range(2_000)), max_concurrency=64)
    assert [result.text for result in results] == [f"echo: item {n}" for n in range(2_000)]
    assert provider.app.count() == 2_000


@pytest.mark.parametrize(
    ("data", "options", "text"),
    [
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, {}, "prompt and messages were given"),
        ({}, {}, "nothing is asked"),
        (7, {}, "expected a prompt"),
        ({"promt": "a"}, {}, "did you mean 'prompt'"),
        ("a", {"max_tokens": 0}, "max_tokens: 0 is not accepted"),
        ("a", {"temperature": "hot"}, "temperature: 'hot' is not accepted"),
        ("a", {"tools": [{"description": "no name"}]}, r"tools\[0\]: give"),
        ("a", {"tools": [WEATHER], "tool_choice": "wether"}, "tool_choice: 'wether' is not accepted"),
        ("a", {"response_format": 7}, "response_format: int is not accepted"),
        ({"messages": [{"role": "robot", "content": "b"}]}, {}, r"messages\[0\]: the role 'robot'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, {}, r"messages\[0\].content\[0\]: give"),
        ({"messages": [{"role": "tool", "content": "b"}]}, {}, "tool_call_id"),
        (b"\xff", {}, "not UTF-8"),
    ],
)
async def test_what_is_refused_before_anything_is_sent(
    provider: ProviderServer, data: Any, options: dict[str, Any], text: str
) -> None:
    async with client_of(provider) as client:
        with pytest.raises(ConfigurationError, match=text):
            await client.request(data, **options)
    assert provider.app.count() == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sdk_type": "opnai"}, "unknown sdk_type 'opnai': did you mean 'openai'"),
        ({"api_kee": "x"}, "unknown option 'api_kee'"),
        ({"timeout": -1}, "timeout"),
        ({"base_url": "localhost"}, "base_url: expected an http"),
        ({"base_url": "http://me:pw@localhost"}, "give the credential as api_key="),
        ({"api_key": "two words"}, "no text of printable ASCII characters without spaces"),
        ({"temperature": -1}, "temperature: -1 is not accepted"),
        ({"max_retries": -1}, "max_retries"),
        ({"adapter": 7, "api_key": None, "base_url": None, "api": None}, "adapter= is a int"),
    ],
)
def test_a_client_is_checked_when_it_is_made(options: dict[str, Any], text: str) -> None:
    given = {"transport_type": "sdk", "sdk_type": "openai", "api_key": "sk-canary-key", **options}
    if options.get("api", "") is None:
        del given["api"]
    with pytest.raises(ConfigurationError, match=text) as caught:
        AsyncPynector(**given)
    assert "pw" not in str(caught.value)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_an_sdk_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ConfigurationError, match=rf"needs the package {name}: pip install 'pynector\[{name}\]'"):
        AsyncPynector(transport_type="sdk", sdk_type=name, api_key="sk-x")


@pytest.mark.parametrize(("name", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, variable: str) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigurationError, match=f"no API key for {name}: give api_key=, or set {variable}"):
        AsyncPynector(transport_type="sdk", sdk_type=name)
    monkeypatch.setenv(variable, "sk-canary-key")
    assert "sk-canary-key" not in repr(AsyncPynector(transport_type="sdk", sdk_type=name))


# On trio the generators inside of the SDK's own stream are left to the garbage collector, by the SDK.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <async_generator object", "ignore:Async generator 'openai")
@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_a_client_of_the_users_own(
    name: str, openai_server: ProviderServer, anthropic_server: ProviderServer
) -> None:
    import anthropic
    import openai

    provider = {"openai": openai_server, "anthropic": anthropic_server}[name]
    provider.app.forget()
    made = openai.AsyncOpenAI if name == "openai" else anthropic.AsyncAnthropic
    async with made(api_key="sk-own", base_url=provider.url, max_retries=5) as own:
        options = {"transport_type": "sdk", "sdk_type": name, "model": provider.model}
        async with AsyncPynector(client=own, **options, retry=None) as client:
            assert (await client.request("hello")).text == "echo: hello"
            async with client.stream("hello") as answer:
                assert (await answer.read()).text == "echo: hello"
            with pytest.raises(SdkTransportError):
                await client.request("scenario=503")
            assert provider.app.count("scenario=503") == 1  # its own retries are switched off
            with pytest.raises(IncompleteStreamError) as caught:
                async with client.stream("and then scenario=truncate") as answer:
                    await answer.read()
            assert caught.value.partial
            refused = provider.app.count()
            with socket.socket() as nobody:
                nobody.bind(("127.0.0.1", 0))
                unreachable = own.with_options(base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
                async with AsyncPynector(client=unreachable, **options, retry=None) as nowhere:
                    (outcome,) = (await nowhere.batch_request(["hello"])).outcomes
            assert (outcome.state, outcome.attempts, outcome.error.sent) == ("failed", 1, False)
            assert provider.app.count() == refused
        assert not own.is_closed()
    other = "anthropic" if name == "openai" else "openai"
    with pytest.raises(ConfigurationError, match=f"give a client of the {other} SDK"):
        AsyncPynector(transport_type="sdk", sdk_type=other, client=own)
    with pytest.raises(ConfigurationError, match="brings its own key"):
        AsyncPynector(client=own, api_key="sk-x", **options)
    with pytest.raises(ConfigurationError, match="give a client of the"):
        AsyncPynector(client=object(), **options)


async def test_a_key_stays_at_home(provider: ProviderServer) -> None:
    """A redirect to another server is followed without the credentials."""

    def elsewhere(request: ServerRequest) -> ServerResponse:
        return ServerResponse(307, (("location", f"{provider.server.url}{request.path}"),))

    with LocalServer(elsewhere) as server:
        async with client_of(provider, base_url=server.url, headers={"x-api-key": "sk-other"}) as client:
            with pytest.raises(AuthenticationError):
                await client.request("hello")
    received = provider.app.requests[-1]
    assert not {"authorization", "x-api-key"} & set(received.headers)
    assert received.text == "hello"
