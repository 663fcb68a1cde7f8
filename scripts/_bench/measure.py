"""Rounds, medians and the table: what every suite of measurements uses."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Run = Callable[[int], float]
"""Does something so many times, and says how many seconds that took."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Args:
        rounds: Turns of each contestant.
        scale: Every count is multiplied by this.
        only: Part of the names of the rows to measure.
    """

    rounds: int
    scale: float
    only: str

    def wants(self, name: str) -> bool:
        return self.only in name

    def count(self, full: int) -> int:
        return max(2, round(full * self.scale))


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: ours next to others.

    Args:
        name: What was measured, with its unit of work.
        seconds: The median for one unit of work, by contestant, ours first.
        goal: How many times as dear as a contestant ours may be at most, by contestant.
        limit: How many seconds ours may take at most.
    """

    name: str
    seconds: dict[str, float]
    goal: dict[str, float]
    limit: float | None = None

    @property
    def ratios(self) -> dict[str, float]:
        ours, *others = self.seconds
        return {other: self.seconds[ours] / self.seconds[other] for other in others}

    @property
    def met(self) -> bool | None:
        """Whether ours is as cheap as it should be; None without a goal."""
        checks = [self.ratios[other] <= most for other, most in self.goal.items()]
        if self.limit is not None:
            checks.append(next(iter(self.seconds.values())) <= self.limit)
        return all(checks) if checks else None

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "microseconds": {who: round(value * 1e6, 3) for who, value in self.seconds.items()},
            "ratios": {who: round(value, 3) for who, value in self.ratios.items()},
            "goal": self.goal,
            "limit_microseconds": None if self.limit is None else round(self.limit * 1e6, 3),
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
    order = list(contestants)
    for number in range(plan.rounds):
        # Nobody always comes after the same neighbour.
        for who in order if number % 2 == 0 else reversed(order):
            gc.collect()
            gc.disable()
            try:
                taken[who].append(contestants[who](count) / count)
            finally:
                gc.enable()
    return Row(name, {who: median(values) for who, values in taken.items()}, goal or {}, limit)


def table(rows: list[Row]) -> str:
    """Lay the rows out for people."""
    head = ("", "ours, us", "others, us (ours / theirs)", "goal")
    lines = [head]
    for row in rows:
        ours, *others = row.seconds
        cells = "; ".join(f"{who} {row.seconds[who] * 1e6:.2f} (x{row.ratios[who]:.2f})" for who in others)
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        wanted = [f"x{most:g} {who}" for who, most in row.goal.items()]
        if row.limit is not None:
            wanted.append(f"{row.limit * 1e6:g} us")
        lines.append((row.name, f"{row.seconds[ours] * 1e6:.2f}", cells, f"{', '.join(wanted)} {verdict}".strip()))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column == 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
