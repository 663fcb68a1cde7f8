"""Requests and tokens per minute: the queue and the two buckets."""

import copy
import dataclasses
import heapq
import math
import pickle
import random
import time

import pytest

from pynector._policies.estimate import MOST_TOKENS
from pynector._policies.rate_limit import RateLimit
from pynector.errors import ConfigurationError
from unit.pacing import START, Clock, limiter

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
