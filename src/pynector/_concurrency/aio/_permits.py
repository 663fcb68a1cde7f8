"""Permits and their queue: what a lock and a semaphore have in common."""

from collections import deque
from dataclasses import dataclass

from anyio import Event


@dataclass(frozen=True, slots=True)
class WaitStatistics:
    """How many tasks wait for a primitive."""

    tasks_waiting: int


class Waiter:
    """One task in the queue of a primitive."""

    __slots__ = ("event", "granted", "task")

    def __init__(self, task: object) -> None:
        self.task = task
        self.event = Event()
        self.granted = False


class Permits:
    """A number of permits, handed over in the order of asking.

    anyio's own lock and semaphore go through the event loop even when free, or remember the first event loop
    they met; these do neither.
    """

    __slots__ = ("__weakref__", "_free", "_waiters")

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._waiters: deque[Waiter] = deque()

    def _granted_to(self, task: object) -> None:
        """Called with the new owner just before it learns of it."""

    def _give_back(self) -> None:
        if not self._waiters:
            self._free += 1
            return
        waiter = self._waiters.popleft()
        self._granted_to(waiter.task)
        waiter.granted = True
        waiter.event.set()

    async def _wait(self, task: object) -> None:
        """Wait for a permit."""
        waiter = Waiter(task)
        self._waiters.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.granted:
                # An event loop delivers its cancellation without fail: somebody else takes the permit.
                self._give_back()
            else:
                self._waiters.remove(waiter)
            raise

    def statistics(self) -> WaitStatistics:
        """How many tasks are waiting.

        Returns:
            A snapshot.
        """
        return WaitStatistics(len(self._waiters))
