"""Making connections on asyncio: the names of hosts, and the race between their addresses."""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, zip_longest
from math import inf
from typing import Any

import anyio

from ..threads._workers import pool
from ._network import SocketChannel
from ._waiting import Wait

_NEXT_AFTER = 0.25  # seconds an address has for itself before the next one is tried as well (RFC 8305)
_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY}

_Address = tuple[Any, ...]


class _Lookup:
    """A name lookup on a daemon thread: the call hears neither deadlines nor cancellation, so it is left behind.

    The event loop's own threads would not do: it waits for them when it ends, and so does the interpreter.
    """

    __slots__ = ("_args", "_loop", "error", "result", "wait")

    def __init__(self, loop: asyncio.AbstractEventLoop, *args: Any) -> None:
        self._loop = loop
        self._args = args
        self.wait = Wait(loop)
        self.error: BaseException | None = None
        self.result: list[_Address] = []

    def run(self) -> None:
        try:
            self.result = [*socket.getaddrinfo(*self._args)]
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            self._loop.call_soon_threadsafe(self.wait.wake)


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int, deadline: float) -> list[_Address]:
    """The addresses of a host."""
    try:
        return [*socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)]
    except socket.gaierror:
        pass  # a name, not an address
    lookup = _Lookup(loop, host, port, 0, socket.SOCK_STREAM)
    future = lookup.wait.begin(deadline)
    try:
        pool.submit(lookup)
        in_time = await future
    finally:
        lookup.wait.close()
    if not in_time:
        raise TimeoutError("The name lookup timed out")
    if lookup.error is not None:
        try:
            raise lookup.error
        finally:
            del lookup
    return lookup.result


def _by_turns(addresses: list[_Address]) -> Iterable[_Address]:
    """The families in turns, each in its own order: one that leads nowhere must not keep the others waiting."""
    families: dict[int, list[_Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return (address for address in chain(*zip_longest(*families.values())) if address is not None)


class _Race:
    """Attempts to connect, side by side."""

    def __init__(self, loop: asyncio.AbstractEventLoop, local_address: str | None) -> None:
        self._loop = loop
        self._local_address = local_address
        self._wait = Wait(loop)
        self._running: dict[int, socket.socket] = {}
        self._decided: deque[socket.socket] = deque()
        self._failure = OSError("getaddrinfo returned no address")

    async def run(self, addresses: Iterable[_Address], deadline: float) -> socket.socket:
        waiting = deque(addresses)
        try:
            while waiting or self._running:
                if waiting and (winner := self._start(waiting.popleft())) is not None:
                    return winner
                next_start = self._loop.time() + _NEXT_AFTER if waiting else inf
                while self._running:
                    if not await self._until(min(deadline, next_start)):
                        if self._loop.time() < deadline:
                            break
                        raise TimeoutError("The connect operation timed out")
                    if (winner := self._result()) is not None:
                        return winner
                    if waiting:
                        break  # one has failed: no reason to wait with the next
            try:
                raise self._failure
            finally:
                del self._failure  # its traceback refers to this frame
        finally:
            self._wait.close()
            for fd, sock in self._running.items():
                self._loop.remove_writer(fd)
                sock.close()
            for sock in self._decided:
                sock.close()

    async def _until(self, time: float) -> bool:
        future = self._wait.begin(time)
        if self._decided:
            self._wait.wake()
        try:
            return await future or bool(self._decided)
        finally:
            self._wait.end()

    def _start(self, address: _Address) -> socket.socket | None:
        """Start an attempt. Gives the socket if that has succeeded already."""
        family, kind, protocol, _name, target = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            self._failure = error
            return None
        try:
            sock.setblocking(False)
            if self._local_address is not None:
                sock.bind((self._local_address, 0))
            code = sock.connect_ex(target)
            if code in _IN_PROGRESS:
                self._loop.add_writer(sock.fileno(), self._on_writable, sock)
                self._running[sock.fileno()] = sock
                return None
            if code:
                raise OSError(code, os.strerror(code))
        except OSError as error:
            sock.close()
            self._failure = error
            return None
        except BaseException:
            sock.close()
            raise
        return sock

    def _on_writable(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        del self._running[sock.fileno()]
        self._decided.append(sock)
        self._wait.wake()

    def _result(self) -> socket.socket | None:
        while self._decided:
            sock = self._decided.popleft()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return sock
            sock.close()
            self._failure = OSError(code, os.strerror(code))
        return None


async def connect_unix(now: Callable[[], float], path: str, deadline: float) -> socket.socket:
    """Connect to a Unix domain socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while (code := sock.connect_ex(path)) == errno.EAGAIN:
            # The listener's queue is full, and no descriptor tells when that changes.
            left = deadline - now()
            if left <= 0:
                raise TimeoutError("The connect operation timed out")
            await anyio.sleep(min(0.01, left))
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


class AsyncioNetwork:
    """Connections on asyncio."""

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = loop.time

    async def connect_tcp(self, host: str, port: int, deadline: float, local_address: str | None) -> socket.socket:
        """Connect to the address of a host that answers first; the deadline is for all of them together."""
        race = _Race(self._loop, local_address)
        return await race.run(_by_turns(await resolve(self._loop, host, port, deadline)), deadline)

    async def connect_unix(self, path: str, deadline: float) -> socket.socket:
        """Connect to a Unix domain socket."""
        return await connect_unix(self.now, path, deadline)

    def channel(self, sock: socket.socket) -> SocketChannel:
        """A channel over a socket that is connected."""
        return SocketChannel(sock, self._loop)
