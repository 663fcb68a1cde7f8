"""Requests and tokens per minute: what holds whatever is asked for."""

import math

from hypothesis import given
from hypothesis import strategies as st

from unit.pacing import START, Clock, limiter, openai, relaxed

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
