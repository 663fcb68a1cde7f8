"""Adaptive concurrency: the value, and what its limit does, call by call."""

import dataclasses
import inspect
import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._policies.adaptive import AdaptiveConcurrency, AdaptiveLimit, coerce_concurrency
from pynector.errors import ConfigurationError

LATENCY = 0.05


class Driver:
    """Sends requests in rounds, each as many at once as may be."""

    def __init__(self, **bounds):
        self.limit = AdaptiveLimit(AdaptiveConcurrency(**bounds))
        self.now = 0.0

    def enter(self, most=10_000):
        count = 0
        while count < most and self.limit.try_enter(self.now):
            count += 1
        return count

    def round(self, *, most=10_000, first_attempt=True):
        count = self.enter(most)
        self.now += LATENCY
        for _ in range(count):
            self.limit.succeeded(self.now, LATENCY, first_attempt=first_attempt)

    def rounds(self, count, **options):
        for _ in range(count):
            self.round(**options)
        return self.limit.limit

    def end_slow_start(self):
        """As few refusals as do it, with as many in flight as may be."""
        count = self.enter()
        self.refused(min(count, 6))
        for _ in range(count - 6):
            self.limit.dropped()
        return self.refuse(6 - count) if count < 6 else self.limit.limit

    def refuse(self, count=1):
        for _ in range(count):
            assert self.limit.try_enter(self.now)
        return self.refused(count)

    def refused(self, count):
        for _ in range(count):
            self.limit.overloaded(self.now, 0.0)
        return self.limit.limit


# --- the value


def test_defaults():
    assert dataclasses.astuple(AdaptiveConcurrency()) == (10, 1, 200)


def test_it_is_frozen_hashable_and_picklable():
    value = AdaptiveConcurrency(5, 2, 9)
    assert value == AdaptiveConcurrency(initial=5, minimum=2, maximum=9)
    assert len({value, AdaptiveConcurrency(5, 2, 9)}) == 1
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.initial = 3


@pytest.mark.parametrize("name", ["initial", "minimum", "maximum"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "3", None])
def test_what_is_no_count_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=rf"AdaptiveConcurrency\.{name}: .* give an integer of 1 or more"):
        AdaptiveConcurrency(**{name: value})


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"initial": 5, "minimum": 6}, r"minimum: 6 is not accepted; give at most `initial`, 5"),
        ({"initial": 5, "maximum": 4}, r"maximum: 4 is not accepted; give at least `initial`, 5"),
    ],
)
def test_bounds_in_the_wrong_order_are_refused(bounds, message):
    with pytest.raises(ConfigurationError, match=message):
        AdaptiveConcurrency(**bounds)


def test_what_max_concurrency_accepts():
    value = AdaptiveConcurrency(initial=3)
    assert coerce_concurrency(7) == 7
    assert coerce_concurrency("auto") == AdaptiveConcurrency()
    assert coerce_concurrency(value) is value


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "many", "AUTO", None, b"auto"])
def test_what_max_concurrency_refuses(value):
    with pytest.raises(ConfigurationError, match=r"^PYNECTOR_X: .* is not accepted; give an integer .* \"auto\""):
        coerce_concurrency(value, "PYNECTOR_X")


# --- growth


def test_slots():
    driver = Driver(initial=3)
    assert driver.enter() == 3
    assert not driver.limit.try_enter(0.0)
    driver.limit.dropped()
    assert driver.limit.in_flight == 2
    assert driver.limit.try_enter(0.0)


def test_slow_start_doubles_with_each_clean_round():
    driver = Driver(initial=10, maximum=100)
    assert [driver.rounds(1) for _ in range(5)] == [20, 40, 80, 100, 100]
    assert [limit for _, limit in driver.limit.history] == [20, 40, 80, 100]
    assert [now for now, _ in driver.limit.history] == pytest.approx([LATENCY * n for n in range(1, 5)])


@pytest.mark.parametrize(("most", "limit"), [(7, 10), (8, 20)])
def test_a_limit_that_is_not_used_does_not_grow(most, limit):
    driver = Driver(initial=10)
    # Two rounds of eight are one round of the limit; peaks below four fifths of it do not count.
    assert driver.rounds(3 if most == 7 else 2, most=most) == limit
    if most == 7:
        assert driver.rounds(50, most=most) == 10


