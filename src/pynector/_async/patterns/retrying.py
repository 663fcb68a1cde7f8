"""Any function under the retry policy of the house."""

import builtins
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar, TypeVarTuple

from ..._concurrency.aio.colour import invoke
from ..._concurrency.aio.scopes import move_on_after
from ..._config import check_timeout
from ..._policies.retry import Failure, RetryPolicy, coerce_retry
from ...errors import ConfigurationError, TimeoutError, TransportError
from ..attempts import Record, run_attempts

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")

RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object]
"""Which errors are tried again: a class, several classes, or a function that tells."""


class _AsyncCall(Generic[T]):
    """A function, as the retry loop sees it."""

    __slots__ = ("_attempt_timeout", "_call", "_late", "_name", "_retry_on", "last_error", "retry_policy")

    def __init__(
        self,
        call: Callable[[], Awaitable[T]],
        name: str,
        policy: RetryPolicy,
        attempt_timeout: float | None,
        retry_on: RetryOn | None,
    ) -> None:
        self._call = call
        self._name = name
        self._attempt_timeout = attempt_timeout
        self._retry_on = retry_on
        self._late: Exception | None = None
        self.retry_policy = policy
        self.last_error: Exception | None = None

    def lane(self, prepared: None) -> None:
        """A function has no server."""

    def payload(self, prepared: None) -> None:
        """A function has no tokens."""

    def prepare(self, data: Any, options: Mapping[str, Any], *, idempotency_key: str | None = None) -> None:
        """There is nothing to prepare."""

    async def attempt(self, prepared: None, record: Record) -> T:
        """Call the function once."""
        if self._attempt_timeout is None:
            return await self._call()
        with move_on_after(self._attempt_timeout):
            return await self._call()
        self._late = TimeoutError(f"an attempt at {self._name} did not end within {self._attempt_timeout:.6g} s")
        raise self._late

    def judge(self, prepared: None, answer: T) -> Failure | None:
        """Whatever comes back is an answer."""
        return None

    def excuse(self, prepared: None, error: Exception) -> Failure | None:
        """Who asks for retries of a function says that it may be repeated."""
        self.last_error = error
        if isinstance(error, ConfigurationError):
            return None
        retry_after: float | None = getattr(error, "retry_after", None)
        if error is self._late:
            return Failure(transient=True, idempotent=True)
        if self._retry_on is not None:
            wanted = self._retry_on
            matches = isinstance(error, wanted) if isinstance(wanted, type | tuple) else bool(wanted(error))
            return Failure(transient=True, idempotent=True, retry_after=retry_after) if matches else None
        if isinstance(error, TransportError):
            # A status of 0 or none at all: there was no answer.
            status: int | None = getattr(error, "status_code", None) or None
            return Failure(
                status=status,
                transient=error.transient,
                sent=error.sent,
                idempotent=True,
                retry_after=retry_after,
                immediate=error.stale,
            )
        if isinstance(error, builtins.ConnectionError | builtins.TimeoutError):
            return Failure(transient=True, idempotent=True)
        return None

    def finish(self, prepared: None, answer: T, *, raise_for_status: bool) -> T:
        """The answer, unchanged."""
        return answer


async def retry_with_timeout(
    fn: Callable[[*PosArgsT], Awaitable[T]],
    *args: *PosArgsT,
    policy: RetryPolicy | int | None = RetryPolicy(),  # noqa: B008 - a frozen value
    timeout: float | None = None,
    attempt_timeout: float | None = None,
    retry_on: RetryOn | None = None,
) -> T:
    """Call a function until it succeeds, with a limit for each attempt and one for everything.

    A wait that would overrun the deadline, of `timeout` or of a scope around the call, is not started: the error of
    the last attempt is raised instead. Each retry is logged as those of requests are.

    Args:
        fn: The function. Its requests should not have retries of their own as well: those would multiply.
        args: Its positional arguments; for keyword arguments use `functools.partial`.
        policy: How often, and after what wait; a number of retries is enough, None turns them off.
        timeout: Seconds for all attempts and waits together; None for no limit.
        attempt_timeout: Seconds for each attempt; one that takes longer is cancelled and counts as failed.
        retry_on: Which errors are tried again: an exception class, a tuple of them, or a function that is given the
            error. By default connection errors, time-outs, and what a transport of this library calls transient.

    Returns:
        What the function returns.

    Raises:
        TimeoutError: `timeout` has passed, or `attempt_timeout` in the last attempt.
        ConfigurationError: An argument is wrong, or `fn` is a function of the other colour.
        Exception: What the last attempt raised.

    Example:
        ```python
        rows = await retry_with_timeout(query, "select 1", timeout=30, attempt_timeout=5, retry_on=OSError)
        ```
    """
    policy = coerce_retry(policy)
    check_timeout(timeout)
    check_timeout(attempt_timeout, "attempt_timeout")
    _check_retry_on(retry_on)
    if not callable(fn):
        raise ConfigurationError(f"argument `fn`: expected a function, got {type(fn).__name__}")

    async def call() -> T:
        return await invoke(fn, *args)

    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    calls = _AsyncCall(call, name, policy, attempt_timeout, retry_on)
    record = Record()
    with move_on_after(timeout):
        result: T = await run_attempts(calls, None, policy, record)
        return result
    raise TimeoutError(
        f"{name} did not succeed within {timeout:.6g} s, attempt {record.attempts}"
    ) from calls.last_error


def _check_retry_on(value: RetryOn | None) -> None:
    classes = value if isinstance(value, tuple) else (value,) if isinstance(value, type) else ()
    if any(not (isinstance(cls, type) and issubclass(cls, Exception)) for cls in classes) or not (
        value is None or classes or (callable(value) and not isinstance(value, tuple))
    ):
        raise ConfigurationError(
            f"argument `retry_on`: {value!r:.80} is not accepted; give an exception class (below Exception), a tuple "
            "of them, or a function that is given the error"
        )
