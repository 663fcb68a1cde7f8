"""The circuit breaker, on a clock that only moves when told."""

import builtins
import dataclasses
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pynector import errors
from pynector._policies.breaker import Breaker, CircuitBreaker, verdict_on_error, verdict_on_status
from pynector.errors import ConfigurationError


def test_the_value():
    policy = CircuitBreaker()
    assert dataclasses.asdict(policy) == {"failure_threshold": 5, "recovery_time": 30.0}
    assert policy == CircuitBreaker(5, 30)
    assert hash(policy) == hash(CircuitBreaker(5, 30))
    assert type(CircuitBreaker(recovery_time=3).recovery_time) is float
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.failure_threshold = 1


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        *(({"failure_threshold": value}, "an integer of 1 or more") for value in (0, -1, 1.5, True, "5", None)),
        *(({"recovery_time": value}, "seconds above 0") for value in (0, -1, math.nan, math.inf, True, "30", None)),
    ],
)
def test_bad_values_are_named(fields, right):
    [name] = fields
    with pytest.raises(ConfigurationError, match=rf"CircuitBreaker\.{name}: .*{right}"):
        CircuitBreaker(**fields)


def opened(threshold=3, recovery=10.0, now=100.0):
    breaker = Breaker(CircuitBreaker(threshold, recovery))
    for _ in range(threshold):
        breaker.failed(breaker.admit(now), now)
    assert breaker.state == "open"
    return breaker


def test_it_opens_after_failures_in_a_row_only():
    breaker = Breaker(CircuitBreaker(3, 10.0))
    for verdict in "ffsffsff":
        ticket = breaker.admit(0.0)
        assert ticket and breaker.retry_after(0.0) == 0.0
        if verdict == "f":
            breaker.failed(ticket, 0.0)
        else:
            breaker.succeeded(ticket)
        assert breaker.state == "closed"
    breaker.failed(breaker.admit(0.0), 0.0)
    assert breaker.state == "open"
    assert breaker.admit(0.0) == 0


def test_no_verdict_neither_counts_nor_breaks_the_row():
    breaker = Breaker(CircuitBreaker(2, 10.0))
    breaker.failed(breaker.admit(0.0), 0.0)
    breaker.dropped(breaker.admit(0.0))
    assert breaker.state == "closed"
    breaker.failed(breaker.admit(0.0), 0.0)
    assert breaker.state == "open"


def test_it_stays_open_for_its_time():
    breaker = opened(now=100.0)
    assert breaker.retry_after(100.0) == 10.0
    assert breaker.admit(109.9) == 0
    assert breaker.retry_after(109.9) == pytest.approx(0.1)
    assert breaker.state == "open"
    assert breaker.retry_after(110.0) == 0.0
    assert breaker.admit(110.0)
    assert breaker.state == "half_open"


def test_one_probe_at_a_time():
    breaker = opened()
    probe = breaker.admit(110.0)
    assert probe
    assert breaker.admit(110.0) == breaker.admit(1000.0) == 0
    assert breaker.retry_after(110.0) == 1.0
    breaker.succeeded(probe)
    assert breaker.state == "closed"
    assert breaker.admit(110.0)
    assert breaker.retry_after(110.0) == 0.0


def test_while_a_probe_is_out_nobody_waits_longer_than_the_circuit_is_open():
    breaker = opened(recovery=0.25)
    assert breaker.admit(110.0)
    assert breaker.retry_after(110.0) == 0.25


def test_a_failed_probe_opens_it_again_for_the_whole_time():
    breaker = opened(threshold=3)
    breaker.failed(breaker.admit(110.0), 112.0)
    assert breaker.state == "open"
    assert breaker.admit(121.9) == 0
    assert breaker.admit(122.0)


def test_after_a_recovery_the_count_begins_anew():
    breaker = opened(threshold=3)
    breaker.succeeded(breaker.admit(110.0))
    for _ in range(2):
        breaker.failed(breaker.admit(111.0), 111.0)
    assert breaker.state == "closed"


def test_a_probe_that_was_cancelled_gives_its_place_back_at_once():
    breaker = opened()
    breaker.dropped(breaker.admit(110.0))
    assert breaker.state == "half_open"
    assert breaker.retry_after(110.0) == 0.0
    probe = breaker.admit(110.0)
    assert probe
    assert breaker.admit(110.0) == 0
    breaker.succeeded(probe)
    assert breaker.state == "closed"


def test_what_was_on_its_way_when_it_opened_changes_nothing():
    breaker = Breaker(CircuitBreaker(2, 10.0))
    old = [breaker.admit(0.0) for _ in range(6)]
    breaker.failed(old[0], 1.0)
    breaker.failed(old[1], 1.0)
    assert breaker.state == "open"
    breaker.succeeded(old[2])  # a late success does not close it
    breaker.failed(old[3], 9.0)  # a late failure does not keep it open for longer
    assert breaker.retry_after(9.0) == 2.0
    probe = breaker.admit(11.0)
    breaker.succeeded(old[4])
    breaker.dropped(old[4])
    assert breaker.state == "half_open" and breaker.admit(11.0) == 0
    breaker.succeeded(probe)
    breaker.failed(old[5], 12.0)
    breaker.failed(breaker.admit(12.0), 12.0)
    assert breaker.state == "closed"


def test_a_dropped_probe_that_answers_after_all_is_not_the_probe_any_more():
    breaker = opened()
    first = breaker.admit(110.0)
    breaker.dropped(first)
    second = breaker.admit(110.0)
    breaker.failed(first, 110.0)
    breaker.succeeded(first)
    assert breaker.state == "half_open"
    breaker.succeeded(second)
    assert breaker.state == "closed"


