"""Contestants take turns against one server, round by round; the medians count."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from .. import processes
from ..measure import Plan, turns
from .contestants import COLOURS, LABELS, PACKAGES
from .figures import Figure, Key
from .goals import GOALS
from .report import HttpReport
from .server import Server, running
from .work import WORKLOADS, Job, Taken

ROUNDS = 3
REQUESTS = 2000
SECONDS = 0.5

CONCURRENCY = {"async": (1, 8, 64, 256), "blocking": (1, 8, 32, 64)}
"""How many requests at once."""

_SOME = ("GET 10 KB", "GET 1 MB", "POST 100 B")
_USUAL = {"async": 64, "blocking": 32}
_LARGE = 8
# What is measured besides small answers if not everything is, and how many at once; large answers are fewer.


@dataclass(frozen=True, slots=True)
class Case:
    """What contestants are compared in."""

    colour: str
    workload: str
    concurrency: int

    def name(self, contestant: str) -> str:
        return f"{self.colour}, {self.workload}, C={self.concurrency}, {contestant}"


def cases(full: bool) -> Iterator[Case]:
    """By default small answers at every concurrency, and a few other requests at one; else everything."""
    for colour in COLOURS:
        for workload, concurrency in itertools.product(WORKLOADS, CONCURRENCY[colour]):
            usual = _LARGE if "MB" in workload else _USUAL[colour]
            if full or workload == "GET 100 B" or (workload in _SOME and concurrency == usual):
                yield Case(colour, workload, concurrency)


def measure(plan: Plan) -> HttpReport:
    """Start a server and let everybody run against it."""
    wanted = {
        case: labels
        for case in cases(plan.full)
        if (labels := [label for label in LABELS[case.colour] if plan.wants(case.name(label))])
    }
    figures: dict[Key, Figure] = {}
    notes: list[str] = []
    failures: dict[str, str] = {}
    with running() as server:
        present = _present(wanted, server, plan, notes, failures)
        for number, (case, labels) in enumerate(wanted.items(), 1):
            plan.say(f"{number}/{len(wanted)}: {case.colour}, {case.workload}, {case.concurrency} at once")
            runners = [label for label in labels if (case.colour, label) in present]
            for label, taken in _run(case, runners, server, plan, failures).items():
                figures[Key(case.colour, case.workload, case.concurrency, label)] = Figure(
                    median(each.wall for each in taken), median(each.cpu for each in taken), len(taken)
                )
    machine = {**processes.machine(PACKAGES), "server": server.version}
    return HttpReport(figures, GOALS, machine, notes, [f"{name} failed: {why}" for name, why in failures.items()])


def _present(
    wanted: dict[Case, list[str]], server: Server, plan: Plan, notes: list[str], failures: dict[str, str]
) -> set[tuple[str, str]]:
    """Who can take part, by colour and label: each is asked for one request."""
    present = set()
    for colour, label in dict.fromkeys((case.colour, label) for case, labels in wanted.items() for label in labels):
        job = Job(label, "GET 100 B", concurrency=1, requests=1, seconds=0, origin=server.origin)
        try:
            why = processes.run("-m", "_bench.http.worker", colour, job.dumps()).get("unavailable")
        except processes.Failed as exc:
            failures[f"{colour}, {label}"] = why = str(exc)
        else:
            if why is not None:
                notes.append(f"{label} ({colour}) is left out: {why}")
        if why is None:
            present.add((colour, label))
        else:
            plan.say(f"{label} ({colour}) is left out: {why}")
    return present


def _run(case: Case, labels: list[str], server: Server, plan: Plan, failures: dict[str, str]) -> dict[str, list[Taken]]:
    share = WORKLOADS[case.workload].share
    # So many that those which find no other left at the end of a block do not weigh.
    requests = max(round((plan.requests or REQUESTS) * share), round(8 * case.concurrency * min(1.0, share * 4)))
    requests = max(1, round(requests * plan.scale))
    taken: dict[str, list[Taken]] = {}
    for label in turns(labels, plan.rounds):
        name = case.name(label)
        if name in failures:
            continue
        job = Job(label, case.workload, case.concurrency, requests, SECONDS * plan.scale, server.origin)
        try:
            answer = processes.run("-m", "_bench.http.worker", case.colour, job.dumps())
        except processes.Failed as exc:
            plan.say(f"{name} failed: {exc}")
            failures[name] = str(exc)
            taken.pop(label, None)
            continue
        taken.setdefault(label, []).append(Taken(**answer))
    return taken
