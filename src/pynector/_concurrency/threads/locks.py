"""Locks, semaphores, events and conditions.

`Lock` and `Semaphore` hold no lock of their own: permits and waiters sit in two deques, whose single
operations are atomic. So a finaliser or a signal handler that runs in the middle of one cannot deadlock it.
"""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from ..._mutex import ProcessMutex
from ._exceptions import WouldBlock
from ._limiter import CapacityLimiter, CapacityLimiterStatistics
from ._parking import Task, Waiter, current, withdraw
from ._permits import Permits, WaitStatistics
from .scopes import CancelScope

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


class Mutex(ProcessMutex):  # type: ignore[misc] # typeshed calls its base final; it is not
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

    __slots__ = ()


class Lock(Permits):
    """A lock for one task at a time, handed over in the order of asking.

    Taking a free lock does not wait, so it is no place where a cancellation arrives. A task that holds the
    lock cannot take it again.

    Example:
        ```python
        with lock:
            update()
        ```
    """

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        super().__init__(1)
        self._owner: Task | None = None

    def _granted_to(self, task: Task) -> None:
        self._owner = task

    def acquire_nowait(self) -> None:
        """Take the lock if it is free.

        Raises:
            WouldBlock: It is not.
            RuntimeError: The current task holds it already.
        """
        task = current()
        if self._owner is task:
            raise RuntimeError("Attempted to acquire an already held Lock")
        if self._waiters:
            raise WouldBlock
        try:
            self._free.pop()
        except IndexError:
            raise WouldBlock from None
        self._owner = task

    def acquire(self) -> None:
        """Take the lock, waiting for it if needed.

        Raises:
            RuntimeError: The current task holds it already.
        """
        task = current()
        if not self._waiters:
            try:
                self._free.pop()
            except IndexError:
                pass
            else:
                self._owner = task
                return
        if self._owner is task:
            raise RuntimeError("Attempted to acquire an already held Lock")
        self._wait(task)

    def release(self) -> None:
        """Give the lock to the task that waits longest, or free it.

        Raises:
            RuntimeError: The current task does not hold it.
        """
        if self._owner is not current():
            raise RuntimeError("The current task is not holding this lock")
        self._owner = None
        self._free.append(None)
        if self._waiters:
            self._dispatch()

    def _give_back(self) -> None:
        self._owner = None
        Permits._give_back(self)

    def locked(self) -> bool:
        """True while a task holds the lock."""
        return self._owner is not None

    # The same function, and below the same lines again: a call more is a fifth of what a free lock costs.
    __enter__ = acquire

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owner is not current():
            raise RuntimeError("The current task is not holding this lock")
        self._owner = None
        self._free.append(None)
        if self._waiters:
            self._dispatch()


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
        if self._waiters:
            raise WouldBlock
        try:
            self._free.pop()
        except IndexError:
            raise WouldBlock from None

    def acquire(self) -> None:
        """Take a permit, waiting for one if needed."""
        if not self._waiters:
            try:
                self._free.pop()
            except IndexError:
                pass
            else:
                return
        self._wait(current())

    def release(self) -> None:
        """Give a permit to the task that waits longest, or free it.

        Raises:
            ValueError: That would be more than `max_value` free permits.
        """
        if self._max_value is not None and len(self._free) >= self._max_value:
            raise ValueError("semaphore released too many times")
        self._free.append(None)
        if self._waiters:
            self._dispatch()

    @property
    def value(self) -> int:
        """How many permits are free."""
        return len(self._free)

    @property
    def max_value(self) -> int | None:
        """More than these are never free; None for no limit."""
        return self._max_value

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Event:
    """A flag that tasks can wait for. It is set once; make a new one instead of clearing it."""

    __slots__ = ("__weakref__", "_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: deque[Waiter] = deque()

    def set(self) -> None:
        """Set the flag and wake everyone. Takes no lock, so finalisers and signal handlers may call it."""
        self._set = True
        waiters = self._waiters
        while waiters:
            try:
                waiters.popleft().task.wake()
            except IndexError:
                return

    def is_set(self) -> bool:
        """True once the flag is set."""
        return self._set

    def wait(self) -> None:
        """Wait until the flag is set."""
        task = current()
        if self._set:
            task.limit()
            return
        waiter = Waiter(task)
        self._waiters.append(waiter)
        task.waits += 1
        try:
            while not self._set:
                task.park()
        finally:
            withdraw(self._waiters, waiter)
            task.pass_on()

    def statistics(self) -> WaitStatistics:
        """How many tasks are waiting.

        Returns:
            A snapshot.
        """
        return WaitStatistics(len(self._waiters))


class Condition:
    """A lock, and a place to wait for a change of what it guards.

    Args:
        lock: The lock to use; None for one of its own.

    Example:
        ```python
        with condition:
            condition.wait_for(lambda: queue)
            item = queue.pop()
        ```
    """

    __slots__ = ("__weakref__", "_lock", "_waiters")

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or Lock()
        self._waiters: deque[Waiter] = deque()

    def acquire(self) -> None:
        """Take the lock, waiting for it if needed."""
        self._lock.acquire()

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
        for _ in range(n):
            try:
                waiter = self._waiters.popleft()
            except IndexError:
                return
            waiter.granted = True
            waiter.task.wake()

    def wait(self) -> None:
        """Release the lock, wait to be notified, and take the lock again, also when cancelled.

        Raises:
            RuntimeError: The current task does not hold the lock.
        """
        task = current()
        task.limit()
        self._check_owned()
        waiter = Waiter(task)
        self._waiters.append(waiter)
        self._lock.release()
        try:
            waiter.wait()
        except BaseException:
            if not withdraw(self._waiters, waiter) and waiter.settle():
                self._notify(1)  # it cannot act on the notification: pass it on
            raise
        finally:
            with CancelScope(shield=True):
                self._lock.acquire()

    def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until a predicate holds.

        Args:
            predicate: Called with the lock held, at first and after each notification.

        Returns:
            The first true result of the predicate.
        """
        while not (result := predicate()):
            self.wait()
        return result

    def statistics(self) -> WaitStatistics:
        """How many tasks wait for a change.

        Returns:
            A snapshot.
        """
        return WaitStatistics(len(self._waiters))

    def _check_owned(self) -> None:
        if self._lock._owner is not current():
            raise RuntimeError("The current task is not holding the underlying lock")

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
