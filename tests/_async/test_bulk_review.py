"""Runs that end while items are held back, items that nobody can make sense of, many servers in one batch."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, Outcome, RateLimit, RetryBudget, RetryPolicy, errors
from pynector._checkpoint.file import CheckpointFile
from pynector._concurrency.aio.scopes import fail_after
from pynector.testing import LocalServer, ServerRequest, ServerResponse


def indexes(number: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(number)]


def by_index(outcomes: list[Outcome[Any]]) -> list[Outcome[Any]]:
    return sorted(outcomes, key=lambda each: each.index)


class Seen:
    """Answers, and counts what came."""

    def __init__(self, answer: Callable[[ServerRequest, int], ServerResponse | None] | None = None) -> None:
        self.answer = answer
        self.total = 0
        self.paths: Counter[str] = Counter()

    def __call__(self, request: ServerRequest) -> ServerResponse | None:
        self.total += 1
        self.paths[request.path] += 1
        if self.answer is not None:
            return self.answer(request, self.paths[request.path])
        return ServerResponse.json({"path": request.path})


# What a run that ends does with those that are held back


@pytest.mark.parametrize("make", [list, iter])
@pytest.mark.parametrize("ordered", [False, True])
async def test_stop_does_not_send_what_waits_for_a_rate_limit(make: Any, ordered: bool, no_leaks: None) -> None:
    app = Seen()
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, rate_limit=RateLimit(requests_per_minute=2)) as client:
            with fail_after(10):
                outcomes = []
                async with client.stream_batch(make(indexes(20)), max_concurrency=4, ordered=ordered) as run:
                    async for outcome in run:
                        outcomes.append(outcome)
                        run.stop()
                assert app.total == 1
    outcomes = by_index(outcomes)
    assert [outcome.state for outcome in outcomes] == ["ok"] + ["not_sent"] * (len(outcomes) - 1)
    assert len(outcomes) == 20 or make is iter
    assert "the run was stopped" in str(outcomes[1].error)


async def test_stop_does_not_send_what_waits_for_a_pause(no_leaks: None) -> None:
    """One was refused, and goes on to its end; those that were never sent do not begin."""

    def answer(request: ServerRequest, times: int) -> ServerResponse | None:
        if request.path == "/refused" and times == 1:
            return ServerResponse.json({}, 429, (("retry-after", "1.5"),))
        # By the time that the slow one has its answer, from the server's own route, the other one was refused.
        return None if request.path.startswith("/slow") else ServerResponse.json({})

    app = Seen(answer)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            requests = [{"path": "/refused"}, {"path": "/slow/1?ms=700"}, *indexes(10)]
            with fail_after(20):
                async with client.stream_batch(requests, max_concurrency=2) as run:
                    outcomes = []
                    async for outcome in run:
                        outcomes.append(outcome)
                        run.stop()
    assert [outcome.index for outcome in outcomes][:2] == [1, 2]
    assert [outcome.state for outcome in by_index(outcomes)] == ["ok"] * 2 + ["not_sent"] * 10
    assert app.paths == {"/refused": 2, "/slow/1": 1}


async def test_a_failure_ends_a_run_of_held_back_items_at_once(no_leaks: None) -> None:
    def answer(request: ServerRequest, times: int) -> ServerResponse:
        return ServerResponse.json({}, 401)

    app = Seen(answer)
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, rate_limit=RateLimit(requests_per_minute=2)) as client:
            with fail_after(10):
                result = await client.batch_request(indexes(50), max_concurrency=8)
    assert app.total == 1
    assert Counter(outcome.state for outcome in result.outcomes) == {"failed": 1, "not_sent": 49}


# Many servers


async def test_refused_credentials_end_only_what_is_for_that_server(no_leaks: None) -> None:
    shut, good = Seen(lambda request, times: ServerResponse.json({}, 401)), Seen()
    with LocalServer(shut) as first, LocalServer(good) as second:
        requests = [{"url": f"{(second, first)[n % 2].url}/{n}"} for n in range(200)]
        async with AsyncPynector() as client:
            result = await client.batch_request(requests, max_concurrency=4)
    assert all(outcome.ok for outcome in result.outcomes[::2])
    assert good.total == 100
    assert shut.total <= 8
    states = Counter(outcome.state for outcome in result.outcomes[1::2])
    assert states == {"failed": shut.total, "not_sent": 100 - shut.total}
    assert "401" in str(result.outcomes[-1].error)


# Numbers


async def test_an_item_that_would_overrun_its_deadline_was_tried_once(no_leaks: None) -> None:
    app = Seen(lambda request, times: ServerResponse.json({}, 429, (("retry-after", "30"),)))
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            result = await client.batch_request(indexes(1), timeout=5)
            assert [outcome.attempts for outcome in result.outcomes] == [1]
            assert result[0].attempts == 1


async def test_a_retry_that_is_not_made_is_not_charged(no_leaks: None) -> None:
    def answer(request: ServerRequest, times: int) -> ServerResponse:
        return ServerResponse.json({}, 503, (("retry-after", "30"),) if "late" in request.path else ())

    app = Seen(answer)
    policy = RetryPolicy(max_retries=1, backoff_factor=0.001, budget=RetryBudget(ratio=0, reserve=3))
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, retry=policy) as client:
            await client.batch_request([{"path": f"/late/{n}"} for n in range(10)], timeout=5)
            assert app.total == 10
            await client.batch_request([{"path": f"/x/{n}"} for n in range(3)])
            assert app.total == 10 + 3 + 3


@pytest.mark.parametrize("what", ["drain", "cancel"])
async def test_an_item_without_a_usable_key_is_a_failed_one(what: Any, server: LocalServer, tmp_path: Path) -> None:
    requests = [{"path": "/index/1", "key": "a"}, {"path": "/index/2", "key": "a"}, *indexes(50)]
    async with AsyncPynector(base_url=server.url) as client:
        run = client.stream_batch(requests, max_concurrency=1, on_error=what, checkpoint=tmp_path / "run.jsonl")
        async with run:
            outcomes = by_index([outcome async for outcome in run])
    assert [outcome.state for outcome in outcomes] == ["ok", "failed"] + ["not_sent"] * 50
    assert isinstance(outcomes[1].error, errors.ConfigurationError)


async def test_duplicates_of_a_failure_are_failures(server: LocalServer) -> None:
    requests = [{"path": "/status/404?ms=1"}] * 4 + indexes(200)
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=4, dedupe=True, max_errors=2) as run:
            outcomes = [outcome async for outcome in run]
    assert len(outcomes) == 204
    assert run.stats.failed >= 100


# Items that nobody can make sense of


class Strange:
    """A value that can't even be shown."""

    def __repr__(self) -> str:
        raise ValueError("mine")


