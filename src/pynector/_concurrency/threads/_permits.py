"""Permits and their queue: what a lock and a semaphore have in common."""

from collections import deque
from dataclasses import dataclass

from ._exceptions import Cancelled
from ._parking import Task, Waiter, withdraw


@dataclass(frozen=True, slots=True)
class WaitStatistics:
    """How many tasks wait for a primitive."""

    tasks_waiting: int


class Permits:
    """A number of permits, handed over in the order of asking.

    A permit is always in `_free`, with its owner, or in the hands of `_dispatch`. Who adds a permit or a
    waiter looks at the other side afterwards, so the later of the two sees both, and none waits beside a free
    permit.
    """

    __slots__ = ("__weakref__", "_free", "_waiters")

    def __init__(self, permits: int) -> None:
        self._free: deque[None] = deque([None] * permits)
        self._waiters: deque[Waiter] = deque()

    def _granted_to(self, task: Task) -> None:
        """Called with the new owner just before it learns of it."""

    def _give_back(self) -> None:
        self._free.append(None)
        if self._waiters:
            self._dispatch()

    def _dispatch(self) -> None:
        """Hand free permits to waiting tasks."""
        free, waiters = self._free, self._waiters
        while waiters:
            try:
                free.pop()
            except IndexError:
                return
            try:
                waiter = waiters.popleft()
            except IndexError:
                free.append(None)
                continue  # a task may have come to wait while the permit was out
            self._granted_to(waiter.task)
            waiter.granted = True
            waiter.task.wake()

    def _wait(self, task: Task) -> None:
        """Wait for a permit."""
        waiter = Waiter(task)
        self._waiters.append(waiter)
        try:
            self._dispatch()
            waiter.wait()
        except BaseException as error:
            if withdraw(self._waiters, waiter) or not waiter.settle():
                raise
            if not isinstance(error, Cancelled):
                self._give_back()
                raise
            # The permit came first; the cancellation comes with the next wait.

    def statistics(self) -> WaitStatistics:
        """How many tasks are waiting.

        Returns:
            A snapshot.
        """
        return WaitStatistics(len(self._waiters))
