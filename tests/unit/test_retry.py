"""Retry decisions and Retry-After."""

import dataclasses
import datetime as dt
import email.utils
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._messages.headers import Headers
from pynector._policies.budget import RetryBudget
from pynector._policies.retry import IDEMPOTENT_METHODS, NO_RETRY, Failure, RetryPolicy, coerce_retry, parse_retry_after
from pynector.errors import ConfigurationError

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def at(text, now=NOW):
    return parse_retry_after({"retry-after": text}, now)


# --- Retry-After


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("1.", 1.0),
        ("1e9", 1e9),
        ("-5", 0.0),
        ("+5", 5.0),
        ("-inf", 0.0),
        ("inf", math.inf),
        ("Infinity", math.inf),
        ("1e999", math.inf),
        ("9" * 5000, math.inf),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("1_000", None),
        ("\u0661", None),
        ("1, 2", None),
        ("0x10", None),
        # IMF-fixdate, RFC 850, asctime
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        ("Tue Nov 14 22:13:30 2023", 10.0),
        ("tue, 14 nov 2023 22:13:30 gmt", 10.0),
        ("Tue, 14 Nov 2023 22:13:30 UTC", 10.0),
        ("Tue, 14 Nov 2023 22:13:30 +0000", 10.0),
        ("Tue, 14 Nov 2023 22:13:60 GMT", 40.0),
        ("Sun Nov  6 08:49:37 1994", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Thu, 01 Jan 0000 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799 - NOW),
        # Two digits: at most 50 years ahead.
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        (
            "Tuesday, 14-Nov-73 22:13:20 GMT",
            (dt.date(2073, 11, 14) - dt.date(2023, 11, 14)).days * 86400,
        ),
        ("Tuesday, 14-Nov-74 22:13:20 GMT", 0.0),
        # No dates.
        ("Tue, 14 Nov 2023 22:13:30 -0700", None),
        ("Tue, 14 Xxx 2023 22:13:30 GMT", None),
        ("Tue, 32 Jan 2023 22:13:30 GMT", None),
        ("Tue, 30 Feb 2023 22:13:30 GMT", None),
        ("Tue, 00 Jan 2023 22:13:30 GMT", None),
        ("Tue, 14 Nov 2023 24:00:00 GMT", None),
        ("Tue, 14 Nov 2023 22:60:00 GMT", None),
        ("Tue, 14 Nov 2023 22:13:61 GMT", None),
        ("Tue, 14 Nov 2023 22:13 GMT", None),
    ],
)
def test_retry_after(text, seconds):
    assert at(text) == seconds


def test_an_extreme_year_is_a_long_wait():
    assert at("Fri, 31 Dec 99999 23:59:59 GMT") > 1e12
    assert at("Fri Dec 31 23:59:59 999999999") > 1e12


def test_the_century_turns():
    in_2099 = 4_090_000_000.0
    assert 0 < at("Thursday, 01-Jan-01 00:00:00 GMT", in_2099) < 2 * 366 * 86400


def test_milliseconds_win():
    assert parse_retry_after({"retry-after-ms": "1500", "retry-after": "9"}, NOW) == 1.5
    assert parse_retry_after({"retry-after-ms": "-1"}, NOW) == 0.0
    assert parse_retry_after({"retry-after-ms": "nan", "retry-after": "9"}, NOW) == 9.0
    assert parse_retry_after({"retry-after-ms": "x"}, NOW) is None
    assert parse_retry_after({}, NOW) is None
    assert parse_retry_after(Headers({"Retry-After": "3"}), NOW) == 3.0


EPOCH = dt.datetime.fromisoformat("1970-01-01")


@given(st.datetimes(EPOCH))
def test_dates_agree_with_the_standard_library(when):
    when = when.replace(microsecond=0, tzinfo=dt.UTC)
    for text in (
        email.utils.format_datetime(when, usegmt=True),
        when.strftime("%a %b %d %H:%M:%S ") + f"{when.year:04}",
    ):
        assert at(text, 0.0) == when.timestamp(), text


@given(st.text(max_size=40), st.floats(0, 1e11))
def test_any_text_is_understood_or_not_and_never_raises(text, now):
    seconds = parse_retry_after({"retry-after": text, "retry-after-ms": text}, now)
    assert seconds is None or seconds >= 0


@given(
    st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Dec) [0-9]{2,9} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True),
    st.floats(0, 1e11),
)
def test_anything_like_a_date_never_raises(text, now):
    seconds = at(text, now)
    assert seconds is None or seconds >= 0


