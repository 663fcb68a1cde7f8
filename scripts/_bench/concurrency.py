"""What structured concurrency costs: ours against anyio, and against the standard library for threads."""

from . import concurrency_async, concurrency_threads
from .measure import Plan
from .report import RowReport

ROUNDS = 9


def measure(plan: Plan) -> RowReport:
    """Measure both colours."""
    rows = [*concurrency_threads.rows(plan), *concurrency_async.rows(plan)]
    return RowReport("Structured concurrency, time for one operation", rows)
