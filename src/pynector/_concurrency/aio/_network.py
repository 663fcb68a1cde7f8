"""Byte channels: over non-blocking sockets on asyncio, and TLS over any, that deadlines and cancellation reach.

No transport of asyncio stands between: what is not asked for stays in the kernel, so nothing is buffered here
and a cancelled read loses nothing; a write is over when the kernel has all of it; closing is one call that
closes, on any event loop and on none.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

from .._channels import CHUNK, read_more, torn
from ..threads._polling import is_readable
from ._waiting import Wait
from .locks import Lock

T = TypeVar("T")

# What one connection may do before other tasks have their turn: bytes that it moves, and seconds in which it is read
# from. The second is for what takes long to make sense of, such as a body in chunks of one byte.
TURN = 1_048_576
TURN_TIME = 0.02
RETRY = (BlockingIOError, InterruptedError)


class ByteChannel(Protocol):
    """Bytes in, bytes out, by a deadline: a socket, or TLS over a channel, and so also TLS within TLS."""

    @property
    def sock(self) -> socket.socket: ...

    def now(self) -> float: ...

    async def receive(self, max_bytes: int, deadline: float) -> bytes: ...

    async def send(self, data: bytes | memoryview, deadline: float) -> None: ...

    def pending(self) -> bool: ...

    def close(self) -> None: ...


class SocketChannel:
    """A connected, non-blocking socket. One task may read while another one writes.

    The event loop watches for input from the first read on: taking the socket out of its set after every read and
    back in for the next one would cost two system calls a request. So it also tells when there is input that nobody
    asked for; that is left in the kernel, and the watch ends until the next read that has to wait.
    """

    __slots__ = (
        "_arrived",
        "_fd",
        "_loop",
        "_moved",
        "_pid",
        "_reading",
        "_ready",
        "_torn",
        "_turn_ends",
        "_wanted",
        "_watched",
        "_writing",
        "sock",
    )

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.sock = sock
        self._fd = sock.fileno()
        self._loop = loop
        self._pid = os.getpid()
        self._reading = Wait(loop)
        self._writing = Wait(loop)
        # What was received for a read, and not fetched yet: a cancellation may come between. Empty at the end.
        self._arrived: bytes | OSError | None = None
        self._wanted = 0
        self._watched = False
        self._ready = False  # maybe there is more in the kernel: try that before waiting
        self._torn = False
        self._moved = 0
        self._turn_ends = 0.0

    def __del__(self) -> None:
        # Of a client that was never closed: no warning.
        sock = getattr(self, "sock", None)
        if sock is not None:
            sock.close()

    def now(self) -> float:
        """The clock of the deadlines."""
        return self._loop.time()

    async def receive(self, max_bytes: int, deadline: float) -> bytes:
        """Receive what there is, at most `max_bytes`; empty at the end."""
        if self._arrived is None and self._ready:
            # In one go, as long as there is something: the event loop would only say so again.
            await self._take_turns(max_bytes)
            self._ready = False
            self._receive(max_bytes)
        while (data := self._arrived) is None:
            self._watch()
            future = self._reading.begin(deadline)
            self._wanted = max_bytes
            try:
                in_time = await future
            finally:
                self._reading.end()
            self._moved = 0
            self._turn_ends = 0.0
            if not in_time and self._arrived is None:
                raise TimeoutError("The read operation timed out")
        if not data:
            return b""  # and so for ever
        if isinstance(data, OSError):
            self._arrived = None
            try:
                raise data
            finally:
                del data  # its traceback refers to this frame
        if len(data) <= max_bytes:
            self._arrived = None
            return data
        # Received for a read that asked for more, and was cancelled.
        self._arrived = data[max_bytes:]
        return data[:max_bytes]

    async def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of `data`."""
        if self._moved:
            await self._take_turns(0)
        if self._writing.future is not None:
            raise RuntimeError("another task is writing to this connection")
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

    async def _send_rest(self, view: memoryview, deadline: float) -> None:
        fd = self._open_fd()
        wait = self._writing
        try:
            while view:
                future = wait.begin(deadline)
                try:
                    self._loop.add_writer(fd, wait.wake)
                    in_time = await future
                finally:
                    wait.end()
                    # Once closed, the number may belong to somebody else.
                    if self._fd == fd:
                        self._loop.remove_writer(fd)
                self._moved = 0
                self._turn_ends = 0.0
                with suppress(*RETRY):
                    view = view[self.sock.send(view) :]
                    continue
                if not in_time:
                    raise TimeoutError("The write operation timed out")
        except BaseException:
            self._torn = True
            raise

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error. True also on another event loop."""
        if self._arrived is not None:
            return True
        try:
            if self._loop is not asyncio.get_running_loop():
                return True
        except RuntimeError:
            return True
        # The event loop may not have looked since a peer that closes has said so.
        return is_readable(self.sock)

    def close(self) -> None:
        """Close the socket at once. Whoever waits for it is told so."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        self._arrived = OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            # A forked child has the event loop's set of watched sockets in common with its parent.
            if self._pid == os.getpid():
                if self._watched:
                    self._loop.remove_reader(fd)
                if self._writing.future is not None:
                    self._loop.remove_writer(fd)
        finally:
            self._watched = False
            self.sock.close()
            if not self._loop.is_closed():
                self._reading.close()
                self._writing.close()

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._fd

    async def _take_turns(self, size: int) -> None:
        # A peer that is always ready would keep every other task out, and a cancellation too.
        self._moved += size
        now = self._loop.time()
        if not self._turn_ends:
            self._turn_ends = now + TURN_TIME
        elif self._moved > TURN or now > self._turn_ends:
            self._moved = 0
            self._turn_ends = 0.0
            await asyncio.sleep(0)

    def _watch(self) -> None:
        if not self._watched:
            self._loop.add_reader(self._open_fd(), self._on_readable)
            self._watched = True

    def _unwatch(self) -> None:
        self._watched = False
        self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        future = self._reading.future
        if future is None or future.done():
            # Nobody asks for it. It stays where it is, or a slow reader would fill the memory.
            self._unwatch()
            self._ready = True
            return
        self._receive(self._wanted)
        if self._arrived is not None:
            future.set_result(True)

    def _receive(self, max_bytes: int) -> None:
        try:
            data = self.sock.recv(max_bytes)
        except RETRY:
            return
        except OSError as error:
            self._arrived = error
        else:
            self._arrived = data
            if len(data) == max_bytes:
                self._ready = True
            if data:
                return
        # The end would be reported for ever.
        if self._watched:
            self._unwatch()


