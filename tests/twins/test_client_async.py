"""The async client where only async code can go wrong: event loops, cancellation, native tasks."""

import asyncio
import gc
import os
import signal
import time
import warnings
import weakref
from typing import Any

import anyio
import pytest

from pynector import AsyncPynector, Pynector, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HTTPTransport
from servers.inside import engine_of


def test_another_event_loop_is_refused(server: LocalServer) -> None:
    client = AsyncPynector(base_url=server.url)

    async def use() -> int:
        return int((await client.get("/items/1")).json()["id"])

    async def leave() -> None:
        assert await use() == 1
        await client._transport._engine.aclose()  # what the loop takes with it

    asyncio.run(leave())
    with pytest.raises(errors.WrongLoopError, match="another event loop"):
        asyncio.run(use())


def test_made_before_the_loop(server: LocalServer) -> None:
    client = AsyncPynector(base_url=server.url)

    async def main() -> int:
        async with client:
            return int((await client.get("/items/4")).json()["id"])

    assert asyncio.run(main()) == 4


def test_the_wrong_colour_of_with() -> None:
    with pytest.raises(TypeError, match=r"`with Pynector\(\.\.\.\)`"):
        with AsyncPynector(base_url="http://localhost"):
            pass


def test_native_cancellation_and_timeouts_of_asyncio(server: LocalServer, no_leaks: None) -> None:
    async def main() -> None:
        async with AsyncPynector(base_url=server.url) as client:
            task = asyncio.create_task(client.get("/delay?s=30"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.batch_request([{"path": "/delay?s=30"}] * 5), 0.1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.batch_request([{"path": "/delay?s=30"}] * 5)
            current = asyncio.current_task()
            assert current is not None
            assert current.cancelling() == 0
            assert (await client.get("/items/2")).json()["id"] == 2

    asyncio.run(main())


async def test_cancelled_at_every_checkpoint(server: LocalServer, no_leaks: None) -> None:
    """Cancel after k passes of the event loop, for every k until the request gets through."""
    async with AsyncPynector(base_url=server.url, retry=None) as client:
        for warm in (False, True):
            if warm:
                await client.get("/items/0")
            for passes in range(1, 200):
                answer: list[Any] = []

                async def request(answer: list[Any] = answer) -> None:
                    answer.append((await client.get("/items/1")).json()["id"])

                async with anyio.create_task_group() as group:
                    group.start_soon(request)
                    for _ in range(passes):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                # Whatever was cut short, the next request gets its own answer.
                assert (await client.get(f"/items/{passes}")).json()["id"] == passes
                if answer:
                    break
            else:
                pytest.fail("the request never got through")
        connections: Any = engine_of(client)._connections
        assert connections._permits._all._semaphore.value == 100
        assert connections._open == len(connections._idle)
    assert connections._open == 0


async def test_many_tasks_share_a_client(server: LocalServer, no_leaks: None) -> None:
    answers: dict[int, int] = {}
    async with AsyncPynector(base_url=server.url, max_connections=10) as client:

        async def one(n: int) -> None:
            answers[n] = (await client.get(f"/index/{n}")).json()["index"]

        async with anyio.create_task_group() as group:
            for n in range(200):
                group.start_soon(one, n)
    assert answers == {n: n for n in range(200)}
    assert server.peak_in_flight <= 10
    assert server.connections.total <= 10


async def test_async_input(server: LocalServer, no_leaks: None) -> None:
    async def source() -> Any:
        for n in range(30):
            await anyio.sleep(0.001)
            yield {"path": f"/index/{n}"}

    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(source(), max_concurrency=4)
    assert [response.json()["index"] for response in results] == list(range(30))


def test_a_client_that_was_never_closed_is_collected(server: LocalServer, no_leaks: None) -> None:
    """Without a warning, and its connection is closed with it, once the event loop does not watch that any more."""

    async def main() -> "weakref.ref[object]":
        client = AsyncPynector(base_url=server.url)
        await client.get("/items/1")
        engine = weakref.ref(client._transport._engine)
        del client
        gc.collect()
        assert engine() is None
        return engine

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
        for _ in range(200):
            if not server.connections.open:
                break
            time.sleep(0.01)
    assert not server.connections.open
    assert not caught


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_with_fresh_connections(server: LocalServer) -> None:
    async def fetch(client: AsyncPynector, n: int) -> int:
        return int((await client.get(f"/index/{n}")).json()["index"])

    async def main() -> None:
        async with AsyncPynector(base_url=server.url) as client:
            assert await fetch(client, 1) == 1
            before = server.connections.total
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                status = 1
                try:
                    status = 0 if asyncio.run(fetch(client, 2)) == 2 else 2
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            assert server.connections.total == before + 1
            assert await fetch(client, 3) == 3
            assert server.connections.total == before + 1

    asyncio.run(main())


@pytest.mark.parametrize("source", [lambda: list(range(10)), lambda: iter(range(10))])
def test_a_cancellation_that_nobody_asked_for(source: Any) -> None:
    """It ends its own item, and no answer slips into another slot."""

    class Stray:
        async def connect(self) -> None: ...
        async def disconnect(self) -> None: ...
        async def send(self, message: Any) -> None: ...
        def receive(self) -> Any: ...
        async def request(self, message: int, *, timeout: float | None) -> int:
            if message == 3:
                sleeping = asyncio.ensure_future(asyncio.sleep(1))
                sleeping.cancel()
                await sleeping
            return message

    async def main() -> None:
        async with AsyncPynector(Stray()) as client:  # type: ignore[arg-type]
            results = await client.batch_request(source(), max_concurrency=2)
            assert [*results[:3], *results[4:]] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
            assert isinstance(results[3], errors.TransportError)
            assert results.outcomes[3].state == "unknown"
            with pytest.raises(errors.TransportError, match="nothing was cancelled"):
                await client.batch_request(source(), raise_on_error=True)

    asyncio.run(main())


def test_a_transport_of_the_other_colour(server: LocalServer) -> None:
    async def main() -> None:
        with pytest.raises(errors.ConfigurationError, match="AsyncHTTPTransport"):
            AsyncPynector(HTTPTransport(server.url))  # type: ignore[arg-type]

    asyncio.run(main())
    with pytest.raises(errors.ConfigurationError, match="AsyncHTTPTransport"):
        Pynector(AsyncHTTPTransport(server.url))  # type: ignore[arg-type]