class Circuit(RuleBasedStateMachine):
    """Any interleaving of requests and verdicts, against what can be said without knowing how it is done."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.policy = CircuitBreaker(3, 10.0)
        self.breaker = Breaker(self.policy)
        self.flying = []  # (ticket, is it a probe)
        self.opened_at = -math.inf
        self.row = 0  # failures in a row of requests admitted since it last closed
        self.closings = 0

    @rule(seconds=st.floats(0, 12))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def send(self):
        before = self.breaker.state
        wait = self.breaker.retry_after(self.now)
        ticket = self.breaker.admit(self.now)
        assert (ticket == 0) == (wait > 0)
        if before == "closed":
            assert ticket
        if not ticket:
            assert wait <= self.policy.recovery_time
            return
        probe = before != "closed"
        if probe:
            assert self.now >= self.opened_at + self.policy.recovery_time
            assert not any(each for _, each, era in self.flying if era == self.closings)
        self.flying.append((ticket, probe, self.closings))

    def land(self, data):
        number = data.draw(st.integers(0, len(self.flying) - 1))
        return self.flying.pop(number)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), verdict=st.sampled_from(["succeeded", "failed", "dropped"]))
    def answer(self, data, verdict):
        ticket, probe, era = self.land(data)
        before = self.breaker.state
        counts = (probe or before == "closed") and era == self.closings
        if verdict == "failed":
            self.breaker.failed(ticket, self.now)
        else:
            getattr(self.breaker, verdict)(ticket)
        after = self.breaker.state
        if not counts:
            assert after == before
        elif verdict == "dropped":
            assert after == before
        elif verdict == "succeeded":
            assert after == "closed"
            self.row = 0
        else:
            self.row += 1
            assert after == ("open" if probe or self.row >= self.policy.failure_threshold else "closed")
        if before != "open" and after == "open":
            self.opened_at = self.now
        if before != "closed" and after == "closed":
            self.closings += 1
        if before != after:
            self.row = 0

    @invariant()
    def it_always_recovers(self):
        wait = self.breaker.retry_after(self.now)
        assert 0 <= wait <= self.policy.recovery_time
        if not any(probe for _, probe, era in self.flying if era == self.closings):
            later = self.now + wait
            assert self.breaker.retry_after(later) <= 1e-6


TestCircuit = Circuit.TestCase
TestCircuit.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


@given(st.lists(st.sampled_from("sfd"), max_size=60))
def test_one_request_at_a_time_is_a_plain_counter(verdicts):
    breaker = Breaker(CircuitBreaker(4, 10.0))
    now, row, is_open = 0.0, 0, False
    for verdict in verdicts:
        if is_open:
            assert breaker.admit(now) == 0
            now += 10.0
        ticket = breaker.admit(now)
        assert ticket
        if verdict == "s":
            breaker.succeeded(ticket)
            row, is_open = 0, False
        elif verdict == "f":
            breaker.failed(ticket, now)
            row += 1
            is_open = is_open or row >= 4
        else:
            breaker.dropped(ticket)
            if is_open:
                assert breaker.state == "half_open"
                breaker.failed(breaker.admit(now), now)  # it was due, and nobody need wait again
        assert breaker.state == ("open" if is_open else "closed")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, True) for status in (101, 200, 304, 400, 401, 404, 408, 418)),
        *((status, False) for status in (500, 501, 502, 503, 504, 599)),
        *((status, None) for status in (429, 529)),
    ],
)
def test_what_a_status_shows(status, verdict):
    assert verdict_on_status(status) is verdict
    assert verdict_on_error(errors.HTTPStatusError(status_code=status)) is verdict
    assert verdict_on_error(errors.SdkTransportError(status_code=status)) is verdict


def foreign(error):
    error.foreign = True
    return error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.ConnectionError(), False),
        (errors.ConnectionRefusedError(), False),
        (errors.TLSError(), False),
        (errors.ConnectionTimeoutError(phase="connect"), False),
        (errors.ConnectionTimeoutError(phase="read"), False),
        (errors.ConnectionTimeoutError(phase="pool"), None),
        (errors.HTTPProtocolError(), False),
        (errors.HTTPIncompleteError(), False),
        (errors.HTTPProxyError(), False),
        (errors.IncompleteStreamError(), False),
        (errors.HTTPDecodeError(), True),
        (errors.HTTPRedirectError(), True),
        (errors.ResponseTooLargeError(), True),
        (errors.DeserializationError(), True),
        (errors.SerializationError(), None),
        (errors.CircuitOpenError(retry_after=1.0), None),
        (errors.RateLimitError(), None),
        (errors.AuthenticationError(), None),
        (errors.TimeoutError(), None),
        (errors.ClosedError(), None),
        (errors.ConfigurationError(), None),
        (foreign(errors.ConnectionError()), None),
        (builtins.ConnectionResetError(), False),
        (builtins.TimeoutError(), False),
        (FileNotFoundError(), None),
        (ValueError(), None),
        (KeyboardInterrupt(), None),
        (None, True),
    ],
    ids=repr,
)
def test_what_an_error_shows(error, verdict):
    assert verdict_on_error(error) is verdict


def test_the_error_says_when_to_come_back():
    from pynector.transport.http import CircuitOpenError

    error = CircuitOpenError("the circuit is open", retry_after=2.5, url="https://host/", attempts=1)
    again = pickle.loads(pickle.dumps(error))
    assert (again.retry_after, again.sent, again.transient, again.url) == (2.5, False, False, "https://host/")
    assert CircuitOpenError().retry_after is None
