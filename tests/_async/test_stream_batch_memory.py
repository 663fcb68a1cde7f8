"""A batch whose outcomes are handed out as they come runs in bounded memory, however long its input is."""

import gc
import traceback
import weakref
from typing import Any

import pytest

from pynector import AsyncPynector
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import CancelScope
from pynector.testing import LocalServer
from servers.inputs import Endless

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]


@pytest.mark.full_beyond("httpx")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("limit", "buffer"), [(5, None), (5, 0), (1, 0), (3, 4)])
async def test_live_items_are_bounded(
    server: LocalServer, limit: int, buffer: int | None, ordered: bool, no_leaks: None
) -> None:
    """Whether the consumer is quicker than the server, or slower."""
    bound = limit + (2 * limit if buffer is None else buffer)
    async with AsyncPynector(base_url=server.url) as client:
        for pause in (0, 0.002):
            source = Endless("/slow/{n}?ms=2" if pause == 0 else "/index/{n}", end=60)
            async with client.stream_batch(source, max_concurrency=limit, buffer=buffer, ordered=ordered) as run:
                async for outcome in run:
                    assert outcome.ok
                    source.got += 1
                    await sleep(pause)
            assert source.got == 60
            assert source.most_live <= bound
            assert source.most_live > 1 or bound == 1
    assert server.peak_in_flight <= limit


async def test_a_kept_error_keeps_nothing_of_the_run(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch([{"path": "/status/404"}]) as run:
            outcome = await anext(run)
        frames = [frame.name for frame in traceback.extract_tb(outcome.error.__traceback__)]
        assert "_work" not in frames
        assert "call" in frames
        gone = weakref.ref(run)
        del run
        gc.collect()
        assert gone() is None


class Echo:
    """A transport without a network."""

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def send(self, message: Any) -> None: ...

    def receive(self) -> Any: ...

    async def request(self, message: Any, *, timeout: float | None) -> Any:
        return Thing()


class Thing:
    """Counts how many of its kind are alive, and the most that were at one time."""

    live = 0
    most = 0

    def __init__(self) -> None:
        Thing.live += 1
        Thing.most = max(Thing.most, Thing.live)

    def __del__(self) -> None:
        Thing.live -= 1


async def consume(count: int, **options: Any) -> int:
    """Run that many items through a batch and drop each; the most that were alive at once, of items and of answers."""
    gc.collect()
    Thing.live = Thing.most = 0
    async with AsyncPynector(Echo()) as client:
        async with client.stream_batch((Thing() for _ in range(count)), **options) as run:
            found = 0
            async for outcome in run:
                assert outcome.ok
                found += 1
                del outcome
    assert found == count
    return Thing.most


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_was_consumed_is_gone(ordered: bool) -> None:
    # Of each live item the request and the answer; one more for what each worker has in hand, and some in passing.
    assert await consume(3000, max_concurrency=5, buffer=10, ordered=ordered) <= 2 * (15 + 5 + 3)


@pytest.mark.full
async def test_a_hundred_thousand_leave_nothing_behind() -> None:
    most = await consume(100_000, max_concurrency=20)
    assert most <= 2 * (60 + 20 + 3)
    # Nor anything of ours: the number of objects that the collector knows is as before.
    gc.collect()
    before = len(gc.get_objects())
    await consume(100_000, max_concurrency=20)
    gc.collect()
    assert len(gc.get_objects()) - before < 1000


async def test_a_transport_that_never_waits_can_be_cut_short() -> None:
    endless = iter(Thing, None)
    async with AsyncPynector(Echo()) as client:
        results = await client.batch_request(endless, max_concurrency=3, timeout=0.2)
        assert len(results.ok) > 10
        with CancelScope() as scope:
            async with client.stream_batch(iter(Thing, None), max_concurrency=3) as run:
                async for outcome in run:
                    if outcome.index == 1000:
                        scope.cancel()
        assert scope.cancelled_caught
