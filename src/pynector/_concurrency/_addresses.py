"""The addresses of hosts, and the first step to one of them: what both colours have in common."""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any, Final

NEXT_AFTER: Final = 0.25
"""Seconds an address has for itself before the next one is tried as well (RFC 8305)."""

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", -1)}

Address = tuple[Any, ...]
"""As `getaddrinfo` describes one."""


class Lookup:
    """A name lookup, for a daemon thread: the call hears neither deadlines nor cancellation, so it is left behind.

    Args:
        host: The name.
        port: The port.
        tell: Called on that thread when it is done.

    Attributes:
        done: Whether there is a result.
    """

    __slots__ = ("_error", "_found", "_host", "_port", "_tell", "done")

    def __init__(self, host: str, port: int, tell: Callable[[], object]) -> None:
        self._host = host
        self._port = port
        self._tell = tell
        self._found: list[Address] = []
        self._error: BaseException | None = None
        self.done = False

    def run(self) -> None:
        """Look it up."""
        try:
            self._found = [*socket.getaddrinfo(self._host, self._port, 0, socket.SOCK_STREAM)]
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        """Tell that it is done."""
        self.done = True
        self._tell()

    def result(self) -> list[Address]:
        """The addresses.

        Raises:
            OSError: There are none.
        """
        # Its traceback refers to this object, and to this frame.
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._found


def literal(host: str, port: int) -> list[Address]:
    """The addresses of a host that is written as one; empty for a name."""
    try:
        return [*socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)]
    except socket.gaierror:
        return []


def by_turns(addresses: Iterable[Address]) -> Iterable[Address]:
    """The families in turns, each in its own order: one that leads nowhere must not keep the others waiting."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return (address for address in chain(*zip_longest(*families.values())) if address is not None)


def open_socket(address: Address, local_address: str | None) -> tuple[socket.socket, bool]:
    """Start to connect to an address.

    Returns:
        The socket, and whether it is connected already.

    Raises:
        OSError: This address leads nowhere.
    """
    family, kind, protocol, _name, target = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if local_address is not None:
            sock.bind((local_address, 0))
        code = sock.connect_ex(target)
        if code and code not in _IN_PROGRESS:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock, not code
