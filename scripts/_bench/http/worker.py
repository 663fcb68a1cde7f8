"""One measurement in a process of its own: `python -m _bench.http.worker async JOB`."""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from time import perf_counter, process_time
from typing import Any

from .contestants import ASYNC, BLOCKING
from .work import Job, Taken, Unavailable


def main(colour: str, text: str) -> dict[str, Any]:
    """Do the job.

    Returns:
        What it took, or under `unavailable` why this contestant can't take part.
    """
    from pynector.errors import ConfigurationError

    job = Job.loads(text)
    try:
        taken = asyncio.run(_async(job)) if colour == "async" else _blocking(job)
    except (ModuleNotFoundError, ConfigurationError, Unavailable) as exc:
        return {"unavailable": str(exc).splitlines()[0]}
    return asdict(taken)


async def _async(job: Job) -> Taken:
    async with ASYNC[job.contestant](job) as block:
        await block(_warm_up(job))
        clock = Clock(job)
        while clock.runs():
            await block(job.requests)
        return clock.taken()


def _blocking(job: Job) -> Taken:
    with BLOCKING[job.contestant](job) as block:
        block(_warm_up(job))
        clock = Clock(job)
        while clock.runs():
            block(job.requests)
        return clock.taken()


def _warm_up(job: Job) -> int:
    # Every connection is open afterwards, and every module imported.
    return min(job.requests, 2 * job.concurrency)


class Clock:
    """Counts blocks until the time of a job is used up."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._blocks = -1
        self._started, self._cpu_started = perf_counter(), process_time()
        self._wall = self._cpu = 0.0

    def runs(self) -> bool:
        """Whether there is to be another block; called before each."""
        self._blocks += 1
        self._wall = perf_counter() - self._started
        self._cpu = process_time() - self._cpu_started
        return self._blocks == 0 or self._wall < self._job.seconds

    def taken(self) -> Taken:
        done = self._blocks * self._job.requests
        return Taken(self._wall / done, self._cpu / done, done)


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)
    # Not the usual way out: threads that a contestant leaves running can crash the interpreter while it finalises.
    os._exit(0)
