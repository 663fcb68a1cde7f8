"""Outcomes, batch results and their summary."""

import copy
import dataclasses
import gc
import json
import pickle
import weakref

import pytest

from pynector import errors
from pynector._messages.http import HttpMessage
from pynector._messages.outcome import BatchResult, Outcome, make_outcome
from pynector._messages.tally import Tally
from pynector._messages.usage import Usage


def ok(index, elapsed=1.0, attempts=1, status=200):
    value = HttpMessage.response(status_code=status)
    return Outcome(index=index, value=value, attempts=attempts, elapsed=elapsed)


def bad(index, error, state="failed", attempts=1, elapsed=1.0):
    return Outcome(index=index, error=error, state=state, attempts=attempts, elapsed=elapsed)


NOT_FOUND = errors.HTTPNotFoundError("404 Not Found for GET http://h/", attempts=1)
LATE = errors.TimeoutError("too late")


def test_an_answer():
    outcome = Outcome(index=3, key="k", request={"path": "/"}, value=7, attempts=1, elapsed=0.5)
    assert outcome.ok
    assert outcome.unwrap() == 7
    assert (outcome.state, outcome.source, outcome.usage, outcome.request_id) == ("ok", "network", None, None)
    assert repr(outcome) == "<Outcome 3 'k' ok: int>"
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.value = 8
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.nothing = 8
    assert Outcome(index=0).unwrap() is None
    assert Outcome[int](index=0, value=7) == Outcome(index=0, value=7)


def test_an_error():
    outcome = bad(0, NOT_FOUND)
    assert not outcome.ok
    with pytest.raises(errors.HTTPNotFoundError) as caught:
        outcome.unwrap()
    assert caught.value is NOT_FOUND
    assert repr(outcome) == "<Outcome 0 failed: HTTPNotFoundError('404 Not Found for GET http://h/')>"


def test_a_repr_shows_no_request_and_is_short():
    outcome = Outcome(index=0, request={"headers": {"authorization": "hunter2"}}, value="hunter2")
    assert "hunter2" not in repr(outcome)
    assert len(repr(bad(0, ValueError("x" * 10_000)))) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "ok", "error": LATE},
        {"state": "failed"},
        {"state": "not_sent", "value": 1},
        {"state": "failed", "value": 1, "error": LATE},
    ],
)
def test_a_value_or_an_error_and_never_both(fields):
    with pytest.raises(ValueError, match="either ok with a value"):
        Outcome(index=0, **fields)


def test_unwrapping_leaves_no_cycle():
    class Held(Exception):
        pass

    gc.disable()
    try:
        outcome = bad(0, Held())
        ref = weakref.ref(outcome.error)
        with pytest.raises(Held):
            outcome.unwrap()
        del outcome
        assert ref() is None
    finally:
        gc.enable()


RESULT = BatchResult(
    [
        ok(0, elapsed=0.1),
        bad(1, NOT_FOUND, elapsed=0.2, attempts=3),
        ok(2, elapsed=0.3, attempts=2, status=201),
        bad(3, LATE, state="not_sent", attempts=0, elapsed=0.0),
        bad(4, LATE, state="unknown", elapsed=20.0),
    ],
    elapsed=2.0,
)


def test_a_result_is_a_list_of_answers_and_exceptions():
    assert isinstance(RESULT, list)
    assert [type(each).__name__ for each in RESULT] == [
        "HttpMessage",
        "HTTPNotFoundError",
        "HttpMessage",
        "TimeoutError",
        "TimeoutError",
    ]
    assert [each.index for each in RESULT.ok] == [0, 2]
    assert [each.index for each in RESULT.failed] == [1, 3, 4]
    assert [each.index for each in RESULT.outcomes] == [0, 1, 2, 3, 4]
    assert repr(RESULT) == "<BatchResult 2 ok, 3 failed>"
    assert BatchResult() == []


