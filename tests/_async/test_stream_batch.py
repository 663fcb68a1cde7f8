"""A batch whose outcomes are handed out as they come: each once, in bounded memory, and nothing runs afterwards."""

import gc
import random
import traceback
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from pynector import AsyncPynector, Outcome, RetryPolicy, errors
from pynector._concurrency.aio.clock import current_time, sleep
from pynector._concurrency.aio.scopes import CancelScope, move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

NO_RETRIES = RetryPolicy(max_retries=0)


def indexes(count: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(count)]


class Endless:
    """An endless input that knows how far it was read, and whether it was closed."""

    def __init__(self, path: str = "/index/{n}", end: int | None = None) -> None:
        self.path = path
        self.end = end
        self.pulled = 0
        self.got = 0
        self.most_live = 0
        self.closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            while self.pulled != self.end:
                n = self.pulled
                self.pulled += 1
                self.most_live = max(self.most_live, self.pulled - self.got)
                yield {"path": self.path.format(n=n)}
        finally:
            self.closed = True


async def assert_quiet(server: LocalServer, source: Endless | None = None) -> None:
    """Nothing is sent or read any more. What was on the wire already has a moment to be seen by the server."""
    pulled = source.pulled if source is not None else 0
    await sleep(0.03)
    before = server.requests.count
    await sleep(0.06)
    assert server.requests.count == before
    assert source is None or source.pulled == pulled


@pytest.mark.full_beyond("httpx")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("make", [list, tuple, iter, deque, lambda items: (item for item in items)])
async def test_every_item_once(server: LocalServer, make: Any, ordered: bool, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(make(indexes(200)), max_concurrency=20, ordered=ordered) as run:
            outcomes = [outcome async for outcome in run]
    assert all(outcome.ok and outcome.attempts == 1 for outcome in outcomes)
    assert all(outcome.value.json()["index"] == outcome.index for outcome in outcomes)
    found = [outcome.index for outcome in outcomes]
    assert (found if ordered else sorted(found)) == list(range(200))
    assert server.requests.count == 200
    assert server.peak_in_flight <= 20


async def test_an_empty_input(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for empty in ([], (), iter(())):
            async with client.stream_batch(empty) as run:
                assert [outcome async for outcome in run] == []


async def test_an_outcome_comes_as_soon_as_it_is_there(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/delay?s=30"}, {"path": "/index/1"}, {"path": "/index/2"}]
    # With pyreqwest, what is cancelled while it waits for an answer goes on until the transport has had enough.
    async with AsyncPynector(base_url=server.url, timeout=1.5) as client:
        for source in (requests, iter(requests)):
            async with client.stream_batch(source, max_concurrency=2) as run:
                assert [(await anext(run)).index for _ in range(2)] == [1, 2]


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


@pytest.mark.parametrize("make", [list, iter])
async def test_in_order_with_a_slow_head(server: LocalServer, make: Any, no_leaks: None) -> None:
    requests = [{"path": "/slow/0?ms=500"}, *indexes(100)]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(make(requests), max_concurrency=4, buffer=6, ordered=True) as run:
            with move_on_after(0.25):
                await anext(run)
            # Nobody runs further ahead of the first one than the buffer, and nothing was handed out.
            assert server.requests.count == 10
            assert run.stats.done == 0
            assert [outcome.index async for outcome in run] == list(range(101))


async def test_a_slow_consumer_holds_back_a_list(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(100), max_concurrency=4, buffer=2) as run:
            for n in range(10):
                await anext(run)
                await sleep(0.02)
                assert server.requests.count <= n + 1 + 6
        assert server.requests.count <= 16


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


async def test_a_time_for_each_item(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/items/0"}, {"path": "/delay?s=30"}, ({"path": "/slow/2?ms=400"}, {"timeout": 10})]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, item_timeout=0.2, ordered=True) as run:
            outcomes = [outcome async for outcome in run]
    assert [outcome.state for outcome in outcomes] == ["ok", "unknown", "ok"]
    assert f"no answer within 0.2 s: GET {server.url}" in str(outcomes[1].error)


async def test_options_for_all_and_for_one(server: LocalServer) -> None:
    requests = [
        {"path": "/status/404"},
        ({"path": "/status/404"}, {"raise_for_status": True}),
        {"paht": "/"},
        ({"path": "/items/1"}, {"tiemout": 1}),
    ]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(iter(requests), ordered=True, raise_for_status=False) as run:
            outcomes = [outcome async for outcome in run]
        assert outcomes[0].value.status_code == 404
        assert isinstance(outcomes[1].error, errors.HTTPNotFoundError)
        assert isinstance(outcomes[2].error, errors.ConfigurationError)
        assert "timeout" in str(outcomes[3].error)
        assert outcomes[3].request == {"path": "/items/1"}
        async with client.stream_batch([{"path": "/flaky/1?fail=1&status=503"}], retry=None) as run:
            assert (await anext(run)).error.status_code == 503


async def test_nested_runs_of_one_client(server: LocalServer, no_leaks: None) -> None:
    """Users, and the items of each, at the same time."""
    seen: list[tuple[int, int]] = []
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(iter(indexes(6)), max_concurrency=3) as outer:
            async for user in outer:
                items = ({"path": f"/items/{100 * user.index + n}"} for n in range(5))
                async with client.stream_batch(items, max_concurrency=2) as inner:
                    seen += [(user.index, item.value.json()["id"]) async for item in inner]
        async with client.stream_batch(indexes(20)) as one, client.stream_batch(indexes(20)) as two:
            firsts = [(await anext(one)).ok and (await anext(two)).ok for _ in range(20)]
    assert sorted(seen) == [(user, 100 * user + n) for user in range(6) for n in range(5)]
    assert all(firsts)


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


async def test_progress(server: LocalServer) -> None:
    calls: list[tuple[int, int | None]] = []
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(20), progress=lambda done, total: calls.append((done, total))) as run:
            async for _outcome in run:
                assert len(calls) == run.stats.done
        assert calls == [(n + 1, 20) for n in range(20)]

        def fail_once(done: int, total: int | None) -> None:
            if done == 3 and not failures:
                failures.append(done)
                raise ZeroDivisionError("in the callback")

        failures: list[int] = []
        seen: list[int] = []
        async with client.stream_batch(iter(indexes(5)), ordered=True, progress=fail_once) as run:
            with pytest.raises(errors.PynectorError, match="in the callback"):
                async for outcome in run:
                    seen.append(outcome.index)
            seen += [outcome.index async for outcome in run]
        assert seen == list(range(5))


async def test_a_progress_bar(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(20), progress=True) as run:
            assert len([outcome async for outcome in run]) == 20
    assert "20/20" in capsys.readouterr().err


async def test_its_figures(server: LocalServer) -> None:
    requests = [*[{"path": "/items/1"}] * 4, {"path": "/status/404"}, *[{"path": "/delay?s=30"}] * 10]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(iter(requests), max_concurrency=4, buffer=2) as run:
            assert (run.stats.done, run.stats.total) == (0, None)
            states = [(await anext(run)).state for _ in range(5)]
            with move_on_after(0.2):
                await anext(run)
            stats = run.stats
        assert sorted(states) == ["failed", *["ok"] * 4]
        assert (stats.done, stats.ok, stats.failed, stats.ready) == (5, 4, 1, 0)
        # What workers take from a generator themselves, as in async code, nobody has to read ahead.
        assert (stats.in_flight, stats.waiting) in {(4, 2), (4, 0)}
        async with client.stream_batch(requests) as run:
            assert run.stats.total == 15


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"buffer": -1}, "buffer"),
        ({"buffer": 2.5}, "buffer"),
        ({"buffer": True}, "buffer"),
        ({"timeout": -1}, "timeout"),
        ({"item_timeout": -1}, "item_timeout"),
        ({"ordered": "yes"}, "ordered"),
        ({"retyr": 3}, "retry"),
        ({"concurrency": 3}, "did you mean 'max_concurrency'"),
        ({"raise_on_error": True}, "did you mean 'on_error'"),
        ({"retry": "often"}, "retry"),
        ({"idempotency_key": "k"}, "give each item its own"),
        ({"progress": 7}, "progress"),
    ],
)
async def test_bad_arguments(server: LocalServer, arguments: dict[str, Any], message: str) -> None:
    """Refused at the call, before anything is entered."""
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match=message):
            client.stream_batch([{"path": "/items/1"}], **arguments)


