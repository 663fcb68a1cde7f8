"""Locks, semaphores, events and conditions."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import anyio.lowlevel
from anyio import Event, WouldBlock

from ..._mutex import ProcessMutex
from ._limiter import CapacityLimiter, CapacityLimiterStatistics
from ._permits import Permits, Waiter, WaitStatistics
from .scopes import CancelScope
from .tasks import current_task

__all__ = [
    "CapacityLimiter",
    "CapacityLimiterStatistics",
    "Condition",
    "Event",
    "Lock",
    "Mutex",
    "ProcessMutex",
    "Semaphore",
    "WaitStatistics",
    "WouldBlock",
]

T = TypeVar("T")


class Mutex:
    """The short lock for plain state that every thread using one object touches.

    It may be taken again by its owner: the garbage collector can run a finaliser in the middle of a block.
    Hold it for a few plain statements only, and never across a wait. In async code, where those statements
    cannot be interrupted, it costs next to nothing.

    Example:
        ```python
        with mutex:
            table[key] = value
        ```
    """

    __slots__ = ("__weakref__",)

    def __enter__(self) -> bool:
        return True

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


class Lock(Permits):
    """A lock for one task at a time, handed over in the order of asking.

    Taking a free lock does not wait, so it is no place where a cancellation arrives. A task that holds the
    lock cannot take it again.

    Example:
        ```python
        async with lock:
            await update()
        ```
    """

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        super().__init__(1)
        self._owner: object | None = None

    def _granted_to(self, task: object) -> None:
        self._owner = task

    def acquire_nowait(self) -> None:
        """Take the lock if it is free.

        Raises:
            WouldBlock: It is not.
            RuntimeError: The current task holds it already.
        """
        task = current_task()
        if self._owner is task:
            raise RuntimeError("Attempted to acquire an already held Lock")
        if not self._free:
            raise WouldBlock
        self._free = 0
        self._owner = task

    async def acquire(self) -> None:
        """Take the lock, waiting for it if needed.

        Raises:
            RuntimeError: The current task holds it already.
        """
        try:
            self.acquire_nowait()
        except WouldBlock:
            await self._wait(current_task())

    def release(self) -> None:
        """Give the lock to the task that waits longest, or free it.

        Raises:
            RuntimeError: The current task does not hold it.
        """
        if self._owner is not current_task():
            raise RuntimeError("The current task is not holding this lock")
        self._give_back()

    def _give_back(self) -> None:
        self._owner = None
        Permits._give_back(self)

    def locked(self) -> bool:
        """True while a task holds the lock."""
        return self._owner is not None

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Semaphore(Permits):
    """A number of permits, handed over in the order of asking.

    Taking a free permit does not wait, so it is no place where a cancellation arrives.

    Args:
        initial_value: How many permits there are at first.
        max_value: More than these are never free: releasing one too many is an error. None for no limit.
    """

    __slots__ = ("_max_value",)

    def __init__(self, initial_value: int, *, max_value: int | None = None) -> None:
        if not isinstance(initial_value, int):
            raise TypeError("initial_value must be an integer")
        if initial_value < 0:
            raise ValueError("initial_value must be >= 0")
        if max_value is not None and max_value < initial_value:
            raise ValueError("max_value must be equal to or higher than initial_value")
        super().__init__(initial_value)
        self._max_value = max_value

    def acquire_nowait(self) -> None:
        """Take a permit if one is free.

        Raises:
            WouldBlock: None is.
        """
        if not self._free:
            raise WouldBlock
        self._free -= 1

    async def acquire(self) -> None:
        """Take a permit, waiting for one if needed."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(None)

    def release(self) -> None:
        """Give a permit to the task that waits longest, or free it.

        Raises:
            ValueError: That would be more than `max_value` free permits.
        """
        if self._max_value is not None and self._free >= self._max_value:
            raise ValueError("semaphore released too many times")
        self._give_back()

    @property
    def value(self) -> int:
        """How many permits are free."""
        return self._free

    @property
    def max_value(self) -> int | None:
        """More than these are never free; None for no limit."""
        return self._max_value

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Condition:
    """A lock, and a place to wait for a change of what it guards.

    Args:
        lock: The lock to use; None for one of its own.

    Example:
        ```python
        async with condition:
            await condition.wait_for(lambda: queue)
            item = queue.pop()
        ```
    """

    __slots__ = ("__weakref__", "_lock", "_waiters")

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or Lock()
        self._waiters: deque[Waiter] = deque()

    async def acquire(self) -> None:
        """Take the lock, waiting for it if needed."""
        await self._lock.acquire()

    def acquire_nowait(self) -> None:
        """Take the lock if it is free.

        Raises:
            WouldBlock: It is not.
        """
        self._lock.acquire_nowait()

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """True while a task holds the lock."""
        return self._lock.locked()

    def notify(self, n: int = 1) -> None:
        """Wake tasks that wait for a change, those that wait longest first.

        Args:
            n: How many.

        Raises:
            RuntimeError: The current task does not hold the lock.
        """
        self._check_owned()
        self._notify(n)

    def notify_all(self) -> None:
        """Wake all tasks that wait for a change.

        Raises:
            RuntimeError: The current task does not hold the lock.
        """
        self._check_owned()
        self._notify(len(self._waiters))

    def _notify(self, n: int) -> None:
        for _ in range(min(n, len(self._waiters))):
            waiter = self._waiters.popleft()
            waiter.granted = True
            waiter.event.set()

    async def wait(self) -> None:
        """Release the lock, wait to be notified, and take the lock again, also when cancelled.

        Raises:
            RuntimeError: The current task does not hold the lock.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._check_owned()
        waiter = Waiter(None)
        self._waiters.append(waiter)
        self._lock.release()
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.granted:
                self._notify(1)  # it cannot act on the notification: pass it on
            else:
                self._waiters.remove(waiter)
            raise
        finally:
            with CancelScope(shield=True):
                await self._lock.acquire()

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until a predicate holds.

        Args:
            predicate: Called with the lock held, at first and after each notification.

        Returns:
            The first true result of the predicate.
        """
        while not (result := predicate()):
            await self.wait()
        return result

    def statistics(self) -> WaitStatistics:
        """How many tasks wait for a change.

        Returns:
            A snapshot.
        """
        return WaitStatistics(len(self._waiters))

    def _check_owned(self) -> None:
        if self._lock._owner is not current_task():
            raise RuntimeError("The current task is not holding the underlying lock")

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
