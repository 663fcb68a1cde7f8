"""Measure what the library costs, next to what others cost in the same run.

    python scripts/bench.py http                  ours and other HTTP clients, about 10 minutes
    python scripts/bench.py http --full           the same with every body at every concurrency, much longer
    python scripts/bench.py overhead              our own layers above an engine
    python scripts/bench.py waiters               many tasks, few connections
    python scripts/bench.py memory                a million requests in a batch
    python scripts/bench.py import                importing
    python scripts/bench.py concurrency           tasks, scopes, streams, locks
    python scripts/bench.py sdk                   language models, and the bare SDKs of their providers
    python scripts/bench.py telemetry             spans and measurements, off and on
    python scripts/bench.py all                   all of them

Contestants take turns, round by round, so that a noisy moment hits all of them alike; the median of the rounds counts.
Read the ratios: the microseconds are those of this machine. The others are in the dependency group `bench`.
"""

import argparse
import json
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _bench import concurrency, imports, memory, overhead, sdk, waiters
from _bench.http import suite as http
from _bench.http.server import NoServer
from _bench.measure import Plan, Report


class Suite(NamedTuple):
    """What can be asked for, and how many rounds it has if nobody says."""

    measure: Callable[[Plan], Report]
    rounds: int


def _telemetry(plan: Plan) -> Report:
    from _bench import telemetry  # needs the extra `observability`

    return telemetry.measure(plan)


SUITES = {
    "http": Suite(http.measure, http.ROUNDS),
    "overhead": Suite(overhead.measure, overhead.ROUNDS),
    "waiters": Suite(waiters.measure, waiters.ROUNDS),
    "memory": Suite(memory.measure, memory.ROUNDS),
    "import": Suite(imports.measure, imports.ROUNDS),
    "concurrency": Suite(concurrency.measure, concurrency.ROUNDS),
    "sdk": Suite(sdk.measure, sdk.ROUNDS),
    "telemetry": Suite(_telemetry, 9),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run suites of measurements and print what they found."""
    parser, options = _parse(arguments)
    names = list(SUITES) if "all" in options.suites else options.suites
    reports: dict[str, Report] = {}
    for name in names:
        suite = SUITES[name]
        plan = Plan(
            rounds=1 if options.quick else options.rounds or suite.rounds,
            scale=0.01 if options.quick else 1.0,
            only=options.only,
            requests=options.requests,
            full=options.full,
        )
        try:
            reports[name] = suite.measure(plan)
        except NoServer as exc:
            parser.exit(1, f"{exc}\n")
    if not any(len(report) for report in reports.values()):
        parser.error(f"nothing in {', '.join(names)} matches {options.only!r}")
    found = json.dumps({name: report.as_dict() for name, report in reports.items()}, indent=2)
    if options.json == "-":
        print(found)
    else:
        shown = [report.markdown() if options.markdown else report.text() for report in reports.values()]
        print("\n\n".join(shown))
    if options.json not in (None, "-"):
        Path(options.json).write_text(found + "\n", encoding="utf-8")
    if any(report.failures for report in reports.values()):
        sys.exit(1)


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*SUITES, "all"]
    parser.add_argument("suites", nargs="+", choices=names, metavar="suite", help=", ".join(names))
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="JSON to a file, or instead of a table")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/performance.md")
    parser.add_argument("--quick", action="store_true", help="one short round of everything: a smoke test")
    parser.add_argument("--full", action="store_true", help="measure everything that can be measured")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of each measurement")
    parser.add_argument("--requests", type=_positive, metavar="N", help="requests of a block, or of the whole batch")
    parser.add_argument("--only", type=_expression, default="", metavar="REGEX", help="what has this in its name")
    return parser, parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {exc}") from None
    return text


def _stop(*_: object) -> None:
    sys.exit(143)


if __name__ == "__main__":
    # A server is stopped in a `finally`: see to it that there is one.
    signal.signal(signal.SIGTERM, _stop)
    main()
