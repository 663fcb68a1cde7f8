"""Requests and tokens per minute: the queue, the two buckets, estimates, and limits learnt from headers."""

import copy
import dataclasses
import heapq
import math
import pickle
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pynector._messages.headers import Headers
from pynector._messages.http import HttpMessage
from pynector._policies.estimate import MOST_TOKENS, OutputTokens, estimate_tokens, most_output
from pynector._policies.learnt import NOTHING, Reading, parse_duration, parse_rfc3339, read_limits
from pynector._policies.rate_limit import RateLimit, RateLimiter
from pynector.errors import ConfigurationError

START = 1_000_000.0
WALL = 1_704_067_200.0  # 2024-01-01T00:00:00Z

relaxed = settings(deadline=None)  # the machine may be busy


def limiter(rpm=None, tpm=None, learn=False, **more):
    return RateLimiter(RateLimit(rpm, tpm, learn, **more))


class Clock:
    """Virtual time, and a user of the limiter that always waits as long as told."""

    def __init__(self, limiter, now=START):
        self.limiter = limiter
        self.now = now
        self.asked = 0

    def let_through(self, ticket):
        for _ in range(1_000):
            self.asked += 1
            wait = self.limiter.delay(ticket, self.now)
            if wait == 0:
                return ticket
            assert 0 < wait < math.inf
            self.now += wait
        raise AssertionError("it is told to wait again and again")

    def go(self, tokens=0):
        return self.let_through(self.limiter.enter(tokens))

    def burst(self, tokens=0, most=10_000):
        """How many may go at this very moment."""
        for count in range(most):
            ticket = self.limiter.enter(tokens)
            if self.limiter.delay(ticket, self.now):
                self.limiter.leave(ticket)
                return count
        return most


# --- The value


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "nothing is limited"),
        ({"requests_per_minute": 0}, "RateLimit.requests_per_minute: 0 "),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"requests_per_minute": math.inf}, "requests_per_minute"),
        ({"requests_per_minute": math.nan}, "requests_per_minute"),
        ({"requests_per_minute": 5e-324}, "requests_per_minute"),
        ({"requests_per_minute": True}, "requests_per_minute"),
        ({"requests_per_minute": "60"}, "requests_per_minute"),
        ({"tokens_per_minute": 0}, "tokens_per_minute"),
        ({"tokens_per_minute": 10**400}, "tokens_per_minute"),
        ({"learn_headers": 1}, "learn_headers"),
        ({"learn_headers": None}, "learn_headers"),
        ({"tokens_per_minute": 1, "count_tokens": 4}, "count_tokens"),
        ({"tokens_per_minute": 1, "burst": 0}, "burst"),
        ({"tokens_per_minute": 1, "burst": 61}, "burst"),
        ({"tokens_per_minute": 1, "burst": math.nan}, "burst"),
        ({"tokens_per_minute": 1, "burst": "1"}, "burst"),
    ],
)
def test_bad_values_are_refused_by_name(arguments, text):
    with pytest.raises(ConfigurationError) as caught:
        RateLimit(**arguments)
    assert text in str(caught.value)
    assert "give " in str(caught.value)


def test_a_limit_is_a_value():
    one, other = RateLimit(500, 30_000, count_tokens=len), RateLimit(500.0, 30_000.0, count_tokens=len)
    assert one == other
    assert hash(one) == hash(other)
    assert type(one.requests_per_minute) is float
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    assert RateLimit(learn_headers=True) != one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.burst = 2.0
    with pytest.raises(TypeError):
        RateLimit(1, 1, True, len)


# --- The queue


def test_only_the_head_may_go():
    limit = limiter(60)
    first, second, third = (limit.enter(0) for _ in range(3))
    assert limit.head is first
    assert limit.waiting == 3
    assert limit.delay(second, START) == math.inf
    assert limit.delay(first, START) == 0
    assert limit.head is second
    assert limit.delay(third, START) == math.inf
    assert limit.delay(second, START) == 1
    limit.leave(second)
    assert limit.head is third
    assert limit.delay(third, START) == 1
    assert limit.delay(third, START + 1) == 0
    assert limit.head is None
    assert limit.waiting == 0


def test_to_be_let_through_is_charged_once():
    limit = limiter(60)
    ticket = limit.enter(0)
    assert [limit.delay(ticket, START) for _ in range(3)] == [0, 0, 0]
    assert limit.delay(limit.enter(0), START) == 1


