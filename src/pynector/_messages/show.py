"""How a summary looks: as text, as a table of rich, and as HTML with a histogram."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import log
from typing import Final, Protocol

from .histogram import Bar
from .report import Summary

_WIDTH: Final = 600
_HEIGHT: Final = 120
_LEAST: Final = 1e-6
"""Where a logarithmic scale begins at the latest."""

_FIGURE: Final = "display:block;max-width:100%;font:12px sans-serif"
_CELL: Final = "text-align:left;vertical-align:top;padding:2px 16px 2px 0;background:none"
# It has enough contrast on white and on black, as has the colour of the text, which is the page's own.
_BLUE: Final = "#4a86c8"


class Failed(Protocol):
    """What is shown of an item without an answer; `Outcome` has it."""

    @property
    def index(self) -> int: ...
    @property
    def key(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def error(self) -> Exception | None: ...


def lines(summary: Summary) -> list[tuple[str, str]]:
    """The figures as pairs of a name and a text."""
    counts = {
        "ok": summary.ok,
        "failed": summary.failed,
        "not sent": summary.not_sent,
        "unknown": summary.unknown,
    }
    latencies = {
        "p50": summary.latency_p50,
        "p95": summary.latency_p95,
        "p99": summary.latency_p99,
        "max": summary.latency_max,
    }
    shown = [
        ("items", f"{summary.total} in {summary.elapsed:.2f} s ({summary.throughput:.1f}/s)"),
        ("outcomes", ", ".join(f"{count} {name}" for name, count in counts.items())),
        ("retries", f"{summary.retries} for {summary.retried} items"),
        ("latency", ", ".join(f"{name} {duration(seconds)}" for name, seconds in latencies.items())),
    ]
    if summary.status_codes:
        shown.append(("statuses", _times({code or "other": n for code, n in summary.status_codes.items()})))
    if summary.error_types:
        shown.append(("errors", _times(summary.error_types)))
    if any(count and source != "network" for source, count in summary.sources.items()):
        shown.append(("sources", ", ".join(f"{count} {source}" for source, count in summary.sources.items())))
    if summary.usage is not None:
        shown.append(("tokens", f"{summary.usage.input_tokens} in, {summary.usage.output_tokens} out"))
    return shown


def text(summary: Summary) -> str:
    """A block of plain text."""
    return "\n".join(f"{name:<12}{figures}" for name, figures in lines(summary))


def rich_table(summary: Summary) -> object:
    """A table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, figures in lines(summary):
        # As text: in a plain string rich would take what is in brackets for its markup.
        table.add_row(name, Text(figures))
    return table


def html(summary: Summary) -> str:
    """A table, and the histogram of the latencies."""
    rows = (_row(name, figures) for name, figures in lines(summary))
    return f"<div>{_table(rows)}{svg(summary)}</div>"


def html_of_batch(summary: Summary, failed: Iterable[Failed], left_out: int) -> str:
    """The summary of a batch, and some of what failed.

    Args:
        summary: The figures.
        failed: The outcomes to show.
        left_out: How many more failed.
    """
    rows = [
        _row(
            f"{each.index}" if each.key is None else f"{each.index} {each.key:.80}",
            each.state.replace("_", " "),
            f"{each.attempts}",
            f"{type(each.error).__name__}: {each.error!s:.300}",
        )
        for each in failed
    ]
    if not rows:
        return html(summary)
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in ("item", "state", "attempts", "error"))
    more = f"<p>and {left_out} more without an answer</p>" if left_out else ""
    return f"<div>{html(summary)}{_table([f'<tr>{head}</tr>', *rows])}{more}</div>"


def svg(summary: Summary) -> str:
    """The histogram as a picture that needs nothing else; empty if nothing was sent."""
    bars = summary.latency_histogram
    if not bars:
        return ""
    width, tallest = _WIDTH / len(bars), max(bar.count for bar in bars)
    drawn = "".join(_bar(bar, at * width, width, tallest) for at, bar in enumerate(bars) if bar.count)
    marks = "".join(
        _mark(name, _place(seconds, bars))
        for name, seconds in (("p50", summary.latency_p50), ("p95", summary.latency_p95))
    )
    bottom = _HEIGHT + 36
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="latencies" width="{_WIDTH}" '
        f'viewBox="0 0 {_WIDTH} {bottom + 6}" style="{_FIGURE}" fill="currentColor">'
        f"{drawn}{marks}"
        f'<line x1="0" y1="{_HEIGHT + 16}" x2="{_WIDTH}" y2="{_HEIGHT + 16}" stroke="currentColor"/>'
        f'<text x="0" y="{bottom}">{duration(bars[0].low)}</text>'
        f'<text x="{_WIDTH / 2:g}" y="{bottom}" text-anchor="middle">latency, logarithmic</text>'
        f'<text x="{_WIDTH}" y="{bottom}" text-anchor="end">{duration(bars[-1].high)}</text></svg>'
    )


def duration(seconds: float) -> str:
    """A duration for people."""
    if seconds >= 10:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 or not seconds else f"{seconds * 1000:.2g} ms"


def _bar(bar: Bar, left: float, width: float, tallest: int) -> str:
    height = max(1.0, _HEIGHT * bar.count / tallest)
    what = f"{bar.count} from {duration(bar.low)} to {duration(bar.high)}"
    return (
        f'<rect x="{left:.1f}" y="{_HEIGHT + 16 - height:.1f}" width="{width * 0.92:.1f}" height="{height:.1f}" '
        f'fill="{_BLUE}"><title>{what}</title></rect>'
    )


def _mark(name: str, x: float) -> str:
    anchor = "end" if x > _WIDTH / 2 else "start"
    return (
        f'<line x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{_HEIGHT + 16}" stroke="currentColor" stroke-dasharray="3 3"/>'
        f'<text x="{x + (-4 if anchor == "end" else 4):.1f}" y="10" text-anchor="{anchor}">{name}</text>'
    )


def _place(seconds: float, bars: Sequence[Bar]) -> float:
    """Where a duration stands: within its bar on the logarithmic scale."""
    width = _WIDTH / len(bars)
    at = next((at for at, bar in enumerate(bars) if seconds <= bar.high), len(bars) - 1)
    low, high = max(bars[at].low, _LEAST), max(bars[at].high, _LEAST)
    within = log(min(max(seconds, low), high) / low) / log(high / low) if high > low else 0.5
    return (at + within) * width


def _table(rows: Iterable[str]) -> str:
    return f'<table style="border-collapse:collapse">{"".join(rows)}</table>'


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td style={chr(34)}{_CELL}{chr(34)}>{escape(cell)}</td>' for cell in cells)}</tr>"


def _times(counts: Mapping[int | str, int] | Mapping[str, int]) -> str:
    return ", ".join(f"{name} x {count}" for name, count in counts.items())
