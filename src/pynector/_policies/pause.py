"""The pause that everything with one origin and credential shares once its server has refused requests.

A refusal (429, 529, 503 with `Retry-After`) stops all of them until the time that the server names; without one, for
a moment if nothing is accepted meanwhile. That alone would be stop and go: whoever sends twice as fast as the server
allows is refused half of the time, or waits half of the time. So a `Pause` also learns the pace at which the server
does answer, and lets requests go at that pace afterwards. A limit to the requests at once (`adaptive.py`) cannot do
this: a server that takes 20 requests a second and answers each in 20 ms is asked too often by a single one at a time.

A server that refuses some requests by chance cannot be helped by that, and is not: see `Trial`.
"""

import math
from typing import Final

from .trial import Trial

# The figures come from simulating servers with a hidden limit, which the tests repeat. All are seconds but for
# doublings and shares.
_HOLD: Final = 0.02  # the first wait of everybody without `Retry-After`, doubling while nothing is accepted
_HOLD_MAX: Final = 2.0
_IN_A_ROW: Final = 4  # refusals that stop everybody
_IN_A_ROW_BY_CHANCE: Final = 8
_ITEM_WAIT: Final = 0.05  # the wait of the refused request itself, doubling each time that it is refused
_ITEM_DOUBLINGS: Final = 6
_SPREAD: Final = 0.1  # the share of a pause by which it is longer for some than for others
_SPREAD_MAX: Final = 1.0
_QUEUE: Final = 1.0  # how far ahead places are given away
_CATCH_UP: Final = 0.02
_ATTENTION: Final = 10.0  # how long after a refusal requests are counted
_JUST_NOW: Final = 0.5
_SHARE_OF_ONE: Final = 1 / 64
_TOO_MANY: Final = 0.2
_TRIAL: Final = 1.0  # how long a pace is tried before it is judged
_PATIENCE: Final = 0.5  # between two lessons of refusals that the pace should have avoided


