"""What holds requests back: a server that refuses, rate limits, circuit breakers, adaptive concurrency."""

import itertools
import time
from collections import Counter
from typing import Any

import pytest

from pynector import AdaptiveConcurrency, AsyncPynector, CircuitBreaker, RateLimit, RetryBudget, RetryPolicy, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import fail_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer, ServerRequest, ServerResponse
from servers.limited import LimitedApp

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx")]


def indexes(number: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(number)]


class Refusing:
    """Refuses the first requests for each path, and notes when each came."""

    def __init__(self, times: int, status: int = 429, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.times = times
        self.status = status
        self.headers = headers
        self.counts: Counter[str] = Counter()
        self.moments: list[float] = []

    def __call__(self, request: ServerRequest) -> ServerResponse:
        self.moments.append(time.monotonic())
        self.counts[request.path] += 1
        if self.counts[request.path] <= self.times:
            return ServerResponse.json({}, self.status, self.headers)
        return ServerResponse.json({"path": request.path})


@pytest.mark.parametrize("status", [429, 529])
async def test_a_refusal_in_a_batch_costs_no_attempt(status: int, no_leaks: None) -> None:
    app = Refusing(6, status)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, retry=RetryPolicy(max_retries=1)) as client:
            with fail_after(60):
                result = await client.batch_request(indexes(4), max_concurrency=4)
    assert [outcome.state for outcome in result.outcomes] == ["ok"] * 4, result.failed
    assert [outcome.attempts for outcome in result.outcomes] == [1] * 4
    assert set(app.counts.values()) == {7}


async def test_without_retries_a_refusal_is_final(no_leaks: None) -> None:
    app = Refusing(1)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, retry=None) as client:
            result = await client.batch_request(indexes(4))
    assert all(isinstance(each, errors.HTTPTooManyRequestsError) for each in result)
    assert set(app.counts.values()) == {1}


async def test_a_single_request_has_only_its_retries(no_leaks: None) -> None:
    app = Refusing(9)
    with LocalServer(app) as server:
        policy = RetryPolicy(max_retries=2, backoff_factor=0.01)
        async with AsyncPynector(base_url=server.url, retry=policy) as client:
            with pytest.raises(errors.HTTPTooManyRequestsError):
                await client.get("/index/1")
    assert app.counts["/index/1"] == 3


async def test_patience_ends(no_leaks: None) -> None:
    app = Refusing(10**6)
    policy = RetryPolicy(max_retries=1, rate_limit_patience=0.5)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, retry=policy) as client:
            started = time.monotonic()
            result = await client.batch_request(indexes(3))
            assert time.monotonic() - started < 10
    assert all(isinstance(each, errors.HTTPTooManyRequestsError) for each in result)
    assert all(2 <= count <= 40 for count in app.counts.values())


async def test_a_longer_wait_than_the_patience_is_not_begun(no_leaks: None) -> None:
    app = Refusing(10**6, headers=(("retry-after", "200"),))
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            started = time.monotonic()
            result = await client.batch_request(indexes(1))
            assert time.monotonic() - started < 5
    assert isinstance(result[0], errors.HTTPTooManyRequestsError)
    assert app.counts["/index/0"] == 1


async def test_who_asks_to_wait_for_hours_is_left_alone(no_leaks: None) -> None:
    app = Refusing(10**6, headers=(("retry-after", "3600"),))
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            result = await client.batch_request(indexes(100), max_concurrency=2)
    states = Counter(outcome.state for outcome in result.outcomes)
    assert states["failed"] + states["not_sent"] == 100
    # Those that were under way, and what began until the first of them had told.
    assert 1 <= states["failed"] == len(app.moments) <= 10
    left = next(outcome.error for outcome in result.outcomes if outcome.state == "not_sent")
    assert "longer than `retry_after_max`" in str(left)


async def test_a_deadline_is_not_overrun(no_leaks: None) -> None:
    app = Refusing(10**6, headers=(("retry-after", "30"),))
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            started = time.monotonic()
            result = await client.batch_request(indexes(1), timeout=5)
            assert time.monotonic() - started < 4
    assert isinstance(result[0], errors.HTTPTooManyRequestsError)