def test_leaving_costs_nothing_and_may_be_repeated():
    limit = limiter(60)
    gone = limit.enter(0)
    assert repr(gone) == "<Ticket waiting, 0 tokens>"
    for _ in range(2):
        limit.leave(gone)
    assert limit.waiting == 0
    with pytest.raises(RuntimeError, match="has left"):
        limit.delay(gone, START)
    limit.settle(gone, START, tokens=5, sent=True)
    ticket = Clock(limit).go()
    limit.leave(ticket)  # it does not wait any more: its place stays taken
    assert limit.delay(limit.enter(0), START) == 1


def test_a_ticket_that_waits_and_is_settled_has_left():
    limit = limiter(60)
    Clock(limit).go()
    first, second = limit.enter(0), limit.enter(0)
    limit.settle(first, START, tokens=None, sent=False)
    assert limit.head is second
    assert limit.waiting == 1
    assert limit.delay(second, START) == 1


def test_settling_counts_once():
    limit = limiter(600)
    clock = Clock(limit)
    tickets = [clock.go() for _ in range(10)]
    for _ in range(5):
        limit.settle(tickets[0], START, tokens=None, sent=False)
    assert clock.burst() == 1


def test_many_that_leave_from_the_middle_cost_little_time_and_no_memory():
    limit = limiter(60)
    Clock(limit).go()
    head = limit.enter(0)
    start = time.process_time()
    waiting = [limit.enter(0) for _ in range(50_000)]
    random.Random(5).shuffle(waiting)
    for ticket in waiting:
        limit.leave(ticket)
        assert limit.head is head
    assert time.process_time() - start < 5  # quadratic time takes minutes
    assert limit.waiting == 1
    for _ in range(10_000):
        limit.leave(limit.enter(0))
    assert len(limit._queue) <= 2 * limit.waiting + 64


# --- The pace


def test_after_a_pause_one_second_may_go_at_once_and_then_one_at_a_time():
    clock = Clock(limiter(600))
    assert clock.burst() == 10
    assert clock.limiter.delay(clock.limiter.enter(0), clock.now) == pytest.approx(0.1)
    clock.now += 3600
    clock.limiter.leave(clock.limiter.head)
    assert clock.burst() == 10


@pytest.mark.parametrize(("burst", "at_once"), [(0.05, 1), (0.5, 5), (2, 20), (60, 600)])
def test_the_burst_can_be_chosen(burst, at_once):
    assert Clock(limiter(600, burst=burst)).burst() == at_once


def test_a_slow_limit_lets_one_go_at_a_time():
    clock = Clock(limiter(1 / 60))
    assert clock.burst() == 1
    clock.go()
    assert clock.now - START == pytest.approx(3600)


def test_no_drift_over_hours_and_no_polling():
    clock = Clock(limiter(700), now=12_345.678)
    for _ in range(700 * 60 * 3):
        clock.go()
    assert clock.now - 12_345.678 == pytest.approx(3 * 3600, abs=2)
    assert clock.asked <= 2 * 700 * 60 * 3


@pytest.mark.parametrize("now", [0.0, 1e-9, 1e9, 1e10])
def test_waiting_as_long_as_told_is_enough_whatever_the_clock_reads(now):
    clock = Clock(limiter(7_777), now=now)
    for _ in range(500):
        clock.go()
    assert clock.asked <= 1_000


def test_a_clock_that_stands_still_or_goes_back_a_little():
    limit = limiter(600)
    assert Clock(limit).burst() == 10
    ticket = limit.enter(0)
    assert limit.delay(ticket, START) == limit.delay(ticket, START) == pytest.approx(0.1)
    assert limit.delay(ticket, START - 0.05) == pytest.approx(0.15)
    assert limit.delay(ticket, START + 0.1) == 0
    assert limit.delay(limit.enter(0), START + 0.09) == pytest.approx(0.11)


# --- Tokens


def test_tokens_and_requests_are_both_kept_to():
    clock = Clock(limiter(600, 60_000))
    assert clock.burst(tokens=300) == 3
    clock.now += 100
    assert clock.burst(tokens=1) == 10