def test_the_summary():
    summary = RESULT.summary()
    assert (summary.total, summary.ok, summary.failed, summary.not_sent, summary.unknown) == (5, 2, 1, 1, 1)
    assert (summary.retried, summary.retries) == (2, 3)
    assert summary.status_codes == {200: 1, 201: 1, 404: 1}
    assert (summary.elapsed, summary.throughput, summary.usage) == (2.0, 1.5, None)
    assert (summary.latency_p50, summary.latency_p95, summary.latency_max) == (0.2, 20.0, 20.0)
    assert str(summary).splitlines() == [
        "items       5 in 2.00 s (1.5/s)",
        "outcomes    2 ok, 1 failed, 1 not sent, 1 unknown",
        "retries     3 for 2 items",
        "latency     p50 200 ms, p95 20.0 s, p99 20.0 s, max 20.0 s",
        "statuses    200 x 1, 201 x 1, 404 x 1",
        "errors      TimeoutError x 2, HTTPNotFoundError x 1",
    ]


def test_percentiles_are_values_that_were_measured():
    result = BatchResult([ok(n, elapsed=float(n + 1)) for n in range(100)], elapsed=1.0)
    summary = result.summary()
    assert (summary.latency_p50, summary.latency_p95, summary.latency_p99, summary.latency_max) == (50, 95, 99, 100)


def test_the_summary_of_nothing():
    summary = BatchResult().summary()
    assert (summary.total, summary.throughput, summary.latency_p50, summary.latency_max) == (0, 0.0, 0.0, 0.0)
    assert "statuses" not in str(summary)


def test_answers_without_a_status_are_not_counted_as_one():
    result = BatchResult([Outcome(index=0, value={"a": 1}), bad(1, errors.SdkTransportError("x"))])
    assert result.summary().status_codes == {}


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_results_and_outcomes_are_picklable(again):
    other = again(RESULT)
    assert type(other) is BatchResult
    assert [repr(each) for each in other] == [repr(each) for each in RESULT]
    assert [repr(each) for each in other.outcomes] == [repr(each) for each in RESULT.outcomes]
    assert other.elapsed == 2.0
    assert other.summary() == RESULT.summary()
    assert again(RESULT.outcomes[0]) == RESULT.outcomes[0]
    error = errors.ClosedError("cut short", outcomes=RESULT.outcomes)
    assert len(again(error).outcomes) == 5


# What HTTP answers tell


def told(body: bytes, headers: dict[str, str] | None = None) -> Outcome[HttpMessage]:
    answer = HttpMessage.response(status_code=200, headers=headers, content=body)
    return make_outcome(0, None, answer, None, "ok", 1, 0.1)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}, Usage(7, 2)),
        ({"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 3}, Usage(10, 2, 3)),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            Usage(7, 2, 4, 0, 1),
        ),
        ({"input_tokens": "many"}, None),
        ({"disk": 3}, None),
        ("much", None),
        (None, None),
    ],
)
def test_the_usage_of_an_http_answer(usage: object, expected: Usage | None) -> None:
    outcome = told(json.dumps({"usage": usage}).encode())
    assert outcome.usage == expected
    assert outcome.usage is outcome.usage
    tally = Tally()
    tally.add(outcome)
    assert tally.usage == expected


@pytest.mark.parametrize("body", [b"", b"usage", b'["usage"]', b'{"usage": ', b"\xff", b'{"a": "usage"}'])
def test_an_http_answer_without_a_usage(body: bytes) -> None:
    assert told(body).usage is None
    assert told(body).request_id is None


def test_the_request_id_of_an_http_answer() -> None:
    outcome = told(b"", {"X-Request-Id": "r1"})
    assert outcome.request_id == "r1"
    assert pickle.loads(pickle.dumps(outcome)).request_id == "r1"
    assert dataclasses.replace(told(b"", {"request-id": "r2"}), index=4).request_id == "r2"
    error = errors.status_error(HttpMessage.response(status_code=404, headers={"request-id": "r3"}))
    assert make_outcome(0, None, None, error, "failed", 1, 0.1).request_id == "r3"
    assert make_outcome(0, None, None, errors.HTTPProtocolError("x"), "failed", 1, 0.1).request_id is None
    with pytest.raises(AttributeError, match="has no attribute 'usages'"):
        told(b"").usages  # noqa: B018
