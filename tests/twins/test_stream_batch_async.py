"""Bulk runs where only async code can go wrong: async inputs, native tasks, cancellation at every pass of the loop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer


class Rows:
    """An async input that must be read by one task, as one with a scope or a connection in it."""

    def __init__(self, count: int | None = None, pause: float | None = None) -> None:
        self.count = count
        self.pause = pause
        self.pulled = 0
        self.got = 0
        self.most_live = 0
        self.tasks: set[int] = set()
        self.closed = False
        self.cleaned_up = False

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        try:
            with anyio.CancelScope():  # breaks if another task resumes it
                while self.pulled != self.count:
                    self.tasks.add(anyio.get_current_task().id)
                    if self.pause is not None:
                        await anyio.sleep(self.pause)
                    self.pulled += 1
                    self.most_live = max(self.most_live, self.pulled - self.got)
                    yield {"path": f"/index/{self.pulled - 1}"}
        finally:
            self.closed = True
            await anyio.sleep(0)
            self.cleaned_up = True


@pytest.mark.parametrize("pause", [None, 0, 0.001])
@pytest.mark.parametrize("ordered", [False, True])
async def test_async_input(server: LocalServer, pause: float | None, ordered: bool, no_leaks: None) -> None:
    rows = Rows(60, pause)
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(rows, max_concurrency=4, buffer=3, ordered=ordered) as run:
            async for outcome in run:
                assert outcome.value.json()["index"] == outcome.index
                rows.got += 1
        assert rows.got == 60
        assert rows.most_live <= 7
        assert rows.closed
        assert len(rows.tasks) == 1
        again = Rows(60, pause)
        results = await client.batch_request(again, max_concurrency=4)
    assert [response.json()["index"] for response in results] == list(range(60))
    assert len(again.tasks) == 1


async def test_breaking_out_of_an_async_input(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for pause in (None, 0, 0.002):
            rows = Rows(None, pause)
            async with client.stream_batch(rows, max_concurrency=4) as run:
                async for outcome in run:
                    rows.got += 1
                    if outcome.index > 20:
                        break
            assert rows.closed
            assert rows.cleaned_up or pause is not None  # where it was not cancelled in a wait of its own
            rows = Rows(None, pause)
            async with client.stream_batch(rows, max_concurrency=4, timeout=0.1) as run:
                assert len([outcome async for outcome in run]) == rows.pulled
            assert rows.closed
            rows = Rows(None, pause)
            results = await client.batch_request(rows, max_concurrency=4, timeout=0.1)
            assert len(results) == rows.pulled
            assert rows.closed


async def test_an_input_that_blocks_holds_back_nothing(server: LocalServer, no_leaks: None) -> None:
    async def source() -> AsyncIterator[dict[str, Any]]:
        yield {"path": "/index/0"}
        yield {"path": "/index/1"}
        await anyio.sleep_forever()

    async with AsyncPynector(base_url=server.url) as client:
        with anyio.fail_after(10):
            async with client.stream_batch(source(), max_concurrency=2) as run:
                assert sorted([(await anext(run)).index, (await anext(run)).index]) == [0, 1]


async def test_an_async_input_that_raises(server: LocalServer, no_leaks: None) -> None:
    async def source(error: BaseException) -> AsyncIterator[dict[str, Any]]:
        for n in range(7):
            yield {"path": f"/index/{n}"}
        raise error

    async with AsyncPynector(base_url=server.url) as client:
        seen = []
        with pytest.raises(errors.SourceError, match="no more rows"):
            async with client.stream_batch(source(RuntimeError("no more rows")), max_concurrency=2) as run:
                async for outcome in run:
                    seen.append(outcome.index)
        assert sorted(seen) == list(range(7))


def test_an_async_input_with_a_cancellation_that_nobody_asked_for(server: LocalServer) -> None:
    async def source() -> AsyncIterator[dict[str, Any]]:
        yield {"path": "/index/0"}
        sleeping = asyncio.ensure_future(asyncio.sleep(1))
        sleeping.cancel()
        await sleeping

    async def main() -> None:
        async with AsyncPynector(base_url=server.url) as client:
            async with client.stream_batch(source()) as run:
                assert (await anext(run)).ok
                with pytest.raises(errors.SourceError, match="the input raised CancelledError"):
                    await anext(run)

    asyncio.run(main())


@pytest.mark.parametrize("lazy", [False, True])
async def test_cancelled_at_every_checkpoint(server: LocalServer, lazy: bool, no_leaks: None) -> None:
    """Cancel after k passes of the event loop, for every k until the run gets through."""
    async with AsyncPynector(base_url=server.url, retry=None) as client:
        await client.get("/items/0")
        for passes in range(1, 300):
            finished = False
            rows = Rows(8)

            async def consume(rows: Rows = rows) -> None:
                nonlocal finished
                requests = rows if lazy else [{"path": f"/index/{n}"} for n in range(8)]
                seen = []
                async with client.stream_batch(requests, max_concurrency=3, buffer=1) as run:
                    async for outcome in run:
                        assert outcome.value.json()["index"] == outcome.index
                        seen.append(outcome.index)
                assert sorted(seen) == list(range(8))
                finished = True

            async with anyio.create_task_group() as group:
                group.start_soon(consume)
                for _ in range(passes):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert not lazy or rows.closed or rows.pulled == 0
            # Whatever was cut short, the next request gets its own answer.
            assert (await client.get(f"/items/{passes}")).json()["id"] == passes
            if finished:
                break
        else:
            pytest.fail("the run never got through")


def test_native_cancellation_and_timeouts_of_asyncio(server: LocalServer, no_leaks: None) -> None:
    async def consume(client: AsyncPynector, closed: list[bool]) -> None:
        rows = Rows()
        try:
            async with client.stream_batch(rows, max_concurrency=3) as run:
                async for outcome in run:
                    assert outcome.ok
                    await asyncio.sleep(0.01)
        finally:
            closed.append(rows.closed)

    async def main() -> None:
        closed: list[bool] = []
        async with AsyncPynector(base_url=server.url) as client:
            for delay in (0.0, 0.001, 0.01, 0.02, 0.05):
                task = asyncio.create_task(consume(client, closed))
                await asyncio.sleep(delay)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await consume(client, closed)
            current = asyncio.current_task()
            assert current is not None
            assert current.cancelling() == 0
            assert len(asyncio.all_tasks()) == 1
            assert (await client.get("/items/2")).json()["id"] == 2
        assert all(closed)

    asyncio.run(main())


async def test_the_wrong_colour_of_with(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(TypeError, match="async"):
            with client.stream_batch([]):
                pass
