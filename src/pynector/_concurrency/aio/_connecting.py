"""Making connections on asyncio: the names of hosts, and the race between their addresses."""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

import anyio

from .._addresses import NEXT_AFTER, Address, Lookup, by_turns, literal, open_socket
from ..threads._workers import pool
from ._network import SocketChannel
from ._waiting import Wait


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int, deadline: float) -> list[Address]:
    """The addresses of a host."""
    if found := literal(host, port):
        return found
    wait = Wait(loop)

    def tell() -> None:
        with suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(wait.wake)

    lookup = Lookup(host, port, tell)
    future = wait.begin(deadline)
    try:
        # The event loop's own threads would not do: it waits for them when it ends, and so does the interpreter.
        pool.submit(lookup)
        in_time = await future
    finally:
        wait.close()
    if not in_time:
        raise TimeoutError("The name lookup timed out")
    return lookup.result()


class _Race:
    """Attempts to connect, side by side."""

    def __init__(self, loop: asyncio.AbstractEventLoop, local_address: str | None) -> None:
        self._loop = loop
        self._local_address = local_address
        self._wait = Wait(loop)
        self._running: dict[int, socket.socket] = {}
        self._decided: deque[socket.socket] = deque()
        self._failure = OSError("getaddrinfo returned no address")

    async def run(self, addresses: Iterable[Address], deadline: float) -> socket.socket:
        waiting = deque(addresses)
        try:
            while waiting or self._running:
                if waiting:
                    try:
                        sock, connected = open_socket(waiting.popleft(), self._local_address)
                    except OSError as error:
                        self._failure = error
                        continue
                    if connected:
                        return sock
                    self._watch(sock)
                # Until the next one may start. It starts at once if one fails.
                limit = min(deadline, self._loop.time() + NEXT_AFTER) if waiting else deadline
                if await self._until(limit):
                    if (winner := self._result()) is not None:
                        return winner
                elif self._loop.time() >= deadline:
                    raise TimeoutError("The connect operation timed out")
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

    def _watch(self, sock: socket.socket) -> None:
        self._running[sock.fileno()] = sock
        self._loop.add_writer(sock.fileno(), self._on_writable, sock)

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
        return await race.run(by_turns(await resolve(self._loop, host, port, deadline)), deadline)

    async def connect_unix(self, path: str, deadline: float) -> socket.socket:
        """Connect to a Unix domain socket."""
        return await connect_unix(self.now, path, deadline)

    def channel(self, sock: socket.socket) -> SocketChannel:
        """A channel over a socket that is connected."""
        return SocketChannel(sock, self._loop)