class Pause:
    """When requests may go that share one origin and one credential.

    It is not locked: the caller holds a lock around every call. `now` is always seconds of one monotonic clock, and
    `rand` a random number from 0 to 1. Whoever wants to send asks `delay` until that is 0, and then tells `sent`,
    under the same lock; `answered` and `refused` tell what became of the request.
    """

    __slots__ = (
        "_count",
        "_held_back",
        "_moment",
        "_next",
        "_pace",
        "_refused",
        "_row",
        "_share",
        "_spread",
        "_streak",
        "_tail",
        "_trial",
        "_until",
    )

    def __init__(self) -> None:
        self._until = -math.inf  # nobody goes before
        self._spread = 0.0
        self._row = 0  # refusals, and no answer in between
        self._streak = 0  # moments with refusals, and none with an answer
        self._moment = -math.inf  # when the last of them ends
        self._refused = -math.inf
        self._share = 0.0  # of the requests, how many are refused: the newer ones count for more
        self._count = _LastSecond()
        self._pace = _Pace()
        self._trial = Trial(_TRIAL)
        self._next = -math.inf  # when the pace lets the next one go
        self._tail = -math.inf  # when it lets the last one go of those that wait
        self._held_back = -math.inf

    def is_active(self, now: float) -> bool:
        """Whether `delay` and `sent` have to be called: something is paused or paced, or was refused lately."""
        return now - self._refused < _ATTENTION or now < self._until or self._pace.at(now) < math.inf

    def delay(self, now: float, rand: float) -> float:
        """Say how long a request has to wait from now on; then ask again.

        Those that wait are given one time each, so that they come back one after the other.

        Returns:
            Seconds; 0 if it may go at once.
        """
        paused = now < self._until
        pace = self._pace.at(now)
        if paused:
            start = self._until
        elif pace == math.inf or now >= self._next:
            return 0.0
        else:
            start = self._next
            self._held_back = now
        place = max(self._tail, start)
        if place - start > _QUEUE:
            # The pace may change long before its turn comes.
            place = start + _QUEUE * (1.0 + rand) / 2
        else:
            self._tail = place + 1.0 / pace
        if paused:
            # Other processes have been told the same time.
            place += self._spread * rand
        return max(place - now, 1e-6)  # never 0 by rounding

    def sent(self, now: float) -> None:
        """A request goes now."""
        self._count.add(now)
        pace = self._pace.at(now)
        low = self._pace.is_low(now)
        # What goes at a pace that is no longer low, or not known to be, proves nothing either way.
        if low or pace == math.inf:
            self._trial.sent(now, held=low)
        if pace < math.inf:
            # Whoever sleeps wakes up late: what that costs is made up for, but not what was never asked for.
            self._next = max(self._next, now - _CATCH_UP) + 1.0 / pace

    def answered(self) -> None:
        """A request was not refused, whatever else became of it."""
        self._streak = self._row = 0
        self._share -= self._share * _SHARE_OF_ONE

    def refused(self, now: float, *, retry_after: float | None, refusals: int, rand: float) -> float:
        """A request was refused.

        Args:
            now: The time.
            retry_after: Seconds for which the server asked, capped as the caller likes.
            refusals: How often this request was refused, this time included: 1 or more.
            rand: For the jitter.

        Returns:
            Seconds that this request waits before it asks `delay` again: always more than 0.
        """
        self._count.remove(now)
        self._refused = now
        self._share += (1.0 - self._share) * _SHARE_OF_ONE
        low = now >= self._until and self._pace.is_low(now)
        counts = low or now < self._until or self._pace.at(now) == math.inf
        if counts and self._trial.refused(now, held=low) is False:
            self._pace.forget()
        self._row += 1
        if now >= self._moment:
            # Refusals of one moment have one cause: only the first of them counts.
            self._streak += 1
            # By chance, many are refused at a pace that is low. It would go down with each, before it can be judged.
            if self._streak == 1 and not (low and self._pace.age(now) < _PATIENCE):
                self._learn(now, retry_after or 0.0)
            # Doubling: it takes few requests to find out when a server that refuses everything is back.
            self._moment = now + min(_HOLD_MAX, _HOLD * 2.0 ** min(self._streak - 1, 30)) * (1.0 + rand) / 2
        in_a_row = _IN_A_ROW_BY_CHANCE if self._trial.is_off(now) else _IN_A_ROW
        if (self._streak > 1 or self._row >= in_a_row) and self._moment > self._until:
            # One that is refused among others that are not is no reason to stop them.
            self._stop(self._moment)
            self._spread = 0.0
        if retry_after and now + retry_after > self._until:
            self._moment = now + retry_after
            self._stop(self._moment)
            self._spread = min(_SPREAD_MAX, _SPREAD * retry_after)
            self._count.restart(self._until)
        own = _ITEM_WAIT * 2.0 ** min(refusals - 1, _ITEM_DOUBLINGS) * (1.0 + rand) / 2
        return max(own, self._until - now + self._spread * rand)

    def _learn(self, now: float, cost: float) -> None:
        # If nothing was accepted since the last refusal, this one says nothing about the pace.
        if self._count.is_known(now) and not self._trial.is_off(now):
            held_back = now - self._held_back < _JUST_NOW
            self._pace.learn(now, self._count, held_back=held_back, too_fast=self._share > _TOO_MANY, cost=cost)
            self._pace.begin(now)

    def _stop(self, until: float) -> None:
        self._until = self._next = self._tail = until
        self._pace.begin(until)


_MEANINGFUL: Final = 0.9  # seconds of requests without a break, to be taken for a whole one
_SOME: Final = 0.2
_FAST: Final = 4.0  # the growth in a second, while little is known
_FASTER_THAN_SEEN: Final = 2.0
_SAME: Final = 0.75
_MARGIN: Final = 0.05
_PROBE_MIN: Final = 2.0  # seconds until more than the estimate is tried
_PROBE_MAX: Final = 30.0
_PAUSES_PER_PROBE: Final = 20.0  # pauses may cost a twentieth of the time
_PAUSES_PER_GUESS: Final = 5.0
_FLOOR: Final = 0.4
_FORGET: Final = 8.0


