"""How many requests may be in flight, found out from how the server answers them."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, TypeGuard

from ..errors import ConfigurationError
from .trial import Trial

AUTO: Final = "auto"


def _refuse(where: str, value: object, right: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {value!r:.80} is not accepted; give {right}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrency:
    """Let the answers of the server decide how many requests are in flight.

    The limit starts at `initial` and doubles while all goes well, but for a few refusals. More of them (429, 529 or
    another sign of overload) take a quarter of it away; from then on each does, and it grows in small steps, only
    while it is used. If lower limits make no difference to the share of refusals, it is put up again, and refusals
    are no matter for a while. Failures of the server (5xx) and time-outs stop its growth for a moment.

    Args:
        initial: The limit to start with.
        minimum: The lowest limit.
        maximum: The highest limit.

    Raises:
        ConfigurationError: A value is no integer, or not `1 <= minimum <= initial <= maximum`.

    Example:
        >>> AdaptiveConcurrency(initial=20).maximum
        200
    """

    initial: int = 10
    minimum: int = 1
    maximum: int = 200

    def __post_init__(self) -> None:
        for name in ("initial", "minimum", "maximum"):
            value = getattr(self, name)
            if not _is_count(value):
                raise _refuse(f"AdaptiveConcurrency.{name}", value, "an integer of 1 or more")
        if self.minimum > self.initial:
            raise _refuse("AdaptiveConcurrency.minimum", self.minimum, f"at most `initial`, {self.initial}")
        if self.maximum < self.initial:
            raise _refuse("AdaptiveConcurrency.maximum", self.maximum, f"at least `initial`, {self.initial}")


def coerce_concurrency(
    value: int | AdaptiveConcurrency | Literal["auto"], where: str = "argument `max_concurrency`"
) -> int | AdaptiveConcurrency:
    """Make a limit of what `max_concurrency=` accepts: a number, `"auto"`, or an `AdaptiveConcurrency`.

    Args:
        value: What was given.
        where: Its source, for the text of an error.

    Returns:
        The number, or the policy; `"auto"` is `AdaptiveConcurrency()`.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(value, AdaptiveConcurrency):
        return value
    if value == AUTO:
        return AdaptiveConcurrency()
    if _is_count(value):
        return value
    raise _refuse(where, value, 'an integer of 1 or more, "auto", or an AdaptiveConcurrency')


# The figures come from simulating servers with a hidden limit, which the tests repeat.
_CUT: Final = 0.75
_CREDIT: Final = 5.0  # refusals that do not end the slow start
_CREDIT_PER_SUCCESS: Final = 0.04  # nor do 4 of 100, for any time
_LOW: Final = 0.5
_CLEAN: Final = 500  # successes without a refusal, after which the next one is another story
_COOLDOWN_MIN: Final = 0.1  # seconds; with 1.0, four of ten requests are refused on the way down
_COOLDOWN_LATENCIES: Final = 2.0
_SATURATED: Final = 0.8
_ROUND_MIN: Final = 25  # successes
_STEP: Final = 0.05
_STEP_BACK: Final = 0.1  # as far as the limit has been before
_BELOW: Final = 0.95
_NEAR: Final = 1.25
_PATIENCE_MIN: Final = 1.0  # seconds until a limit that was too high is tried again
_PATIENCE_MAX: Final = 16.0
_LATENCIES: Final = 64
_HISTORY: Final = 1_000


