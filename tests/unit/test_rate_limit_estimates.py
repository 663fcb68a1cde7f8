"""Requests and tokens per minute: estimates of what a request will use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._messages.http import HttpMessage
from pynector._policies.estimate import MOST_TOKENS, OutputTokens, estimate_tokens, most_output
from pynector.errors import ConfigurationError
from unit.pacing import Clock, limiter, relaxed


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("a" * 400, 100),
        (b"a" * 400, 100),
        (bytearray(b"a" * 8), 2),
        ("语" * 4, 3),
        ("\ud800", 1),
        (None, 0),
        (True, 0),
        (object(), 0),
        ([1, 2, 3.5], 3),
        (("abcd", ["efgh", {"x": "ijkl"}]), 3),
        ({"messages": [{"role": "user", "content": "x" * 396}], "stream": True}, 100),
        ({"path": "/v1/" + "x" * 400, "headers": {"a": "b" * 400}, "json": {"input": "x" * 40}}, 10),
        ({"url": "http://h", "content": b"x" * 40, "params": {"q": "x" * 400}}, 10),
        ({"path": "/", "form": {"q": "x" * 40}}, 10),
        ({"path": "/"}, 0),
        (HttpMessage("POST", "/" + "x" * 400, json={"input": "x" * 40}), 10),
        (HttpMessage("POST", "/", form={"input": "x" * 40}), 10),
        (HttpMessage("POST", "/", content="x" * 40), 10),
        (HttpMessage("GET", "/"), 0),
        ({"image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}, 1_500),
        ({"source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000}}, 1_500),
    ],
)
def test_input_is_estimated_from_its_text(data, tokens):
    assert estimate_tokens(data) == tokens


def test_files_and_iterators_are_not_touched():
    def lines():
        raise AssertionError("read")
        yield b""

    assert estimate_tokens({"path": "/", "content": lines()}) == 0
    assert estimate_tokens({"path": "/", "json": {"a": lines(), "b": "abcd"}}) == 1


def test_values_that_contain_themselves_or_are_very_deep_are_estimated():
    ring = ["abcd"]
    ring.append({"again": ring})
    assert estimate_tokens(ring) == 1
    deep = "abcd"
    for _ in range(100_000):
        deep = [deep]
    assert estimate_tokens(deep) == 1
    while isinstance(deep, list):  # to free it all at once would go as deep
        deep = deep.pop()


@pytest.mark.parametrize(
    ("data", "options", "most"),
    [
        ("hello", None, None),
        ("hello", {"max_tokens": 5}, 5),
        ({"prompt": "a", "max_tokens": 7}, {}, 7),
        ({"prompt": "a", "max_completion_tokens": 7}, {"max_tokens": 5}, 5),
        ({"max_output_tokens": 8}, {"model": "m"}, 8),
        ({"path": "/", "json": {"max_tokens": 9}}, None, 9),
        ({"path": "/", "max_tokens": 9}, None, None),
        ({"path": "/"}, None, None),
        (HttpMessage("POST", "/", json={"max_tokens": 10}), None, 10),
        (HttpMessage("POST", "/", json=[1]), None, None),
        ({"max_tokens": True}, None, None),
        ({"max_tokens": "9"}, None, None),
        ({"max_tokens": -1}, None, None),
        ({"max_tokens": None, "max_output_tokens": 0}, None, 0),
        ([{"max_tokens": 9}], None, None),
    ],
)
def test_the_most_output_is_what_the_request_allows(data, options, most):
    assert most_output(data, options) == most


@relaxed
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60), st.integers(1, 40))
def test_the_95th_percentile_of_the_latest(seen, kept):
    outputs = OutputTokens(kept)
    assert outputs.p95 is None
    for tokens in seen:
        outputs.add(tokens)
    latest = sorted(min(tokens, MOST_TOKENS) for tokens in seen[-kept:])
    assert len(outputs._ordered) == len(latest)
    assert sum(tokens <= outputs.p95 for tokens in latest) >= 0.95 * len(latest)
    assert sum(tokens < outputs.p95 for tokens in latest) < 0.95 * len(latest)


def test_an_estimate_is_the_input_and_the_usual_output():
    limit = limiter(tpm=600_000)
    request = {"prompt": "x" * 400, "max_tokens": 1_000}
    assert limit.estimate({"prompt": "x" * 400}) == 100
    assert limit.estimate(request) == 1_100 + 1  # max_tokens is a number, and so one token of the request
    clock = Clock(limit)
    for output in [*range(1, 100), 100]:
        limit.settle(clock.go(1), clock.now, tokens=1 + output, sent=True, output_tokens=output)
    assert limit.estimate({"prompt": "x" * 400}) == 195
    assert limit.estimate(request) == 196
    assert limit.estimate({"prompt": "x" * 400}, {"max_tokens": 20}) == 120
    # What failed before it was sent teaches nothing.
    limit.settle(clock.go(1), clock.now, tokens=None, sent=False, output_tokens=10**6)
    assert limit.estimate({"prompt": "x" * 400}) == 195


def test_tokens_are_counted_by_the_users_function():
    seen = []
    limit = limiter(tpm=60, count_tokens=lambda data: seen.append(data) or 42)
    assert limit.estimate("hello", {"max_tokens": 8}) == 50
    assert seen == ["hello"]


@pytest.mark.parametrize("answer", [-1, 1.5, None, True, "7"])
def test_what_the_users_function_returns_is_checked(answer):
    with pytest.raises(ConfigurationError, match="count_tokens returned"):
        limiter(tpm=60, count_tokens=lambda _: answer).estimate("hello")


def test_tokens_are_not_counted_where_they_are_not_limited():
    assert limiter(60, count_tokens=lambda _: 1 / 0).estimate("hello") == 0
    assert limiter(learn=True).estimate("a" * 40) == 10
