"""Byte channels over non-blocking sockets, plain and TLS, that deadlines and cancellation reach."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar, cast

from ..._mutex import ProcessMutex
from .._channels import CHUNK, read_more, torn
from ._polling import is_readable, wait_socket
from .clock import checkpoint
from .locks import Lock

T = TypeVar("T")


class ByteChannel(Protocol):
    """Bytes in, bytes out, by a deadline: a socket, or TLS over a channel, and so also TLS within TLS."""

    @property
    def sock(self) -> socket.socket: ...

    def receive(self, max_bytes: int, deadline: float) -> bytes: ...

    def send(self, data: bytes | memoryview, deadline: float) -> None: ...

    def pending(self) -> bool: ...


class SocketChannel:
    """A connected, non-blocking socket."""

    __slots__ = ("_torn", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._torn = False

    def __del__(self) -> None:
        # Of a client that was never closed: no warning, and no lock.
        sock = getattr(self, "sock", None)
        if sock is not None:
            sock.close()

    def receive(self, max_bytes: int, deadline: float) -> bytes:
        # Waiting first: the answer is hardly ever there already.
        while wait_socket(self.sock, deadline):
            try:
                return self.sock.recv(max_bytes)
            except (BlockingIOError, InterruptedError):
                continue
        raise TimeoutError("The read operation timed out")

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        # Sending first: there is nearly always room.
        checkpoint()
        if self._torn:
            raise torn()
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:], deadline)

    def _send_rest(self, view: memoryview, deadline: float) -> None:
        try:
            while view:
                if not wait_socket(self.sock, deadline, write=True):
                    raise TimeoutError("The write operation timed out")
                with suppress(BlockingIOError, InterruptedError):
                    view = view[self.sock.send(view) :]
        except BaseException:
            self._torn = True
            raise

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error."""
        return is_readable(self.sock)


class TLSChannel:
    """TLS on the client's side, over any channel. One thread may read while another one writes."""

    __slots__ = ("_flushing", "_incoming", "_lower", "_mutex", "_outgoing", "_torn", "ssl_object")

    def __init__(self, lower: ByteChannel, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._lower = lower
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # OpenSSL's object is not made for two threads at once, and the network wants the records in order.
        self._mutex = ProcessMutex()
        self._flushing = Lock()
        self._torn = False

    @property
    def sock(self) -> socket.socket:
        return self._lower.sock

    def handshake(self, deadline: float) -> None:
        self._drive(deadline, False, self.ssl_object.do_handshake)

    def receive(self, max_bytes: int, deadline: float) -> bytes:
        try:
            data = self._drive(deadline, False, self.ssl_object.read, max_bytes)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # The end, polite or not, as with the standard library's sockets; HTTP knows what is missing.
            return b""
        if self._incoming.pending and data:
            with self._mutex:
                return read_more(self.ssl_object, self._incoming, data, max_bytes)
        return data

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        if self._torn:
            raise torn()
        view = memoryview(data)
        while view:
            # In pieces: all of it would be held encrypted before the first byte leaves.
            view = view[self._drive(deadline, True, self.ssl_object.write, view[:CHUNK]) :]

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error."""
        return self._incoming.pending > 0 or self.ssl_object.pending() > 0 or self._lower.pending()

    def _drive(self, deadline: float, writing: bool, operation: Callable[..., T], *args: Any) -> T:
        """Run a step of TLS, moving bytes below it as often as it asks for them."""
        while True:
            wants_more = False
            result: T | None = None
            with self._mutex:
                before = self._outgoing.pending
                try:
                    result = operation(*args)
                except ssl.SSLWantReadError:
                    wants_more = True
                except ssl.SSLError as error:
                    failure = error
                    break
                # Only what this step made: a reader must not get stuck in sending what a writer has to say.
                produced = self._outgoing.pending > before
            if produced:
                self._flush(deadline, writing)
            if not wants_more:
                return cast("T", result)
            data = self._lower.receive(CHUNK, deadline)
            with self._mutex:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
        with suppress(OSError):
            self._flush(deadline, writing)  # the alert that tells the other side why
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    def _flush(self, deadline: float, writing: bool) -> None:
        # Looked at again after each turn: a reader leaves what it has to say to a writer that is at it, for it must
        # go on reading, or both sides could wait for each other.
        while self._outgoing.pending and (writing or not self._flushing.locked()):
            with self._flushing:
                with self._mutex:  # a step counts what it adds
                    data = self._outgoing.read()
                if data:
                    try:
                        self._lower.send(data, deadline)
                    except BaseException:
                        self._torn = True
                        raise
