"""What structured concurrency costs: ours against anyio, and against the standard library for threads."""

from collections.abc import Iterator

from . import concurrency_async, concurrency_threads
from .measure import Plan, Row


def rows(plan: Plan) -> Iterator[Row]:
    """Measure both colours."""
    yield from concurrency_threads.rows(plan)
    yield from concurrency_async.rows(plan)
