"""The network on trio. Imported only where trio runs already."""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from .._addresses import NEXT_AFTER, Address, Lookup, by_turns, literal, open_socket
from .._channels import torn
from ..threads._polling import is_readable
from ..threads._workers import pool
from ._connecting import connect_unix
from ._network import RETRY, TURN


class TrioChannel:
    """A connected, non-blocking socket. One task may read while another one writes."""

    __slots__ = ("_moved", "_torn", "_writing", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._moved = 0
        self._torn = False
        self._writing = False

    def __del__(self) -> None:
        # Of a client that was never closed: no warning.
        sock = getattr(self, "sock", None)
        if sock is not None:
            sock.close()

    def now(self) -> float:
        """The clock of the deadlines."""
        return trio.current_time()

    async def receive(self, max_bytes: int, deadline: float) -> bytes:
        """Receive what there is, at most `max_bytes`; empty at the end."""
        while True:
            # Waiting first: the answer is hardly ever there already, and it is the turn of the other tasks.
            if not await self._wait(trio.lowlevel.wait_readable, deadline):
                raise TimeoutError("The read operation timed out")
            with suppress(*RETRY):
                return self.sock.recv(max_bytes)

    async def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of `data`."""
        if self._writing:
            raise RuntimeError("another task is writing to this connection")
        self._writing = True
        try:
            if self._moved > TURN:
                # A peer that is always ready would keep every other task out.
                self._moved = 0
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
            if self._torn:
                raise torn()
            # Sending first: there is nearly always room.
            try:
                sent = self.sock.send(data)
            except RETRY:
                sent = 0
            self._moved += sent
            if sent < len(data):
                await self._send_rest(memoryview(data)[sent:], deadline)
        finally:
            self._writing = False

    async def _send_rest(self, view: memoryview, deadline: float) -> None:
        try:
            while view:
                if not await self._wait(trio.lowlevel.wait_writable, deadline):
                    raise TimeoutError("The write operation timed out")
                with suppress(*RETRY):
                    view = view[self.sock.send(view) :]
        except BaseException:
            self._torn = True
            raise

    async def _wait(self, ready: Callable[[socket.socket], Awaitable[None]], deadline: float) -> bool:
        if self.sock.fileno() >= 0:
            try:
                with trio.CancelScope(deadline=deadline) as scope:
                    await ready(self.sock)
            except trio.ClosedResourceError:
                pass
            except trio.BusyResourceError as error:
                raise RuntimeError("another task is waiting for this connection") from error
            else:
                return not scope.cancelled_caught
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error. True also outside of trio."""
        return not trio.lowlevel.in_trio_run() or is_readable(self.sock)

    def close(self) -> None:
        """Close the socket at once. Whoever waits for it is told so."""
        if self.sock.fileno() >= 0:
            with suppress(RuntimeError):  # trio has ended
                trio.lowlevel.notify_closing(self.sock)
            self.sock.close()


async def _resolve(host: str, port: int, deadline: float) -> list[Address]:
    if found := literal(host, port):
        return found
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()

    def tell() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    lookup = Lookup(host, port, tell)
    with trio.CancelScope(deadline=deadline):
        # Trio's own threads would not do: a few lookups that hang would take them from everybody else.
        pool.submit(lookup)
        await done.wait()
        return lookup.result()
    raise TimeoutError("The name lookup timed out")


async def _connect(address: Address, local_address: str | None) -> socket.socket:
    sock, connected = open_socket(address, local_address)
    if not connected:
        try:
            await trio.lowlevel.wait_writable(sock)
            if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
    return sock


async def _race(addresses: list[Address], local_address: str | None) -> socket.socket:
    winner: socket.socket | None = None
    failure = OSError("getaddrinfo returned no address")

    async def attempt(address: Address, failed: trio.Event) -> None:
        nonlocal winner, failure
        try:
            sock = await _connect(address, local_address)
        except OSError as error:
            failure = error
            failed.set()
            return
        if winner is None:
            winner = sock
            nursery.cancel_scope.cancel()
        else:
            sock.close()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                # The next one may start after a while, or at once if this one fails.
                with trio.move_on_after(NEXT_AFTER):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    if winner is not None:
        return winner
    try:
        raise failure
    finally:
        del failure  # its traceback refers to this frame


class TrioNetwork:
    """Connections on trio."""

    __slots__ = ()

    def now(self) -> float:
        """The clock of the deadlines."""
        return trio.current_time()

    async def connect_tcp(self, host: str, port: int, deadline: float, local_address: str | None) -> socket.socket:
        """Connect to the address of a host that answers first; the deadline is for all of them together."""
        addresses = [*by_turns(await _resolve(host, port, deadline))]
        with trio.CancelScope(deadline=deadline):
            return await _race(addresses, local_address)
        raise TimeoutError("The connect operation timed out")

    async def connect_unix(self, path: str, deadline: float) -> socket.socket:
        """Connect to a Unix domain socket."""
        return await connect_unix(self.now, path, deadline)

    def channel(self, sock: socket.socket) -> TrioChannel:
        """A channel over a socket that is connected."""
        sock.setblocking(False)
        return TrioChannel(sock)
