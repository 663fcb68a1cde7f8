"""Blocking calls of a foreign library, in a way that a cancellation can end.

Such a call waits where no thread of ours can be woken. But it ends at once when somebody closes the client it was made
with, from any thread. So each has a client to itself as long as it lasts, and who cancels closes that one. This may
happen in a finaliser or a signal handler, so it takes no lock, and it may come late: one token decides between the end
of the call and whoever wants to end it, or a client might be closed that serves another call by then.
"""

import threading
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, TypeVar

from .._foreign import Closable
from ._exceptions import Cancelled
from ._parking import ScopeLink, current, expire

T = TypeVar("T")


class Calls:
    """The clients of a foreign library that no call uses just now.

    Args:
        build: Makes one more.
    """

    __slots__ = ("_build", "_closed", "_main", "_spare")

    def __init__(self, build: Callable[[], Closable]) -> None:
        self._build = build
        self._spare: list[Closable] = []
        self._closed = False
        self._main = threading.main_thread().ident

    def begin(self) -> "Call | None":
        """Get a client for one call; None where it would keep Ctrl-C out."""
        if get_ident() == self._main:
            return None
        try:
            # The one used last: its connection is the least likely to have been closed meanwhile.
            client = self._spare.pop()
        except IndexError:
            client = self._build()
        return Call(self, client)

    def keep(self, client: Closable) -> None:
        """Have a client for later calls."""
        self._spare.append(client)
        if self._closed:
            self._spare.clear()

    def close(self) -> None:
        """Let go of the clients; those in use go with their calls."""
        self._closed = True
        self._spare.clear()


class Call:
    """One call, and its client.

    Attributes:
        client: The client, of the foreign library.
    """

    __slots__ = ("_alarm", "_calls", "_intact", "_running", "_scope", "_told", "_unwatched", "client")

    def __init__(self, calls: Calls, client: Any) -> None:
        self.client: Any = client
        self._calls = calls
        # Each holds one token, for whoever pops it.
        self._running = [None]
        self._unwatched = [None]
        self._alarm: Any = None
        self._intact = False
        self._scope: ScopeLink | None = None
        self._told = inf

    def run(self, function: Callable[[], T], deadline: float) -> T:
        """Make the call.

        Args:
            function: A call of the client that its `close` ends.
            deadline: The effective deadline that the function itself was told.

        Raises:
            Cancelled: The current task was cancelled meanwhile.
        """
        task = current()
        self._scope = task.scope
        self._told = deadline
        outer = task.wake_fd
        # The order of every wait: make yourself known, look at the scopes, wait.
        task.wake_fd = self
        try:
            if task.limit() < deadline:
                self._watch()
            return function()
        except BaseException as exc:
            mine = self._take()
            # A client is closed when nobody has it any more, and a traceback of this may be kept.
            self.client = None
            if mine or not isinstance(exc, Exception):
                raise
            raise Cancelled from None
        finally:
            del function
            task.wake_fd = outer
            self._intact = self._take()
            if self._alarm is not None:
                self._ring()
            if outer is not None:
                outer.notify()

    def keep(self) -> None:
        """Leave the client to later calls. Without this it is thrown away."""
        if self._intact:
            self._calls.keep(self.client)

    def notify(self) -> None:
        """Look at the scopes again, from any thread."""
        if self._running and self._look() < self._told:
            self._watch()

    def _look(self) -> float:
        """End the call if it is cancelled; the nearest deadline else."""
        nearest = inf
        scope = self._scope
        while scope is not None:
            if scope._cancelled:
                self._end()
                return inf
            if scope._deadline < nearest:
                nearest = scope._deadline
            if scope._shielded:
                break
            scope = scope._parent
        if nearest != inf and nearest <= (now := monotonic()):
            # Marked first: a deadline that is moved now must not leave the task with an error of the client's.
            expire(self._scope, now)
            self._end()
            return inf
        return nearest

    def _end(self) -> None:
        client = self.client
        if self._take():
            client.close()

    def _take(self) -> bool:
        try:
            self._running.pop()
        except IndexError:
            return False
        return True

    # Deadlines that came nearer: the call does not know, so a thread looks at the clock.

    def _watch(self) -> None:
        try:
            self._unwatched.pop()
        except IndexError:
            self._ring()
            return
        alarm = allocate_lock()
        alarm.acquire()
        self._alarm = alarm
        # Not one of `threading`, whose start takes locks.
        with suppress(RuntimeError):  # no thread to be had: the deadline of before stays
            start_new_thread(self._watch_clock, (alarm,))

    def _ring(self) -> None:
        # None: the watcher is about to start, and looks first.
        if self._alarm is not None:
            with suppress(RuntimeError):  # it rings already
                self._alarm.release()

    def _watch_clock(self, alarm: Any) -> None:
        while self._running:
            nearest = self._look()
            if self._running:
                alarm.acquire(True, -1 if nearest == inf else min(max(nearest - monotonic(), 0), threading.TIMEOUT_MAX))
