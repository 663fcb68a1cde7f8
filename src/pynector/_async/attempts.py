"""The one retry loop: what is sent, when it is sent again, and when that ends."""

import logging
import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .._concurrency.aio.clock import current_time, sleep
from .._concurrency.aio.scopes import current_effective_deadline
from .._http.peer import Peer
from .._lanes import Lane
from .._policies.fatal import is_hard_quota
from .._policies.retry import Failure, RetryPolicy
from .._telemetry.loggers import event_logger
from .._telemetry.metrics import retried
from ..errors import TransportError

if TYPE_CHECKING:
    from .pacing import AsyncPacer

_P = TypeVar("_P")

logger = event_logger("attempts")


class Record:
    """What happened to one call so far.

    Attributes:
        attempts: How often it was tried, but for those times when it was put off.
        sent: How often it went on the wire, as far as can be told.
        unanswered: Whether it went on the wire and no whole answer was seen: nobody knows if it was processed.
        refusals: How often its server had too much to do, and it was put off.
        put_off: For how many seconds in all.
        lane: Where it goes, once that is known.
        peer: The other end of the connection that it went out on last, if the engine knows.
        spans: How often it went on the wire, as spans are numbered; below 0 if it has none of its own, None if there
            is no telemetry for it.
    """

    __slots__ = ("attempts", "lane", "peer", "put_off", "refusals", "sent", "spans", "unanswered")

    def __init__(self) -> None:
        self.attempts = 0
        self.sent = 0
        self.unanswered = False
        self.refusals = 0
        self.put_off = 0.0
        self.lane: Lane | None = None
        self.peer: Peer | None = None
        self.spans: int | None = 0

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

    def is_put_off(self, delay: float) -> None:
        """It is not to come back before so many seconds: its attempt counts for nothing."""
        self.attempts -= 1
        self.refusals += 1
        self.put_off += delay


class AsyncAttempts(Protocol[_P]):
    """A transport, as the retry loop sees it: one attempt at a time."""

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy that applies if the call and the client name none."""
        ...

    def lane(self, prepared: _P) -> Lane | None:
        """What is known of the server and the credential that a call is for; None where there is no server."""
        ...

    def payload(self, prepared: _P) -> object:
        """What the tokens of a call are estimated by."""
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
    pacer: "AsyncPacer | None" = None,
) -> Any:
    """Send `prepared` until it succeeds or `policy` gives up.

    Every retry is logged at DEBUG, as the event `request.retry` with its `attempt`, `delay` (s) and `reason`; that it
    was given up after some, once at WARNING, as `request.given_up`.

    Args:
        transport: What it is sent through.
        prepared: What is sent.
        policy: How often it is sent again.
        record: Where it is noted what was sent.
        raise_for_status: Whether a 4xx or 5xx is an error.
        log: Whether there is telemetry for it.
        pacer: What holds it back, if anything does.

    Raises:
        Exception: That of the last attempt, with the number of attempts on it.
    """
    if not log:
        record.spans = None
    before = record.attempts
    started = time.perf_counter()
    lane = record.lane = transport.lane(prepared)
    if lane is None:
        pacer = None
    else:
        if policy.max_retries and policy.budget is not None:
            lane.count(policy.budget, started)
        if pacer is not None and lane is not pacer.lane:
            pacer.meet(lane, record)
    while True:
        record.attempts += 1
        try:
            # A call less for nearly all: this is on the way of every request.
            if pacer is None or lane is None or not (pacer.guards or (lane.paused and policy.max_retries)):
                answer = await transport.attempt(prepared, record)
            else:
                answer = await pacer.attempt(transport, lane, prepared, record)
        except Exception as exc:
            failure = transport.excuse(prepared, exc)
            delay = None
            if failure is not None:
                delay = _delay(policy, failure, exc, record, record.attempts - before - 1, lane, pacer)
            if delay is None:
                if log and failure is not None:
                    given_up(record, type(exc).__name__)
                if isinstance(exc, TransportError):
                    exc.attempts, exc.elapsed = record.attempts, time.perf_counter() - started
                raise
            reason: object = type(exc).__name__
        else:
            failure = transport.judge(prepared, answer)
            delay = None
            if failure is not None:
                delay = _delay(policy, failure, answer, record, record.attempts - before - 1, lane, pacer)
            if failure is None or delay is None:
                if failure is not None and log:
                    given_up(record, failure.status)
                try:
                    return transport.finish(prepared, answer, raise_for_status=raise_for_status)
                except TransportError as exc:
                    exc.attempts, exc.elapsed = record.attempts, time.perf_counter() - started
                    raise
            reason = failure.status
        if log:
            retried(reason)
            if logger.is_enabled_for(logging.DEBUG):
                logger.debug("request.retry", attempt=record.attempts, delay=delay, reason=reason)
        if pacer is not None and pacer.on_resend is not None:
            pacer.on_resend()
        await sleep(delay)


def given_up(record: Record, reason: object) -> None:
    """Say once that a request has failed that was sent again, and is not any more."""
    if record.attempts > 1 or record.refusals:
        logger.warning("request.given_up", attempts=record.attempts, refusals=record.refusals, reason=reason)


def _delay(
    policy: RetryPolicy,
    failure: Failure,
    answer: object,
    record: Record,
    retries: int,
    lane: Lane | None,
    pacer: "AsyncPacer | None",
) -> float | None:
    """How long to wait before the next attempt, in seconds; None to give up now."""
    if failure.status == 429 and is_hard_quota(answer):
        return None
    if pacer is not None and lane is not None and pacer.puts_off(failure, policy):
        delay = pacer.put_off(lane, failure, policy, record)
        if delay is None or _overruns(delay, answer):
            return None
        record.is_put_off(delay)
        return delay
    delay = policy.next_delay(failure, retries, random.random())
    if delay is None or _overruns(delay, answer):
        return None
    if failure.retry_after is not None and lane is not None:
        # Who comes next need not be told the same. It goes by what is said to a batch; a single request only tells.
        lane.refused(failure.retry_after, 1, random.random())
    # What found its connection closed was not processed by anybody: to send it again is no load.
    if failure.immediate or policy.budget is None or lane is None:
        return delay
    # Last of all, for what was spent is not given back.
    return delay if lane.spend(policy.budget) else None


def _overruns(delay: float, answer: object) -> bool:
    """Whether waiting so long would only end in the deadline: then what happened last is the better answer."""
    overruns = current_time() + delay >= current_effective_deadline()
    if overruns and isinstance(answer, Exception):
        answer.add_note(f"not tried again: waiting {delay:.3g} s would overrun the deadline")
    return overruns
