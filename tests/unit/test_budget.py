"""The retry budget, on a clock that only moves when told."""

import dataclasses
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._policies.budget import WINDOW, Budget, RetryBudget
from pynector.errors import ConfigurationError


def test_the_value():
    policy = RetryBudget()
    assert dataclasses.asdict(policy) == {"ratio": 0.1, "reserve": 20}
    assert policy == RetryBudget(0.1, 20)
    assert hash(policy) == hash(RetryBudget(0.1, 20))
    assert type(RetryBudget(ratio=1).ratio) is float
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.ratio = 1.0


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        *(({"ratio": value}, "a number of 0 or more") for value in (-0.1, math.nan, math.inf, True, "1", None)),
        *(({"reserve": value}, "an integer of 0 or more") for value in (-1, 1.5, math.nan, True, "1", None)),
    ],
)
def test_bad_values_are_named(fields, right):
    [name] = fields
    with pytest.raises(ConfigurationError, match=rf"RetryBudget\.{name}: .*{right}"):
        RetryBudget(**fields)


def spend_all(budget, now):
    count = 0
    while budget.spend(now):
        count += 1
        assert count < 100_000
    return count


def test_the_reserve_is_there_from_the_start():
    assert spend_all(Budget(RetryBudget(0.1, 20)), 5.0) == 20
    assert spend_all(Budget(RetryBudget(0.1, 0)), 5.0) == 0


def test_requests_earn_retries():
    budget = Budget(RetryBudget(0.1, 20))
    for _ in range(1000):
        budget.request(5.0)
    assert spend_all(budget, 5.0) == 120
    for _ in range(9):
        budget.request(5.0)
        assert not budget.spend(5.0)
    budget.request(5.0)
    assert budget.spend(5.0)
    assert not budget.spend(5.0)


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.7, 1.0, 1.1, 3.0])
def test_a_ratio_does_not_suffer_from_rounding(ratio):
    budget = Budget(RetryBudget(ratio, 0))
    for _ in range(10):
        budget.request(0.0)
    assert spend_all(budget, 0.0) == round(ratio * 10)


def test_nothing_but_the_reserve_without_a_ratio():
    budget = Budget(RetryBudget(0.0, 3))
    for _ in range(1000):
        budget.request(0.0)
    assert spend_all(budget, 0.0) == 3
    assert budget.delay(0.0) == WINDOW


def test_the_reserve_is_there_anew_after_the_window():
    budget = Budget(RetryBudget(0.1, 20))
    assert spend_all(budget, 0.0) == 20
    assert spend_all(budget, WINDOW - 0.1) == 0
    assert spend_all(budget, WINDOW) == 20
    assert spend_all(budget, 10 * WINDOW) == 20


def test_it_comes_back_as_it_went():
    budget = Budget(RetryBudget(0.0, 2))
    assert budget.spend(0.0)
    assert budget.spend(5.0)
    assert not budget.spend(9.9)
    assert budget.spend(10.0)
    assert not budget.spend(10.0)
    assert not budget.spend(14.9)
    assert budget.spend(15.0)


def test_a_long_success_buys_no_storm():
    budget = Budget(RetryBudget(0.1, 20))
    for second in range(3600):
        for _ in range(10):
            budget.request(float(second))
    # What counts are the last ten seconds: up to 100 requests.
    assert 90 * 0.1 + 20 <= spend_all(budget, 3600.0) <= 100 * 0.1 + 20
    quiet = Budget(RetryBudget(0.1, 20))
    for _ in range(100_000):
        quiet.request(0.0)
    assert spend_all(quiet, 2 * WINDOW) == 20


def test_a_dead_server_gets_little_more_than_the_requests():
    budget = Budget(RetryBudget(0.1, 20))
    retries = 0
    for number in range(10_000):
        now = number * 0.001
        budget.request(now)
        retries += sum(budget.spend(now) for _ in range(3))
    assert 10_000 * 0.1 <= retries <= 10_000 * 0.1 + 20


def test_steady_failures_within_the_ratio_are_all_retried():
    budget = Budget(RetryBudget(0.1, 0))
    for number in range(5000):
        now = number * 0.05
        budget.request(now)
        if number % 12 == 11:
            assert budget.spend(now), number


def test_when_a_retry_could_go():
    budget = Budget(RetryBudget(0.0, 1))
    assert budget.delay(3.0) == 0.0
    assert budget.spend(3.0)
    assert budget.delay(3.0) == WINDOW
    assert budget.delay(8.0) == WINDOW - 5
    assert Budget(RetryBudget(0.5, 0)).delay(0.0) is None


times = st.lists(
    st.tuples(st.floats(0, 7), st.integers(0, 30), st.integers(0, 30)), max_size=60
)  # (seconds pass, requests, retries that are asked for)


@given(times, st.floats(0, 2), st.integers(0, 30), st.floats(0, 1e6))
def test_never_more_than_the_budget(steps, ratio, reserve, start):
    budget = Budget(RetryBudget(ratio, reserve))
    now, requests, retries = start, [], []
    for seconds, sent, asked in steps:
        now += seconds
        for _ in range(sent):
            budget.request(now)
            requests.append(now)
        for _ in range(asked):
            wait = budget.delay(now)
            granted = budget.spend(now)
            assert granted == (wait == 0.0)
            if granted:
                retries.append(now)
                # Never more than the whole window gives, even counted in whole slices.
                recent = sum(now - when <= WINDOW for when in requests)
                spent = sum(now - when < WINDOW - 1.001 for when in retries)
                assert spent <= ratio * recent + reserve + 1e-3
            else:
                # Never less than what is certainly still there.
                recent = sum(now - when < WINDOW - 1.001 for when in requests)
                spent = sum(now - when <= WINDOW for when in retries)
                assert spent + 1 > ratio * recent + reserve - 1e-3
    periods = math.ceil((now - start) / (WINDOW - 1.001)) + 1
    assert len(retries) <= ratio * len(requests) + reserve * periods + 1e-3


@given(times, st.floats(0, 1), st.integers(0, 5))
def test_the_delay_is_true(steps, ratio, reserve):
    budget = Budget(RetryBudget(ratio, reserve))
    now = 0.0
    for seconds, sent, asked in steps:
        now += seconds
        for _ in range(sent):
            budget.request(now)
        for _ in range(asked):
            budget.spend(now)
    wait = budget.delay(now)
    if wait is None:
        assert reserve == 0
        assert not budget.spend(now + WINDOW)
    else:
        assert 0 <= wait <= WINDOW
        if wait > 0.01:
            assert not budget.spend(now + wait - 0.01)
        assert budget.spend(now + wait + 1e-6)


@given(st.lists(st.floats(-1, 8), max_size=50))
def test_a_clock_that_was_read_before_the_lock_may_step_back(steps):
    budget = Budget(RetryBudget(0.0, 3))
    now = 1000.0
    granted = 0
    for step in steps:
        now += step
        granted += budget.spend(now)
    assert granted <= 3 * (math.ceil(max(0.0, 8.0 * len(steps)) / 9) + 1)


def test_memory_is_bounded():
    budget = Budget(RetryBudget())
    for number in range(20_000):
        budget.request(number * 1.7)
    assert len(budget._past) <= 10
    assert budget._requests <= 10
