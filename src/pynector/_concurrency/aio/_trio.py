"""The network on trio. Imported only where trio runs already."""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from ..threads._network import torn
from ..threads._polling import is_readable
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


class TrioNetwork:
    """Connections on trio."""

    __slots__ = ()

    def now(self) -> float:
        """The clock of the deadlines."""
        return trio.current_time()

    async def connect_tcp(self, host: str, port: int, deadline: float, local_address: str | None) -> socket.socket:
        """Connect to the address of a host that answers first; the deadline is for all of them together."""
        stream: trio.SocketStream | None = None
        with trio.CancelScope(deadline=deadline):
            stream = await trio.open_tcp_stream(host, port, local_address=local_address)
        if stream is None:
            raise TimeoutError("The connect operation timed out")
        return socket.socket(fileno=stream.socket.detach())

    async def connect_unix(self, path: str, deadline: float) -> socket.socket:
        """Connect to a Unix domain socket."""
        return await connect_unix(self.now, path, deadline)

    def channel(self, sock: socket.socket) -> TrioChannel:
        """A channel over a socket that is connected."""
        sock.setblocking(False)
        return TrioChannel(sock)
