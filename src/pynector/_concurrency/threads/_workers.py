"""Threads for tasks: daemons, reused, gone after a short idle time, forgotten in a forked child.

One queue for all workers, and one token in `idle` for each worker that is not promised a job. Who starts a
task takes a token and knows that somebody will come for the job; without a token left it starts a thread. So
every task runs at once, no group can starve another, and a burst costs far less than a mailbox per worker.
"""

import os
import threading
from _queue import Empty, SimpleQueue
from collections import deque
from itertools import count
from typing import Protocol

IDLE_SECONDS = 1.0
"""How long a worker without work stays."""


class Job(Protocol):
    """What a worker runs. It must not raise."""

    def run(self) -> None: ...

    def finish(self) -> None: ...


class _Pool:
    """The workers of this process."""

    def __init__(self) -> None:
        self.reset()
        # Not there on Windows.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        self.idle: deque[None] = deque()
        self.numbers = count(1)
        # Groups opened before a fork have tasks that do not exist in the child.
        self.generation = object()

    def submit(self, job: Job) -> None:
        """Run a job on a worker, starting one if none is free.

        Raises:
            RuntimeError: The system has no thread left to give.
        """
        try:
            self.idle.pop()
        except IndexError:
            threading.Thread(
                target=_work,
                args=(self.jobs, self.idle),
                name=f"pynector-worker-{next(self.numbers)}",
                daemon=True,
            ).start()
        self.jobs.put(job)


def _work(jobs: "SimpleQueue[Job]", idle: "deque[None]") -> None:
    while True:
        try:
            job = jobs.get(timeout=IDLE_SECONDS)
        except Empty:
            try:
                idle.pop()
            except IndexError:
                continue  # every token is taken: a job is on its way for this worker
            return
        job.run()
        # The token first: whoever learns that the job is done must find this worker free, or each of a
        # thousand groups one after the other would start a thread.
        idle.append(None)
        job.finish()
        # Nothing of a finished job may live on in an idle thread.
        del job


pool = _Pool()
