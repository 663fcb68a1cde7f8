"""What the demo shows: a table for people, JSON for programs."""

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._version import __version__
from .demo import Comparison, Run

_LINES: Final = 5
"""How many differences and failures are shown; the first ones tell what is wrong."""


def show(comparison: Comparison, console: Console) -> None:
    """Print the table and the verdict."""
    plan = comparison.plan
    headline = f"{plan.requests:,} requests per client, {plan.concurrency:,} at once; one in ten fails at first"
    console.print()
    console.print(Text(headline, style="bold"))
    console.print()
    table = _table(comparison)
    if console.measure(table, options=console.options.update_width(1_000)).maximum > console.width:
        # Large figures: one space between the columns is enough, a client's name in two lines is not readable.
        table.padding = 0
    console.print(table)
    console.print()
    for line in _problems(comparison):
        console.print(Text(line, style="red"), soft_wrap=True)
    console.print(_verdict(comparison, mark=not console.options.ascii_only))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return all of it as values that `json` can write; times are in the units that the names end with."""
    return {
        "version": __version__,
        "requests": comparison.plan.requests,
        "concurrency": comparison.plan.concurrency,
        "clients": [_client(run) for run in comparison.runs],
        "identical": not comparison.differences,
        "differences": comparison.differences[:_LINES],
        "failures": comparison.failures[:_LINES],
    }


def _table(comparison: Comparison) -> Table:
    table = Table(
        caption="p50, p95, p99: latency in ms, with all waits and retries",
        caption_style="dim",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        border_style="dim",
        header_style="bold cyan",
        # Two spaces between the columns and no frame.
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("client", style="bold", no_wrap=True)
    for name in ("requests", "ok", "retried", "failed", "req/s", "p50", "p95", "p99", "stream"):
        # A number that does not fit is folded: with a digit cut off it would be a wrong one.
        table.add_column(name, justify="right", overflow="fold")
    for run in comparison.runs:
        table.add_row(*_row(run))
    return table


def _row(run: Run) -> list[Text | str]:
    summary = run.summary
    failed = summary.total - summary.ok
    return [
        run.client,
        f"{summary.total:,}",
        Text(f"{summary.ok:,}", style="green"),
        Text(f"{summary.retried:,}", style="yellow" if summary.retried else ""),
        Text(f"{failed:,}", style="bold red" if failed else ""),
        f"{summary.throughput:,.0f}",
        f"{summary.latency_p50 * 1000:,.0f}",
        f"{summary.latency_p95 * 1000:,.0f}",
        f"{summary.latency_p99 * 1000:,.0f}",
        Text(f"{run.stream.size / 1e6:,.1f} MB", style="bold red" if run.stream.error else ""),
    ]


def _problems(comparison: Comparison) -> list[str]:
    lines: list[str] = []
    for found in (comparison.failures, comparison.differences):
        lines += found[:_LINES]
        if len(found) > _LINES:
            lines.append(f"... and {len(found) - _LINES:,} more")
    return lines


def _verdict(comparison: Comparison, *, mark: bool) -> Text:
    good = False
    if comparison.differences:
        text = "The two clients got different answers."
    elif comparison.failures:
        text = "Both clients got identical answers, but something failed."
    else:
        text, good = "Both clients got identical answers, byte for byte.", True
    sign = ("✓ " if good else "✗ ") if mark else ""
    return Text(f"{sign}{text}", style="bold green" if good else "bold red")


def _client(run: Run) -> dict[str, Any]:
    summary = run.summary
    return {
        "client": run.client,
        "requests": summary.total,
        "ok": summary.ok,
        "retried": summary.retried,
        "retries": summary.retries,
        "failed": summary.total - summary.ok,
        "seconds": round(summary.elapsed, 4),
        "requests_per_second": round(summary.throughput, 1),
        "latency_ms": {
            "p50": round(summary.latency_p50 * 1000, 2),
            "p95": round(summary.latency_p95 * 1000, 2),
            "p99": round(summary.latency_p99 * 1000, 2),
            "max": round(summary.latency_max * 1000, 2),
        },
        "status_codes": {str(status): count for status, count in summary.status_codes.items()},
        "stream": {"bytes": run.stream.size, "sha256": run.stream.sha256},
    }
