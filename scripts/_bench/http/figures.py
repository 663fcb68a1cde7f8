"""Figures and what they have to reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """What was measured."""

    colour: str
    workload: str
    concurrency: int
    contestant: str


@dataclass(frozen=True, slots=True)
class Figure:
    """Medians of the rounds, in seconds for one request.

    Args:
        wall: By the clock on the wall.
        cpu: Of the client's process, all its threads together.
        rounds: How many rounds.
    """

    wall: float
    cpu: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Goal:
    """How ours has to compare.

    Args:
        name: The case in words.
        ours: What is to be fast.
        theirs: What it is compared with; another one of ours, maybe.
        throughput: At least so many times the throughput of `theirs`.
        cost: At most so many times its time for a request.
    """

    name: str
    ours: Key
    theirs: Key
    throughput: float | None = None
    cost: float | None = None

    def measured(self, figures: Mapping[Key, Figure]) -> float | None:
        """What it came to; None if one of the two was not measured."""
        ours, theirs = figures.get(self.ours), figures.get(self.theirs)
        return None if ours is None or theirs is None else self._ratio(ours.wall, theirs.wall)

    def measured_by_cpu(self, figures: Mapping[Key, Figure]) -> float:
        """The same by the CPU time: what else the machine does weighs less there."""
        return self._ratio(figures[self.ours].cpu, figures[self.theirs].cpu)

    def _ratio(self, ours: float, theirs: float) -> float:
        return ours / theirs if self.throughput is None else theirs / ours

    def met(self, figures: Mapping[Key, Figure]) -> bool | None:
        """Whether that is enough."""
        measured = self.measured(figures)
        if measured is None:
            return None
        return measured >= self.throughput if self.throughput is not None else measured <= (self.cost or 0)

    @property
    def wanted(self) -> str:
        if self.throughput is not None:
            return f"at least {self.throughput:g} x throughput"
        return f"at most {self.cost:g} x cost"
