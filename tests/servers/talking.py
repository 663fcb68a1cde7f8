"""Servers of a few lines for tests of the network itself: what each connection gets is a function on a thread."""

import gc
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

LONG = 30.0
"""Seconds that nothing takes unless it hangs."""

Talk = Callable[[socket.socket, threading.Event], None]


@contextmanager
def serving(talk: Talk, path: str | None = None) -> Iterator[int]:
    """A server that runs `talk(connection, stop)` for each connection; gives its port. `path`: on a Unix socket."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
    stop = threading.Event()
    failures: list[BaseException] = []

    def serve_one(connection: socket.socket) -> None:
        with connection:
            try:
                talk(connection, stop)
            except OSError:
                pass  # the client went away
            except BaseException as error:
                failures.append(error)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve_one, args=(connection,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    threads = [acceptor]
    acceptor.start()
    try:
        yield listener.getsockname()[1] if path is None else 0
    finally:
        stop.set()
        with socket.socket(listener.family) as nudge:
            listener.settimeout(0)
            nudge.connect_ex(listener.getsockname())
        listener.close()
        for thread in threads:
            thread.join(LONG)
        assert not failures


def silent(connection: socket.socket, stop: threading.Event) -> None:
    """Neither reads nor writes."""
    stop.wait(LONG)


def mute(connection: socket.socket, stop: threading.Event) -> None:
    """Reads until the client leaves, and says nothing."""
    while connection.recv(65536):
        pass


def echo(connection: socket.socket, stop: threading.Event) -> None:
    """Sends back what it gets."""
    while data := connection.recv(65536):
        connection.sendall(data)


def drip(connection: socket.socket, stop: threading.Event) -> None:
    """Sends a byte now and then, for ever."""
    while not stop.wait(0.02):
        connection.sendall(b"x")


def answer(connection: socket.socket, stop: threading.Event) -> None:
    """Answers every request, if it is a short one."""
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def drip_headers(connection: socket.socket, stop: threading.Event) -> None:
    """Never gets to the end of its headers."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    drip(connection, stop)


def reset(connection: socket.socket, stop: threading.Event) -> None:
    """Ends the connection with a reset, after a byte."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def secure(context: ssl.SSLContext, talk: Callable[[ssl.SSLSocket, threading.Event], None]) -> Talk:
    """The same over TLS."""

    def wrapped(connection: socket.socket, stop: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            talk(secured, stop)

    return wrapped


def tls_within(context: ssl.SSLContext) -> Callable[[ssl.SSLSocket, threading.Event], None]:
    """A second TLS session within the first one; sends one message back, in capitals."""

    def talk(connection: ssl.SSLSocket, stop: threading.Event) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = context.wrap_bio(incoming, outgoing, server_side=True)

        def step(operation, *args):
            while True:
                try:
                    result = operation(*args)
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))
                else:
                    connection.sendall(outgoing.read())
                    return result

        step(inner.do_handshake)
        step(inner.write, step(inner.read, 100).upper())
        stop.wait(LONG)

    return talk


def polite_end(connection: ssl.SSLSocket, stop: threading.Event) -> None:
    """Says goodbye in TLS after a byte."""
    connection.sendall(b"x")
    connection.settimeout(LONG)
    connection.unwrap()


def rude_end(connection: ssl.SSLSocket, stop: threading.Event) -> None:
    """Leaves without a word after a byte."""
    connection.sendall(b"x")
    connection.shutdown(socket.SHUT_WR)
    stop.wait(LONG)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A listener that takes no more connections, so that the next one hangs."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield listener.getsockname()[1]


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def slow_lookup(*args: object, **kwargs: object) -> list[object]:
    """In place of `getaddrinfo`: takes its time for names."""
    if len(args) > 5 or kwargs:  # the numeric attempt
        raise socket.gaierror(socket.EAI_NONAME, "not numeric")
    time.sleep(0.5)
    return []


def failed_lookup(*args: object, **kwargs: object) -> list[object]:
    """In place of `getaddrinfo`: knows nobody."""
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def descriptors() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
