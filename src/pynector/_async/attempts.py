"""The one retry loop: what is sent, when it is sent again, and when that ends."""

import logging
import random
import time
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from .._concurrency.aio.clock import current_time, sleep
from .._concurrency.aio.scopes import current_effective_deadline
from .._policies.retry import Failure, RetryPolicy
from ..errors import TransportError

_P = TypeVar("_P")

logger = logging.getLogger("pynector.attempts")


class Record:
    """What happened to one call so far.

    Attributes:
        attempts: How often it was tried.
        sent: How often it went on the wire, as far as can be told.
        unanswered: Whether it went on the wire and no whole answer was seen: nobody knows if it was processed.
    """

    __slots__ = ("attempts", "sent", "unanswered")

    def __init__(self) -> None:
        self.attempts = 0
        self.sent = 0
        self.unanswered = False

    def sending(self) -> None:
        """It goes on the wire now."""
        self.sent += 1
        self.unanswered = True

    def unsent(self, doubt: bool) -> None:
        """It did not go on the wire after all; `doubt` is what `unanswered` was before."""
        self.sent -= 1
        self.unanswered = doubt

    def answered(self) -> None:
        """Its answer is there."""
        self.unanswered = False


class AsyncAttempts(Protocol[_P]):
    """A transport, as the retry loop sees it: one attempt at a time."""

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy that applies if the call and the client name none."""
        ...

    def prepare(self, data: Any, options: Mapping[str, Any], *, idempotency_key: str | None = None) -> _P:
        """Turn what the user gave into what every attempt sends."""
        ...

    async def attempt(self, prepared: _P, record: Record) -> Any:
        """Send it once, and tell `record` when it goes on the wire and when its answer is there."""
        ...

    def judge(self, prepared: _P, answer: Any) -> Failure | None:
        """Whether `answer` is a failure that may be retried."""
        ...

    def excuse(self, prepared: _P, error: Exception) -> Failure | None:
        """Whether `error` is a failure that may be retried."""
        ...

    def finish(self, prepared: _P, answer: Any, *, raise_for_status: bool) -> Any:
        """Turn the last answer into what the user gets, or raise."""
        ...


async def run_attempts(
    transport: AsyncAttempts[_P],
    prepared: _P,
    policy: RetryPolicy,
    record: Record,
    *,
    raise_for_status: bool = True,
    log: bool = True,
) -> Any:
    """Send `prepared` until it succeeds or `policy` gives up.

    Every retry is logged at DEBUG, as the event `request.retry` with its `attempt`, `delay` (s) and `reason`.

    Raises:
        Exception: That of the last attempt, with the number of attempts on it.
    """
    retries = 0
    started = time.perf_counter()
    while True:
        record.attempts += 1
        try:
            answer = await transport.attempt(prepared, record)
        except Exception as exc:
            delay = _delay(policy, transport.excuse(prepared, exc), retries)
            if delay is None or _overruns(delay, exc):
                if isinstance(exc, TransportError):
                    exc.attempts, exc.elapsed = record.attempts, time.perf_counter() - started
                raise
            reason: object = type(exc).__name__
        else:
            failure = transport.judge(prepared, answer)
            delay = None if failure is None else _delay(policy, failure, retries)
            if delay is None or _overruns(delay):
                try:
                    return transport.finish(prepared, answer, raise_for_status=raise_for_status)
                except TransportError as exc:
                    exc.attempts, exc.elapsed = record.attempts, time.perf_counter() - started
                    raise
            reason = failure.status if failure is not None else None
        retries += 1
        if log and logger.isEnabledFor(logging.DEBUG):
            logger.debug("request.retry", extra={"attempt": record.attempts, "delay": delay, "reason": reason})
        await sleep(delay)


def _delay(policy: RetryPolicy, failure: Failure | None, retries: int) -> float | None:
    return None if failure is None else policy.next_delay(failure, retries, random.random())


def _overruns(delay: float, error: Exception | None = None) -> bool:
    """Whether waiting so long would only end in the deadline: then what happened last is the better answer."""
    overruns = current_time() + delay >= current_effective_deadline()
    if overruns and error is not None:
        error.add_note(f"not tried again: waiting {delay:.3g} s would overrun the deadline")
    return overruns
