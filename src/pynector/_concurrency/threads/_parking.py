"""Where a thread waits, and how it is woken.

Every blocking call of this package ends in `Task.park`. The order of its steps carries the whole design: a
waiter makes itself known *first*, looks at its cancel scopes *then*, and waits *last*; who cancels sets the
flag first and wakes afterwards. So no wake-up is lost, without a lock held anywhere, and that in turn lets
`cancel()` and `Event.set()` run in finalisers and signal handlers. Wake-ups may be spurious: every primitive
asks its own condition again, and decides who won.
"""

import os
import threading
from _thread import allocate_lock
from collections import deque
from math import inf
from time import monotonic
from typing import Protocol, TypeVar

from ._exceptions import Cancelled

T = TypeVar("T")

# On Windows a wait on a lock cannot be interrupted by Ctrl-C, so the main thread looks up now and then.
_SLICE = 0.05 if os.name == "nt" else None


class ScopeLink:
    """One link of the chain from a task's innermost cancel scope outwards, as a wait reads it."""

    __slots__ = ("_cancelled", "_deadline", "_parent", "_shielded")

    _cancelled: bool
    _deadline: float
    _parent: "ScopeLink | None"
    _shielded: bool


class Hosted(Protocol):
    """A task group, as seen by whoever wakes the tasks below a scope."""

    _tasks: "dict[Task, None]"


class Wakeable(Protocol):
    """Something besides the lock that ends a task's wait: the wake descriptor of a socket wait."""

    def notify(self) -> None: ...


class Task:
    """What runs on one thread from start to end: a function in a task group, or a thread that is not ours."""

    __slots__ = ("__weakref__", "grace", "groups", "name", "parker", "scope", "starting", "waits", "wake_fd")

    def __init__(self, name: str, scope: ScopeLink | None) -> None:
        self.name = name
        self.scope = scope
        # Held but for the moment between a wake-up and the wait it ends: to wake is to release it.
        self.parker = allocate_lock()
        self.parker.acquire()
        self.wake_fd: Wakeable | None = None
        # How many waits of this task are under way: more than one when a finaliser waits inside another.
        self.waits = 0
        # Replaced as a whole by this task and never changed in place: others read it without a lock.
        self.groups: tuple[Hosted, ...] = ()
        self.starting: Task | None = None
        # The interrupt this task is leaving on, and when it stops waiting for tasks that do not end.
        self.grace: tuple[BaseException, float] | None = None

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    def wake(self) -> None:
        """End the current wait of this task, or its next one. Takes no lock, from any thread."""
        try:  # noqa: SIM105 - contextlib.suppress costs more than the whole wake-up
            self.parker.release()
        except RuntimeError:
            pass  # a wake-up is pending already
        wake_fd = self.wake_fd
        if wake_fd is not None:
            wake_fd.notify()

    def pass_on(self) -> None:
        """End a wait that counted itself in `waits`.

        A finaliser may wait in the middle of another wait on this thread, and get the wake-up that was meant for that
        one: here it gives it back. An interrupt may leave the count too high, which only costs a look around in vain.
        """
        self.waits -= 1
        if self.waits:
            self.wake()

    def hold(self, timeout: float) -> None:
        """Wait for a wake-up for `timeout` seconds (`inf`: for ever), whatever the scopes say."""
        if timeout == inf:
            self.parker.acquire()
        elif timeout > 0:
            self.parker.acquire(True, min(timeout, threading.TIMEOUT_MAX))

    def park(self, until: float = inf) -> None:
        """Wait for a wake-up, for the time `until`, or for a deadline, whatever comes first.

        Raises:
            Cancelled: A scope around this task is cancelled, or its deadline has passed.
        """
        limit = min(self.limit(), until)
        self.hold(limit if limit == inf else limit - monotonic())

    def limit(self) -> float:
        """The nearest deadline of the scopes around this task.

        Raises:
            Cancelled: One of them is cancelled, or its deadline has passed.
        """
        nearest = inf
        scope = self.scope
        while scope is not None:
            if scope._cancelled:
                raise Cancelled
            if scope._deadline < nearest:
                nearest = scope._deadline
            if scope._shielded:
                break
            scope = scope._parent
        if nearest != inf and nearest <= (now := monotonic()):
            expire(self.scope, now)
            raise Cancelled
        return nearest


class _SlicedTask(Task):
    """The main thread where a wait on a lock keeps Ctrl-C out."""

    __slots__ = ()

    def hold(self, timeout: float) -> None:
        Task.hold(self, min(timeout, _SLICE or timeout))


class Waiter:
    """One task in the queue of a primitive."""

    __slots__ = ("granted", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.granted = False

    def wait(self) -> None:
        """Wait for the grant.

        Raises:
            Cancelled: A scope around the task is cancelled, or its deadline has passed.
        """
        task = self.task
        task.waits += 1
        try:
            while not self.granted:
                task.park()
        finally:
            task.pass_on()

    def settle(self) -> bool:
        """Wait for a grant on its way after the waiter left the queue; False if it never comes.

        Whoever takes a waiter out of the queue grants a few instructions later, unless an interrupt hits
        just between. So this wait is short, and it ends.
        """
        give_up = monotonic() + 0.1
        self.task.waits += 1
        while not self.granted and (left := give_up - monotonic()) > 0:
            self.task.hold(left)
        self.task.pass_on()
        return self.granted


class _Local(threading.local):
    task: Task


_local = _Local()


def current() -> Task:
    """The task that runs on this thread. A thread that is not ours becomes one, for its whole life."""
    try:
        return _local.task
    except AttributeError:
        thread = threading.current_thread()
        sliced = _SLICE is not None and thread is threading.main_thread()
        task = _local.task = (_SlicedTask if sliced else Task)(thread.name, None)
        return task


def adopt(task: Task) -> None:
    """Make `task` the one that runs on this thread."""
    _local.task = task


def disown() -> None:
    """Forget which task runs on this thread."""
    del _local.task


def chain_cancelled(scope: ScopeLink | None) -> bool:
    """True if this scope or one around it, up to a shield, is cancelled."""
    while scope is not None:
        if scope._cancelled:
            return True
        if scope._shielded:
            return False
        scope = scope._parent
    return False


def expire(scope: ScopeLink | None, now: float) -> None:
    """Mark the scopes whose deadline has passed, from this one outwards.

    No timer watches deadlines: whoever waits finds out, and marks them for everyone else.
    """
    while scope is not None:
        if scope._deadline <= now:
            scope._cancelled = True
        if scope._shielded:
            break
        scope = scope._parent


def wake_below(host: Task, *, everyone: bool = False) -> None:
    """Wake the cancelled tasks among `host` and the tasks below it, or (`everyone`) all of them."""
    pending = [host]
    while pending:
        task = pending.pop()
        if everyone or chain_cancelled(task.scope):
            task.wake()
        starting = task.starting
        if starting is not None:
            pending.append(starting)
        for group in task.groups:
            # One C call: a consistent copy, although tasks come and go meanwhile.
            pending.extend(list(group._tasks))


def withdraw(queue: "deque[T]", entry: T) -> bool:
    """Take an entry out of a queue; False if somebody else did so first."""
    try:
        queue.remove(entry)
    except ValueError:
        return False
    return True
