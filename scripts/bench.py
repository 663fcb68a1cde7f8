"""Measure what the library costs, next to what others cost in the same run.

    python scripts/bench.py concurrency            a table
    python scripts/bench.py concurrency --json     the same for a program
    python scripts/bench.py concurrency --quick    a smoke test; its numbers mean nothing

Contestants take turns, round by round, so that a noisy moment hits all of them alike; the median of the rounds counts.
Read the ratios: the microseconds are those of this machine.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _bench import concurrency
from _bench.measure import Plan, Row, table

SUITES = {"concurrency": concurrency.rows}


def main() -> None:
    """Run one suite of measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds per measurement (default: 9)")
    parser.add_argument("--only", metavar="TEXT", default="", help="only the measurements whose name contains TEXT")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    plan = Plan(rounds=1 if options.quick else options.rounds, scale=0.01 if options.quick else 1.0, only=options.only)
    rows: list[Row] = list(SUITES[options.suite](plan))
    if not rows:
        parser.error(f"nothing in {options.suite} is called {options.only!r}")
    print(json.dumps([row.as_dict() for row in rows], indent=2) if options.json else table(rows))


if __name__ == "__main__":
    main()