@pytest.mark.parametrize("zero", [False, True])
async def test_retry_after_holds_everything_with_that_credential(zero: bool, no_leaks: None) -> None:
    """Nobody asks before the time; the wait is never zero; another credential is not concerned."""
    moments: dict[str, list[float]] = {"a": [], "b": []}
    refused = 0

    def app(request: ServerRequest) -> ServerResponse:
        nonlocal refused
        who = request.header("authorization")[-1:]
        moments[who].append(time.monotonic())
        if who == "a" and not refused:
            refused += 1
            return ServerResponse.json({}, 429, (("retry-after", "0" if zero else "1"),))
        return ServerResponse.json({"ok": True})

    with LocalServer(app) as server:
        async with (
            AsyncPynector(base_url=server.url, auth="a") as first,
            AsyncPynector(base_url=server.url, auth="a") as second,
            AsyncPynector(base_url=server.url, auth="b") as other,
        ):
            results = []

            async def run(client: Any, number: int) -> None:
                results.append(await client.batch_request(indexes(number), max_concurrency=1))

            async with create_task_group() as group:
                await group.start_soon(run, first, 3)
                await group.start_soon(run, second, 3)
                await group.start_soon(run, other, 3)
    assert [outcome.state for result in results for outcome in result.outcomes] == ["ok"] * 9
    assert len(moments["a"]) == 7
    assert moments["a"][-1] > moments["a"][0]
    if not zero:
        # What was on its way already may come; all else comes after the time.
        early = [moment for moment in moments["a"] if moment < moments["a"][0] + 0.99]
        assert len(early) <= 4
        assert early[-1] < early[0] + 0.3
        assert moments["b"][-1] < moments["a"][0] + 0.99


async def test_a_rate_limit_is_kept_by_all_that_share_it(no_leaks: None) -> None:
    """Two clients and a single request: 20 per second in all, after a burst of one second."""
    app = Refusing(0)
    limit = RateLimit(requests_per_minute=1200)
    with LocalServer(app) as server:
        async with (
            AsyncPynector(base_url=server.url, rate_limit=limit) as first,
            AsyncPynector(base_url=server.url, rate_limit=RateLimit(requests_per_minute=1200)) as second,
        ):
            results = []

            async def run(client: Any) -> None:
                results.append(await client.batch_request(indexes(30), max_concurrency=8))

            async with create_task_group() as group:
                await group.start_soon(run, first)
                await group.start_soon(run, second)
            assert (await first.get("/index/1")).status_code == 200
    assert all(outcome.ok for result in results for outcome in result.outcomes)
    moments = app.moments
    assert len(moments) == 61
    assert moments[-1] - moments[0] > (61 - 20) / 20 - 0.3
    for start in range(len(moments)):
        in_one_second = sum(moments[start] <= moment < moments[start] + 1 for moment in moments)
        assert in_one_second <= 44  # the burst, the rate, and what the network has delayed


async def test_tokens_are_limited_and_settled(no_leaks: None) -> None:
    def app(request: ServerRequest) -> ServerResponse:
        return ServerResponse.json({"usage": {"total_tokens": 10}})

    limit = RateLimit(tokens_per_minute=6000, count_tokens=lambda data: 100)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, rate_limit=limit) as client:
            started = time.monotonic()
            result = await client.batch_request([{"path": "/c", "method": "POST", "json": {"a": 1}}] * 40)
            elapsed = time.monotonic() - started
    assert all(outcome.ok for outcome in result.outcomes)
    # 100 tokens each would be 40 s, 10 each are 4 s.
    assert 1.5 < elapsed < 20


async def test_a_rate_limit_is_given_back_when_cancelled(no_leaks: None) -> None:
    app = Refusing(0)
    limit = RateLimit(requests_per_minute=60)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, rate_limit=limit) as client:
            await client.get("/first")
            result = await client.batch_request(indexes(5), timeout=0.3)
            assert [outcome.state for outcome in result.outcomes] == ["not_sent"] * 5
            started = time.monotonic()
            await client.get("/second")
            assert time.monotonic() - started < 3
    assert len(app.moments) == 2


