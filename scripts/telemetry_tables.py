"""Write the tables of `docs/observability.md` on what is emitted, from the names that the code has.

python scripts/telemetry_tables.py           write them
python scripts/telemetry_tables.py --check   say whether they differ, and fail
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from pynector._telemetry import semconv

FILE = Path(__file__).resolve().parents[1] / "docs" / "observability.md"
BEGIN = "<!-- made by scripts/telemetry_tables.py from here to the end -->\n"


def tables() -> str:
    """All tables, as the document has them."""
    spans = _table(("Span", "What it is"), ((f"`{name}`", text) for name, text in semconv.SPANS.items()))
    attributes = _table(("Attribute", "What it says"), ((f"`{k}`", text) for k, text in semconv.ATTRIBUTES.items()))
    metrics = _table(
        ("Metric", "Instrument", "Unit", "What it measures"),
        ((f"`{each.name}`", each.kind, f"`{each.unit}`", each.description) for each in semconv.METRICS),
    )
    return f"{BEGIN}\n### Spans\n\n{spans}\n### Attributes\n\n{attributes}\n### Metrics\n\n{metrics}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """The document with the tables as they should be."""
    return text.partition(BEGIN)[0].rstrip("\n") + "\n\n" + tables()


def main(arguments: list[str]) -> int:
    before = FILE.read_text(encoding="utf-8")
    after = updated(before)
    if "--check" in arguments:
        if before != after:
            print("docs/observability.md differs from the code: run scripts/telemetry_tables.py", file=sys.stderr)
        return int(before != after)
    FILE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
