"""Language models under torture: hard deadlines, adapters that misbehave, every way to lose or to show something."""

import copy
import gc
import logging
import pickle
import socket
import time
import traceback
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, RateLimit, RetryPolicy
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import fail_after
from pynector.errors import ClosedError, ConnectionError, IncompleteStreamError, SdkTransportError, TimeoutError
from pynector.testing import LocalServer
from pynector.transport.sdk import AsyncSDKAdapter, AsyncSdkTransport, EndEvent, SdkMessage, SdkRequest, TextEvent
from servers.anthropic_wire import AnthropicApp
from servers.openai_wire import OpenAIApp
from servers.provider_server import ProviderServer
from servers.scripted import Connection, ScriptedServer

pytestmark = pytest.mark.needs("openai", "anthropic")

SECRET = "sk-canary-key"
TWICE = RetryPolicy(max_retries=2, backoff_factor=0.01, budget=None)


def client_of(provider: ProviderServer, *, retry: RetryPolicy | None = None, **options: Any) -> AsyncPynector:
    return AsyncPynector(**provider.options(**options), retry=retry)


async def assert_all_idle(client: AsyncPynector) -> None:
    """No connection is in use, and none is lost."""
    engine: Any = client._transport.adapter._wire._engine
    connections = getattr(engine, "_engine", engine)._connections  # it may have spans around it
    ends = time.monotonic() + 3
    while connections._open != len(connections._idle) and time.monotonic() < ends:
        gc.collect()
        await sleep(0.01)
    assert connections._open == len(connections._idle)
    assert not connections._attempts
    assert all(lease.users == 0 for lease in connections._idle)


# Deadlines

DEADLINE = 0.3
LATE = 0.25
"""Seconds after the deadline, at the most."""


@pytest.fixture
def slow_provider(provider: ProviderServer, no_leaks: None) -> Iterator[ProviderServer]:
    """One that sends an event every few hundredths of a second.

    It ends with the test: of a call that was cancelled pyreqwest may have the connection open for longer.
    """
    app = (AnthropicApp if provider.name == "anthropic" else OpenAIApp)(pause=0.03)
    with LocalServer(app) as server:
        url = server.url if provider.name == "anthropic" else f"{server.url}/v1"
        yield provider._replace(app=app, url=url, server=server)


def drip(conn: Connection) -> None:
    """The body of a plain answer, byte by byte."""
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    conn.drip(b" " * 1000, 0.03)


async def assert_in_time(ask: Callable[[], Any]) -> None:
    """Once in three times, that is: the machine may have other things to do."""
    late = []
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await ask()
        late.append(time.monotonic() - started - DEADLINE)
        assert late[-1] > -0.01
        if late[-1] < LATE:
            return
    pytest.fail(f"the deadline has passed by {late}")


@pytest.mark.parametrize("fault", ["stall_before", "stall", "drip"])
async def test_a_deadline_whatever_the_server_does(engine: str, slow_provider: ProviderServer, fault: str) -> None:
    words = "and then " * 500
    asked = words if fault == "drip" else f"{words} scenario={fault}"
    with ScriptedServer(drip, repeat=True) as peer:
        whole = slow_provider._replace(url=peer.url) if fault == "drip" else slow_provider
        async with client_of(whole, engine=engine) as dripped, client_of(slow_provider, engine=engine) as client:
            await client.request("the first one imports the SDK")

            async def plain() -> None:
                await dripped.request(asked, timeout=DEADLINE)

            async def streamed() -> None:
                async with client.stream(asked, timeout=DEADLINE) as answer:
                    await answer.read()

            await assert_in_time(plain)
            await assert_in_time(streamed)
            assert (await client.request("and now")).text == "echo: and now"


# Retries

STATES = ["plain", "streamed", "batch"]


@pytest.mark.parametrize("how", STATES)
async def test_as_many_requests_as_retries_allow(provider: ProviderServer, how: str, no_leaks: None) -> None:
    text = f"{how} scenario=503x5"
    options = provider.options(max_retries=2)
    async with AsyncPynector(**options) as client:
        if how == "batch":
            (outcome,) = (await client.batch_request([text])).outcomes
            assert (outcome.state, outcome.attempts) == ("failed", 3)
            error: Any = outcome.error
        else:
            with pytest.raises(SdkTransportError) as caught:
                if how == "plain":
                    await client.request(text)
                else:
                    async with client.stream(text) as answer:
                        await answer.read()
            error = caught.value
        assert (error.status_code, error.attempts) == (503, 3)
        assert provider.app.count(text) == 3
        await assert_all_idle(client)