async def test_a_circuit_breaker(no_leaks: None) -> None:
    broken = True

    def app(request: ServerRequest) -> ServerResponse:
        return ServerResponse.json({}, 500 if broken else 200)

    breaker = CircuitBreaker(failure_threshold=3, recovery_time=0.5)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, circuit_breaker=breaker, retry=None) as client:
            result = await client.batch_request(indexes(20), max_concurrency=1)
            assert [type(each) for each in result[:3]] == [errors.HTTPServerError] * 3
            assert all(isinstance(each, errors.CircuitOpenError) for each in result[3:])
            assert [outcome.state for outcome in result.outcomes] == ["failed"] * 3 + ["not_sent"] * 17
            assert server.requests.count == 3
            with pytest.raises(errors.CircuitOpenError) as caught:
                await client.get("/index/1")
            assert 0 < (caught.value.retry_after or 0) <= 0.5
            # Another client with an equal breaker, for the same server.
            async with AsyncPynector(base_url=server.url, circuit_breaker=breaker) as other:
                with pytest.raises(errors.CircuitOpenError):
                    await other.get("/index/1")
            broken = False
            time.sleep(0.6)
            assert (await client.get("/index/1")).status_code == 200
            result = await client.batch_request(indexes(20), max_concurrency=4)
            assert all(outcome.ok for outcome in result.outcomes)


async def test_the_retry_budget_is_shared(no_leaks: None) -> None:
    app = Refusing(10**6, 503)
    policy = RetryPolicy(max_retries=3, backoff_factor=0.001, budget=RetryBudget(ratio=0.1, reserve=5))
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, retry=policy) as client:
            result = await client.batch_request(indexes(100), max_concurrency=8)
        assert all(isinstance(each, errors.HTTPServerError) for each in result)
        assert 100 + 5 <= server.requests.count <= 100 + 10 + 5
        policy = RetryPolicy(max_retries=3, backoff_factor=0.001, budget=None)
        async with AsyncPynector(base_url=server.url, retry=policy) as client:
            before = server.requests.count
            await client.batch_request(indexes(10), max_concurrency=8)
        assert server.requests.count - before == 40


@pytest.mark.parametrize("make", [list, iter])
@pytest.mark.parametrize("limit", ["auto", AdaptiveConcurrency(initial=4, maximum=64)])
async def test_adaptive_concurrency_finds_the_limit(make: Any, limit: Any, no_leaks: None) -> None:
    # Whatever the machine is at, there are more than three at once at some time: before that, nothing is answered.
    app = LimitedApp(most_at_once=3, latency=0.02, refuses_first=1)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            with fail_after(100):
                async with client.stream_batch(make(indexes(300)), max_concurrency=limit) as run:
                    outcomes = [outcome async for outcome in run]
                    stats = run.stats
    assert sorted(outcome.index for outcome in outcomes) == list(range(300))
    assert all(outcome.ok for outcome in outcomes)
    assert app.accepted == 300
    assert app.refused < 100
    # It was cut at the hidden limit. At the very end it may be anything: now and then it tries more.
    limits = [number for _, number in stats.limit_history]
    assert any(later < earlier for earlier, later in itertools.pairwise(limits))
    assert stats.concurrency >= 1
    assert stats.in_flight == stats.waiting_for_limit == 0


async def test_adaptive_concurrency_starts_no_more_workers_than_it_needs(server: LocalServer, no_leaks: None) -> None:
    limit = AdaptiveConcurrency(initial=3, maximum=3)
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch([{"path": "/slow/1?ms=20"}] * 40, max_concurrency=limit) as run:
            async for _ in run:
                assert run.stats.waiting_for_limit <= 3
    assert server.peak_in_flight == 3