def test_growth_after_a_cut_is_additive():
    driver = Driver(initial=100)
    assert driver.end_slow_start() == 75
    driver.now += 0.2
    # Larger steps below the limit that was too high, smaller ones beyond.
    assert [driver.rounds(1) for _ in range(3)] == [82, 90, 95]
    assert driver.rounds(10) == 95
    driver.now += 1.0
    assert [driver.rounds(1) for _ in range(2)] == [99, 103]


def test_a_round_after_a_cut_has_at_least_25_successes():
    driver = Driver(initial=4)
    assert driver.end_slow_start() == 3
    driver.now += 30.0
    assert driver.rounds(8) == 3
    assert driver.rounds(1) == 4


def test_successes_of_retries_do_not_count():
    driver = Driver(initial=10)
    assert driver.rounds(20, first_attempt=False) == 10
    assert driver.rounds(1) == 20


def test_successes_in_the_cooldown_do_not_count():
    driver = Driver(initial=40)
    driver.refuse(40)
    assert driver.limit.limit == 30
    driver.now = 0.08
    # Answered after the cooldown, but sent in it.
    assert driver.rounds(1) == 30
    assert driver.rounds(1) == 33


def test_failures_of_the_server_stop_the_growth_for_a_moment_and_cut_nothing():
    driver = Driver(initial=10)
    assert driver.limit.try_enter(0.0)
    driver.limit.troubled(0.0)
    assert driver.limit.in_flight == 0
    assert driver.rounds(2) == 10  # within the cooldown of 0.1 s
    assert driver.rounds(1) == 20
    assert driver.limit.history[0][1] == 20


# --- cuts


def test_overload_cuts_a_quarter_once_for_each_cooldown():
    driver = Driver(initial=100)
    assert driver.refuse(50) == 75
    driver.now += 0.09
    assert driver.refuse(10) == 75
    driver.now += 0.02
    assert driver.refuse(10) == 56


def test_the_cooldown_is_twice_the_median_latency():
    driver = Driver(initial=10, maximum=10)
    for latency in [0.5] * 11 + [30.0] * 10:
        assert driver.limit.try_enter(0.0)
        driver.limit.succeeded(0.0, latency)
    driver.now = 50.0
    assert driver.end_slow_start() == 7
    driver.now = 50.99
    assert driver.refuse() == 7
    driver.now = 51.01
    assert driver.refuse() == 5


def test_what_was_sent_before_a_cut_does_not_cut_again():
    driver = Driver(initial=100)
    driver.enter()
    for _ in range(6):
        driver.limit.overloaded(1.0, 1.0)
    assert driver.limit.limit == 75
    driver.limit.overloaded(5.0, 4.5)
    assert driver.limit.limit == 75
    driver.limit.overloaded(5.0, 3.5)
    assert driver.limit.limit == 56
    assert driver.limit.in_flight == 92


def test_a_few_refusals_do_not_end_the_slow_start():
    driver = Driver(initial=10, maximum=1_000)
    assert driver.refuse(5) == 10
    assert driver.rounds(1) == 20
    # Every 25 successes make up for one more.
    assert driver.rounds(3) == 160
    assert driver.refuse(5) == 160
    assert driver.refuse(1) == 120
    # From then on each of them counts.
    driver.now += 1.0
    assert driver.refuse(1) == 90


def by_chance(driver, rounds, one_of):
    """Rounds in which one of so many requests is refused, whatever the limit; return the limits."""
    limits, number = [], 0
    for _ in range(rounds):
        count = driver.enter()
        driver.now += LATENCY
        for _ in range(count):
            number += 1
            if number % one_of:
                driver.limit.succeeded(driver.now, LATENCY)
            else:
                driver.limit.overloaded(driver.now, LATENCY)
        limits.append(driver.limit.limit)
    return limits


