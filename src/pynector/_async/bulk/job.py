"""One item of the input, and what becomes of it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..._messages.outcome import Outcome, State, make_outcome
from ...errors import HTTPDecodeError, HTTPIncompleteError, TimeoutError, TransportError
from ..attempts import Record

NO_OPTIONS: Mapping[str, Any] = {}


class Job(Record):
    """One item, and the record of what was sent for it.

    Attributes:
        index: Its place in the input.
        data: What to send.
        options: Its own options; the item is `(data, options)` then.
    """

    __slots__ = ("data", "index", "options")

    def __init__(self, index: int, item: Any) -> None:
        Record.__init__(self)
        self.index = index
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping):
            self.data, self.options = item
        else:
            self.data = item
            self.options = NO_OPTIONS

    def succeed(self, value: Any, elapsed: float) -> Outcome[Any]:
        """Its outcome, with an answer."""
        return make_outcome(self.index, self.data, value, None, "ok", self.attempts, elapsed)

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
        elif isinstance(error, TimeoutError) and not self.sent:
            state = "not_sent"
        return make_outcome(self.index, self.data, None, error, state, self.attempts, elapsed)

    def cut(self, reason: str, elapsed: float = 0.0) -> Outcome[Any]:
        """Its outcome if the run ended before it did."""
        state: State
        if self.unanswered:
            state, what = "unknown", "this request was sent, and no answer seen"
        elif self.sent:
            state, what = "failed", "this request had failed and was waiting to be sent again"
        else:
            state, what = "not_sent", "this request was not sent"
        error = TimeoutError(f"{reason}: {what}")
        return make_outcome(self.index, self.data, None, error, state, self.attempts, elapsed)


class Calls:
    """How the items of one run are sent.

    Args:
        send: Does one request, given its data, its options and the record to keep. The last argument is what it made
            of the defaults, and counts where there are no options.
        defaults: The options of the call, for every item.
        plan: What `send` made of them.
    """

    __slots__ = ("defaults", "plan", "send")

    def __init__(
        self,
        send: Callable[[Any, Mapping[str, Any], Record, Any], Awaitable[Any]],
        defaults: Mapping[str, Any],
        plan: Any,
    ) -> None:
        self.send = send
        self.defaults = defaults
        self.plan = plan


def as_error(exc: BaseException, who: str) -> Exception:
    """What was raised, as the error of an item: a cancellation that nobody had asked for is a failure as well."""
    if isinstance(exc, Exception):
        return exc
    error = TransportError(f"{who} raised {type(exc).__name__}, though nothing was cancelled")
    error.__cause__ = exc
    return error