@pytest.mark.parametrize("status", [429, 529])
async def test_a_refused_post_is_put_off_as_well(status: int, no_leaks: None) -> None:
    app = Refusing(2, status)
    requests = [{"method": "POST", "path": f"/p/{n}", "json": {"n": n}} for n in range(3)]
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            async with client.stream_batch(requests, max_concurrency=3) as run:
                outcomes = [outcome async for outcome in run]
            assert run.stats.retries == 6
    assert [outcome.state for outcome in outcomes] == ["ok"] * 3, outcomes
    assert [outcome.attempts for outcome in outcomes] == [1] * 3


async def test_a_503_with_retry_after_holds_the_others_and_is_a_retry(no_leaks: None) -> None:
    moments: list[float] = []

    def app(request: ServerRequest) -> ServerResponse:
        moments.append(time.monotonic())
        if len(moments) == 1:
            return ServerResponse.json({}, 503, (("retry-after", "1"),))
        return ServerResponse.json({})

    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            result = await client.batch_request(indexes(6), max_concurrency=1)
            again = await client.batch_request(indexes(2), max_concurrency=1)
    assert result.outcomes[0].attempts == 2
    assert all(outcome.ok for outcome in (*result.outcomes, *again.outcomes))
    assert moments[1] > moments[0] + 0.99


async def test_one_idempotency_key_for_all_attempts_of_an_item(tmp_path: Any, no_leaks: None) -> None:
    seen: dict[str, list[str]] = {}

    def app(request: ServerRequest) -> ServerResponse:
        keys = seen.setdefault(request.path, [])
        keys.append(request.header("idempotency-key"))
        return ServerResponse.json({}, 500 if len(keys) < 3 else 200)

    requests: list[Any] = [{"method": "POST", "path": f"/p/{n}"} for n in range(4)]
    requests[3] = (requests[3], {"idempotency_key": "mine"})
    policy = RetryPolicy(max_retries=1, backoff_factor=0.001)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, retry=policy) as client:
            for _ in range(2):
                async with client.stream_batch(requests, idempotency_key=True, checkpoint=tmp_path / "a") as run:
                    outcomes = [outcome async for outcome in run]
            assert all(outcome.ok for outcome in outcomes)
            # Two attempts in the first run and one in the second, with one key; every item has its own.
            assert [len(keys) for keys in seen.values()] == [3] * 4
            assert [len(set(keys)) for keys in seen.values()] == [1] * 4
            assert len({keys[0] for keys in seen.values()}) == 4
            assert seen["/p/3"][0] == "mine"
            with pytest.raises(errors.ConfigurationError, match="or True"):
                await client.batch_request(requests, idempotency_key="k")  # type: ignore[arg-type]


async def test_single_requests_wait_as_well(no_leaks: None) -> None:
    """What a server has said to a batch is for all with its credential, but for those that want no retries."""
    moments: dict[str, float] = {}

    def app(request: ServerRequest) -> ServerResponse:
        moments[request.path] = time.monotonic()
        if request.path == "/index/0" and len(moments) == 1:
            moments["refused"] = time.monotonic()
            return ServerResponse.json({}, 429, (("retry-after", "1"),))
        return ServerResponse.json({})

    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            async with client.stream_batch(indexes(1)) as run:
                while "refused" not in moments or not run.stats.retries:
                    await sleep(0.01)
                await client.request({"path": "/at-once"}, retry=None)
                await client.get("/patient")
                assert [outcome.state async for outcome in run] == ["ok"]
    assert moments["/patient"] > moments["refused"] + 0.99
    assert moments["/at-once"] < moments["refused"] + 0.9


async def test_limits_are_learnt_from_headers(no_leaks: None) -> None:
    """The server says that it takes two in a second, and has taken all it takes for now."""
    moments: list[float] = []

    def app(request: ServerRequest) -> ServerResponse:
        moments.append(time.monotonic())
        headers = (
            ("x-ratelimit-limit-requests", "120"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m0s"),
        )
        return ServerResponse.json({}, 200, headers)

    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, rate_limit=RateLimit(learn_headers=True)) as client:
            result = await client.batch_request(indexes(3), max_concurrency=1)
        assert [outcome.state for outcome in result.outcomes] == ["ok"] * 3
        assert 0.4 < moments[1] - moments[0] < 5
        assert 0.4 < moments[2] - moments[1] < 5
