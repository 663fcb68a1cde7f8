"""The tables of the HTTP figures."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..report import aligned, markdown_table, verdict
from .contestants import COLOURS, LABELS, our_label
from .figures import Figure, Goal, Key
from .ours import ENGINES

_OURS = {our_label(engine): engine for engine in ENGINES}
_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class HttpReport:
    """Figures, and what follows from them.

    Args:
        figures: The medians.
        goals: What they have to reach.
        machine: Where they were measured.
        notes: Who was left out.
        failures: What ended in an error, a wrong answer for one.
    """

    figures: dict[Key, Figure]
    goals: Sequence[Goal]
    machine: dict[str, Any]
    notes: list[str]
    failures: list[str]

    def __len__(self) -> int:
        return len(self.figures) + len(self.notes) + len(self.failures)

    def text(self) -> str:
        """Every figure, with its ratio to each of our engines; then the goals."""
        parts = [self._where()]
        for (colour, workload, concurrency), keys in itertools.groupby(self.figures, key=lambda key: key[:3]):
            head = ("", "us/request", "CPU us", "requests/s", *(f"/ {engine}" for engine in ENGINES))
            lines = [head, *(self._line(key) for key in keys)]
            parts.append(f"{colour}, {workload}, {concurrency} at once\n{aligned(lines, range(1, len(head)))}")
        parts.append("/ httpx, / httpx2, / pyreqwest: how many times as long as ours over that engine.")
        if goals := self._goal_lines():
            parts.append(aligned(goals, (2, 3)))
        return "\n\n".join([*parts, *self.notes, *self.failures])

    def markdown(self) -> str:
        """A row for each contestant and a column for each case; then the goals."""
        parts = [self._where()]
        for colour in COLOURS:
            cases = list(dict.fromkeys(key[1:3] for key in self.figures if key.colour == colour))
            parts += [self._matrix(colour, cases[at : at + _COLUMNS]) for at in range(0, len(cases), _COLUMNS)]
        if goals := self._goal_lines():
            parts.append(markdown_table(goals, (2, 3)))
        return "\n\n".join([*parts, *self.notes, *self.failures])

    def as_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "figures": [
                {
                    **key._asdict(),
                    "wall_us": round(figure.wall * 1e6, 2),
                    "cpu_us": round(figure.cpu * 1e6, 2),
                    "requests_per_second": round(1 / figure.wall, 1),
                    "rounds": figure.rounds,
                    "times_as_long_as": {engine: round(ratio, 3) for engine, ratio in self._ratios(key)},
                }
                for key, figure in self.figures.items()
            ],
            "goals": [
                {
                    "name": goal.name,
                    "throughput_at_least": goal.throughput,
                    "cost_at_most": goal.cost,
                    "measured": round(measured, 3),
                    "measured_by_cpu": round(goal.measured_by_cpu(self.figures), 3),
                    "met": goal.met(self.figures),
                }
                for goal, measured in self._measured()
            ],
            "notes": self.notes,
            "failures": self.failures,
        }

    def _where(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.machine["versions"].items())
        return (
            f"{self.machine['cores']} cores, {self.machine['system']}, {self.machine['python']}, "
            f"{self.machine['server']}; {versions}."
        )

    def _line(self, key: Key) -> tuple[str, ...]:
        figure = self.figures[key]
        ratios = dict(self._ratios(key))
        return (
            key.contestant,
            f"{figure.wall * 1e6:.0f}",
            f"{figure.cpu * 1e6:.0f}",
            f"{1 / figure.wall:,.0f}",
            *(f"x{ratios[engine]:.2f}" if engine in ratios else "" for engine in ENGINES),
        )

    def _ratios(self, key: Key) -> Iterator[tuple[str, float]]:
        """How many times as long as each of ours in the same case."""
        for label, engine in _OURS.items():
            other = self.figures.get(key._replace(contestant=label))
            if other is not None:
                yield engine, self.figures[key].wall / other.wall

    def _matrix(self, colour: str, cases: Sequence[tuple[str, int]]) -> str:
        lines: list[tuple[str, ...]] = [
            (f"{colour}, us/request (CPU)", *(f"{workload}, C={concurrency}" for workload, concurrency in cases))
        ]
        for label in LABELS[colour]:
            row = [self.figures.get(Key(colour, *case, label)) for case in cases]
            if any(row):
                cells = (f"{f.wall * 1e6:,.0f} ({f.cpu * 1e6:,.0f})" if f is not None else "" for f in row)
                lines.append((f"**{label}**" if label in _OURS else label, *cells))
        return markdown_table(lines, range(1, len(cases) + 1))

    def _goal_lines(self) -> list[tuple[str, ...]]:
        lines = [
            (
                goal.name,
                goal.wanted,
                f"{measured:.2f}",
                f"{goal.measured_by_cpu(self.figures):.2f}",
                verdict(goal.met(self.figures)),
            )
            for goal, measured in self._measured()
        ]
        return [("Case", "Goal", "Measured", "by CPU time", ""), *lines] if lines else []

    def _measured(self) -> Iterator[tuple[Goal, float]]:
        for goal in self.goals:
            measured = goal.measured(self.figures)
            if measured is not None:
                yield goal, measured