def test_a_request_larger_than_the_bucket_goes_alone_and_is_paid_for_afterwards():
    limit = limiter(tpm=60_000)
    clock = Clock(limit)
    small = clock.go(100)
    large, behind = limit.enter(5_000), limit.enter(1)
    assert limit.delay(large, clock.now) == pytest.approx(0.1)  # until the bucket is full
    assert limit.delay(behind, clock.now) == math.inf
    clock.let_through(large)
    clock.let_through(behind)
    assert clock.now - START == pytest.approx(0.1 + 4.001)
    limit.settle(small, clock.now, tokens=100, sent=True)


def test_more_than_estimated_is_a_debt():
    limit = limiter(tpm=60_000)
    clock = Clock(limit)
    ticket = clock.go(10)
    clock.now += 30
    limit.settle(ticket, clock.now, tokens=4_010, sent=True)
    assert limit.delay(limit.enter(0), clock.now) == pytest.approx(3)
    limit.settle(ticket, clock.now, tokens=1_000_000, sent=True)
    assert limit.delay(limit.head, clock.now) == pytest.approx(3)


def test_less_than_estimated_moves_the_next_forward():
    limit = limiter(tpm=60_000)
    clock = Clock(limit)
    ticket = clock.go(10_000)
    following = limit.enter(1_000)
    assert limit.delay(following, clock.now) == pytest.approx(10)
    limit.settle(ticket, clock.now, tokens=4_000, sent=True)
    assert limit.delay(following, clock.now) == pytest.approx(4)


def test_an_unknown_usage_leaves_the_estimate():
    limit = limiter(tpm=60_000)
    ticket = Clock(limit).go(3_000)
    limit.settle(ticket, START, tokens=None, sent=True)
    assert limit.delay(limit.enter(0), START) == pytest.approx(2)


def test_what_was_not_sent_is_given_back():
    limit = limiter(60, 60_000)
    ticket = Clock(limit).go(100_000)
    limit.settle(ticket, START, tokens=7, sent=False)
    assert limit.delay(limit.enter(100_000), START) == 0


def test_giving_back_never_makes_more_than_a_full_bucket():
    clock = Clock(limiter(600, 60_000))
    for _ in range(100):
        ticket = clock.go(500)
        clock.now += 60
        clock.limiter.settle(ticket, clock.now, tokens=None, sent=False)
    assert clock.burst(tokens=100) == 10


@pytest.mark.parametrize("tokens", [-5, 10**400])
def test_nonsense_counts_stall_nobody_for_days(tokens):
    clock = Clock(limiter(tpm=1_000_000))
    ticket = clock.go(tokens)
    assert 0 <= ticket.tokens <= MOST_TOKENS
    clock.limiter.settle(ticket, clock.now, tokens=tokens, sent=True)
    clock.go(1)
    assert clock.now - START <= 600


@pytest.mark.parametrize(("estimate", "least"), [(500, 0.97), (900, 0.85)])
def test_bad_estimates_do_not_waste_much_of_the_limit(estimate, least):
    """Answers take five seconds and 450 tokens, 60,000 of which may go per minute."""
    limit = limiter(tpm=60_000)
    rand = random.Random(7)
    now, used, number, under_way = START, 0, 0, []
    ticket = limit.enter(estimate)
    while now < START + 900:
        wait = limit.delay(ticket, now)
        if wait == 0:
            number += 1
            heapq.heappush(under_way, (now + rand.uniform(2, 8), number, ticket))
            ticket = limit.enter(estimate)
        elif under_way and under_way[0][0] <= now + wait:
            now, _, done = heapq.heappop(under_way)
            limit.settle(done, now, tokens=450, sent=True)
            used += 450
        else:
            now += wait
    assert least <= used / (1_000 * 900) <= 1.01


# --- Properties

RATES = st.floats(0.5, 100_000)


@relaxed
@given(
    rpm=RATES,
    burst=st.floats(0.01, 5),
    pauses=st.lists(st.one_of(st.just(0.0), st.floats(0, 0.5), st.floats(0, 100)), min_size=2, max_size=40),
)
def test_in_any_window_no_more_requests_go_than_the_burst_and_the_rate(rpm, burst, pauses):
    clock = Clock(limiter(rpm, burst=burst))
    times = []
    for pause in pauses:
        clock.now += pause
        clock.go()
        times.append(clock.now)
    rate = rpm / 60
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            allowed = max(1, rate * burst) + rate * (times[last] - start + 2e-6)
            assert last - first + 1 <= allowed + 1e-6


