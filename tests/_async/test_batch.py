"""Batches: any iterable in, one outcome per item out, in order."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

NO_RETRIES = RetryPolicy(max_retries=0)


def indexes(count: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(count)]


@pytest.mark.parametrize("make", [list, tuple, iter, lambda items: (item for item in items)])
async def test_every_answer_in_its_own_slot(server: LocalServer, make: Any, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(make(indexes(200)), max_concurrency=20)
    assert [response.json()["index"] for response in results] == list(range(200))
    assert [outcome.index for outcome in results.outcomes] == list(range(200))
    assert all(outcome.state == "ok" and outcome.attempts == 1 for outcome in results.outcomes)
    assert server.requests.count == 200
    assert server.peak_in_flight <= 20


@pytest.mark.full_beyond("httpx")
async def test_ten_thousand_requests(server: LocalServer, engine: str, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url, keepalive_expiry=300) as client:
        results = await client.batch_request(indexes(10_000), max_concurrency=50)
    assert [response.json()["index"] for response in results] == list(range(10_000))
    assert server.requests.count == 10_000
    assert server.peak_in_flight <= 50
    # One is made only while all others are in use, and none expires in so long a time. pyreqwest puts a connection
    # back a moment after it has given the answer, and may make another one in between.
    assert server.connections.total <= (60 if engine == "pyreqwest" else 50)


async def test_an_empty_batch(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for empty in ([], iter(())):
            results = await client.batch_request(empty)
            assert results == []
            assert list(results.outcomes) == []


async def test_failures_stay_in_their_slots(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": f"/status/{500 if n % 3 == 0 else 200}"} for n in range(30)]
    async with AsyncPynector(base_url=server.url, retry=NO_RETRIES) as client:
        results = await client.batch_request(requests, max_concurrency=7)
    for n, result in enumerate(results):
        if n % 3 == 0:
            assert isinstance(result, errors.HTTPServerError)
        else:
            assert result.status_code == 200
    assert len(results.failed) == 10
    assert len(results.ok) == 20
    summary = results.summary()
    assert (summary.total, summary.ok, summary.failed) == (30, 20, 10)


async def test_options_of_an_item_win(server: LocalServer) -> None:
    requests = [
        ({"path": "/status/404"}, {}),
        ({"path": "/status/404"}, {"raise_for_status": False}),
        {"path": "/delay?s=5"},
        ({"path": "/items/1"}, {"tiemout": 1}),
        ({"path": "/delay?s=5"}, {"timeout": 0.05}),
        {"paht": "/items/1"},
    ]
    requests[2] = (requests[2], {"timeout": 0.05})
    async with AsyncPynector(base_url=server.url, timeout=20) as client:
        results = await client.batch_request(requests, max_concurrency=3)
    assert isinstance(results[0], errors.HTTPNotFoundError)
    assert results[1].status_code == 404
    assert isinstance(results[2], errors.TimeoutError)
    assert isinstance(results[3], errors.ConfigurationError)
    assert "timeout" in str(results[3])
    assert isinstance(results[4], errors.TimeoutError)
    assert isinstance(results[5], errors.ConfigurationError)
    assert results.outcomes[5].state == "failed"
    assert results.outcomes[5].attempts == 0


async def test_the_first_error_is_raised_bare(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/items/1"}, {"path": "/status/404"}, *[{"path": "/slow/1?ms=5000"}] * 20]
    # With pyreqwest, what is cancelled while it waits for an answer goes on until the transport has had enough.
    async with AsyncPynector(base_url=server.url, timeout=1.5) as client:
        with pytest.raises(errors.HTTPNotFoundError) as caught:
            await client.batch_request(requests, max_concurrency=10, raise_on_error=True)
        finished = {outcome.index: outcome for outcome in caught.value.outcomes}
        assert finished[1].error is caught.value
        assert len(finished) <= 2
        assert server.requests.count <= 12
        assert (await client.get("/items/2")).json()["id"] == 2


async def test_timeout_tells_what_became_of_each(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/items/1"}, *[{"path": "/delay?s=10"}] * 5]
    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(requests, max_concurrency=3, timeout=0.4)
        assert [outcome.state for outcome in results.outcomes] == ["ok", *["unknown"] * 3, *["not_sent"] * 2]
        assert all(isinstance(error, errors.TimeoutError) for error in results[1:])
        assert server.requests.count == 4
        with pytest.raises(errors.TimeoutError) as caught:
            await client.batch_request(requests, max_concurrency=3, timeout=0.4, raise_on_error=True)
        assert [outcome.index for outcome in caught.value.outcomes] == [0]


async def test_the_input_is_read_lazily(server: LocalServer) -> None:
    pulled = 0
    most_ahead = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal pulled, most_ahead
        for n in range(300):
            pulled += 1
            most_ahead = max(most_ahead, pulled - server.requests.count)
            yield {"path": f"/index/{n}"}

    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(source(), max_concurrency=5)
    assert len(results) == pulled == 300
    # At most: one in each worker, as many waiting, one in hand.
    assert most_ahead <= 11


async def test_an_endless_input_ends_with_the_timeout(server: LocalServer, no_leaks: None) -> None:
    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield {"path": "/items/7"}

    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(endless(), max_concurrency=4, timeout=0.3)
    states = {outcome.state for outcome in results.outcomes}
    assert "ok" in states
    assert states <= {"ok", "unknown", "not_sent"}
    assert [outcome.index for outcome in results.outcomes] == list(range(len(results)))


async def test_an_input_that_raises(server: LocalServer, no_leaks: None) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield from indexes(10)
        raise RuntimeError("no more rows")

    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.SourceError, match="no more rows") as caught:
            await client.batch_request(source(), max_concurrency=3)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert [outcome.index for outcome in caught.value.outcomes] == list(range(10))
    assert all(outcome.ok for outcome in caught.value.outcomes)


@pytest.mark.parametrize("make", [list, iter])
async def test_progress_is_called_here(server: LocalServer, make: Any) -> None:
    calls: list[tuple[int, int | None]] = []
    async with AsyncPynector(base_url=server.url) as client:
        await client.batch_request(
            make(indexes(50)), max_concurrency=5, progress=lambda done, total: calls.append((done, total))
        )
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert done[-1] == 50
    assert {call[1] for call in calls} == ({50} if make is list else {None})


async def test_progress_that_raises(server: LocalServer, no_leaks: None) -> None:
    def progress(done: int, total: int | None) -> None:
        raise ZeroDivisionError("in the callback")

    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.PynectorError, match="in the callback") as caught:
            await client.batch_request(indexes(50), max_concurrency=5, progress=progress)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert caught.value.outcomes
        assert (await client.get("/items/2")).json()["id"] == 2


@pytest.mark.needs("tqdm")
async def test_a_progress_bar(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.batch_request(indexes(20), progress=True)
    assert "20/20" in capsys.readouterr().err


async def test_retries_are_counted(server: LocalServer) -> None:
    requests = [{"path": f"/flaky/{n}?fail=1&status=503"} for n in range(10)]
    async with AsyncPynector(base_url=server.url, retry=RetryPolicy(backoff_factor=0.01)) as client:
        results = await client.batch_request(requests)
    assert [outcome.attempts for outcome in results.outcomes] == [2] * 10
    assert results.summary().retried == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": -3}, "max_concurrency"),
        ({"max_concurrency": 2.5}, "max_concurrency"),
        ({"timeout": -1}, "timeout"),
        ({"retyr": 3}, "retry"),
        ({"max_workers": 3}, "known are .*max_concurrency"),
        ({"idempotency_key": "k"}, "give each item its own"),
        ({"progress": 7}, "progress"),
    ],
)
async def test_bad_arguments(server: LocalServer, arguments: dict[str, Any], message: str) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match=message):
            await client.batch_request([{"path": "/items/1"}], **arguments)
    assert server.requests.count == 0


@pytest.mark.parametrize("requests", ["/items/1", {"path": "/items/1"}, 7, None])
async def test_an_input_that_is_none(server: LocalServer, requests: Any) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match="iterable of requests"):
            await client.batch_request(requests)


async def test_timeout_while_waiting_to_retry(server: LocalServer, no_leaks: None) -> None:
    policy = RetryPolicy(backoff_factor=0.2, jitter="none", max_retries=10)
    async with AsyncPynector(base_url=server.url, retry=policy) as client:
        results = await client.batch_request(iter([{"path": "/status/503"}] * 3), max_concurrency=2, timeout=0.3)
    # What is known of each is told: two were answered with a 503, the last wait would have overrun the deadline.
    assert [outcome.state for outcome in results.outcomes][:2] == ["failed", "failed"]
    assert all(outcome.attempts >= 1 for outcome in results.outcomes[:2])
    assert server.requests.count >= 2


@pytest.mark.parametrize("kind", [list, deque, lambda items: dict(enumerate(items)).values()])
async def test_every_item_of_a_sized_input_has_an_outcome(server: LocalServer, kind: Any, no_leaks: None) -> None:
    requests = kind([{"path": "/delay?s=10"}] * 20)
    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(requests, max_concurrency=2, timeout=0.3)
    assert [outcome.index for outcome in results.outcomes] == list(range(20))
    states = [outcome.state for outcome in results.outcomes]
    assert states == ["unknown"] * 2 + ["not_sent"] * 18


async def test_what_happens_to_a_list_meanwhile_changes_nothing(server: LocalServer) -> None:
    requests = [{"path": f"/index/{n}"} for n in range(30)]

    def progress(done: int, total: int | None) -> None:
        requests.clear()

    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(requests, max_concurrency=2, progress=progress)
    assert [response.json()["index"] for response in results] == list(range(30))


async def test_few_workers_for_quick_items(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        results = await client.batch_request(iter(indexes(50)), max_concurrency=100_000)
    assert [response.json()["index"] for response in results] == list(range(50))
