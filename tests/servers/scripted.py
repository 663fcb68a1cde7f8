"""A server that does, byte for byte, what a test's script says.

Example:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nhalf")
        conn.close()

    with ScriptedServer(script) as server:
        ...
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

TIMEOUT = 10.0
"""Longest wait of a script for the client, in seconds; a test that hangs fails here."""


class _Stopped(Exception):
    """The server was left while the script waited."""


class Connection:
    """The server's end of one connection, for its script.

    Args:
        sock: The accepted socket.
        wake: A socket that becomes readable when the server stops.
        number: Number of the connection, from 0.
        record: Called with every request read.
    """

    def __init__(self, sock: socket.socket, wake: socket.socket, number: int, record: Callable[[bytes], None]) -> None:
        self._sock = sock
        self._wake = wake
        self._record = record
        self._received = bytearray()
        self._eof = False
        self.number = number
        self.requests: list[bytes] = []

    @property
    def closed(self) -> bool:
        """Whether this end has been closed."""
        return self._sock.fileno() < 0

    def read_request(self) -> bytes:
        """Return the next request as it came: head and body, the body still in its transfer encoding.

        Raises:
            EOFError: The client closed the connection before a whole request.
            TimeoutError: Nothing came for `TIMEOUT` seconds.
        """
        end = self._fill_to(b"\r\n\r\n") + 4
        head = bytes(self._received[:end]).lower()
        if b"\r\ntransfer-encoding: chunked" in head:
            while True:
                line_end = self._fill_to(b"\r\n", end)
                size = int(self._received[end:line_end].partition(b";")[0], 16)
                end = line_end + 2 + size + 2
                self._fill(end)
                if not size:
                    break
        else:
            _, found, rest = head.partition(b"\r\ncontent-length:")
            end += int(rest.partition(b"\r\n")[0]) if found else 0
            self._fill(end)
        return self._take(end)

    def read_head(self) -> bytes:
        """Return the request line and headers only, with the empty line; a body stays unread."""
        return self._take(self._fill_to(b"\r\n\r\n") + 4)

    def read(self, count: int) -> bytes:
        """Return exactly this many bytes."""
        self._fill(count)
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    def send(self, data: bytes) -> None:
        """Send all the data.

        Raises:
            OSError: The client has gone.
            TimeoutError: The client has not read for `TIMEOUT` seconds.
        """
        view = memoryview(data)
        deadline = time.monotonic() + TIMEOUT
        while view:
            try:
                view = view[self._sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                if not self._poll(select.POLLOUT, deadline):
                    raise TimeoutError("the client does not read") from None
            except ssl.SSLWantReadError:
                self._poll(select.POLLIN, deadline)

    def drip(self, data: bytes, pause: float) -> bool:
        """Send one byte at a time with `pause` seconds between; return whether the client took it all."""
        for index in range(len(data)):
            if index and self.wait(pause):
                return False
            try:
                self.send(data[index : index + 1])
            except OSError:
                return False
        return True

    def wait(self, timeout: float = TIMEOUT) -> bool:
        """Do nothing until the client closes the connection; False if `timeout` seconds passed first."""
        deadline = time.monotonic() + timeout
        while not self._eof:
            if not self._receive(deadline):
                return False
        return True

    def ignore(self) -> None:
        """Read nothing until the client resets the connection, or the server stops."""
        self._poll(0, time.monotonic() + TIMEOUT)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's half of a TLS handshake.

        Raises:
            OSError: The handshake failed (`ssl.SSLError` is an `OSError`).
        """
        self._sock = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        assert isinstance(self._sock, ssl.SSLSocket)
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return self._sock.do_handshake()
            except ssl.SSLWantReadError:
                ready = self._poll(select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                ready = self._poll(select.POLLOUT, deadline)
            if not ready:
                raise TimeoutError("the client does not go on with the TLS handshake")

    def half_close(self) -> None:
        """End what we send (FIN) and go on reading."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close with a FIN, without a TLS close_notify. May be called again."""
        if self.closed:
            return
        with contextlib.suppress(OSError):
            while self._sock.recv(65536):  # closing with unread bytes would send RST instead of FIN
                pass
        self._sock.close()

    def reset(self) -> None:
        """Close with a RST: the client gets ECONNRESET, in `connect` already if nothing was read before."""
        if not self.closed:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.close()

    def _take(self, end: int) -> bytes:
        data = bytes(self._received[:end])
        del self._received[:end]
        self.requests.append(data)
        self._record(data)
        return data

    def _fill(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT
        while len(self._received) < count:
            if self._eof:
                raise EOFError(f"the client closed connection {self.number} within a request")
            if not self._receive(deadline):
                raise TimeoutError(f"no request on connection {self.number}; got {bytes(self._received)!r}")

    def _fill_to(self, mark: bytes, start: int = 0) -> int:
        while (end := self._received.find(mark, start)) < 0:
            self._fill(len(self._received) + 1)
        return end

    def _receive(self, deadline: float) -> bool:
        """Read what is there; return False if nothing came before the deadline."""
        while True:
            try:
                data = self._sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                if not self._poll(select.POLLIN, deadline):
                    return False
                continue
            except OSError:  # a reset is an end too
                data = b""
            self._received += data
            self._eof = not data
            return True

    def _poll(self, events: int, deadline: float) -> bool:
        poller = select.poll()
        poller.register(self._sock, events)
        poller.register(self._wake, select.POLLIN)
        ready = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if any(descriptor == self._wake.fileno() for descriptor, _ in ready):
            raise _Stopped
        return bool(ready)


Script: TypeAlias = Callable[[Connection], object]


class ScriptedServer:
    """Hands each accepted connection to the next script, each in a thread of its own.

    A script that returns closes its connection. A script that fails, and a connection no script is left for,
    make the `with` block fail.

    Args:
        scripts: What to do with the first connection, the second, ...
        repeat: Use the last script for all further connections.
        scheme: Scheme of `url`; the scripts call `start_tls` themselves.
    """

    def __init__(self, *scripts: Script, repeat: bool = False, scheme: str = "http") -> None:
        self._scripts = scripts
        self._repeat = repeat
        self._scheme = scheme
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self.connections: list[Connection] = []
        self.requests: list[bytes] = []
        self.errors: list[Exception] = []

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="scripted-server", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            for failure in self.errors:
                error.add_note(f"a script of the server failed: {failure!r}")
        elif self.errors:
            raise ExceptionGroup("scripts of the server failed", self.errors)

    def stop(self) -> None:
        """Close the port and all connections and end all threads; the port refuses connections then."""
        if self._stopped:
            return
        self._stopped = True
        self._waker.close()  # makes _wake readable for everyone who waits
        self._acceptor.join()
        for thread in self._threads:
            thread.join(TIMEOUT)
            if thread.is_alive():
                self.errors.append(RuntimeError(f"the script in {thread.name} does not end"))
        self._listener.close()
        self._wake.close()

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            if any(descriptor == self._wake.fileno() for descriptor, _ in poller.poll()):
                return
            try:
                sock, _ = self._listener.accept()
            except OSError:  # the client has gone again
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = len(self.connections)
            connection = Connection(sock, self._wake, number, self.requests.append)
            self.connections.append(connection)
            if number < len(self._scripts):
                script = self._scripts[number]
            elif self._repeat:
                script = self._scripts[-1]
            else:
                self.errors.append(AssertionError(f"connection {number} came, but has no script"))
                connection.reset()
                continue
            thread = threading.Thread(
                target=self._play, args=(script, connection), name=f"scripted-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _play(self, script: Script, connection: Connection) -> None:
        try:
            script(connection)
        except _Stopped:
            pass
        except Exception as error:
            self.errors.append(error)
            connection.reset()
        finally:
            connection.close()


def http_response(body: bytes = b"", status: str = "200 OK", *headers: bytes) -> bytes:
    """Return a plain response with its Content-Length, for the scripts that need one."""
    lines = [f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)