@relaxed
@given(
    tpm=RATES,
    burst=st.floats(0.01, 5),
    steps=st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(0, 5_000), st.floats(0, 20), st.booleans(), st.booleans()),
        min_size=2,
        max_size=30,
    ),
)
def test_in_any_window_no_more_tokens_go_than_the_burst_and_the_rate(tpm, burst, steps):
    """What is settled counts: more than estimated when it is known, less is given back."""
    clock = Clock(limiter(tpm=tpm, burst=burst))
    rate = tpm / 60
    events = []  # (time, tokens, how many at once if it was let through, else None)
    under_way = []
    for tokens, used, pause, settles, sent in steps:
        clock.now += pause
        under_way.append(clock.go(tokens))
        events.append((clock.now, tokens, tokens))
        if settles:
            clock.now += pause / 3
            ticket = under_way.pop(0)
            clock.limiter.settle(ticket, clock.now, tokens=used, sent=sent)
            events.append((clock.now, (used if sent else 0) - ticket.tokens, None))
    for first, (start, _, let_through) in enumerate(events):
        if let_through is None:
            continue
        total = 0
        for now, tokens, at_once in events[first:]:
            total += tokens
            if at_once is not None:
                allowed = max(rate * burst, at_once) + rate * (now - start + 2e-6)
                assert total <= allowed + 1e-3


@relaxed
@given(
    rpm=st.floats(1, 6_000),
    tpm=st.floats(100, 1e6),
    steps=st.lists(st.tuples(st.sampled_from("enter ask leave settle".split()), st.integers(0, 10**5)), max_size=80),
)
def test_fifo_and_everything_comes_back(rpm, tpm, steps):
    limit = limiter(rpm, tpm)
    now = START
    queue, admitted = [], []
    for step, number in steps:
        if step == "enter":
            queue.append(limit.enter(number))
        elif step == "leave" and queue:
            limit.leave(queue.pop(number % len(queue)))
        elif step == "settle" and admitted:
            limit.settle(admitted.pop(number % len(admitted)), now, tokens=number, sent=False)
        elif step == "ask" and queue:
            for ticket in queue[1:]:
                assert limit.delay(ticket, now) == math.inf
            wait = limit.delay(queue[0], now)
            assert 0 <= wait < math.inf
            if wait:
                now += wait * (number % 3) / 2
            else:
                admitted.append(queue.pop(0))
        assert limit.head is (queue[0] if queue else None)
        assert limit.waiting == len(queue)
    for ticket in admitted:
        limit.settle(ticket, now, tokens=None, sent=False)
    for ticket in queue:
        limit.leave(ticket)
    assert limit.head is None
    assert limit.waiting == 0
    # Nothing is left of all that: it answers as a new one does.
    fresh = limiter(rpm, tpm)
    assert Clock(limit, now).burst(10) == Clock(fresh, now).burst(10)


@relaxed
@given(
    rpm=RATES,
    tpm=RATES,
    learn=st.booleans(),
    work=st.lists(
        st.tuples(
            st.integers(0, 10**8),
            st.integers(0, 10**8),
            st.integers(1, 10**6),
            st.integers(0, 10**6),
            st.sampled_from(["1s", "0s", "6m0s", "20ms", "", "9999h"]),
        ),
        max_size=10,
    ),
)
def test_a_lone_waiter_always_gets_through(rpm, tpm, learn, work):
    clock = Clock(limiter(rpm, tpm, learn))
    for estimate, used, limit, remaining, reset in work:
        ticket = clock.go(estimate)
        clock.limiter.settle(ticket, clock.now, tokens=used, sent=True)
        clock.limiter.learn(openai(requests=(limit, remaining, reset), tokens=(limit, remaining, reset)), clock.now, 0)
    clock.go(1)
    assert clock.asked < 100 * (len(work) + 1)


# --- Estimates


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


# --- What headers teach


def openai(**told):
    names = ("limit", "remaining", "reset")
    return {
        f"x-ratelimit-{name}-{what}": str(value)
        for what, values in told.items()
        for name, value in zip(names, values, strict=False)
    }


def anthropic(**told):
    names = ("limit", "remaining", "reset")
    return {
        f"anthropic-ratelimit-{what.replace('_', '-')}-{name}": str(value)
        for what, values in told.items()
        for name, value in zip(names, values, strict=False)
    }


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
