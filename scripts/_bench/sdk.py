"""What asking a language model costs: ours, and the SDK of its provider doing the same calls on its own."""

from statistics import median

from . import processes
from .http.server import running
from .measure import Plan, Row, turns
from .report import RowReport

ROUNDS = 5
COUNT = 1_000
LIMIT = 64
GOAL = 1.1


def measure(plan: Plan) -> RowReport:
    """The same completions, 64 at a time, by a client of ours and by the bare SDK, in both colours."""
    notes: list[str] = []
    failures: list[str] = []
    rows = []
    count = plan.count(plan.requests or COUNT)
    with running() as server:
        for provider in ("openai", "anthropic"):
            for colour in ("async", "blocking"):
                name = f"{colour}: {provider}, C={LIMIT}"
                if not plan.wants(name):
                    continue
                plan.say(name)
                taken: dict[str, list[float]] = {}
                for who in turns(["ours", "bare SDK", "ours: pyreqwest"], plan.rounds):
                    asked = (who, provider, colour, str(count), str(LIMIT), server.origin)
                    try:
                        answer = processes.run("-m", "_bench.sdk_worker", *asked, timeout=120)
                    except processes.Failed as exc:
                        failures.append(f"{name}, {who}: {exc}")
                        continue
                    if (why := answer.get("unavailable")) is not None:
                        if why not in notes:
                            notes.append(why)
                        continue
                    taken.setdefault(who, []).append(answer["seconds"])
                if "ours" in taken:
                    values = {who: median(seconds) for who, seconds in taken.items()}
                    rows.append(Row(name, values, goal={"bare SDK": GOAL}))
    return RowReport("Completions, time for one", rows, notes, failures)