# --- the policy


def test_defaults():
    policy = RetryPolicy()
    assert dataclasses.asdict(policy) == {
        "max_retries": 3,
        "backoff_factor": 0.5,
        "backoff_max": 30.0,
        "jitter": "full",
        "retry_statuses": frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529}),
        "retry_after_max": 300.0,
        "rate_limit_patience": 120.0,
        "retry_non_idempotent": False,
        "budget": {"ratio": 0.1, "reserve": 20},
    }
    assert [field.name for field in dataclasses.fields(policy)] == [
        "max_retries",
        "backoff_factor",
        "backoff_max",
        "jitter",
        "retry_statuses",
        "retry_after_max",
        "rate_limit_patience",
        "retry_non_idempotent",
        "budget",
    ]
    assert policy == RetryPolicy()
    assert hash(policy) == hash(RetryPolicy())
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_retries = 4


def test_values_are_put_into_their_own_type():
    policy = RetryPolicy(backoff_factor=1, backoff_max=2, retry_statuses=[500, 500])
    assert type(policy.backoff_factor) is float
    assert policy.retry_statuses == frozenset({500})
    assert dataclasses.replace(policy, max_retries=0).retry_statuses == frozenset({500})


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        *(({"max_retries": value}, "an integer of 0 or more") for value in (-1, 1.5, True, "3", None, math.nan)),
        *(
            ({name: value}, "seconds of 0 or more")
            for name in ("backoff_factor", "backoff_max", "retry_after_max")
            for value in (-0.1, math.nan, math.inf, True, "1", None)
        ),
        *(({"jitter": value}, "'full' or 'none'") for value in ("half", None, True, [])),
        *(
            ({"retry_statuses": value}, "integers from 100 to 599")
            for value in ([99], [600], ["500"], [True], [500.0], 500, None, "500")
        ),
        *(({"retry_non_idempotent": value}, "True or False") for value in (1, None, "yes")),
        *(
            ({"rate_limit_patience": value}, "seconds of 0 or more, or infinity")
            for value in (-0.1, math.nan, -math.inf, True, "1", None)
        ),
        *(({"budget": value}, "a RetryBudget, or None") for value in (0.1, 20, True, RetryBudget, "0.1")),
    ],
)
def test_bad_values_are_named(fields, right):
    [name] = fields
    with pytest.raises(ConfigurationError, match=rf"RetryPolicy\.{name}: .*{right}"):
        RetryPolicy(**fields)


def test_patience_may_be_endless_and_the_budget_none():
    policy = RetryPolicy(rate_limit_patience=math.inf, budget=None)
    assert (policy.rate_limit_patience, policy.budget) == (math.inf, None)
    assert type(RetryPolicy(rate_limit_patience=0).rate_limit_patience) is float
    assert RetryPolicy(budget=RetryBudget(reserve=1)).budget == RetryBudget(0.1, 1)
    assert len({RetryPolicy(), RetryPolicy(budget=RetryBudget()), RetryPolicy(budget=None)}) == 2


@pytest.mark.parametrize("off", [None, 0, NO_RETRY, RetryPolicy.disabled(), RetryPolicy(max_retries=0)])
def test_off(off):
    policy = coerce_retry(off)
    assert policy.max_retries == 0
    assert policy.next_delay(Failure(transient=True, idempotent=True, sent=False), 0, 0.5) is None


def test_coerce():
    policy = RetryPolicy(max_retries=7)
    assert coerce_retry(policy) is policy
    assert coerce_retry(2) == RetryPolicy(max_retries=2)
    for bad in (-1, True, 1.5, "3", RetryPolicy):
        with pytest.raises(ConfigurationError, match=r"retry: .* give a RetryPolicy, a number of retries"):
            coerce_retry(bad)


