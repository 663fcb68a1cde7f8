"""Waiting for a socket, in a way that a cancellation can end.

Each thread that does I/O has a wake descriptor, and every wait polls it together with the socket. Who cancels
only signals that descriptor: it never touches the socket, which may serve another request by then.
"""

import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic

from ._parking import Task, current

_LONGEST_POLL = 86_400.0  # well below what poll() can count in milliseconds


class _EventFd:
    """A wake descriptor of one kernel object.

    Closed when the last reference goes: a canceller that still holds one never writes to a descriptor that
    means something else by now.
    """

    __slots__ = ("__weakref__", "_fd")

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._fd

    def notify(self) -> None:
        os.eventfd_write(self._fd, 1)

    def drain(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound early: at the end of the interpreter the module may be gone.
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            close(fd)


class _SocketPair:
    """A wake descriptor for systems without eventfd. The sockets close themselves with the last reference."""

    __slots__ = ("__weakref__", "_receiver", "_sender")

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def fileno(self) -> int:
        return self._receiver.fileno()

    def notify(self) -> None:
        with suppress(BlockingIOError):  # full of wake-ups already
            self._sender.send(b"!")

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while len(self._receiver.recv(4096)) == 4096:
                pass

    def __del__(self) -> None:
        for end in (getattr(self, "_receiver", None), getattr(self, "_sender", None)):
            if end is not None:
                end.close()


WakeFd = _EventFd if hasattr(os, "eventfd") else _SocketPair


class _Local(threading.local):
    wake_fd: "_EventFd | _SocketPair | None" = None


_local = _Local()


def _forget_wake_fd() -> None:
    # A descriptor shared with the parent would let the child eat its wake-ups.
    _local.wake_fd = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_wake_fd)


def wait_socket(sock: socket.socket, deadline: float, *, write: bool = False) -> bool:
    """Wait until a socket can be read from or written to.

    Args:
        sock: The socket.
        deadline: When to stop waiting, on the monotonic clock; `inf` for never.
        write: Wait until it can be written to.

    Returns:
        True if it is ready (or broken: the next operation tells), False if the deadline passed.

    Raises:
        Cancelled: The current task was cancelled while it waited.
        OSError: The socket is closed.
    """
    task = current()
    wake_fd = _local.wake_fd
    if wake_fd is None:
        wake_fd = _local.wake_fd = WakeFd()
    # A finaliser may wait in the middle of another wait on this thread.
    outer = task.wake_fd
    # The order of every wait: make yourself known, look at the scopes, wait.
    task.wake_fd = wake_fd
    try:
        return _wait(task, sock, wake_fd, deadline, write)
    finally:
        task.wake_fd = outer
        if outer is not None:
            outer.notify()


def _wait(task: Task, sock: socket.socket, wake_fd: "_EventFd | _SocketPair", deadline: float, write: bool) -> bool:
    fd = sock.fileno()
    if fd < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    poll = _poll(fd, wake_fd.fileno(), write)
    while True:
        limit = min(task.limit(), deadline)
        left = _LONGEST_POLL if limit == inf else limit - monotonic()
        ready, woken = poll(min(max(left, 0.0), _LONGEST_POLL))
        if woken:
            wake_fd.drain()
        if ready:
            return True
        if monotonic() >= deadline:
            # Nearly at the same time as a scope: then the scope it is.
            task.limit()
            return False


def is_readable(sock: socket.socket) -> bool:
    """True if reading from the socket would not wait: there is data, the end, or an error."""
    fd = sock.fileno()
    return fd < 0 or _poll(fd, None, False)(0.0)[0]


class _Poll:
    """One wait with poll()."""

    __slots__ = ("_fd", "_poll")

    def __init__(self, fd: int, wake_fd: int | None, write: bool) -> None:
        self._fd = fd
        self._poll = poll = select.poll()
        poll.register(fd, select.POLLOUT if write else select.POLLIN)
        if wake_fd is not None:
            poll.register(wake_fd, select.POLLIN)

    def __call__(self, seconds: float) -> tuple[bool, bool]:
        ready = woken = False
        for fd, _events in self._poll.poll(seconds * 1000):
            if fd == self._fd:
                ready = True
            else:
                woken = True
        return ready, woken


class _Select:
    """The same where there is no poll(), as on Windows."""

    __slots__ = ("_fd", "_wake", "_write")

    def __init__(self, fd: int, wake_fd: int | None, write: bool) -> None:
        self._fd = fd
        self._wake = [] if wake_fd is None else [wake_fd]
        self._write = write

    def __call__(self, seconds: float) -> tuple[bool, bool]:
        fds = [self._fd]
        reading = self._wake if self._write else fds + self._wake
        writing = fds if self._write else []
        # A connection attempt that fails shows up in the third set only.
        readable, writable, broken = select.select(reading, writing, fds, seconds)
        return self._fd in (*readable, *writable, *broken), any(fd != self._fd for fd in readable)


_poll: "type[_Poll | _Select]" = _Poll if hasattr(select, "poll") else _Select