@pytest.mark.parametrize("requests", ["/items/1", {"path": "/items/1"}, 7, None])
async def test_an_input_that_is_none(server: LocalServer, requests: Any) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match="iterable of requests"):
            client.stream_batch(requests)


async def test_a_client_that_cannot_connect(server: LocalServer) -> None:
    client = AsyncPynector(base_url=server.url)
    await client.aclose()
    source = iter(Endless())
    with pytest.raises(errors.ClosedError):
        async with client.stream_batch(source):
            pass
    with pytest.raises(StopIteration):
        next(source)  # closed, though it was never read


async def test_what_happens_to_a_list_meanwhile_changes_nothing(server: LocalServer) -> None:
    requests = indexes(30)
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=2, ordered=True) as run:
            requests.clear()
            assert [outcome.value.json()["index"] async for outcome in run] == list(range(30))


async def test_a_generator_sees_one_context(server: LocalServer) -> None:
    number: ContextVar[int] = ContextVar("number")
    number.set(100)

    def source() -> Iterator[dict[str, Any]]:
        for n in range(20):
            assert number.get() == 100 + n
            number.set(number.get() + 1)
            yield {"path": f"/index/{n}"}

    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(source(), max_concurrency=4) as run:
            assert {outcome.ok async for outcome in run} == {True}


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


async def test_items_without_an_outcome_of_their_own_are_none(server: LocalServer) -> None:
    """Each item one outcome, also where requests fail, are retried, or are never sent."""
    requests = [{"path": f"/status/{(200, 404, 503)[n % 3]}"} if n % 4 else {"bad": n} for n in range(60)]
    policy = RetryPolicy(max_retries=1, backoff_factor=0.001)
    async with AsyncPynector(base_url=server.url, retry=policy) as client:
        outcomes: list[Outcome[Any]] = []
        async with client.stream_batch(iter(requests), max_concurrency=7) as run:
            async for outcome in run:
                outcomes.append(outcome)
                assert outcome.request is requests[outcome.index]
    assert sorted(outcome.index for outcome in outcomes) == list(range(60))
    for outcome in outcomes:
        expected = ("ok", "failed", "failed")[outcome.index % 3] if outcome.index % 4 else "failed"
        assert outcome.state == expected
        assert outcome.attempts == (0 if outcome.index % 4 == 0 else 2 if outcome.index % 3 == 2 else 1)