def test_the_methods():
    assert {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"} == IDEMPOTENT_METHODS


PLAIN = RetryPolicy(jitter="none")


@pytest.mark.parametrize(
    ("failure", "safe", "unsafe"),
    [
        # (what happened, is it retried if idempotent, and if not)
        (Failure(transient=True), True, False),
        (Failure(transient=True, sent=False), True, True),
        (Failure(transient=False), False, False),
        (Failure(transient=False, sent=False), False, False),
        (Failure(status=429), True, True),
        (Failure(status=429, retry_after=1.0), True, True),
        (Failure(status=503), True, False),
        (Failure(status=503, retry_after=1.0), True, True),
        (Failure(status=500), True, False),
        (Failure(status=502), True, False),
        (Failure(status=504), True, False),
        (Failure(status=408), True, False),
        (Failure(status=409), True, False),
        (Failure(status=425), True, False),
        (Failure(status=529, retry_after=1.0), True, False),
        (Failure(status=400), False, False),
        (Failure(status=404, retry_after=1.0), False, False),
        (Failure(status=501), False, False),
        (Failure(status=400, should_retry=True), True, False),
        (Failure(status=429, should_retry=False), False, False),
        (Failure(transient=True, sent=False, should_retry=False), False, False),
        (Failure(status=429, retry_after=300.0), True, True),
        (Failure(status=429, retry_after=300.1), False, False),
        (Failure(status=503, retry_after=math.inf), False, False),
    ],
)
def test_what_is_retried(failure, safe, unsafe):
    idempotent = dataclasses.replace(failure, idempotent=True)
    assert (PLAIN.next_delay(idempotent, 0, 0.0) is not None) is safe
    assert (PLAIN.next_delay(failure, 0, 0.0) is not None) is unsafe
    anything = dataclasses.replace(PLAIN, retry_non_idempotent=True)
    assert (anything.next_delay(failure, 0, 0.0) is not None) is safe


def test_may_repeat_is_next_delay_without_the_count():
    throttled = Failure(status=429, retry_after=1000.0)
    assert RetryPolicy(max_retries=1).may_repeat(throttled)
    assert not RetryPolicy(max_retries=0).may_repeat(throttled)
    assert not RetryPolicy(retry_statuses=[500]).may_repeat(throttled)
    assert not RetryPolicy().may_repeat(dataclasses.replace(throttled, should_retry=False))
    assert not RetryPolicy().may_repeat(Failure(status=529))
    assert RetryPolicy().may_repeat(Failure(status=529, idempotent=True))


def test_statuses_are_the_users():
    policy = RetryPolicy(retry_statuses={418})
    assert policy.next_delay(Failure(status=418, idempotent=True), 0, 0.5) is not None
    assert policy.next_delay(Failure(status=429, idempotent=True), 0, 0.5) is None


def test_backoff_doubles_up_to_its_cap():
    broken = Failure(transient=True, idempotent=True)
    policy = RetryPolicy(max_retries=10, jitter="none")
    assert [policy.next_delay(broken, n, 0.3) for n in range(11)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, None]
    assert RetryPolicy().next_delay(broken, 1, 0.3) == pytest.approx(0.3)


def test_retry_after_is_a_floor():
    failure = Failure(status=429, retry_after=2.0)
    assert PLAIN.next_delay(failure, 0, 0.9) == 2.0
    assert RetryPolicy().next_delay(failure, 0, 0.0) == 2.0
    assert RetryPolicy().next_delay(failure, 0, 1.0) == 2.5


failures = st.builds(
    Failure,
    status=st.none() | st.integers(100, 599),
    transient=st.booleans(),
    sent=st.booleans(),
    idempotent=st.booleans(),
    retry_after=st.none() | st.floats(0, math.inf, allow_nan=False),
    should_retry=st.none() | st.booleans(),
)
policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 10**6),
    backoff_factor=st.floats(0, 1e300),
    backoff_max=st.floats(0, 1e6),
    jitter=st.sampled_from(["full", "none"]),
    retry_statuses=st.frozensets(st.integers(100, 599)),
    retry_after_max=st.floats(0, 1e6),
    rate_limit_patience=st.floats(0),
    retry_non_idempotent=st.booleans(),
    budget=st.none() | st.builds(RetryBudget),
)


@given(policies, failures, st.integers(0, 10**7), st.floats(0, 1))
def test_delays_are_bounded(policy, failure, retries, rand):
    delay = policy.next_delay(failure, retries, rand)
    if delay is None:
        return
    assert retries < policy.max_retries
    assert policy.may_repeat(failure)
    assert failure.should_retry is not False
    if failure.retry_after is None:
        assert 0 <= delay <= policy.backoff_max
    else:
        assert failure.retry_after <= delay <= failure.retry_after + 1
        assert failure.retry_after <= policy.retry_after_max


@given(policies, failures, st.floats(0, 1))
def test_what_may_have_been_processed_is_not_repeated(policy, failure, rand):
    if policy.next_delay(failure, 0, rand) is None or failure.idempotent or policy.retry_non_idempotent:
        return
    if failure.status is None:
        assert not failure.sent
    else:
        assert failure.status == 429 or (failure.status == 503 and failure.retry_after is not None)
