"""How rows and tables look, on a terminal and in a document."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .measure import Row


@dataclass(frozen=True, slots=True)
class RowReport:
    """What most suites find.

    Args:
        title: What the rows are about.
        rows: They all have the same unit.
        notes: What a reader should know, a line each.
        failures: What ended in an error.
    """

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows) + len(self.notes) + len(self.failures)

    def text(self) -> str:
        return "\n".join([self.title, "", aligned(self._cells(), right=(1,)), *self.notes, *self.failures])

    def markdown(self) -> str:
        notes = "".join(f"\n\n{note}" for note in (*self.notes, *self.failures))
        return f"**{self.title}**\n\n{markdown_table(self._cells(), right=(1,))}{notes}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "rows": [row.as_dict() for row in self.rows],
            "notes": self.notes,
            "failures": self.failures,
        }

    def _cells(self) -> list[tuple[str, ...]]:
        units = {row.unit for row in self.rows}
        unit = f", {units.pop()}" if len(units) == 1 else ""
        lines: list[tuple[str, ...]] = [("", f"ours{unit}", f"others{unit} (ours / theirs)", "goal")]
        for row in self.rows:
            ours, *others = (f"{row.shown(value):.2f}" for value in row.values.values())
            names = list(row.values)[1:]
            ratios = row.ratios
            cells = "; ".join(f"{who} {value} (x{ratios[who]:.2f})" for who, value in zip(names, others, strict=True))
            wanted = [f"x{most:g} {who}" for who, most in row.goal.items()]
            if row.limit is not None:
                wanted.append(f"{row.shown(row.limit):g} {row.unit}")
            lines.append((row.name, ours, cells, f"{', '.join(wanted)} {verdict(row.met)}".strip()))
        return lines


def verdict(met: bool | None) -> str:
    return {None: "", True: "met", False: "MISSED"}[met]


def aligned(lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns for a terminal; those in `right` are numbers."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """The same for a document; the first line is the head."""
    head, *rest = lines
    ruler = ["--:" if column in right else "---" for column in range(len(head))]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (head, ruler, *rest)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
