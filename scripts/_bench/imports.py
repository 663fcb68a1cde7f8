"""How long importing takes in a new process, and what comes with it."""

from statistics import median

from . import processes
from .measure import Plan, Row, turns
from .report import RowReport

ROUNDS = 9
LIMIT = 30e-3
HEAVY = (
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "anyio",
    "pyreqwest",
    "asyncio",
    "openai",
    "anthropic",
    "opentelemetry",
)
"""What `import pynector` must not load."""

_OURS = ("import pynector", "from pynector import AsyncPynector", "from pynector import Pynector")
_OTHERS = ("httpx", "httpx2", "aiohttp", "requests", "niquests", "pyreqwest.client")

_SCRIPT = """
import json, sys, time
started = time.perf_counter()
{statement}
taken = time.perf_counter() - started
heavy = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps([taken, heavy]))
"""


def measure(plan: Plan) -> RowReport:
    """Each import in a process that has imported nothing else."""
    statements = [*_OURS, *(f"import {name}" for name in _OTHERS)]
    taken: dict[str, list[float]] = {}
    heavy: dict[str, list[str]] = {}
    for statement in turns([each for each in statements if plan.wants(each)], plan.rounds):
        try:
            seconds, heavy[statement] = processes.run("-c", _SCRIPT.format(statement=statement, heavy=HEAVY))
        except processes.Failed:
            continue  # not installed
        taken.setdefault(statement, []).append(seconds)
    medians = {statement: median(values) for statement, values in taken.items()}
    rows = []
    for statement in _OURS:
        if statement in medians:
            first = statement == _OURS[0]
            others = {name: medians[f"import {name}"] for name in _OTHERS if first and f"import {name}" in medians}
            rows.append(
                Row(statement, {"ours": medians[statement], **others}, limit=LIMIT if first else None, unit="ms")
            )
    if _OURS[0] in medians:
        loaded = float(len(heavy[_OURS[0]]))
        rows.append(Row(f"of {', '.join(HEAVY)}, loaded by it", {"ours": loaded}, limit=0, unit="modules"))
    return RowReport("Import in a new process", rows)
