"""Durations counted in little memory: a histogram whose buckets grow with what they count."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from math import ceil, inf, log
from typing import Final

# Each bucket ends 2 % above its beginning. What stands for a bucket is its geometric middle, which is less than 1 %
# away from anything in it. From a microsecond to eleven days that makes 1,396 buckets, 11 kB.
_GROWTH: Final = 1.02
_LOWEST: Final = 1e-6
_HIGHEST: Final = 1e6
_SCALE: Final = 1 / log(_GROWTH)
_OFFSET: Final = -log(_LOWEST) * _SCALE
_SIZE: Final = ceil(log(_HIGHEST / _LOWEST) * _SCALE)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        low: Where it begins, in seconds.
        high: Where it ends, in seconds.
        count: How many durations are in between.
    """

    low: float
    high: float
    count: int


class Histogram:
    """Counts durations in buckets of constant relative width, as HdrHistogram does.

    The counts are exact, and so are `lowest` and `highest`. A percentile is off by less than 1 %, from a microsecond to
    11 days; beyond that it is `lowest` or `highest` at worst.

    Attributes:
        highest: The longest in seconds; 0.0 if there is none.

    Example:
        >>> durations = Histogram()
        >>> for milliseconds in range(1, 101):
        ...     durations.add(milliseconds / 1000)
        >>> durations.count, round(durations.percentile(50), 2)
        (100, 0.05)
    """

    __slots__ = ("_counts", "_lowest", "highest")

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * _SIZE))
        self._lowest = inf
        self.highest = 0.0

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self._counts)

    @property
    def lowest(self) -> float:
        """The shortest in seconds; 0.0 if there is none."""
        return 0.0 if self._lowest == inf else self._lowest

    def add(self, seconds: float) -> None:
        """Count a duration in seconds."""
        if _LOWEST <= seconds < _HIGHEST:
            self._counts[int(log(seconds) * _SCALE + _OFFSET)] += 1
        else:
            self._counts[-1 if seconds >= _HIGHEST else 0] += 1
        if seconds > self.highest:
            self.highest = seconds
        if seconds < self._lowest:
            self._lowest = seconds

    def percentile(self, percent: float) -> float:
        """Return the seconds that `percent` of the durations took at most (nearest rank); 0.0 if there are none."""
        rank = nearest_rank(self.count, percent)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                return min(max(_edge(index + 0.5), self.lowest), self.highest)
        return 0.0

    def bars(self, most: int = 40) -> tuple[Bar, ...]:
        """Return the counts in fewer buckets, from the shortest duration to the longest.

        Args:
            most: How many bars there may be.

        Returns:
            Bars of equal width on a logarithmic scale, without gaps; some may be empty.
        """
        if not self.count:
            return ()
        filled = [index for index, count in enumerate(self._counts) if count]
        first, last = filled[0], filled[-1]
        width = ceil((last - first + 1) / most)
        bars = [
            Bar(_edge(index), _edge(index + width), sum(self._counts[index : index + width]))
            for index in range(first, last + 1, width)
        ]
        bars[0] = replace(bars[0], low=self.lowest)
        bars[-1] = replace(bars[-1], high=self.highest)
        return tuple(bars)


def nearest_rank(count: int, percent: float) -> int:
    """The place, counted from 1, of the value that `percent` of `count` ordered values do not exceed."""
    return max(1, ceil(count * percent / 100))


def _edge(index: float) -> float:
    edge: float = _LOWEST * _GROWTH**index
    return edge