class TLSChannel:
    """TLS on the client's side, over any channel. One task may read while another one writes."""

    __slots__ = ("_flushing", "_incoming", "_lower", "_outgoing", "_torn", "ssl_object")

    def __init__(self, lower: ByteChannel, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._lower = lower
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # The network wants the records in order.
        self._flushing = Lock()
        self._torn = False

    @property
    def sock(self) -> socket.socket:
        return self._lower.sock

    def now(self) -> float:
        """The clock of the deadlines."""
        return self._lower.now()

    async def handshake(self, deadline: float) -> None:
        """Agree with the other side on how to speak."""
        await self._drive(deadline, False, self.ssl_object.do_handshake)

    async def receive(self, max_bytes: int, deadline: float) -> bytes:
        """Receive what there is, at most `max_bytes`; empty at the end."""
        try:
            data = await self._drive(deadline, False, self.ssl_object.read, max_bytes)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # The end, polite or not, as with the standard library's sockets; HTTP knows what is missing.
            return b""
        if self._incoming.pending and data:
            return read_more(self.ssl_object, self._incoming, data, max_bytes)
        return data

    async def send(self, data: bytes | memoryview, deadline: float) -> None:
        """Send all of `data`."""
        if self._torn:
            raise torn()
        if len(data) <= CHUNK:
            await self._drive(deadline, True, self.ssl_object.write, data)
            return
        view = memoryview(data)
        while view:
            # In pieces: all of it would be held encrypted before the first byte leaves.
            view = view[await self._drive(deadline, True, self.ssl_object.write, view[:CHUNK]) :]

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error."""
        return self._incoming.pending > 0 or self.ssl_object.pending() > 0 or self._lower.pending()

    def close(self) -> None:
        """Close the socket at once. Whoever waits for it is told so."""
        self._lower.close()

    async def _drive(self, deadline: float, writing: bool, operation: Callable[..., T], *args: Any) -> T:
        """Run a step of TLS, moving bytes below it as often as it asks for them."""
        while True:
            wants_more = False
            result: T | None = None
            before = self._outgoing.pending
            try:
                result = operation(*args)
            except ssl.SSLWantReadError:
                wants_more = True
            except ssl.SSLError as error:
                failure = error
                break
            # Only what this step made: a reader must not get stuck in sending what a writer has to say.
            if self._outgoing.pending > before:
                await self._flush(deadline, writing)
            if not wants_more:
                return cast("T", result)
            data = await self._lower.receive(CHUNK, deadline)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
        with suppress(OSError):
            await self._flush(deadline, writing)  # the alert that tells the other side why
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    async def _flush(self, deadline: float, writing: bool) -> None:
        # Looked at again after each turn: a reader leaves what it has to say to a writer that is at it, for it must
        # go on reading, or both sides could wait for each other.
        while self._outgoing.pending and (writing or not self._flushing.locked()):
            async with self._flushing:
                if data := self._outgoing.read():
                    try:
                        await self._lower.send(data, deadline)
                    except BaseException:
                        self._torn = True
                        raise
