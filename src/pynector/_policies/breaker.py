"""The circuit breaker: after enough failures in a row a server is left alone for a while, then tried with one request.

`CircuitBreaker` is what a user sets, `Breaker` is its running state for one server. The state has no clock and no
lock: it is told what time it is, and the caller holds a lock around every call.
"""

import builtins
import math
from dataclasses import dataclass
from typing import Final, Literal

from ..errors import (
    ConfigurationError,
    ConnectionError,
    ConnectionTimeoutError,
    HTTPDecodeError,
    HTTPRedirectError,
    IncompleteStreamError,
    MessageError,
    PynectorError,
    ResponseTooLargeError,
    SdkTransportError,
    TransportError,
)

_PROBE_PATIENCE: Final = 1.0
"""Seconds after which it is worth asking again while a probe is on its way: by then it may be back."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """When to stop sending to a server that keeps failing, and for how long.

    After `failure_threshold` failures in a row the circuit opens: requests fail at once with `CircuitOpenError` and
    nothing is sent. `recovery_time` later a single request is let through as a probe. If it succeeds, the circuit
    closes and everything goes through again; if it fails, the circuit stays open for another `recovery_time`.

    A failure is a 5xx status, or no answer. Any other answer is a success, also a 404: the server works. 429 and 529
    are neither, since a server that sheds load is not broken: waiting is for the rate limits. The failures that open
    a circuit need not belong to one request: every attempt counts, also each retry of one request.

    Args:
        failure_threshold: The number of failures in a row that opens the circuit, 1 or more.
        recovery_time: Seconds from the opening to the first probe, above 0.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.

    Example:
        >>> CircuitBreaker(failure_threshold=10).recovery_time
        30.0
    """

    failure_threshold: int = 5
    recovery_time: float = 30.0

    def __post_init__(self) -> None:
        threshold, seconds = self.failure_threshold, self.recovery_time
        if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold < 1:
            raise _refuse("failure_threshold", threshold, "an integer of 1 or more")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise _refuse("recovery_time", seconds, "seconds above 0, and not infinity")
        object.__setattr__(self, "recovery_time", float(seconds))


def _refuse(name: str, value: object, right: str) -> ConfigurationError:
    return ConfigurationError(f"CircuitBreaker.{name}: {value!r:.80} is not accepted; give {right}")


class Breaker:
    """The state of one circuit.

    Every admitted request holds a ticket, and gives it back with exactly one of `succeeded`, `failed` and `dropped`,
    whatever became of it. A ticket is only good for the state of the circuit in which it was given out: when the
    circuit opens or closes, all older tickets become waste paper. So of 100 requests that are on their way when a
    server dies, five open the circuit and the other 95 change nothing: they neither prolong the pause, nor does a
    late success close the circuit, nor do failures of the time before count when it has closed again.

    In a forked child the probe of the parent never comes back: a child needs a new `Breaker`.

    Args:
        policy: The threshold and the time.
    """

    __slots__ = ("_failures", "_policy", "_probing", "_retry_at", "_state", "_ticket")

    def __init__(self, policy: CircuitBreaker) -> None:
        self._policy = policy
        self._state: Literal["closed", "open", "half_open"] = "closed"
        self._ticket = 1
        self._failures = 0
        self._probing = False
        self._retry_at = 0.0

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """`closed`: everything goes. `open`: nothing goes. `half_open`: one probe at a time goes.

        An open circuit becomes half-open when the first probe is admitted, not by time alone.
        """
        return self._state

    def admit(self, now: float) -> int:
        """Ask to send one request.

        Args:
            now: Seconds of a monotonic clock.

        Returns:
            A ticket to go, never 0; or 0: do not go, and `retry_after` says for how long.
        """
        if self._state == "closed":
            return self._ticket
        if self._probing or now < self._retry_at:
            return 0
        self._state = "half_open"
        self._probing = True
        return self._ticket

    def retry_after(self, now: float) -> float:
        """Say how long a request that was refused had better wait.

        It is an estimate, not a promise: after it there may be a probe on its way, or it may have failed.

        Args:
            now: Seconds of a monotonic clock.

        Returns:
            Seconds, above 0 unless the next `admit` would let the request go.
        """
        if self._state == "closed":
            return 0.0
        if self._probing:
            return min(self._policy.recovery_time, _PROBE_PATIENCE)
        # Not more than the whole time, though rounding and a clock that was read too early may say so.
        return min(self._policy.recovery_time, max(0.0, self._retry_at - now))

    def succeeded(self, ticket: int) -> None:
        """The request that holds `ticket` had an answer that shows a working server."""
        if ticket != self._ticket:
            return
        self._failures = 0
        if self._probing:
            self._state = "closed"
            self._renew()

    def failed(self, ticket: int, now: float) -> None:
        """The request that holds `ticket` had a 5xx, or no answer.

        Args:
            ticket: What `admit` returned.
            now: Seconds of a monotonic clock; from here on the pause is counted.
        """
        if ticket != self._ticket:
            return
        self._failures += 1
        if self._probing or self._failures >= self._policy.failure_threshold:
            self._state = "open"
            self._retry_at = now + self._policy.recovery_time
            self._renew()

    def dropped(self, ticket: int) -> None:
        """The request that holds `ticket` ended without a verdict: cancelled, never sent, 429 or 529.

        A probe gives its place back: the next request is the probe.
        """
        if ticket == self._ticket and self._probing:
            self._renew()

    def _renew(self) -> None:
        """Make all tickets so far invalid, that of the probe included."""
        self._ticket += 1
        self._failures = 0
        self._probing = False


def verdict_on_status(status: int) -> bool | None:
    """Say what an answer shows of the server.

    Returns:
        `True`: it works. `False`: it fails. `None`: neither, `Breaker.dropped` is right.

    Example:
        >>> verdict_on_status(404), verdict_on_status(502), verdict_on_status(429)
        (True, False, None)
    """
    if status in (429, 529):
        return None
    return status < 500


# The server did answer; what it said cannot be used.
_ANSWERED: Final = (MessageError, HTTPDecodeError, HTTPRedirectError, ResponseTooLargeError)


def verdict_on_error(error: BaseException | None) -> bool | None:
    """Say what the error of an attempt shows of the server; `None` is an answer without a status, which shows it works.

    What never left (a value that cannot be serialised, a wait for a free connection that took too long, an open
    circuit) shows nothing, and neither do a cancellation, a deadline of the caller's, and what a user's own
    callable raised. What is not ours shows something only where it is a built-in error of the network.

    Returns:
        As `verdict_on_status`.
    """
    if error is None:
        return True
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status:
        return verdict_on_status(status)
    if not isinstance(error, TransportError):
        # A deadline of the caller's is a built-in `TimeoutError` too.
        is_network = isinstance(error, builtins.ConnectionError | builtins.TimeoutError)
        return False if is_network and not isinstance(error, PynectorError) else None
    if error.foreign or (isinstance(error, ConnectionTimeoutError) and error.phase == "pool"):
        return None
    if isinstance(error, ConnectionError | IncompleteStreamError):
        return False
    if not error.sent or isinstance(error, SdkTransportError):
        return None
    return isinstance(error, _ANSWERED)
