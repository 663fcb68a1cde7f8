"""Transports that are not ours: four methods are enough, and `request` makes them concurrent."""

from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import CancelScope
from pynector.transport import TransportFactoryRegistry


class Echo:
    """Has the four methods and nothing else, and breaks if two exchanges overlap."""

    def __init__(self) -> None:
        self.connected = 0
        self.disconnected = 0
        self.pending: list[Any] = []
        self.seen_options: list[dict[str, Any]] = []

    async def connect(self) -> None:
        self.connected += 1

    async def disconnect(self) -> None:
        self.disconnected += 1

    async def send(self, message: Any, **options: Any) -> None:
        assert not self.pending, "two exchanges at once"
        self.pending.append(message)
        self.seen_options.append(options)
        await sleep(0.001)

    async def receive(self) -> AsyncIterator[Any]:
        while self.pending:
            yield self.pending.pop(0)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.disconnect()


class Flaky(Echo):
    """Fails twice with `error`, then answers."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.sent = 0

    async def send(self, message: Any, **options: Any) -> None:
        self.sent += 1
        if self.sent <= 2:
            raise self.error
        await super().send(message, **options)


class Multiplexed(Echo):
    """Can have any number of exchanges under way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self.timeouts: list[float | None] = []

    async def request(self, message: Any, *, timeout: float | None) -> Any:
        self.timeouts.append(timeout)
        self.now += 1
        self.peak = max(self.peak, self.now)
        await sleep(0.02)
        self.now -= 1
        return {"answer to": message}


async def test_data_goes_in_and_comes_back_unchanged() -> None:
    transport = Echo()
    data = object()
    async with AsyncPynector(transport) as client:
        assert transport.connected == 1
        assert await client.request(data) is data
        assert await client.request(data, colour="green") is data
    assert transport.seen_options == [{}, {"colour": "green"}]
    assert transport.disconnected == 1


async def test_a_batch_takes_turns(no_leaks: None) -> None:
    transport = Echo()
    async with AsyncPynector(transport) as client:
        results = await client.batch_request([f"item {n}" for n in range(50)], max_concurrency=10)
    assert results == [f"item {n}" for n in range(50)]


async def test_request_is_used_concurrently(no_leaks: None) -> None:
    transport = Multiplexed()
    async with AsyncPynector(transport) as client:
        results = await client.batch_request(range(30), max_concurrency=10)
        assert results[7] == {"answer to": 7}
        await client.request("x", timeout=5)
    assert 1 < transport.peak <= 10
    assert transport.timeouts[0] is None
    assert 4 < (transport.timeouts[-1] or 0) <= 5


@pytest.mark.parametrize("error", [errors.ConnectionError("lost"), ConnectionResetError("lost"), TimeoutError("late")])
async def test_asked_for_retries_are_made(error: Exception) -> None:
    transport = Flaky(error)
    async with AsyncPynector(transport) as client:
        assert await client.request_with_retry("hello", max_retries=2, retry_delay=0.001) == "hello"
    assert transport.sent == 3


@pytest.mark.parametrize(
    ("error", "sent"),
    [(errors.ConnectionRefusedError("nobody"), 3), (errors.ConnectionError("lost"), 1), (ValueError("bug"), 1)],
)
async def test_by_default_only_what_was_never_sent_is_repeated(error: Exception, sent: int) -> None:
    transport = Flaky(error)
    async with AsyncPynector(transport, retry=2) as client:
        results = await client.batch_request(["hello"])
    assert transport.sent == sent
    assert (results[0] == "hello") is (sent == 3)
    assert sent == 3 or results[0] is error


async def test_an_answer_that_does_not_come() -> None:
    class Silent(Echo):
        async def send(self, message: Any, **options: Any) -> None:
            pass

    async with AsyncPynector(Silent()) as client:
        with pytest.raises(errors.TransportError, match=r"Silent\.receive\(\) ended without an answer"):
            await client.request("hello")


async def test_timeout_and_cancellation_free_the_turn(no_leaks: None) -> None:
    class Slow(Echo):
        async def send(self, message: Any, **options: Any) -> None:
            await sleep(30 if message == "slow" else 0)
            await super().send(message, **options)

    async with AsyncPynector(Slow()) as client:
        with pytest.raises(errors.TimeoutError):
            await client.request("slow", timeout=0.05)
        with CancelScope() as scope:
            scope.cancel()
            await client.request("slow")
        assert await client.request("fast") == "fast"