async def test_what_became_of_a_request_in_a_batch(provider: ProviderServer, no_leaks: None) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        refusing = provider._replace(url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        async with client_of(provider) as client, client_of(refusing) as refused:
            (lost, fine) = (await client.batch_request(["scenario=drop", "fine"])).outcomes
            (unsent,) = (await refused.batch_request(["hello"])).outcomes
    assert isinstance(lost.error, ConnectionError)
    assert (lost.state, lost.attempts, lost.error.sent) == ("unknown", 1, True)
    assert (fine.state, fine.value.text) == ("ok", "echo: fine")
    assert isinstance(unsent.error, ConnectionError)
    assert (unsent.state, unsent.error.sent) == ("failed", False)


async def test_clients_with_one_key_share_one_limit(provider: ProviderServer) -> None:
    """Ten requests in a second from two clients, where five may go: and a third, with a key of its own, may go on."""
    limit = RateLimit(requests_per_minute=600, burst=0.1)
    async with (
        AsyncPynector(**provider.options(), rate_limit=limit) as first,
        AsyncPynector(**provider.options(), rate_limit=limit) as second,
        AsyncPynector(**provider.options(api_key="sk-another"), rate_limit=limit) as third,
    ):
        await first.request("warm")
        started = time.monotonic()
        for n in range(6):
            await (first, second)[n % 2].request(f"question {n}")
        together = time.monotonic() - started
        started = time.monotonic()
        await third.request("of somebody else")
        alone = time.monotonic() - started
    # One goes at once and each other one waits for a tenth of a second, whoever has sent the one before.
    assert together > 0.45
    assert alone < together


# Streams that nobody closes


async def test_a_stream_that_is_only_dropped(provider: ProviderServer, no_leaks: None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with client_of(provider) as client:
            await client.request("before")
            for _ in range(5):
                answer = await client.stream("one two three four five six seven eight nine ten").__aenter__()
                assert await anext(answer) == "echo:"
                del answer
                gc.collect()
                await sleep(0.01)
            await assert_all_idle(client)
            assert (await client.request("after")).text == "echo: after"
    assert [each for each in caught if not issubclass(each.category, ResourceWarning)] == []


async def test_use_after_close(provider: ProviderServer) -> None:
    client = client_of(provider)
    async with client:
        await client.request("hello")
        left = client.stream("never entered")
    with pytest.raises(ClosedError):
        await client.request("hello")
    with pytest.raises(ClosedError):
        async with left:
            pass
    with pytest.raises(ClosedError):
        await client.batch_request(["hello"])
    assert provider.app.count() == 1


async def test_a_client_is_closed_under_a_stream(provider: ProviderServer, no_leaks: None) -> None:
    """What is on its way is still there to be read, and its connection goes with it."""
    client = client_of(provider)
    with fail_after(5):
        async with client.stream("one two three") as answer:
            assert await anext(answer) == "echo:"
            await client.aclose()
            assert (await answer.read()).text == "echo: one two three"


# Adapters that misbehave


class Halt(BaseException):
    """Not an `Exception`, as SystemExit is none."""


class OddAdapter(AsyncSDKAdapter):
    """Does what it is asked to, which is not what it should."""

    provider = "odd"

    def __init__(self) -> None:
        self.closed = 0

    async def complete(self, request: SdkRequest) -> SdkMessage:
        match request.turns[-1].text:
            case "halt":
                raise Halt
            case "nothing":
                return None  # type: ignore[return-value]
            case "text":
                return "text"  # type: ignore[return-value]
            case "fault":
                raise LookupError("of the adapter")
        return SdkMessage(text="fine", model="odd-1")

    async def stream(self, request: SdkRequest) -> AsyncGenerator[Any, None]:
        message = SdkMessage(text="a b", model="odd-1")
        try:
            match request.turns[-1].text:
                case "halt":
                    raise Halt
                case "halt later":
                    yield TextEvent("a ")
                    raise Halt
                case "nothing":
                    return
                case "no end":
                    yield TextEvent("a ")
                case "no event":
                    yield {"text": "a "}
                case "no event later":
                    yield TextEvent("a ")
                    yield None
                case "end and more":
                    yield TextEvent("a b")
                    yield EndEvent(message)
                    yield TextEvent("more")
                    raise Halt
                case "stubborn":
                    try:
                        yield TextEvent("a ")
                    finally:
                        yield TextEvent("more")
                case "fault later":
                    yield TextEvent("a ")
                    raise LookupError("of the adapter")
                case _:
                    yield EndEvent(message)
        finally:
            self.closed += 1


@pytest.fixture
def odd() -> OddAdapter:
    return OddAdapter()


async def read_all(client: AsyncPynector, text: str) -> tuple[list[Any], Any]:
    async with client.stream(text) as answer:
        events = [event async for event in answer.events()]
    return events, answer


async def test_an_adapter_that_answers_with_something_else(odd: OddAdapter, no_leaks: None) -> None:
    async with AsyncPynector(AsyncSdkTransport(adapter=odd), retry=TWICE) as client:
        for text, what in (("nothing", "nothing"), ("text", "a str")):
            with pytest.raises(SdkTransportError, match=f"complete.. of OddAdapter gave {what}, and no SdkMessage"):
                await client.request(text)
        results = await client.batch_request(["nothing", "fine", "fault"])
        assert [outcome.state for outcome in results.outcomes] == ["failed", "ok", "unknown"]
        assert isinstance(results[2], LookupError)
        with pytest.raises(Halt):
            await client.request("halt")
        with fail_after(5):
            results = await client.batch_request(["fine", "halt", "fine"])
        assert [outcome.state for outcome in results.outcomes] == ["ok", "unknown", "ok"]
        assert isinstance(results[1].__cause__, Halt)
        assert (await client.request("fine")).text == "fine"


async def test_a_stream_of_an_adapter_that_goes_wrong(odd: OddAdapter, no_leaks: None) -> None:
    async with AsyncPynector(AsyncSdkTransport(adapter=odd), retry=TWICE) as client:
        with pytest.raises(IncompleteStreamError, match="before its first event"):
            await read_all(client, "nothing")
        with pytest.raises(IncompleteStreamError, match="without its end marker") as incomplete:
            await read_all(client, "no end")
        assert incomplete.value.partial == "a "
        for text in ("no event", "no event later"):
            with pytest.raises(SdkTransportError, match=r"stream.. of OddAdapter gave (a dict|nothing), and no event"):
                await read_all(client, text)
        with pytest.raises(LookupError):
            await read_all(client, "fault later")
        for text in ("halt", "halt later"):
            with pytest.raises(Halt):
                await read_all(client, text)
        before = odd.closed
        events, answer = await read_all(client, "end and more")
        assert [type(event) for event in events] == [TextEvent, EndEvent]
        assert (answer.text, answer.message.text, odd.closed) == ("a b", "a b", before + 1)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            async with client.stream("stubborn"):
                pass
        assert (await read_all(client, "fine"))[1].message.text == "a b"


class NoStreamAdapter(OddAdapter):
    """Its streams are no generators."""

    def stream(self, request: SdkRequest) -> Any:
        return iter(()) if request.turns[-1].text == "iterator" else None


async def test_a_stream_that_is_no_generator(no_leaks: None) -> None:
    async with AsyncPynector(AsyncSdkTransport(adapter=NoStreamAdapter()), retry=TWICE) as client:
        for text in ("iterator", "nothing"):
            with pytest.raises(SdkTransportError, match=r"stream.. of NoStreamAdapter gave .*, and no .*generator"):
                await read_all(client, text)


# Secrets

FAULTS = (
    "400 401 403 404 429 hard_quota 503 529 drop drop_mid stall stall_before truncate malformed error_event failed "
    "empty html wrong_type"
).split()


async def errors_of(client: AsyncPynector) -> list[BaseException]:
    found: list[BaseException] = []
    for fault in FAULTS:
        for streamed in (False, True):
            try:
                if streamed:
                    async with client.stream(f"tell me scenario={fault}") as answer:
                        await answer.read()
                else:
                    await client.request(f"tell me scenario={fault}")
            except Exception as exc:
                found.append(exc)
    return found


def shown_of(error: BaseException) -> str:
    """What a log, a crash reporter and another process see of an error and of all that it stands on."""
    text = "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        todo += [each.__cause__, each.__context__]
        text += f"{each!r} {each} {vars(each)!r} {getattr(each, '__notes__', '')}"
        for name in ("request", "response"):
            holder = getattr(each, name, None)
            if holder is not None:
                text += f"{holder!r} {getattr(holder, 'headers', None)!r} {vars(holder)!r}"
                text += repr(dict(getattr(getattr(holder, "request", None), "headers", {})))
                text += repr(dict(getattr(holder, "headers", {})))
    return text


async def test_no_secret_shows_anywhere(
    provider: ProviderServer, caplog: pytest.LogCaptureFixture, no_leaks: None
) -> None:
    options = provider.options(headers={"X-Team-Token": "sk-canary-key-of-the-team"})
    del options["transport_type"]
    client = AsyncPynector(AsyncSdkTransport(**options, timeout=0.3), retry=None)
    async with client:
        await client.request("the SDK is imported, and its loggers are there")
        caplog.set_level(logging.DEBUG)
        for name in list(logging.root.manager.loggerDict):
            caplog.set_level(logging.DEBUG, logger=name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            message = await client.request("hello", headers={"X-Api-Token": "sk-canary-key-of-one"})
            found = await errors_of(client)
            async with client.stream("hello") as answer:
                await answer.read()
        shown = [repr(each) + str(each) for each in (client, client._transport, message, answer, answer.message)]
        shown += [str(each.message) for each in caught]
        refused = client_of(provider, api_key="sk-canary-key-wrong", base_url="http://127.0.0.1:1")
        async with refused:
            found += await errors_of(refused)
    assert len(found) > 2 * len(FAULTS)
    shown += map(shown_of, found)
    pickled = [pickle.dumps(each) for each in (message, copy.copy(message), answer.message, *found)]
    assert not [text for text in shown if SECRET in text]
    assert not [data for data in pickled if SECRET.encode() in data]
    records = [record for record in caplog.records if SECRET in f"{record.getMessage()} {vars(record)!r}"]
    assert not records, [(record.name, record.getMessage()) for record in records][:3]
