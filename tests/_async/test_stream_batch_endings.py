"""How a batch that is handed out as it goes can end, and that nothing runs afterwards."""

import random
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import current_time, sleep
from pynector._concurrency.aio.scopes import CancelScope, move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from servers.inputs import Endless, indexes

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]


async def assert_quiet(server: LocalServer, source: Endless | None = None) -> None:
    """Nothing is sent or read any more. What was on the wire already has a moment to be seen by the server."""
    pulled = source.pulled if source is not None else 0
    await sleep(0.03)
    before = server.requests.count
    await sleep(0.06)
    assert server.requests.count == before
    assert source is None or source.pulled == pulled


@pytest.mark.parametrize("ordered", [False, True])
async def test_breaking_out_of_an_endless_input(server: LocalServer, ordered: bool, no_leaks: None) -> None:
    source = Endless("/slow/{n}?ms=5")
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(source, max_concurrency=8, ordered=ordered) as run:
            async for outcome in run:
                assert outcome.ok
                if outcome.index >= 30:
                    break
        assert source.closed
        await assert_quiet(server, source)
        assert (await client.get("/items/2")).json()["id"] == 2


@pytest.mark.parametrize("make", [list, iter])
async def test_an_exception_in_the_block_is_its_own(server: LocalServer, make: Any, no_leaks: None) -> None:
    # With pyreqwest, what is cancelled while it waits for an answer goes on until the transport has had enough.
    async with AsyncPynector(base_url=server.url, timeout=1.5) as client:
        with pytest.raises(ZeroDivisionError, match="of the body") as caught:
            async with client.stream_batch(make([{"path": "/index/0"}, *[{"path": "/delay?s=30"}] * 20])) as run:
                async for _outcome in run:
                    raise ZeroDivisionError("of the body")
        assert caught.value.__context__ is None
        assert server.requests.count <= 11
        await assert_quiet(server)