@pytest.mark.parametrize("one_of", [3, 5, 10])
def test_a_limit_that_makes_no_difference_to_the_share_of_refusals_is_put_up_again(one_of):
    driver = Driver(initial=40, maximum=100)
    limits = by_chance(driver, 100, one_of)
    assert min(limits) <= 0.5 * 40, "lower limits are tried"
    assert limits[-1] == 100, "but they are no help"
    # For ten seconds; then it is tried again.
    assert min(by_chance(driver, 100, one_of)) == 100
    assert min(by_chance(driver, 200, one_of)) < 80


def test_more_refusals_than_usual_count_again():
    driver = Driver(initial=40, maximum=100)
    assert by_chance(driver, 100, 10)[-1] == 100
    # Now there are only 30 places.
    for _ in range(12):
        count = driver.enter()
        driver.now += LATENCY
        for index in range(count):
            if index < 30:
                driver.limit.succeeded(driver.now, LATENCY)
            else:
                driver.limit.overloaded(driver.now, LATENCY)
    assert driver.limit.limit <= 40


def test_the_minimum_holds():
    driver = Driver(initial=5, minimum=3)
    for _ in range(10):
        driver.refuse()
        driver.now += 1.0
    assert driver.limit.limit == 3
    assert [limit for _, limit in driver.limit.history] == [3]


def test_retry_after_is_none_of_its_business():
    assert "retry_after" not in inspect.signature(AdaptiveLimit.overloaded).parameters


def test_a_limit_that_was_too_high_is_tried_again_later_and_later():
    driver = Driver(initial=20, maximum=40)
    gaps = []
    tried = None
    for _ in range(4_000):
        count = driver.enter()
        start = driver.now
        driver.now += LATENCY
        if count > 20:
            if tried is not None:
                gaps.append(start - tried)
            tried = start
        for index in range(count):
            if index < 20:
                driver.limit.succeeded(driver.now, LATENCY)
            else:
                driver.limit.overloaded(driver.now, LATENCY)
    gaps = [gap for gap in gaps if gap > 0.2]
    assert gaps[0] < 3.0
    assert 16.0 <= gaps[-1] < 18.0
    assert driver.limit.limit in range(15, 22)


def test_the_history_is_bounded():
    driver = Driver(initial=2, maximum=200)
    for _ in range(3_000):
        driver.refuse()
        driver.now += 0.2
        driver.rounds(3)
    assert 0 < len(driver.limit.history) <= 1_000


# --- whatever happens

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["enter", "enter", "enter", "succeeded", "succeeded", "retried", "overloaded", "troubled", "dropped"]
        ),
        st.floats(0, 0.3),
        st.floats(0, 2.0),
    ),
    max_size=300,
)


@given(EVENTS, st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)).map(sorted))
def test_invariants(events, bounds):
    minimum, initial, maximum = bounds
    limit = AdaptiveLimit(AdaptiveConcurrency(initial=initial, minimum=minimum, maximum=maximum))
    now, in_flight, cuts, levels = 0.0, 0, [], {initial}
    for kind, step, latency in events:
        now += step
        before = limit.limit
        if kind == "enter":
            entered = limit.try_enter(now)
            assert entered == (in_flight < before)
            in_flight += entered
        elif in_flight:
            in_flight -= 1
            if kind in ("succeeded", "retried"):
                limit.succeeded(now, latency, first_attempt=kind == "succeeded")
                assert before <= limit.limit <= 2 * before
                assert kind == "succeeded" or limit.limit == before
            elif kind == "overloaded":
                limit.overloaded(now, latency)
                # Cut, left alone, or put up to where it was before.
                assert limit.limit >= max(minimum, int(before * 0.75))
                assert limit.limit in (before, int(before * 0.75), minimum, *levels)
                if limit.limit < before:
                    cuts.append(now)
            elif kind == "troubled":
                limit.troubled(now)
                assert limit.limit == before
            else:
                limit.dropped()
                assert limit.limit == before
        levels.add(limit.limit)
        assert limit.in_flight == in_flight
        assert minimum <= limit.limit <= maximum
        if limit.limit != before:
            assert limit.history[-1] == (now, limit.limit)
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(cuts))
