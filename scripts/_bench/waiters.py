"""What a request costs when very many tasks send at once and nearly all of them wait for a connection."""

from statistics import median

from . import processes
from .http.ours import ENGINES
from .http.server import running
from .measure import Plan, Row, turns
from .report import RowReport

ROUNDS = 3
TASKS = (100, 1_000, 10_000)
CONNECTIONS = 10
PEERS = ("httpx", "httpx2")
_LONG = 60


def measure(plan: Plan) -> RowReport:
    """So many tasks over 10 connections: ours over each engine, and a client of httpx."""
    ours = [f"ours: {engine}" for engine in ENGINES]
    gone: set[str] = set()
    notes: list[str] = []
    failures: list[str] = []
    rows = []
    with running() as server:
        for tasks in TASKS:
            count = plan.count(tasks)
            name = f"{tasks:,} tasks, {CONNECTIONS} connections"
            if not plan.wants(name):
                continue
            plan.say(name)
            taken: dict[str, list[float]] = {}
            # The peers look at everybody who waits for every request: once is enough to see it.
            rounds = 1 if tasks > 1_000 else plan.rounds
            for who in turns([each for each in (*ours, *PEERS) if each not in gone], rounds):
                if who in gone:
                    continue
                try:
                    answer = processes.run(
                        "-m", "_bench.waiters_worker", who, str(count), str(CONNECTIONS), server.origin, timeout=_LONG
                    )
                except processes.Failed as exc:
                    gone.add(who)
                    (failures if who in ours else notes).append(f"{who} failed at {tasks:,} tasks: {exc}")
                    continue
                if (why := answer.get("unavailable")) is not None:
                    gone.add(who)
                    notes.append(f"{who} is left out: {why}")
                    continue
                taken.setdefault(who, []).append(answer["seconds"])
            if ours[0] in taken:
                rows.append(Row(name, {who: median(values) for who, values in taken.items()}))
    return RowReport("Many tasks, few connections, time for one request", rows, notes, failures)
