"""retry_with_timeout: the policy of the house, a limit for each attempt, and one for everything."""

import builtins

import pytest

from pynector import RetryPolicy
from pynector.concurrency import current_time, fail_after, move_on_after, retry_with_timeout, sleep
from pynector.errors import (
    ConfigurationError,
    ConnectionRefusedError,
    HTTPStatusError,
    SerializationError,
    TimeoutError,
    TLSError,
)

LONG = 30.0
QUICK = RetryPolicy(max_retries=3, backoff_factor=0.001)


class Flaky:
    """Fails with each of the given errors, then works."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls: list[tuple[object, ...]] = []

    async def __call__(self, *args: object) -> str:
        self.calls.append(args)
        await sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        builtins.ConnectionError("reset"),
        builtins.ConnectionRefusedError("refused"),
        builtins.TimeoutError("late"),
        ConnectionRefusedError("refused"),
        HTTPStatusError("busy", status_code=503),
        HTTPStatusError("slow down", status_code=429, retry_after=0.001),
    ],
    ids=repr,
)
async def test_what_may_pass_is_tried_again(error):
    flaky = Flaky(error, error)
    assert await retry_with_timeout(flaky, "a", 2, policy=QUICK) == "done"
    assert flaky.calls == [("a", 2)] * 3


@pytest.mark.parametrize(
    "error",
    [
        ValueError("wrong"),
        TLSError("untrusted"),
        SerializationError("not JSON"),
        HTTPStatusError("not there", status_code=404),
        HTTPStatusError("come back tomorrow", status_code=429, retry_after=86_400.0),
    ],
    ids=repr,
)
async def test_what_stays_wrong_is_not_tried_again(error):
    flaky = Flaky(error)
    with pytest.raises(type(error)) as caught:
        await retry_with_timeout(flaky, policy=QUICK)
    assert caught.value is error
    assert len(flaky.calls) == 1


async def test_after_the_last_attempt_its_error_is_raised():
    errors = [OSError(number) for number in range(5)]
    flaky = Flaky(*errors)
    with pytest.raises(OSError) as caught:
        await retry_with_timeout(flaky, policy=QUICK, retry_on=OSError)
    assert caught.value is errors[3]
    assert len(flaky.calls) == 4


@pytest.mark.parametrize(("policy", "attempts"), [(0, 1), (None, 1), (RetryPolicy.disabled(), 1)])
async def test_no_retries(policy, attempts):
    flaky = Flaky(*[builtins.ConnectionError()] * 5)
    with pytest.raises(builtins.ConnectionError):
        await retry_with_timeout(flaky, policy=policy)
    assert len(flaky.calls) == attempts


@pytest.mark.parametrize(
    "retry_on",
    [KeyError, (OSError, KeyError), lambda error: error.args == ("x",), LookupError],
    ids=["class", "tuple", "function", "base"],
)
async def test_the_caller_says_what_is_tried_again(retry_on):
    flaky = Flaky(KeyError("x"), KeyError("x"))
    assert await retry_with_timeout(flaky, policy=QUICK, retry_on=retry_on) == "done"
    flaky = Flaky(ValueError("y"))
    with pytest.raises(ValueError, match="y"):
        await retry_with_timeout(flaky, policy=QUICK, retry_on=retry_on)
    assert len(flaky.calls) == 1


async def test_what_the_caller_did_not_name_is_not_tried_again():
    flaky = Flaky(builtins.ConnectionError("reset"))
    with pytest.raises(builtins.ConnectionError):
        await retry_with_timeout(flaky, policy=QUICK, retry_on=ValueError)
    assert len(flaky.calls) == 1


async def test_a_wrong_call_is_never_tried_again():
    flaky = Flaky(ConfigurationError("wrong"))
    with pytest.raises(ConfigurationError):
        await retry_with_timeout(flaky, policy=QUICK, retry_on=Exception)
    assert len(flaky.calls) == 1


async def test_what_the_server_asks_for_is_waited():
    error = HTTPStatusError("slow down", status_code=429, retry_after=0.1)
    started = current_time()
    assert await retry_with_timeout(Flaky(error), policy=QUICK) == "done"
    assert current_time() - started >= 0.1


async def test_each_attempt_is_bounded():
    calls = []

    async def slow_twice() -> str:
        calls.append(current_time())
        if len(calls) < 3:
            await sleep(LONG)
        return "done"

    with fail_after(LONG / 2):
        assert await retry_with_timeout(slow_twice, policy=QUICK, attempt_timeout=0.03, retry_on=ValueError) == "done"
    assert len(calls) == 3
    assert calls[1] - calls[0] >= 0.03


async def test_the_last_attempt_may_be_the_late_one():
    with pytest.raises(TimeoutError, match=r"an attempt at sleep did not end within 0.02 s"):
        await retry_with_timeout(sleep, LONG, policy=RetryPolicy(max_retries=1, backoff_factor=0), attempt_timeout=0.02)


async def test_everything_together_is_bounded():
    async def slow() -> None:
        await sleep(LONG)

    with pytest.raises(TimeoutError, match=r"slow did not succeed within 0.05 s, attempt 1") as caught:
        await retry_with_timeout(slow, policy=QUICK, timeout=0.05)
    assert isinstance(caught.value, builtins.TimeoutError)
    assert caught.value.__cause__ is None


async def test_the_error_before_the_last_attempt_is_the_cause_of_a_timeout():
    calls = []

    async def reset_then_slow() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise builtins.ConnectionError("reset")
        await sleep(LONG)

    with pytest.raises(TimeoutError, match="attempt 2") as caught:
        await retry_with_timeout(reset_then_slow, policy=RetryPolicy(backoff_factor=0), timeout=0.1)
    assert str(caught.value.__cause__) == "reset"


async def test_a_wait_beyond_the_deadline_is_not_begun():
    policy = RetryPolicy(backoff_factor=20.0, jitter="none")
    started = current_time()
    with pytest.raises(builtins.ConnectionError) as caught:
        await retry_with_timeout(Flaky(builtins.ConnectionError("reset")), policy=policy, timeout=10.0)
    with fail_after(10.0), pytest.raises(builtins.ConnectionError):
        await retry_with_timeout(Flaky(builtins.ConnectionError("reset")), policy=policy)
    assert current_time() - started < 10.0
    assert caught.value.__notes__ == ["not tried again: waiting 20 s would overrun the deadline"]


async def test_a_cancellation_is_not_tried_again():
    calls = []

    async def slow() -> None:
        calls.append(1)
        await sleep(LONG)

    with move_on_after(0.02) as scope:
        await retry_with_timeout(slow, policy=QUICK, attempt_timeout=LONG, timeout=LONG, retry_on=Exception)
    assert scope.cancelled_caught
    assert calls == [1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"policy": -1}, "retry: -1"),
        ({"policy": "often"}, "retry: 'often'"),
        ({"timeout": 0}, "argument `timeout`: 0"),
        ({"attempt_timeout": -1}, "argument `attempt_timeout`: -1"),
        ({"retry_on": 3}, "argument `retry_on`: 3"),
        ({"retry_on": ()}, "argument `retry_on`: ()"),
        ({"retry_on": (ValueError, 3)}, "argument `retry_on`: "),
        ({"retry_on": KeyboardInterrupt}, "argument `retry_on`: "),
    ],
    ids=repr,
)
async def test_bad_arguments(arguments, text):
    flaky = Flaky()
    with pytest.raises(ConfigurationError) as caught:
        await retry_with_timeout(flaky, **arguments)
    assert str(caught.value).startswith(text)
    assert not flaky.calls
    with pytest.raises(ConfigurationError, match="expected a function, got str"):
        await retry_with_timeout("fetch")
