"""A batch whose outcomes are handed out as they come: each once, as soon as it is there or in order."""

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from pynector import AsyncPynector, Outcome, RetryPolicy, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import move_on_after
from pynector.testing import LocalServer
from servers.inputs import Endless, indexes
from servers.limited import TogetherApp

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]


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
async def test_items_that_come_in_a_burst_do_not_wait_for_one_worker(no_leaks: None) -> None:
    """The first one has one idle worker by then. Of the others, which come all at once, that can have only one."""
    with LocalServer(TogetherApp(5)) as server:

        async def burst() -> AsyncIterator[dict[str, str]]:
            yield {"path": "/first"}
            while server.requests.count < 1:
                await sleep(0.01)
            await sleep(0.1)
            for number in range(5):
                yield {"path": f"/{number}"}

        async with AsyncPynector(base_url=server.url, retry=None) as client:
            async with client.stream_batch(burst(), max_concurrency=5, buffer=0) as run:
                assert [outcome.state async for outcome in run] == ["ok"] * 6


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


@pytest.mark.needs("tqdm")
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