async def test_a_registered_transport() -> None:
    made: list[Echo] = []

    class Factory:
        def create_transport(self, **options: Any) -> Echo:
            made.append(Echo())
            return made[-1]

    registry: TransportFactoryRegistry[Echo] = TransportFactoryRegistry()
    registry.register("echo", Factory())
    assert registry.names() == ("echo",)
    async with AsyncPynector(transport_type="echo", registry=registry) as client:
        assert await client.request(1) == 1
    assert len(made) == 1
    with pytest.raises(errors.ConfigurationError, match=r"'ehco'.*did you mean 'echo'"):
        AsyncPynector(transport_type="ehco", registry=registry)
    with pytest.raises(errors.ConfigurationError, match="no transport factory"):
        registry.register("bad", object())  # type: ignore[arg-type]
    with pytest.raises(errors.ConfigurationError, match=r"'htpp'.*did you mean 'http'"):
        AsyncPynector(transport_type="htpp")


async def test_what_is_no_transport() -> None:
    with pytest.raises(errors.ConfigurationError, match="lacks connect, disconnect, send, receive"):
        AsyncPynector(object())  # type: ignore[arg-type]
    with pytest.raises(errors.ConfigurationError, match="'base_url' is an option"):
        AsyncPynector(Echo(), base_url="http://localhost")


async def test_streams_of_a_custom_transport() -> None:
    class Chunks:
        def __init__(self, message: str) -> None:
            self.rest = list(message)

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            self.rest.clear()

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> str:
            if not self.rest:
                raise StopAsyncIteration
            return self.rest.pop(0)

    class Streaming(Multiplexed):
        def stream(self, message: str) -> Chunks:
            return Chunks(message)

    async with AsyncPynector(Streaming()) as client:
        async with client.stream("abc") as chunks:
            assert [chunk async for chunk in chunks] == ["a", "b", "c"]
    async with AsyncPynector(Echo()) as client:
        with pytest.raises(errors.ConfigurationError, match="Echo can't stream"):
            async with client.stream("abc"):
                pass


async def test_a_late_answer_is_not_taken_for_the_next_one(no_leaks: None) -> None:
    class Slow(Echo):
        async def connect(self) -> None:
            await super().connect()
            self.pending.clear()

        async def receive(self) -> AsyncIterator[Any]:
            await sleep(0.5 if self.pending[0] == 0 else 0.01)
            yield self.pending.pop(0)

    transport = Slow()
    async with AsyncPynector(transport) as client:
        results = await client.batch_request([(0, {"timeout": 0.1}), 1, 2, 3], max_concurrency=1)
    assert isinstance(results[0], errors.TimeoutError)
    assert results.outcomes[0].state == "unknown"
    assert results[1:] == [1, 2, 3]
    assert transport.connected == 2


async def test_waiting_for_the_turn_is_not_sending(no_leaks: None) -> None:
    class Slow(Echo):
        async def send(self, message: Any, **options: Any) -> None:
            await sleep(5)

    async with AsyncPynector(Slow()) as client:
        results = await client.batch_request(range(5), max_concurrency=5, timeout=0.1)
    assert sorted(outcome.state for outcome in results.outcomes) == ["not_sent"] * 4 + ["unknown"]


async def test_the_timeout_covers_connecting(no_leaks: None) -> None:
    class SlowToConnect(Echo):
        async def connect(self) -> None:
            await sleep(5)

    client = AsyncPynector(SlowToConnect())
    with pytest.raises(errors.TimeoutError, match="a message of type str"):
        await client.request("hello", timeout=0.1)
    results = await client.batch_request(["hello"], timeout=0.1)
    assert [outcome.state for outcome in results.outcomes] == ["not_sent"]
    await client.aclose()


async def test_a_stream_wants_a_with_block() -> None:
    client = AsyncPynector(Echo())
    with pytest.raises(TypeError, match="inside its with block"):
        async for _ in client.stream("abc"):
            pass
