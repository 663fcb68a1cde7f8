"""How much memory grows while very many requests go through a batch whose outcomes are consumed and dropped."""

from collections.abc import Iterator
from contextlib import ExitStack

from . import processes
from .http.ours import ENGINES
from .http.server import NoServer, running
from .measure import Plan, Row
from .report import RowReport

ROUNDS = 1
COUNT = 1_000_000
LIMIT = 30e6
_WORKER = "_bench.memory_worker"
SLOW = 10
"""Over sockets, but for the fastest engine, a share of the requests has to do."""


def measure(plan: Plan) -> RowReport:
    """Without sockets in both colours, then over each engine."""
    notes: list[str] = []
    failures: list[str] = []
    with ExitStack() as stack:
        rows = [*_rows(plan, stack, notes, failures)]
    return RowReport("Growth of the peak memory, requests made lazily, outcomes dropped", rows, notes, failures)


def _rows(plan: Plan, stack: ExitStack, notes: list[str], failures: list[str]) -> Iterator[Row]:
    origin: str | None = None
    for colour in ("async", "blocking"):
        for engine in ("none", *ENGINES):
            count = plan.count(plan.requests or COUNT)
            if engine not in ("none", "pyreqwest") and not plan.full:
                count = max(2, count // SLOW)
            if colour == "blocking" and engine != "none" and not plan.full:
                continue
            name = f"{colour}: {count:,} requests, engine {engine}"
            if not plan.wants(name):
                continue
            if engine != "none" and origin is None:
                try:
                    origin = stack.enter_context(running()).origin
                except NoServer as exc:
                    notes.append(str(exc))
                    return
            plan.say(name)
            try:
                answer = processes.run("-m", _WORKER, colour, engine, str(count), origin or "", timeout=3600)
            except processes.Failed as exc:
                failures.append(f"{name} failed: {exc}")
                continue
            if (why := answer.get("unavailable")) is not None:
                notes.append(f"{name} is left out: {why}")
                continue
            yield Row(name, {"ours": answer["growth"]}, limit=LIMIT, unit="MB")
