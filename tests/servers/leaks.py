"""What a test has left behind in this process."""

import contextlib
import os
import socket
import threading
import time

from pynector._concurrency.threads._polling import wait_socket


class LeakCheck:
    """Remembers what is open now, to tell later what came since and is still there.

    Looks at threads named `pynector-...` and, if there is a /proc, at sockets, pipes and event descriptors.
    """

    def __init__(self) -> None:
        # A thread that does blocking I/O has a wake descriptor as long as it lives: get this thread's first.
        with contextlib.closing(socket.socket()) as idle:
            wait_socket(idle, time.monotonic())
        self._before = _everything()

    def left(self) -> list[str]:
        """Return what is open now and was not before."""
        return sorted(_everything() - self._before)

    def wait(self, timeout: float) -> list[str]:
        """Return what is still left when `timeout` seconds have passed; at once when nothing is."""
        deadline = time.monotonic() + timeout
        while (left := self.left()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return [entry + _ends(entry) for entry in left]


def _ends(entry: str) -> str:
    """Return the two addresses of a socket, which tell whose it is."""
    if "-> socket:" in entry:
        number = int(entry.split()[1])
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            return f" ({copy.getsockname()} to {copy.getpeername()})"
    return ""


def _everything() -> set[str]:
    threads = (thread for thread in threading.enumerate() if thread.name.startswith("pynector-"))
    return _descriptors() | {f"thread {thread.name} ({thread.ident})" for thread in threads}


def _descriptors() -> set[str]:
    found: set[str] = set()
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # closed since, as the one of listdir itself
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:[event")):
            found.add(f"descriptor {number} -> {target}")
    return found
