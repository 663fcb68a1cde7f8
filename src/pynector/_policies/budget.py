"""The retry budget: how much of the traffic may be retries, so that a server in trouble is not buried by them.

`RetryBudget` is what a user sets, `Budget` is its running state. The state has no clock and no lock: it is told what
time it is, and the caller holds a lock around every call.
"""

import math
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigurationError

WINDOW: Final = 10.0
"""Seconds of the past that count.

Long enough that a server in trouble is not asked again and again, and short enough that the retries of a moment ago do
not count against a program that has moved on to something else.
"""
_SLICES: Final = 10
_SLICE: Final = WINDOW / _SLICES
# 0.1 * 3 is not 0.3: what is a whole retry but for rounding is one.
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries there may be in all, beside the number for each request.

    When a server fails every request, three retries for each make four times the load, at the worst moment. With a
    budget the retries of the last ten seconds are at most `ratio` of the requests of that time, plus `reserve`. Then a
    request that fails is not tried again but fails with what happened. Single failures never notice: `reserve` is
    for programs that send little, and is there anew ten seconds later.

    What was not used is forgotten with the time it belongs to: hours of success buy no storm of retries.

    The budget is for failures: 5xx, time-outs, broken connections. A 429 or 529 that is put off in a batch is no
    retry and is not charged.

    Args:
        ratio: Retries for each request, 0 or more; 0.1 is one retry for ten requests.
        reserve: Retries on top in any ten seconds, 0 or more.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.

    Example:
        >>> RetryBudget(ratio=0.2).reserve
        20
    """

    ratio: float = 0.1
    reserve: int = 20

    def __post_init__(self) -> None:
        ratio, reserve = self.ratio, self.reserve
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < math.inf:
            raise _refuse("ratio", ratio, "a number of 0 or more, and not infinity")
        if isinstance(reserve, bool) or not isinstance(reserve, int) or reserve < 0:
            raise _refuse("reserve", reserve, "an integer of 0 or more")
        object.__setattr__(self, "ratio", float(ratio))


def _refuse(name: str, value: object, right: str) -> ConfigurationError:
    return ConfigurationError(f"RetryBudget.{name}: {value!r:.80} is not accepted; give {right}")


class Budget:
    """The state of one budget: what happened in the last ten seconds, in slices of one.

    At any time, with R requests and S retries in the slices that count (the last 9 to 10 seconds), S is at most
    `ratio * R + reserve`, unless R has shrunk since: a retry that went is not taken back.

    Args:
        policy: The ratio and the reserve.

    Attributes:
        slice_end: Until then a request is counted by adding 1 to `new_requests`, which is all that `request` does.
        new_requests: The requests of the slice that is running.
    """

    __slots__ = ("_new_retries", "_past", "_policy", "_requests", "_retries", "new_requests", "slice_end")

    def __init__(self, policy: RetryBudget) -> None:
        self._policy = policy
        # The slice that is running, and the sums over those in `_past`, the oldest first.
        self.new_requests = self._new_retries = 0
        self._requests = self._retries = 0
        self._past: list[tuple[int, int]] = []
        self.slice_end = -math.inf

    def request(self, now: float) -> None:
        """Count a request that goes out for the first time.

        Args:
            now: Seconds of a monotonic clock.
        """
        # This is on the path of every request: nothing but a comparison and an addition.
        if now >= self.slice_end:
            self._turn(now)
        self.new_requests += 1

    def spend(self, now: float) -> bool:
        """Ask for one retry. Ask last, when nothing else speaks against it: what was spent is not given back.

        Args:
            now: Seconds of a monotonic clock.

        Returns:
            `True`: it may go, and is charged. `False`: there is nothing left.
        """
        if now >= self.slice_end:
            self._turn(now)
        if not self._affords(self._requests + self.new_requests, self._retries + self._new_retries):
            return False
        self._new_retries += 1
        return True

    def delay(self, now: float) -> float | None:
        """Say when one retry could go if nothing else happens; for those that would rather wait than fail.

        Args:
            now: Seconds of a monotonic clock.

        Returns:
            Seconds; 0 if one could go now; `None` if time alone will not help.
        """
        if now >= self.slice_end:
            self._turn(now)
        requests, retries = self._requests + self.new_requests, self._retries + self._new_retries
        if self._affords(requests, retries):
            return 0.0
        # The running slice ends, and the oldest one that counts is forgotten, and so on.
        for turn, (old_requests, old_retries) in enumerate(
            [*[(0, 0)] * (_SLICES - 1 - len(self._past)), *self._past, (self.new_requests, self._new_retries)]
        ):
            requests -= old_requests
            retries -= old_retries
            if self._affords(requests, retries):
                return self.slice_end - now + turn * _SLICE
        return None

    def _affords(self, requests: int, retries: int) -> bool:
        return retries + 1 <= requests * self._policy.ratio + self._policy.reserve + _ROUNDING

    def _turn(self, now: float) -> None:
        """Begin a new slice, and forget what is older than the window."""
        idle = now - self.slice_end
        if idle >= WINDOW:  # also the first time
            self._past.clear()
            self._requests = self._retries = 0
            self.new_requests = self._new_retries = 0
            self.slice_end = now + _SLICE
            return
        turns = int(idle // _SLICE) + 1
        self._past.append((self.new_requests, self._new_retries))
        self._past.extend([(0, 0)] * (turns - 1))
        self._requests += self.new_requests
        self._retries += self._new_retries
        self.new_requests = self._new_retries = 0
        # The slice that begins now is the tenth.
        while len(self._past) > _SLICES - 1:
            old_requests, old_retries = self._past.pop(0)
            self._requests -= old_requests
            self._retries -= old_retries
        self.slice_end += turns * _SLICE
