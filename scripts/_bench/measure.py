"""Rounds, medians and rows: what every suite of measurements uses."""

import gc
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

Run = Callable[[int], float]
"""Does something so many times, and says how many seconds that took."""

UNITS = {"us": 1e6, "ms": 1e3, "MB": 1e-6, "modules": 1.0}
"""What a value in seconds, bytes or pieces is multiplied by to be shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Args:
        rounds: Turns of each contestant.
        scale: Every count is multiplied by this.
        only: A regular expression that the names of what is measured must match somewhere.
        requests: The count of a suite whose count can be chosen; None for its own.
        full: Whether everything is measured that can be.
        quiet: Whether nothing is said about how far it is.
    """

    rounds: int
    scale: float = 1.0
    only: str = ""
    requests: int | None = None
    full: bool = False
    quiet: bool = False

    def wants(self, name: str) -> bool:
        return re.search(self.only, name) is not None

    def count(self, full: int) -> int:
        return max(2, round(full * self.scale))

    def say(self, text: str) -> None:
        """Tell a person who waits how far it is."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


class Report(Protocol):
    """What a suite found."""

    @property
    def failures(self) -> list[str]:
        """What ended in an error, a line each."""
        ...

    def __len__(self) -> int:
        """How much was measured."""
        ...

    def text(self) -> str:
        """For a terminal."""
        ...

    def markdown(self) -> str:
        """For a document."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """For a program."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: ours next to others.

    Args:
        name: What was measured, with its unit of work.
        values: The median for one unit of work, by contestant, ours first; in seconds, bytes or pieces.
        goal: How many times as dear as a contestant ours may be at most, by contestant.
        limit: How much ours may be at most.
        unit: One of `UNITS`.
    """

    name: str
    values: dict[str, float]
    goal: dict[str, float] = field(default_factory=dict)
    limit: float | None = None
    unit: str = "us"

    @property
    def ratios(self) -> dict[str, float]:
        ours, *others = self.values
        return {other: self.values[ours] / self.values[other] for other in others}

    @property
    def met(self) -> bool | None:
        """Whether ours is as cheap as it should be; None without a goal."""
        checks = [self.ratios[other] <= most for other, most in self.goal.items() if other in self.values]
        if self.limit is not None:
            checks.append(next(iter(self.values.values())) <= self.limit)
        return all(checks) if checks else None

    def shown(self, value: float) -> float:
        """A value in the unit of the row."""
        return value * UNITS[self.unit]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "values": {who: round(self.shown(value), 3) for who, value in self.values.items()},
            "ratios": {who: round(value, 3) for who, value in self.ratios.items()},
            "goal": self.goal,
            "limit": None if self.limit is None else round(self.shown(self.limit), 3),
            "met": self.met,
        }


def compare(
    plan: Plan,
    name: str,
    count: int,
    contestants: dict[str, Run],
    *,
    goal: dict[str, float] | None = None,
    limit: float | None = None,
) -> Row:
    """Let contestants take turns.

    Args:
        plan: How much to measure.
        name: What is measured.
        count: How many units of work a turn has.
        contestants: Ours first.
        goal: See `Row`.
        limit: See `Row`.

    Returns:
        The medians.
    """
    count = plan.count(count)
    taken: dict[str, list[float]] = {who: [] for who in contestants}
    for run in contestants.values():
        run(max(1, count // 10))
    for who in turns(list(contestants), plan.rounds):
        gc.collect()
        gc.disable()
        try:
            taken[who].append(contestants[who](count) / count)
        finally:
            gc.enable()
    return Row(name, {who: median(values) for who, values in taken.items()}, goal or {}, limit)


def turns(contestants: Sequence[str], rounds: int) -> list[str]:
    """Who is next, for all rounds. Nobody always comes after the same neighbour."""
    order: list[str] = []
    for number in range(rounds):
        order += contestants if number % 2 == 0 else reversed(contestants)
    return order
