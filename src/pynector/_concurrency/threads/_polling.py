"""Waiting for a socket, in a way that a cancellation can end.

Each thread that does I/O has a wake descriptor, and every wait polls it together with the socket. Who cancels
only signals that descriptor: it never touches the socket, which may serve another request by then.
"""

import errno
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import TypeVar

from ._parking import Wakeable, current

T = TypeVar("T")
R = TypeVar("R")

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
    # Those that no wait of this thread uses just now.
    wait_poll: "_Poll | _Select | None" = None
    look_poll: "_Poll | _Select | None" = None


_local = _Local()


def _forget_descriptors() -> None:
    # A descriptor shared with the parent would let the child eat its wake-ups.
    _local.wake_fd = _local.wait_poll = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_descriptors)


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
    fd = sock.fileno()
    if fd < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    # Taken away while in use: a finaliser may wait in the middle of another wait on this thread.
    poll, _local.wait_poll = _local.wait_poll, None
    if poll is None:
        poll = _poll(_wake_fd())
    try:
        return _wait(poll.wake_fd, poll, fd, write, deadline)
    finally:
        _local.wait_poll = poll


def wait_writable(socks: Sequence[socket.socket], deadline: float) -> Sequence[socket.socket]:
    """Wait until one of several sockets can be written to.

    Args:
        socks: The sockets, all of them open.
        deadline: When to stop waiting, on the monotonic clock; `inf` for never.

    Returns:
        Those that are ready (or broken: the next operation tells); none if the deadline passed.

    Raises:
        Cancelled: The current task was cancelled while it waited.
    """
    wake_fd = _wake_fd()
    return _wait(wake_fd, partial(_select_many, wake_fd), socks, True, deadline)


def _wake_fd() -> "_EventFd | _SocketPair":
    wake_fd = _local.wake_fd
    if wake_fd is None:
        wake_fd = _local.wake_fd = WakeFd()
    return wake_fd


def _wait(wake_fd: Wakeable | None, poll: Callable[[T, bool, float], R], what: T, write: bool, deadline: float) -> R:
    task = current()
    outer = task.wake_fd
    # The order of every wait: make yourself known, look at the scopes, wait.
    task.wake_fd = wake_fd
    try:
        while True:
            limit = deadline if task.scope is None else min(task.limit(), deadline)
            left = _LONGEST_POLL if limit == inf else limit - monotonic()
            if found := poll(what, write, min(max(left, 0.0), _LONGEST_POLL)):
                return found
            if monotonic() >= deadline:
                # Nearly at the same time as a scope: then the scope it is.
                task.limit()
                return found
    finally:
        task.wake_fd = outer
        if outer is not None:
            outer.notify()


def is_readable(sock: socket.socket) -> bool:
    """True if reading from the socket would not wait: there is data, the end, or an error."""
    fd = sock.fileno()
    if fd < 0:
        return True
    poll, _local.look_poll = _local.look_poll or _poll(None), None
    ready = poll(fd, False, 0.0)
    _local.look_poll = poll
    return ready


class _Poll:
    """Waits with poll(), for one socket after the other.

    A thread keeps one, for making it costs more than the system call. What it waited for last stays registered, which
    makes the next wait for the same descriptor cheap; poll() itself remembers nothing, so a descriptor that was closed
    meanwhile, or means another socket, does no harm.
    """

    __slots__ = ("_fd", "_mask", "_poll", "wake_fd")

    def __init__(self, wake_fd: "_EventFd | _SocketPair | None") -> None:
        self.wake_fd = wake_fd
        self._poll = select.poll()
        self._fd = -1
        self._mask = 0
        if wake_fd is not None:
            self._poll.register(wake_fd.fileno(), select.POLLIN)

    def __call__(self, fd: int, write: bool, seconds: float) -> bool:
        mask = select.POLLOUT if write else select.POLLIN
        if fd != self._fd or mask != self._mask:
            self._turn_to(fd, mask)
        found = self._poll.poll(seconds * 1000)
        if not found:
            return False
        ready = False
        for number, _events in found:
            if number == fd:
                ready = True
            elif self.wake_fd is not None:
                self.wake_fd.drain()
        return ready

    def _turn_to(self, fd: int, mask: int) -> None:
        # In an order that an interrupt between two steps cannot spoil: without its mask, nothing is taken for granted.
        self._mask = 0
        if self._fd >= 0:
            with suppress(KeyError):
                self._poll.unregister(self._fd)
        self._fd = fd
        self._poll.register(fd, mask)
        self._mask = mask


class _Select:
    """The same where there is no poll(), as on Windows."""

    __slots__ = ("wake_fd",)

    def __init__(self, wake_fd: "_EventFd | _SocketPair | None") -> None:
        self.wake_fd = wake_fd

    def __call__(self, fd: int, write: bool, seconds: float) -> bool:
        fds = [fd]
        wake = [] if self.wake_fd is None else [self.wake_fd.fileno()]
        reading = wake if write else fds + wake
        writing = fds if write else []
        # A connection attempt that fails shows up in the third set only.
        readable, writable, broken = select.select(reading, writing, fds, seconds)
        if self.wake_fd is not None and wake[0] in readable:
            self.wake_fd.drain()
        return fd in (*readable, *writable, *broken)


_poll: "type[_Poll | _Select]" = _Poll if hasattr(select, "poll") else _Select

# Rather than epoll, which would need a descriptor of its own.
_Selector: "type[selectors.PollSelector | selectors.SelectSelector]" = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


def _select_many(
    wake_fd: "_EventFd | _SocketPair", socks: Sequence[socket.socket], write: bool, seconds: float
) -> list[socket.socket]:
    event = selectors.EVENT_WRITE if write else selectors.EVENT_READ
    with _Selector() as selector:
        selector.register(wake_fd.fileno(), selectors.EVENT_READ)
        for sock in socks:
            selector.register(sock, event, sock)
        ready = selector.select(seconds)
    found = [key.data for key, _ in ready if key.data is not None]
    if len(found) < len(ready):
        wake_fd.drain()
    return found