class AdaptiveLimit:
    """The running state of an `AdaptiveConcurrency`.

    It is not locked: the caller holds a lock around every call. `now` is always seconds of one monotonic clock.
    `try_enter` takes a slot, and each of the other methods gives one back, with what became of the request. How long
    a server asks to wait (`Retry-After`) is no matter here: it tells when to come back, not with how many.

    A round is over when as many requests have succeeded as may be in flight. A success counts if the request was
    sent for the first time, and after the cooldown that follows a cut: what was sent earlier tells of the old limit.

    Args:
        policy: The bounds.

    Attributes:
        limit: How many requests may be in flight now.
        in_flight: How many are.
        history: The latest changes, as pairs of time and limit.
    """

    __slots__ = (
        "_calm",
        "_ceiling",
        "_clean",
        "_credit",
        "_cut_at",
        "_latencies",
        "_patience",
        "_peak",
        "_peak_before",
        "_policy",
        "_slow_start",
        "_successes",
        "_top",
        "_trial",
        "_trial_at",
        "_was_slow_start",
        "history",
        "in_flight",
        "limit",
    )

    def __init__(self, policy: AdaptiveConcurrency) -> None:
        self._policy = policy
        self.limit = policy.initial
        self.in_flight = 0
        self.history: deque[tuple[float, int]] = deque(maxlen=_HISTORY)
        self._slow_start = True
        self._successes = 0
        self._peak = self._peak_before = 0  # the most in flight in this round, and in the one before
        self._cut_at = self._calm = -math.inf  # when it was cut, and from when on what is sent counts
        self._ceiling = 0  # how many were in flight when it was cut
        self._patience = _PATIENCE_MIN
        self._credit = _CREDIT
        self._clean = 0
        self._trial = Trial()
        self._trial_at = -math.inf  # what was sent before does not count
        self._top = self.limit  # the highest limit of the trial
        self._was_slow_start = False  # whether the first cut in it ended the slow start
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)

    def try_enter(self, now: float) -> bool:
        """Take a slot if there is one.

        Returns:
            Whether the request may go.
        """
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        if self.in_flight > self._peak:
            self._peak = self.in_flight
        return True

    def succeeded(self, now: float, latency: float, *, first_attempt: bool = True) -> None:
        """The server has answered. A 4xx is an answer too: the server was not too busy to give it.

        Args:
            now: The time.
            latency: Seconds since the request was sent.
            first_attempt: Whether it was sent for the first time: only then does it count for the growth.
        """
        self.in_flight -= 1
        self._latencies.append(latency)
        self._clean += 1
        self._credit = min(_CREDIT, self._credit + _CREDIT_PER_SUCCESS)
        self._compare(now - latency, now)
        if not first_attempt or now - latency < self._calm:
            return
        self._successes += 1
        # With a limit of 3 a round would be over in no time, and every fourth request be one too many.
        if self._successes >= self.limit and (self._slow_start or self._successes >= _ROUND_MIN):
            # A limit that nobody reaches says nothing about the server.
            if self._peak >= self.limit * _SATURATED:
                self._grow(now)
            self._begin_round()

    def overloaded(self, now: float, latency: float = 0.0) -> None:
        """The server has too much to do: 429, 529, or 503 with `Retry-After`.

        Cuts the limit, once for each cooldown, unless this may be by chance.

        Args:
            now: The time.
            latency: Seconds since the request was sent: what was sent before a cut does not cut again.
        """
        by_chance = self._may_be_by_chance(now, latency)
        # The cheap half of the question first: in a storm of refusals this is all that most of them cost.
        if not by_chance and now - latency >= self._cut_at and now >= self._cut_at + _COOLDOWN_MIN:
            cooldown = self._cooldown()
            if now >= self._cut_at + cooldown:
                self._cut(now, cooldown)
        self.in_flight -= 1

    def troubled(self, now: float) -> None:
        """The server failed (5xx), or was silent for too long: no growth for one cooldown."""
        self.in_flight -= 1
        self._calm = max(self._calm, now + self._cooldown())
        self._begin_round()

    def dropped(self) -> None:
        """Nobody knows what would have become of the request: it was cancelled, or never sent."""
        self.in_flight -= 1

    @property
    def _plateau(self) -> int:
        """A limit just below the one that was too high."""
        return min(self._ceiling - 1, int(self._ceiling * _BELOW))

    def _cooldown(self) -> float:
        """By then most of what is in flight has been answered, and the answers tell of the new limit."""
        latencies = sorted(self._latencies)
        median = latencies[len(latencies) // 2] if latencies else 0.0
        return max(_COOLDOWN_MIN, _COOLDOWN_LATENCIES * median)

    def _cut(self, now: float, cooldown: float) -> None:
        # Refused again for trying more than there was room for the last time: wait longer for the next try.
        again = self._plateau < self.limit <= self._ceiling * _NEAR
        self._patience = min(_PATIENCE_MAX, self._patience * 2.0) if again else _PATIENCE_MIN
        self._top = max(self._top, self.limit)
        self._was_slow_start = self._was_slow_start or self._slow_start
        self._slow_start = False
        self._credit = 0.0
        self._ceiling = min(self.limit, max(self._peak, self._peak_before))
        self._cut_at = now
        self._calm = now + cooldown
        self._set(now, max(self._policy.minimum, int(self.limit * _CUT)))
        self._begin_round()

    def _may_be_by_chance(self, now: float, latency: float) -> bool:
        if self._clean >= _CLEAN:
            self._begin_trial(now)
        self._clean = 0
        self._credit = max(-1.0, self._credit - 1.0)
        low = self._compare(now - latency, now)
        helps = self._trial.refused(now, held=low) if now - latency >= self._trial_at else None
        if helps is False:
            self._undo(now)
        elif helps and self.limit > self._policy.minimum:
            # What it was before is no measure any more. At the minimum there is nothing else to compare with.
            self._begin_trial(now)
        return low or (self._slow_start and self._credit >= 0.0) or self._trial.is_off(now)

    def _begin_trial(self, now: float) -> None:
        self._trial.restart()
        self._trial_at = now
        self._top = self.limit
        self._was_slow_start = False

    def _compare(self, sent: float, now: float) -> bool:
        """Count an answer; say whether it may tell if a lower limit helps.

        It may at a limit so low that a server with room for some of what was sent before has room for all of it.
        """
        low = sent >= self._calm and self.limit <= self._top * (1.0 - self._trial.share) * _LOW
        if sent >= self._trial_at:
            self._trial.sent(now, held=low)
        return low

    def _undo(self, now: float) -> None:
        """Lower limits were no help: forget that there were any."""
        self._set(now, max(self.limit, self._top))
        self._slow_start = self._was_slow_start
        self._credit = _CREDIT
        self._ceiling = 0
        self._begin_round()

    def _begin_round(self) -> None:
        self._successes = 0
        self._peak_before = self._peak
        self._peak = self.in_flight

    def _grow(self, now: float) -> None:
        if self._slow_start:
            limit = self.limit * 2
        else:
            # Up to where all was well the way is known. Beyond, refusals are expected: not too many, not too often.
            plateau = self._plateau
            limit = self.limit + max(1, int(self.limit * (_STEP_BACK if self.limit < plateau else _STEP)))
            if limit > plateau and now - self._cut_at < self._patience:
                limit = max(self.limit, plateau)
        self._set(now, min(limit, self._policy.maximum))

    def _set(self, now: float, limit: int) -> None:
        if limit != self.limit:
            self.limit = limit
            self.history.append((now, limit))
