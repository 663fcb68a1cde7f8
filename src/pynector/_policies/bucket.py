"""A rate that is kept to without a timer: the generic cell rate algorithm (GCRA), and what answers teach about it."""

import math
from typing import Final

from .learnt import Reading

# A clock that was slept on for exactly as long as told may read a hair less: without this, it would be asked again
# and again for a wait that is too short to make any difference.
_HAIR: Final = 1e-6

_MINUTE: Final = 60.0
_LEARNT_FOR: Final = 600.0


class Bucket:
    """So many units come per second, up to a capacity; all that is kept is the time when it will be full again.

    Args:
        per_minute: The units that come in a minute.
        seconds: The capacity, as the seconds of that rate that it holds.
        least: The least capacity in units.
        now: Since when it counts.
    """

    __slots__ = ("_capacity", "_full_at", "_unit", "since")

    def __init__(self, per_minute: float, seconds: float, least: float, now: float) -> None:
        self.since = now
        self._full_at = -math.inf
        self._unit = _MINUTE / per_minute
        self._capacity = max(least, seconds / self._unit)

    def ready_at(self, units: float) -> float:
        """Return when so many can be taken: more than it holds, when it is full."""
        return self._full_at - max(0.0, self._capacity - units) * self._unit

    def take(self, units: float, now: float) -> None:
        """Take units, also more than there are: then nothing goes until they have come."""
        self._full_at = max(self._full_at, now) + units * self._unit

    def give_back(self, units: float) -> None:
        """Put back what was taken. What is above the capacity is lost, when the next is taken."""
        self._full_at -= units * self._unit

    def hold_at_most(self, level: float, now: float) -> None:
        """Take away what is above a level."""
        self._full_at = max(self._full_at, now + max(0.0, self._capacity - level) * self._unit)

    def fill(self) -> None:
        """Forget all that was taken."""
        self._full_at = -math.inf

    def change(self, per_minute: float, seconds: float, least: float, now: float) -> None:
        """Go on at another rate; the units that are missing stay the same."""
        unit = _MINUTE / per_minute
        if self._full_at > now:
            self._full_at = now + (self._full_at - now) / self._unit * unit
        self._unit = unit
        self._capacity = max(least, seconds / unit)


class Allowance:
    """One of the limits, of requests or of tokens: what the user set, tightened by what answers told lately.

    The pace spreads requests evenly, at the lower of the two limits. A second bucket follows the one that the server
    keeps, which holds a whole minute and from which others may take as well: the answers tell what is left in it.

    Args:
        own: What the user set, per minute; `None` for nothing.
        burst: How many seconds' worth may go at once.
        least: The least number of units that may go at once.
    """

    __slots__ = ("_account", "_burst", "_expires_at", "_learnt", "_least", "_own", "_pace", "_reset_at")

    def __init__(self, own: float | None, burst: float, least: float) -> None:
        self._own = own
        self._burst = burst
        self._least = least
        self._pace = None if own is None else Bucket(own, burst, least, -math.inf)
        self._account: Bucket | None = None
        self._learnt: float | None = None
        self._reset_at = math.inf
        self._expires_at = math.inf

    def wait(self, units: float, now: float) -> float:
        """Return the seconds until so many may be taken, or until it is worth asking again; 0 for now."""
        if self._learnt is not None:
            self._forget(now)
        if self._pace is None:
            return 0.0
        ready = self._pace.ready_at(units)
        if self._account is not None:
            ready = min(max(ready, self._account.ready_at(units)), self._reset_at, self._expires_at)
        wait = ready - now
        return wait if wait > _HAIR else 0.0

    def take(self, units: float, now: float) -> None:
        """Take units, also if there are not so many."""
        for bucket in (self._pace, self._account):
            if bucket is not None:
                bucket.take(units, now)

    def give_back(self, units: float, taken_at: float) -> None:
        """Put back what was taken at that time, into what was there then."""
        for bucket in (self._pace, self._account):
            if bucket is not None and bucket.since <= taken_at:
                bucket.give_back(units)

    def learn(self, reading: Reading, now: float) -> None:
        """Take in what an answer told. It counts for ten minutes; a shortage only until its reset."""
        self._expires_at = now + _LEARNT_FOR
        if self._account is None:
            self._account = Bucket(reading.limit, _MINUTE, self._least, now)
        if reading.limit != self._learnt:
            self._learnt = reading.limit
            self._account.change(reading.limit, _MINUTE, self._least, now)
            self._set_pace(now)
        # Not the other way round, more than we think is left: it does not know of what is on its way.
        if reading.remaining is not None:
            self._account.hold_at_most(reading.remaining, now)
        self._reset_at = math.inf if reading.reset is None else now + max(0.0, reading.reset)

    def _set_pace(self, now: float) -> None:
        limits = [limit for limit in (self._own, self._learnt) if limit is not None]
        if not limits:
            self._pace = None
        elif self._pace is None:
            self._pace = Bucket(min(limits), self._burst, self._least, now)
        else:
            self._pace.change(min(limits), self._burst, self._least, now)

    def _forget(self, now: float) -> None:
        if self._expires_at - now <= _HAIR:
            self._learnt = self._account = None
            self._reset_at = self._expires_at = math.inf
            self._set_pace(now)
        elif self._reset_at - now <= _HAIR and self._account is not None:
            self._reset_at = math.inf
            self._account.fill()
