"""Requests and tokens per minute: limits learnt from headers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynector._messages.headers import Headers
from pynector._policies.learnt import NOTHING, Reading, parse_duration, parse_rfc3339, read_limits
from unit.pacing import START, WALL, Clock, anthropic, limiter, openai, relaxed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3_723.5),
        ("1d", 86_400.0),
        ("250us", 250e-6),
        ("250µs", 250e-6),
        ("0s", 0.0),
        (" 2.5 ", 2.5),
        ("60", 60.0),
        ("", None),
        ("s", None),
        ("1x", None),
        ("-1s", None),
        ("1s junk", None),
        ("1..2s", None),
        ("inf", None),
        ("1" * 40 + "s", None),
        ("1s" * 40, None),
        ("\u0661s", None),
        ("1e3", None),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-01T00:00:00Z", WALL),
        ("2024-01-01t00:00:10.123456789z", WALL + 10),
        ("2024-01-01T02:00:00+02:00", WALL),
        (" 2024-01-01 00:00:00Z ", WALL),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800.0 - 50_400),
        ("2024-13-01T00:00:00Z", None),
        ("2024-01-01T24:30:00Z", None),
        ("2024-01-01T00:00:00", None),
        ("2024-01-01", None),
        ("soon", None),
        ("", None),
    ],
)
def test_dates(text, seconds):
    assert parse_rfc3339(text) == seconds


@pytest.mark.parametrize(
    ("headers", "readings"),
    [
        ({}, NOTHING),
        (
            openai(requests=(60, 59, "1s"), tokens=(150_000, 149_984, "6m0s")),
            (Reading(60, 59, 1), Reading(150_000, 149_984, 360)),
        ),
        (openai(requests=(60,)), (Reading(60), None)),
        (openai(requests=(0, 0, "0s"), tokens=("", 5)), NOTHING),
        (openai(requests=(60, "x", "y")), (Reading(60, None, None), None)),
        (openai(requests=(60, -1, "1s")), (Reading(60, None, 1), None)),
        (
            anthropic(requests=(50, 49, "2024-01-01T00:00:02Z"), tokens=(40_000, 39_000, "2024-01-01T00:00:01Z")),
            (Reading(50, 49, 2), Reading(40_000, 39_000, 1)),
        ),
        (
            anthropic(
                input_tokens=(30_000, 20_000, "2024-01-01T00:00:20Z"),
                output_tokens=(8_000, 8_000, "2023-12-31T23:59:59Z"),
            ),
            (None, Reading(38_000, 28_000, 20)),
        ),
        (
            anthropic(
                tokens=(38_000, 20_000, "2024-01-01T00:00:20Z"),
                input_tokens=(30_000, 20_000, "2024-01-01T00:00:20Z"),
                output_tokens=(8_000, 0, "2024-01-01T00:00:40Z"),
            ),
            (None, Reading(38_000, 0, 40)),
        ),
        (anthropic(input_tokens=(30_000, "?", "?"), output_tokens=(8_000, 1)), (None, Reading(38_000))),
        (anthropic(output_tokens=(8_000, 1)), (None, Reading(8_000, 1))),
    ],
)
def test_both_families_of_headers_are_read(headers, readings):
    assert read_limits(headers, WALL) == readings
    assert read_limits(Headers({name.upper(): value for name, value in headers.items()}), WALL) == readings


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from([*openai(requests="abc", tokens="abc"), *anthropic(requests="abc", input_tokens="abc")]),
        st.one_of(st.text(max_size=30), st.from_regex(r"[0-9]{1,30}(\.[0-9]*)?(ms|s|m0s|T|-|Z)*", fullmatch=True)),
    )
)
def test_garbage_is_ignored(headers):
    clock = Clock(limiter(learn=True))
    clock.limiter.learn(headers, clock.now, WALL)
    clock.go(10)


def test_headers_count_only_if_that_was_asked_for():
    clock = Clock(limiter(6_000))
    clock.limiter.learn(openai(requests=(60, 0, "60s")), clock.now, WALL)
    assert clock.burst() == 100


def test_nothing_is_limited_before_something_was_learnt():
    clock = Clock(limiter(learn=True))
    assert clock.burst(tokens=1_000_000, most=500) == 500
    clock.limiter.learn(openai(requests=(600, 600, "1ms")), clock.now, WALL)
    assert clock.burst(tokens=1_000_000) == 10


@pytest.mark.parametrize(("own", "told", "at_once"), [(600, 60_000, 10), (60_000, 600, 10), (None, 600, 10)])
def test_a_learnt_limit_is_never_above_the_users(own, told, at_once):
    clock = Clock(limiter(own, learn=True))
    clock.limiter.learn(openai(requests=(told, told, "1s")), clock.now, WALL)
    assert clock.burst() == at_once


def test_a_learnt_limit_follows_the_server():
    clock = Clock(limiter(learn=True))
    for told, at_once in [(600, 10), (60_000, 1_000), (1_200, 20)]:
        clock.now += 60
        clock.limiter.learn(openai(requests=(told, told, "1s")), clock.now, WALL)
        assert clock.burst() == at_once


def test_a_change_of_the_limit_keeps_what_is_missing():
    limit = limiter(tpm=60_000, learn=True)
    clock = Clock(limit)
    clock.go(3_000)
    limit.learn(openai(tokens=(6_000,)), clock.now, WALL)  # 3,000 taken: of 100 at once, 2,900 are owed
    following = limit.enter(0)
    assert limit.delay(following, clock.now) == pytest.approx(29)
    limit.learn(openai(tokens=(600_000,)), clock.now, WALL)  # the user's 60,000 count
    assert limit.delay(following, clock.now) == pytest.approx(2)


def test_what_others_took_is_not_there():
    limit = limiter(learn=True)
    clock = Clock(limit)
    limit.learn(openai(tokens=(60_000, 500, "59.5s")), clock.now, WALL)
    assert limit.delay(limit.enter(3_500), clock.now) == pytest.approx(3)
    limit.leave(limit.head)
    limit.learn(openai(requests=(600, 0, "60s")), clock.now, WALL)
    assert limit.delay(limit.enter(0), clock.now) == pytest.approx(0.1)


def test_a_shortage_is_over_at_its_reset():
    limit = limiter(learn=True)
    clock = Clock(limit)
    limit.learn(openai(tokens=(60_000, 0, "2s")), clock.now, WALL)
    clock.go(50_000)
    assert clock.now - START == pytest.approx(2)
    limit.learn(anthropic(tokens=(60_000, 0, "2023-12-31T23:59:00Z")), clock.now, WALL)  # it has passed
    clock.now += 60
    clock.go(50_000)
    assert clock.now - START == pytest.approx(62)


def test_an_older_answer_does_not_refill():
    limit = limiter(learn=True)
    clock = Clock(limit)
    limit.learn(openai(tokens=(60_000, 0, "60s")), clock.now, WALL)
    limit.learn(openai(tokens=(60_000, 60_000, "60s")), clock.now, WALL)
    assert limit.delay(limit.enter(5_000), clock.now) == pytest.approx(5)


def test_learnt_limits_end_when_nothing_is_heard_any_more():
    clock = Clock(limiter(600, learn=True))
    clock.limiter.learn(openai(requests=(1,)), clock.now, WALL)
    assert clock.burst() == 1
    clock.now += 599
    clock.limiter.learn(openai(requests=(1,)), clock.now, WALL)
    assert clock.burst() == 1
    clock.now += 599
    assert clock.burst() == 1
    clock.now += 2
    assert clock.burst() == 9  # what was taken two seconds ago is not forgotten


def test_a_waiter_does_not_outwait_what_was_learnt():
    clock = Clock(limiter(learn=True))
    clock.limiter.learn(openai(tokens=(1,)), clock.now, WALL)
    clock.go(100_000)
    clock.go(1)
    assert clock.now - START == pytest.approx(600)


def test_tokens_taken_before_a_limit_was_known_are_not_given_back_to_it():
    limit = limiter(learn=True)
    clock = Clock(limit)
    before = clock.go(100_000)
    clock.now += 1
    limit.learn(openai(tokens=(60_000,)), clock.now, WALL)
    clock.go(5_000)
    limit.settle(before, clock.now, tokens=10, sent=True)
    assert limit.delay(limit.enter(1_000), clock.now) == pytest.approx(5)


@relaxed
@given(st.integers(30, 600), st.floats(0, 1), st.lists(st.one_of(st.just(0.0), st.floats(0, 30)), max_size=100))
def test_a_server_that_tells_its_limit_is_never_overrun(rpm, left, pauses):
    """The server keeps a bucket of one minute, most of which somebody else may have taken before."""
    clock = Clock(limiter(learn=True))
    rate = rpm / 60
    level, seen = left * rpm, clock.now
    for number, pause in enumerate([0.0, *pauses]):
        clock.now += pause
        clock.go()
        level, seen = min(rpm, level + (clock.now - seen) * rate), clock.now
        assert level >= 1 - 1e-3 or number == 0
        level = max(0, level - 1)
        told = openai(requests=(rpm, int(level), f"{math.ceil((rpm - level) / rate * 1000)}ms"))
        clock.limiter.learn(told, clock.now, WALL)
