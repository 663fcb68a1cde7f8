"""HTTP/2 servers: a real one (hypercorn), and one whose every frame a test decides on."""

import asyncio
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hypercorn.asyncio
import hypercorn.config
import trustme


@dataclass
class Seen:
    """What a server has seen.

    Attributes:
        url: Where it is.
        connections: The ports of its clients.
        versions: The HTTP version of every request.
        cancelled: How many requests were given up by the client.
        at_once: How many requests it had at once, at most.
    """

    url: str = ""
    connections: set[int] = field(default_factory=set)
    versions: list[str] = field(default_factory=list)
    cancelled: int = 0
    at_once: int = 0
    now: int = 0


class _App:
    """`/echo` (method, headers, size of the body), `/slow?ms`, `/big?bytes`, `/cookies`, `/status/{code}`."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        seen = self._seen
        seen.connections.add(scope["client"][1])
        seen.versions.append(scope["http_version"])
        seen.now += 1
        seen.at_once = max(seen.at_once, seen.now)
        try:
            await self._answer(scope, receive, send)
        finally:
            seen.now -= 1

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        path, number = scope["path"], int(scope["query_string"].partition(b"=")[2] or 0)
        size = 0
        if path != "/slow":
            while True:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    break
        else:
            gone = asyncio.ensure_future(self._gone(receive))
            done, _ = await asyncio.wait([gone], timeout=number / 1000)
            gone.cancel()
            if done:
                self._seen.cancelled += 1
                return
        status = int(path.rpartition("/")[2]) if path.startswith("/status/") else 200
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        body = json.dumps({"method": scope["method"], "path": path, "headers": headers, "size": size}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"set-cookie", b"a=1")]})
        if path == "/big":
            while number > 0:
                await send({"type": "http.response.body", "body": b"x" * min(number, 65_536), "more_body": True})
                number -= 65_536
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


@contextmanager
def http2_server(
    authority: trustme.CA, tmp_path: Any, *, protocols: tuple[str, ...] = ("h2", "http/1.1"), max_streams: int = 100
) -> Iterator[Seen]:
    """Hypercorn on a thread, over TLS.

    Args:
        authority: Who certifies it.
        tmp_path: Where its certificate goes.
        protocols: What it offers by ALPN.
        max_streams: How many requests it takes at once on one connection.
    """
    cert = authority.issue_cert("127.0.0.1", "localhost")
    for number, blob in enumerate(cert.cert_chain_pems):
        blob.write_to_path(str(tmp_path / "cert.pem"), append=number > 0)
    cert.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    listener = socket.create_server(("127.0.0.1", 0))
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.certfile, config.keyfile = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    config.alpn_protocols = list(protocols)
    config.h2_max_concurrent_streams = max_streams
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0.2
    seen = Seen(f"https://127.0.0.1:{listener.getsockname()[1]}")
    listener.detach()  # it is the server's from now on
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        await hypercorn.asyncio.serve(_App(seen), config, shutdown_trigger=stop.wait)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


class Peer:
    """The server's end of one HTTP/2 connection, for a script.

    Attributes:
        number: Of the connection, from 0.
        conn: The state of h2; what it has to say is sent by `flush`.
        requests: The streams whose request came in, in order, with their headers.
        events: Everything that came in.
    """

    def __init__(self, sock: ssl.SSLSocket, number: int, max_streams: int, greeting: bytes | None = None) -> None:
        self._sock = sock
        self.number = number
        self.conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        # Set one by one, they would hold only once the client has agreed, and it would not be told.
        self.conn.local_settings = h2.settings.Settings(
            client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        )
        self.conn.initiate_connection()
        self.requests: list[tuple[int, dict[bytes, bytes]]] = []
        self.events: list[h2.events.Event] = []
        if greeting is None:
            self.flush()
        else:
            self.conn.clear_outbound_data_buffer()
            self.send(greeting)

    def flush(self) -> None:
        """Send what h2 has to say."""
        self._sock.sendall(self.conn.data_to_send())

    def send(self, data: bytes) -> None:
        """Send bytes that h2 knows nothing of."""
        self._sock.sendall(data)

    def read(self) -> bool:
        """Read once; False at the end."""
        data = self._sock.recv(65_536)
        for event in self.conn.receive_data(data) if data else ():
            self.events.append(event)
            if isinstance(event, h2.events.RequestReceived):
                self.requests.append((event.stream_id or 0, dict(event.headers or ())))
        with suppress(OSError):
            self.flush()
        return bool(data)

    def has_news(self) -> bool:
        """Whether something comes within a moment."""
        return self._sock.pending() > 0 or bool(select.select([self._sock], [], [], 0.005)[0])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Read until something is so."""
        while not condition():
            if not self.read():
                raise EOFError("the client hung up")

    def wait_requests(self, count: int) -> list[int]:
        """Read until that many requests have come in all; return their streams."""
        self.wait_for(lambda: len(self.requests) >= count)
        return [stream for stream, _ in self.requests]

    def answer(self, stream: int, body: bytes = b"good") -> None:
        """Answer a request well."""
        self.conn.send_headers(stream, [(":status", "200"), ("content-length", str(len(body)))])
        self.conn.send_data(stream, body, end_stream=True)
        self.flush()

    def serve(self) -> None:
        """Answer every request from now on, also those that came already and are open."""
        answered = 0
        with suppress(OSError, EOFError, ssl.SSLError):
            while True:
                self.wait_requests(answered + 1)
                self.answer(self.requests[answered][0])
                answered += 1

    def wait_end(self) -> None:
        """Read until the client hangs up."""
        with suppress(OSError):
            while self.read():
                pass

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._sock.close()


PeerScript = Callable[[Peer], None]


@contextmanager
def http2_peer(
    context: ssl.SSLContext, *scripts: PeerScript, max_streams: int = 100, greetings: Sequence[bytes] = ()
) -> Iterator[str]:
    """Serve each connection by the next script, the last one for all that follow; gives the URL.

    The first connections are greeted with `greetings`, and all others as it should be.
    """
    context = _copy(context)
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def run(sock: socket.socket, number: int) -> None:
        sock.settimeout(10)
        try:
            with context.wrap_socket(sock, server_side=True) as tls:
                greeting = greetings[number] if number < len(greetings) else None
                scripts[min(number, len(scripts) - 1)](Peer(tls, number, max_streams, greeting))
        except (OSError, EOFError):
            pass
        except BaseException as exc:
            failures.append(exc)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=run, args=(sock, len(threads))))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
        for thread in threads:
            thread.join(15)
        if failures:
            raise failures[0]


def _copy(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["h2"])
    return context


def wait_until(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    """Wait for something in another thread."""
    end = time.monotonic() + timeout
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()