async def test_leaving_before_anything_was_read(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for source in (indexes(50), Endless()):
            async with client.stream_batch(source):
                pass
            await assert_quiet(server)


@pytest.mark.parametrize("lazy", [False, True])
async def test_cancelled_at_random_moments(server: LocalServer, lazy: bool, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for seed in range(12):
            rng = random.Random(seed)
            source = Endless("/slow/{n}?ms=3", end=None if lazy else 500)
            requests = source if lazy else list(source)
            with move_on_after(rng.random() * 0.1) as scope:
                async with client.stream_batch(requests, max_concurrency=6, ordered=rng.random() < 0.5) as run:
                    async for outcome in run:
                        assert outcome.ok
                        assert outcome.value.json()["id"] == outcome.index
                        await sleep(rng.choice((0, 0.001, 0.01)))
            assert scope.cancelled_caught
            assert source.closed or source.pulled == 0
            await assert_quiet(server, source)
        assert (await client.get("/items/2")).json()["id"] == 2


async def test_a_shielded_consumer_is_told_what_was_cut_short(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/delay?s=30"}] * 8
    # With pyreqwest, what is cancelled while it waits for an answer goes on until the transport has had enough.
    async with AsyncPynector(base_url=server.url, timeout=1.5) as client:
        for source in (requests, iter(requests)):
            states = []
            with CancelScope() as scope:
                async with client.stream_batch(source, max_concurrency=2, buffer=1) as run:
                    with CancelScope(shield=True):
                        with move_on_after(0.2):
                            await anext(run)
                        scope.cancel()
                        states = [outcome.state async for outcome in run]
            # With a length all of them, else those that were read.
            assert states.count("unknown") == 2
            assert set(states) == {"unknown", "not_sent"} or states == ["unknown"] * 2
            assert len(states) == 8 or source is not requests


async def test_a_cancelled_wait_loses_nothing(server: LocalServer, no_leaks: None) -> None:
    """Looking for an outcome for a short time, again and again."""
    seen: list[int] = []
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(Endless("/slow/{n}?ms=8", end=40), max_concurrency=4) as run:
            while len(seen) < 40:
                with move_on_after(0.003):
                    seen.append((await anext(run)).index)
    assert sorted(seen) == list(range(40))


@pytest.mark.full_beyond("httpx")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("count", [0, 1, 10, 50])
async def test_an_input_that_raises(server: LocalServer, count: int, ordered: bool, no_leaks: None) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield from indexes(count)
        raise RuntimeError("no more rows")

    seen: list[int] = []
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(source(), max_concurrency=3, ordered=ordered) as run:
            with pytest.raises(errors.SourceError, match=rf"RuntimeError after {count} items: no more rows") as caught:
                async for outcome in run:
                    assert outcome.ok
                    seen.append(outcome.index)
            assert isinstance(caught.value.__cause__, RuntimeError)
            # Told once: the run is over.
            assert [outcome async for outcome in run] == []
    assert sorted(seen) == list(range(count))


async def test_an_input_that_does_not_want_to_be_closed(server: LocalServer, no_leaks: None) -> None:
    def source() -> Iterator[dict[str, Any]]:
        try:
            while True:
                yield {"path": "/index/1"}
        finally:
            raise RuntimeError("can't close")

    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.SourceError, match="RuntimeError when it was closed: can't close"):
            async with client.stream_batch(source()) as run:
                await anext(run)
        with pytest.raises(ZeroDivisionError):
            async with client.stream_batch(source()) as run:
                await anext(run)
                raise ZeroDivisionError
        with pytest.raises(errors.SourceError, match="can't close") as caught:
            await client.batch_request(source(), timeout=0.2)
        assert any(outcome.ok for outcome in caught.value.outcomes)


async def test_an_iterator_that_is_no_generator_stays_open(server: LocalServer, tmp_path: Any) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("1\n2\n3\n")
    async with AsyncPynector(base_url=server.url) as client:
        with path.open() as file:
            async with client.stream_batch(file) as run:
                outcome = await anext(run)
                assert isinstance(outcome.error, errors.ConfigurationError)  # a line of text is no request
            assert not file.closed


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("make", [list, deque, iter])
async def test_timeout_tells_what_became_of_each(server: LocalServer, make: Any, ordered: bool, no_leaks: None) -> None:
    requests = make([{"path": "/items/1"}, *[{"path": "/delay?s=30"}] * 9])
    async with AsyncPynector(base_url=server.url) as client:
        started = current_time()
        async with client.stream_batch(requests, max_concurrency=3, buffer=2, timeout=0.4, ordered=ordered) as run:
            outcomes = [outcome async for outcome in run]
            assert current_time() - started < 5
            await sleep(0)  # the body itself is not cancelled
    outcomes.sort(key=lambda outcome: outcome.index)
    # With a length every item has an outcome; else those that were read: the first, and up to five at once.
    assert [outcome.index for outcome in outcomes] == list(range(len(outcomes)))
    assert len(outcomes) in ((4, 6) if make is iter else (10,))
    states = [outcome.state for outcome in outcomes]
    assert states == ["ok", *["unknown"] * 3, *["not_sent"] * (len(outcomes) - 4)]
    assert all(isinstance(outcome.error, errors.TimeoutError) for outcome in outcomes[1:])
    assert "did not end within 0.4 s" in str(outcomes[1].error)
    assert server.requests.count == 4


async def test_timeout_of_an_endless_input(server: LocalServer, no_leaks: None) -> None:
    source = Endless("/slow/{n}?ms=5")
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(source, max_concurrency=4, timeout=0.3) as run:
            outcomes = [outcome async for outcome in run]
    assert sorted(outcome.index for outcome in outcomes) == list(range(source.pulled))
    assert {"ok"} < {outcome.state for outcome in outcomes} <= {"ok", "unknown", "not_sent"}
    assert source.closed


async def test_timeout_while_the_consumer_is_busy(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        requests = [{"path": "/items/1"}, *[{"path": "/delay?s=30"}] * 5]
        async with client.stream_batch(iter(requests), max_concurrency=3, timeout=0.3) as run:
            assert (await anext(run)).ok
            await sleep(0.6)
            outcomes = [outcome async for outcome in run]
    assert outcomes
    assert {outcome.state for outcome in outcomes} <= {"not_sent", "unknown"}
    assert server.requests.count <= 4


@pytest.mark.parametrize("timeout", [None, 10])
@pytest.mark.parametrize("count", [2, 20])
async def test_a_run_that_is_the_input_of_another_one(
    server: LocalServer, timeout: float | None, count: int, no_leaks: None
) -> None:
    async with AsyncPynector(base_url=server.url, timeout=1.5) as client:

        async def found() -> AsyncIterator[dict[str, Any]]:
            with move_on_after(10):
                async with client.stream_batch(iter(indexes(20)), max_concurrency=2, timeout=timeout) as inner:
                    async for outcome in inner:
                        yield {"path": f"/index/{outcome.index}"}

        got = []
        async with client.stream_batch(found(), max_concurrency=2, timeout=timeout) as run:
            async for outcome in run:
                with move_on_after(10):
                    got.append(outcome.value.json()["index"])
                    await client.get("/index/1", timeout=10)
                if len(got) == count:
                    break
        assert len(set(got)) == count
        await assert_quiet(server)


async def test_misuse(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        run = client.stream_batch(indexes(3))
        with pytest.raises(RuntimeError, match="read inside its block"):
            async for _ in run:
                pass
        with pytest.raises(RuntimeError, match="not entered"):
            await run.__aexit__(None, None, None)
        async with run:
            with pytest.raises(RuntimeError, match="entered once"):
                async with run:
                    pass

            async def elsewhere() -> None:
                with pytest.raises(RuntimeError, match="in the task that entered it"):
                    await anext(run)

            async with create_task_group() as group:
                await group.start_soon(elsewhere)
            assert len([outcome async for outcome in run]) == 3
        with pytest.raises(RuntimeError, match="has ended"):
            await anext(run)
        with pytest.raises(RuntimeError, match="entered once"):
            async with run:
                pass


async def test_leaving_in_another_task_ends_the_run_and_nobody_else(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        source = Endless()
        async with client.stream_batch(source, max_concurrency=3) as run:
            assert (await anext(run)).ok

            async def elsewhere() -> None:
                with pytest.raises(RuntimeError, match="must be left in the task"):
                    await run.__aexit__(None, None, None)
                # As a generator around it is closed by the garbage collector.
                await run.__aexit__(GeneratorExit, GeneratorExit(), None)

            async with create_task_group() as group:
                await group.start_soon(elsewhere)
            await sleep(0.1)  # this task was not cancelled
            await assert_quiet(server, source)