class _Pace:
    """How many requests may go in a second, as far as is known.

    Whatever the way in which a server counts (windows of its clock, the last second, a bucket of tokens), when it
    refuses a request for their number, it has accepted at least its limit in the second before. So that number is
    the estimate: never too low, and hardly too high once requests go at an even pace. While it may be far off, the
    pace grows fast until the next refusal. Once the pace itself has led to a refusal, it stays a little below the
    estimate, comes close, and only then tries more: the later, the longer the pause that a refusal costs.
    """

    __slots__ = ("_begin", "_best", "_growth", "_probe", "_rate", "_seen", "_settled")

    def __init__(self) -> None:
        self._rate = math.inf
        self._begin = 0.0
        self._growth = _FAST
        self._settled = False
        self._probe = _PROBE_MIN
        self._seen = self._best = 0.0

    def begin(self, now: float) -> None:
        """Count the growth from `now` on: there was a refusal, or a pause."""
        self._begin = now

    def age(self, now: float) -> float:
        """For how many seconds it has grown."""
        return now - self._begin

    def is_low(self, now: float) -> bool:
        """Whether it is below the estimate: a server that counts requests has no reason to refuse any."""
        return self._settled and self._rate < math.inf and now - self._begin < self._probe

    def forget(self) -> None:
        """Let requests go at any pace."""
        self._rate = math.inf

    def at(self, now: float) -> float:
        """The pace at a time, in requests per second; infinity for any."""
        rate = self._rate
        if rate == math.inf:
            return rate
        age = max(0.0, now - self._begin)
        if not self._settled:
            factor = self._growth ** min(age, 30.0)
        elif age < self._probe:
            factor = 1.0 - _MARGIN * (1.0 - age / self._probe) ** 2
        else:
            factor = 1.0 + _MARGIN * (2.0 ** min(age - self._probe, 30.0) - 1.0)
        if factor > _FORGET:
            # Not refused for long: the server has another limit than it had, or none.
            self._rate = math.inf
        return rate * factor if factor <= _FORGET else math.inf

    def learn(self, now: float, count: "_LastSecond", *, held_back: bool, too_fast: bool, cost: float) -> None:
        """Take note of a refusal.

        Args:
            now: The time.
            count: What was accepted in the last second.
            held_back: Whether the pace has held requests back lately.
            too_fast: Whether so many were refused lately that it cannot be by chance.
            cost: Seconds of the pause that follows.
        """
        active = count.active(now)
        if active < _MEANINGFUL and not cost:
            # Too early to know anything, and it costs little to be refused again.
            return
        pace, first = self.at(now), self._rate == math.inf
        seen = max(1.0, count.at(now))
        estimate, pauses = seen, _PAUSES_PER_PROBE
        if active >= _MEANINGFUL:
            self._settled = held_back and pace < _FASTER_THAN_SEEN * seen
            if self._settled and not cost:
                # While it grows, what was accepted in the last second lags behind. Nearer to the pace is right for a
                # limit to requests at once; for one per second it costs another refusal or two, which come at once.
                estimate = seen**0.25 * max(seen, pace) ** 0.75
        elif not first and active >= _SOME and _SAME * self._seen < seen < self._seen / _SAME:
            # As many as after the last pause, and then it was over: these are all that the server gives in a second.
            self._settled, pauses = True, _PAUSES_PER_GUESS
        else:
            # Accepted in less than a second: between what it would be for a whole one, and no more than these.
            estimate = seen / max(active, 0.05) ** (1.0 if first else 0.5)
            self._settled = False
        self._seen = seen
        self._best = seen if too_fast else max(self._best, seen)
        self._growth = _FAST if first else math.sqrt(_FAST)
        self._probe = min(_PROBE_MAX, max(_PROBE_MIN, pauses * cost))
        # A server that refuses some requests whatever their number would bring the pace down to nothing.
        self._rate = max(min(estimate, pace), _FLOOR * self._best)


_SLOTS: Final = 10


class _LastSecond:
    """How many requests were sent in the last second and not refused."""

    __slots__ = ("_from", "_last", "_slot", "_slots", "_sum")

    def __init__(self) -> None:
        # Tenths of a second, the oldest first: the tenths of the last second, and the one that is under way.
        self._slots = [0] * (_SLOTS + 1)
        self._slot = 0
        self._sum = 0
        self._last = self._from = -math.inf

    def add(self, now: float) -> None:
        self._turn(now)
        self._slots[-1] += 1
        self._sum += 1
        if now - self._last > 1.0:
            self._from = now
        self._last = now

    def remove(self, now: float) -> None:
        self._turn(now)
        if self._sum > 0:
            self._slots[-1] -= 1
            self._sum -= 1

    def restart(self, now: float) -> None:
        """Nothing is sent before `now`."""
        if self._last > -math.inf:
            self._from = self._last = now

    def at(self, now: float) -> float:
        self._turn(now)
        return self._sum - self._slots[0] * (now * _SLOTS % 1.0)

    def is_known(self, now: float) -> bool:
        """Whether requests are counted at all: nobody does before the first refusal."""
        return now - self._last <= 1.0

    def active(self, now: float) -> float:
        """For how many seconds they have been sent without a break."""
        return now - self._from

    def _turn(self, now: float) -> None:
        slot = int(now * _SLOTS)
        steps = min(slot - self._slot, _SLOTS + 1)
        if steps > 0:
            self._slot = slot
            self._sum -= sum(self._slots[:steps])
            self._slots = self._slots[steps:] + [0] * steps
