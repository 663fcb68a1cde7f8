"""A run that ends before its input does: stopped, after failures, because every request would fail."""

from itertools import count
from typing import Any

import pytest

from pynector import AsyncPynector, Outcome, RetryPolicy, errors
from pynector._concurrency.aio.clock import current_time, sleep
from pynector._concurrency.aio.scopes import fail_after
from pynector.testing import LocalServer, ServerRequest, ServerResponse

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx")]


def indexes(number: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(number)]


def states(outcomes: list[Outcome[Any]]) -> list[str]:
    return [outcome.state for outcome in sorted(outcomes, key=lambda each: each.index)]


@pytest.mark.parametrize("ordered", [False, True])
async def test_stop_drains(server: LocalServer, ordered: bool, no_leaks: None) -> None:
    outcomes: list[Outcome[Any]] = []
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(50), max_concurrency=3, buffer=2, ordered=ordered) as run:
            async for outcome in run:
                outcomes.append(outcome)
                if len(outcomes) == 10:
                    run.stop()
                    run.stop()
    assert sorted(outcome.index for outcome in outcomes) == list(range(50))
    sent = [outcome for outcome in outcomes if outcome.state == "ok"]
    assert server.requests.count == len(sent)
    assert 10 <= len(sent) <= 15  # what was begun has ended
    rest = [outcome for outcome in outcomes if outcome.state == "not_sent"]
    assert len(rest) == 50 - len(sent)
    assert "the run was stopped" in str(rest[0].error)
    assert rest[0].attempts == 0


async def test_stop_of_an_endless_input(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with fail_after(10):
            async with client.stream_batch(({"path": f"/index/{n}"} for n in count()), max_concurrency=4) as run:
                done = sent = 0
                async for outcome in run:
                    assert outcome.ok or (done >= 20 and outcome.state == "not_sent")  # read, and not begun
                    done += 1
                    sent += outcome.ok
                    if done == 20:
                        run.stop()
    assert 20 <= done <= 20 + 12
    assert server.requests.count == sent
    assert run.stats.done == done


async def test_stop_does_not_wait_for_the_next_item(server: LocalServer, no_leaks: None) -> None:
    """Unless the item is made by blocking code, in the thread that would have to hear of it."""

    async def slow() -> Any:
        yield {"path": "/index/1"}
        await sleep(3)
        yield {"path": "/index/2"}

    started = current_time()
    got = []
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(slow()) as run:
            async for outcome in run:
                got.append(outcome.state)
                run.stop()
    assert got[0] == "ok"
    assert got[1:] in ([], ["not_sent"])
    assert current_time() - started < 10


@pytest.mark.parametrize("what", ["drain", "cancel"])
async def test_the_first_failure_ends_it(server: LocalServer, what: Any, no_leaks: None) -> None:
    requests = [{"path": "/items/1"}, {"path": "/status/404"}, *[{"path": "/delay?s=0.5"}] * 2, *indexes(30)]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=4, on_error=what) as run:
            outcomes = [outcome async for outcome in run]
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(requests)))
    by_index = {outcome.index: outcome for outcome in outcomes}
    assert isinstance(by_index[1].error, errors.HTTPNotFoundError)
    begun = {by_index[n].state for n in (2, 3)}
    assert begun <= ({"ok", "not_sent"} if what == "drain" else {"unknown", "not_sent"})
    last = by_index[len(requests) - 1]
    assert last.state == "not_sent"
    assert "ended by a failure" in str(last.error)
    assert last.error is not None
    assert last.error.__cause__ is by_index[1].error
    assert server.requests.count < len(requests) - 5


async def test_so_many_failures_end_it(server: LocalServer, no_leaks: None) -> None:
    requests = ({"path": "/status/404"} if n % 2 else {"path": f"/index/{n}"} for n in count())
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=1, max_errors=5) as run:
            outcomes = [outcome async for outcome in run]
        assert [outcome.ok for outcome in outcomes[:10]] == [True, False] * 5
        assert run.stats.failed == 5 + sum(outcome.state == "not_sent" for outcome in outcomes)
        assert run.summary().status_codes[404] == 5
    assert server.requests.count == 10


async def test_wrong_credentials_are_not_tried_a_hundred_times(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        result = await client.batch_request([{"path": "/bearer"}] * 100, max_concurrency=4)
        assert server.requests.count <= 8
        assert len(result) == 100
        assert isinstance(result[0], errors.HTTPUnauthorizedError)
        last = result.outcomes[-1]
        assert last.state == "not_sent"
        assert "401" in str(last.error)
        assert {outcome.state for outcome in result.outcomes} == {"failed", "not_sent"}


async def test_a_quota_that_is_used_up_ends_it(no_leaks: None) -> None:
    def app(request: ServerRequest) -> ServerResponse:
        return ServerResponse.json({"error": {"code": "insufficient_quota", "message": "pay"}}, 429)

    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url) as client:
            started = current_time()
            result = await client.batch_request(indexes(100), max_concurrency=4)
            assert current_time() - started < 5
            assert server.requests.count <= 8  # never put off, and never tried again
        assert isinstance(result[0], errors.HTTPTooManyRequestsError)
        assert result.outcomes[-1].state == "not_sent"


async def test_answers_that_were_asked_for_end_nothing(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        result = await client.batch_request([{"path": "/bearer"}] * 30, raise_for_status=False)
    assert [response.status_code for response in result] == [401] * 30


async def test_one_item_that_cannot_be_sent_is_one_failure(server: LocalServer) -> None:
    requests = [{"path": "/echo", "json": {"a": 1}, "method": "POST"} for _ in range(5)]
    requests[2]["json"] = {"a": {1, 2}}
    async with AsyncPynector(base_url=server.url) as client:
        result = await client.batch_request(requests)
    assert [outcome.state for outcome in result.outcomes] == ["ok", "ok", "failed", "ok", "ok"]
    assert isinstance(result[2], errors.SerializationError)


async def test_a_progress_callback_that_raises(server: LocalServer, no_leaks: None) -> None:
    def callback(done: int, total: int | None) -> None:
        if done >= 3:
            raise ValueError("mine")

    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.PynectorError, match="progress callback raised ValueError: mine") as caught:
            await client.batch_request(indexes(50), max_concurrency=2, progress=callback)
        assert isinstance(caught.value.__cause__, ValueError)
        assert len(caught.value.outcomes) >= 3
        got = []
        with pytest.raises(errors.PynectorError, match="progress callback raised ValueError: mine"):
            async with client.stream_batch(indexes(50), max_concurrency=2, progress=callback) as run:
                async for outcome in run:
                    got.append(outcome)
        assert len(got) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "explode"}, '"continue", "drain" or "cancel"'),
        ({"max_errors": 0}, "max_errors"),
        ({"max_errors": True}, "max_errors"),
        ({"max_concurrency": "lots"}, '"auto"'),
        ({"key": 3}, "key"),
        ({"dedupe": "yes"}, "dedupe"),
        ({"checkpoint": 3}, "checkpoint"),
    ],
)
async def test_bad_arguments(server: LocalServer, arguments: dict[str, Any], message: str) -> None:
    async with AsyncPynector(base_url=server.url, retry=RetryPolicy(max_retries=0)) as client:
        with pytest.raises(errors.ConfigurationError, match=message):
            client.stream_batch(indexes(1), **arguments)
