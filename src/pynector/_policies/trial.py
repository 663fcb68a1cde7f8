"""Whether it helps to hold requests back: some servers refuse a share of them by chance, whatever their number."""

import math
from typing import Final

# The figures come from simulating servers, as those of its users do.
_REQUESTS: Final = 20  # the fewest by which holding back is judged
_EXPECTED: Final = 12.0  # so many of them would have to be refused if it were no help
_HELP: Final = 0.6  # it helps if the share of refusals is below this part of what it was
_ALL: Final = 0.8
_KNOWN: Final = 0.4
_RECENT: Final = 500.0  # requests
_UNUSUAL: Final = 1.5
_SURE: Final = 10.0  # refusals
_OFF_MIN: Final = 10.0  # seconds for which something useless is given up, doubling each time
_OFF_MAX: Final = 160.0


class Trial:
    """Compares how many are refused of the requests that are held back, and of the others.

    A server with a limit refuses next to none of the first, and a server that refuses by chance (to shed load, by the
    keys of others, or because it is flaky) as many of both. There, each refusal would be a reason to hold back more,
    until hardly anything is sent. So what is no help is given up for a while, or until more than usual are refused.

    It is not locked: the caller holds a lock around every call. `now` is always seconds of one monotonic clock.

    Args:
        seconds: The shortest time after which holding back is judged.
    """

    __slots__ = (
        "_began",
        "_free",
        "_free_refused",
        "_held",
        "_held_refused",
        "_off_for",
        "_off_until",
        "_seconds",
        "_usual",
    )

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._began = math.inf
        self._usual = 0.0  # the share of refusals when it was given up
        self._off_until = -math.inf
        self._off_for = _OFF_MIN
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._free = self._free_refused = self._held = self._held_refused = 0.0

    @property
    def share(self) -> float:
        """How many are refused of those that are not held back: 0 to 1."""
        return min(1.0, self._free_refused / self._free) if self._free else 1.0

    def is_off(self, now: float) -> bool:
        """Whether holding back has turned out to be no help, so that it is given up for now."""
        return now < self._off_until

    def sent(self, now: float, *, held: bool) -> None:
        """Count a request.

        Args:
            now: The time.
            held: Whether requests are held back so far that a server with a limit should refuse none of them.
        """
        if held:
            if not self._held:
                self._began = now
            self._held += 1.0
        else:
            self._free += 1.0
            if self._free > _RECENT:
                self._free /= 2.0
                self._free_refused /= 2.0

    def refused(self, now: float, *, held: bool) -> bool | None:
        """Count the refusal of a request.

        Returns:
            Whether holding back helps, when there is enough to tell; False also says that it is given up.
        """
        if not held:
            self._free_refused += 1.0
            if now < self._off_until and self._is_unusual():
                self._off_until = now
            return None
        self._held_refused += 1.0
        share = self.share
        if now - self._began < self._seconds or self._held < _REQUESTS or self._held * share < _EXPECTED:
            return None
        if self._held_refused <= _HELP * share * self._held:
            self._off_for = _OFF_MIN
            # At the start nearly all may be refused. As a measure for ever after, that would excuse far too much.
            self._free_refused = min(self._free_refused, _KNOWN * self._free)
            self._held = self._held_refused = 0.0
            return True
        if self._held_refused > _ALL * self._held:
            # That is not chance: the server is down, and nothing is gained by asking it more often.
            self._held = self._held_refused = 0.0
            return None
        self._usual = min(share, self._held_refused / self._held)
        self._off_until = now + self._off_for
        self._off_for = min(_OFF_MAX, 2.0 * self._off_for)
        self.restart()
        return False

    def _is_unusual(self) -> bool:
        share = min(_UNUSUAL * self._usual, (1.0 + self._usual) / 2)
        return self._free_refused > _SURE + share * self._free
