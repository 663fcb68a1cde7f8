"""Byte channels over non-blocking sockets, plain and TLS, that deadlines and cancellation reach."""

import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol, TypeVar, cast

from ..._mutex import ProcessMutex
from ._parking import Task, current
from ._polling import is_readable, wait_socket
from ._workers import pool
from .clock import checkpoint, sleep
from .locks import Lock

T = TypeVar("T")

_CHUNK = 65_536
_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", -1)}


class ByteChannel(Protocol):
    """Bytes in, bytes out, by a deadline: a socket, or TLS over a channel, and so also TLS within TLS."""

    @property
    def sock(self) -> socket.socket: ...

    def receive(self, max_bytes: int, deadline: float) -> bytes: ...

    def send(self, data: bytes | memoryview, deadline: float) -> None: ...

    def pending(self) -> bool: ...


class SocketChannel:
    """A connected, non-blocking socket."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

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
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:], deadline)

    def _send_rest(self, view: memoryview, deadline: float) -> None:
        while view:
            if not wait_socket(self.sock, deadline, write=True):
                raise TimeoutError("The write operation timed out")
            with suppress(BlockingIOError, InterruptedError):
                view = view[self.sock.send(view) :]

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error."""
        return is_readable(self.sock)


class TLSChannel:
    """TLS on the client's side, over any channel. One thread may read while another one writes."""

    __slots__ = ("_flushing", "_incoming", "_lower", "_mutex", "_outgoing", "ssl_object")

    def __init__(self, lower: ByteChannel, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._lower = lower
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        # OpenSSL's object is not made for two threads at once, and the network wants the records in order.
        self._mutex = ProcessMutex()
        self._flushing = Lock()

    @property
    def sock(self) -> socket.socket:
        return self._lower.sock

    def handshake(self, deadline: float) -> None:
        self._drive(deadline, self.ssl_object.do_handshake)

    def receive(self, max_bytes: int, deadline: float) -> bytes:
        try:
            return self._drive(deadline, self.ssl_object.read, max_bytes)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # The end, polite or not, as with the standard library's sockets; HTTP knows what is missing.
            return b""

    def send(self, data: bytes | memoryview, deadline: float) -> None:
        view = memoryview(data)
        while view:
            # In pieces: all of it would be held encrypted before the first byte leaves.
            view = view[self._drive(deadline, self.ssl_object.write, view[:_CHUNK]) :]

    def pending(self) -> bool:
        """True if there is something to read: data, the end, or an error."""
        return self._incoming.pending > 0 or self.ssl_object.pending() > 0 or self._lower.pending()

    def _drive(self, deadline: float, operation: Callable[..., T], *args: Any) -> T:
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
                self._flush(deadline)
            if not wants_more:
                return cast("T", result)
            data = self._lower.receive(_CHUNK, deadline)
            with self._mutex:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
        with suppress(OSError):
            self._flush(deadline)  # the alert that tells the other side why
        try:
            raise failure
        finally:
            del failure  # its traceback refers to this frame

    def _flush(self, deadline: float) -> None:
        with self._flushing:
            if self._outgoing.pending:
                self._lower.send(self._outgoing.read(), deadline)


class _Lookup:
    """A name lookup on a worker: the call hears neither deadlines nor cancellation, so it is left behind."""

    __slots__ = ("args", "done", "error", "result", "task")

    def __init__(self, task: Task, *args: Any) -> None:
        self.task = task
        self.args = args
        self.done = False
        self.error: BaseException | None = None
        self.result: list[tuple[Any, ...]] = []

    def run(self) -> None:
        try:
            self.result = socket.getaddrinfo(*self.args)
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self.done = True
        self.task.wake()


def _resolve(host: str, port: int, deadline: float) -> list[tuple[Any, ...]]:
    try:
        return [*socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)]
    except socket.gaierror:
        pass  # a name, not an address
    task = current()
    lookup = _Lookup(task, host, port, 0, socket.SOCK_STREAM)
    pool.submit(lookup)
    while not lookup.done:
        if monotonic() >= deadline:
            raise TimeoutError("The name lookup timed out")
        task.park(deadline)
    if lookup.error is not None:
        try:
            raise lookup.error
        finally:
            del lookup
    return lookup.result


def connect_tcp(host: str, port: int, deadline: float, local_address: str | None) -> socket.socket:
    """Connect to the first address of a host that answers; the deadline is for all of them together."""
    failure = OSError("getaddrinfo returned no address")
    for family, kind, protocol, _name, address in _resolve(host, port, deadline):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            sock.setblocking(False)
            if local_address is not None:
                sock.bind((local_address, 0))
            _connect(sock, address, deadline)
        except OSError as error:
            sock.close()
            failure = error
            if monotonic() >= deadline:
                break
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # its traceback refers to this frame


def connect_unix(path: str, deadline: float) -> socket.socket:
    """Connect to a Unix domain socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _connect(sock, path, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: Any, deadline: float) -> None:
    code = sock.connect_ex(address)
    while code == errno.EAGAIN and sock.family == getattr(socket, "AF_UNIX", None):
        # The listener's queue is full, and no descriptor tells when that changes.
        if monotonic() >= deadline:
            raise TimeoutError("The connect operation timed out")
        sleep(min(0.01, deadline - monotonic()))
        code = sock.connect_ex(address)
    if code in _IN_PROGRESS:
        if not wait_socket(sock, deadline, write=True):
            raise TimeoutError("The connect operation timed out")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