class StrangeKeys(dict[str, Any]):
    def __contains__(self, name: object) -> bool:
        raise ValueError("mine")

    def get(self, name: str, default: Any = None) -> Any:
        raise ValueError("mine")


@pytest.mark.parametrize("arguments", [{"dedupe": True}, {"checkpoint": "run.jsonl"}, {}])
@pytest.mark.parametrize(
    "item",
    [{"path": "/x", "custom_id": "\ud800"}, StrangeKeys(path="/x"), ({"path": "/x"}, {"retry": Strange()})],
    ids=["surrogate", "mapping", "option"],
)
async def test_a_strange_item_fails_alone(
    item: Any, arguments: dict[str, Any], server: LocalServer, tmp_path: Path, no_leaks: None
) -> None:
    if "checkpoint" in arguments:
        arguments = {"checkpoint": tmp_path / "run.jsonl"}
    requests = [*indexes(3), item, *indexes(5)[3:]]
    async with AsyncPynector(base_url=server.url) as client:
        with fail_after(20):
            async with client.stream_batch(requests, max_concurrency=2, **arguments) as run:
                outcomes = by_index([outcome async for outcome in run])
    assert len(outcomes) == 6
    assert all(outcome.ok for outcome in outcomes if outcome.index != 3)


# Keys of items that were left out


@pytest.mark.parametrize(
    "arguments", [{}, {"dedupe": True}, {"checkpoint": True}, {"key": lambda item: item["custom_id"]}]
)
async def test_items_that_are_left_out_have_their_keys(
    arguments: dict[str, Any], server: LocalServer, tmp_path: Path, no_leaks: None
) -> None:
    if "checkpoint" in arguments:
        arguments = {"checkpoint": tmp_path / "run.jsonl"}
    requests = [{"path": f"/index/{n}", "custom_id": f"i-{n}"} for n in range(30)]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=2, **arguments) as run:
            outcomes = []
            async for outcome in run:
                outcomes.append(outcome)
                run.stop()
    assert [outcome.key for outcome in by_index(outcomes)] == [f"i-{n}" for n in range(30)]
    assert outcomes[-1].state == "not_sent"


async def test_another_number_of_retries_is_the_same_job(server: LocalServer, tmp_path: Path) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for retries in (1, 2):
            async with client.stream_batch(indexes(3), checkpoint=tmp_path / "run.jsonl", retry=retries) as run:
                assert [outcome.ok async for outcome in run] == [True] * 3
    assert server.requests.count == 3


async def test_dedupe_of_many_failures_takes_no_longer_for_each(server: LocalServer) -> None:
    """The answer of a leader that failed is forgotten without a look at all the others."""
    from pynector._async.bulk.job import Job
    from pynector._async.bulk.memo import Memo

    def seconds(number: int) -> float:
        memo = Memo(checkpoint=None, key=None, dedupe=True, http=True, own=True)
        jobs = [Job(n, {"path": f"/{n}"}) for n in range(number)]
        for job in jobs:
            assert memo.begin(job) is None
        started = time.perf_counter()
        for job in jobs:
            memo.conclude(job, job.fail(ValueError(), 0.0))
        return time.perf_counter() - started

    assert seconds(4000) < 12 * seconds(1000) + 0.05


async def test_the_error_of_the_block_wins_over_that_of_the_checkpoint(server: LocalServer, tmp_path: Path) -> None:
    def full(self: CheckpointFile) -> None:
        raise errors.CheckpointError("the disk is full")

    async with AsyncPynector(base_url=server.url) as client:
        for error in (KeyboardInterrupt, LookupError):
            with pytest.MonkeyPatch.context() as patch, pytest.raises(error):
                async with client.stream_batch(indexes(3), checkpoint=tmp_path / "run.jsonl") as run:
                    async for _ in run:
                        patch.setattr(CheckpointFile, "sync", full)
                        raise error
        with pytest.MonkeyPatch.context() as patch, pytest.raises(errors.CheckpointError, match="full"):
            async with client.stream_batch(indexes(3), checkpoint=tmp_path / "other.jsonl") as run:
                async for _ in run:
                    patch.setattr(CheckpointFile, "sync", full)
