"""One item of the input, and what becomes of it."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..._checkpoint.file import CheckpointFile
from ..._messages.outcome import Outcome, State, make_outcome
from ...errors import CircuitOpenError, HTTPDecodeError, HTTPIncompleteError, TimeoutError, TransportError
from ..attempts import Record
from ..pacing import AsyncPacer

NO_OPTIONS: Mapping[str, Any] = {}


class Job(Record):
    """One item, and the record of what was sent for it.

    Attributes:
        index: Its place in the input.
        data: What to send.
        options: Its own options; the item is `(data, options)` then.
        key: Its key, if it has one.
        request: What is sent: `data` without its key.
        read: When it was read, on the clock of `time.perf_counter()`, if that is measured.
    """

    __slots__ = ("data", "index", "key", "options", "read", "request")

    options: Mapping[str, Any]
    read: float

    def __init__(self, index: int, item: Any) -> None:
        Record.__init__(self)
        self.index = index
        self.key: str | None = None
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping):
            self.data, self.options = item
        else:
            self.data = item
            self.options = NO_OPTIONS
        self.request = self.data

    def succeed(self, value: Any, elapsed: float) -> Outcome[Any]:
        """Its outcome, with an answer."""
        return make_outcome(self.index, self.data, value, None, "ok", self.attempts, elapsed, self.key)

    def fail(self, exc: BaseException, elapsed: float) -> Outcome[Any]:
        """Its outcome, with the error that it ended in."""
        error = as_error(exc, "the transport")
        # Without the frame of the worker, by which a kept error would keep the whole run.
        traceback = error.__traceback__
        if error is exc and traceback is not None:
            error.__traceback__ = traceback.tb_next
        state: State = "failed"
        if self.unanswered and not isinstance(error, HTTPIncompleteError | HTTPDecodeError):
            state = "unknown"
        elif isinstance(error, TimeoutError | CircuitOpenError) and not self.sent:
            state = "not_sent"
        return make_outcome(self.index, self.data, None, error, state, self.attempts, elapsed, self.key)

    def cut(self, ending: "Ending", elapsed: float = 0.0) -> Outcome[Any]:
        """Its outcome if the run ended before it did."""
        state: State
        if self.unanswered:
            state, what = "unknown", "this request was sent, and no answer seen"
        elif self.sent:
            state, what = "failed", "this request had failed and was waiting to be sent again"
        else:
            state, what = "not_sent", "this request was not sent"
        error = ending.error(what)
        return make_outcome(self.index, self.data, None, error, state, self.attempts, elapsed, self.key)


class Ending:
    """Why a run ends before its input does.

    Args:
        reason: In words.
        cause: The error that was the reason, if it was one.
        timed_out: Whether its time was over.
    """

    __slots__ = ("cause", "reason", "timed_out")

    def __init__(self, reason: str, cause: Exception | None = None, *, timed_out: bool = False) -> None:
        self.reason = reason
        self.cause = cause
        self.timed_out = timed_out

    def error(self, what: str) -> Exception:
        """The error of an item that was cut short."""
        if self.timed_out:
            return TimeoutError(f"{self.reason}: {what}")
        error = TransportError(f"{self.reason}: {what}", transient=True)
        error.__cause__ = self.cause
        return error


class Calls:
    """How the items of one run are sent.

    Args:
        send: Does one request, given its data, its options and the record to keep. The fourth argument is what it
            made of the defaults, and counts where there are no options.
        defaults: The options of the call, for every item.
        plan: What `send` made of them.
        pacer: What holds requests back; the last argument of `send`.
        keyed: Whether each item gets an idempotency key, one for all its attempts.
        telemetry: Whether there is telemetry for them.
    """

    __slots__ = ("_keyed", "defaults", "pacer", "plan", "send", "telemetry")

    def __init__(
        self,
        send: Callable[[Any, Mapping[str, Any], Record, Any, AsyncPacer], Awaitable[Any]],
        defaults: Mapping[str, Any],
        plan: Any,
        pacer: AsyncPacer,
        *,
        keyed: bool = False,
        telemetry: bool = True,
    ) -> None:
        self._keyed = keyed
        self.telemetry = telemetry
        self.send = send
        self.defaults = defaults
        self.plan = plan
        self.pacer = pacer

    def options(self, job: Job, checkpoint: CheckpointFile | None) -> Mapping[str, Any]:
        """The options of one item, for all its attempts.

        Args:
            job: The item.
            checkpoint: Where it is known from one run to the next, so that its key is the same in each.
        """
        if not self._keyed or "idempotency_key" in job.options:
            return job.options
        if checkpoint is not None and job.key is not None:
            return {**job.options, "idempotency_key": checkpoint.idempotency_key(job.key)}
        return {**job.options, "idempotency_key": os.urandom(16).hex()}


def as_error(exc: BaseException, who: str) -> Exception:
    """What was raised, as the error of an item: a cancellation that nobody had asked for is a failure as well."""
    if isinstance(exc, Exception):
        return exc
    error = TransportError(f"{who} raised {type(exc).__name__}, though nothing was cancelled")
    error.__cause__ = exc
    return error
