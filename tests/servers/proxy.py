"""Proxies: one of our own that says what it saw, and pproxy, which others have written."""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

START_TIMEOUT = 30.0

USER = "me:s3cr3t"
BASIC = "Basic bWU6czNjcjN0"
"""What `USER` is in a header."""


@dataclass(frozen=True)
class Seen:
    """The head of one request that a proxy was sent."""

    method: str
    target: str
    headers: dict[str, str]


class ProxyServer:
    """A forward and CONNECT proxy on 127.0.0.1, on an event loop in a thread of its own.

    Args:
        user: Who may use it: `user:password`; None for everybody.
        ssl_context: Clients talk to it in TLS.
    """

    def __init__(self, *, user: str | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        self._authorization = None if user is None else "Basic " + base64.b64encode(user.encode()).decode()
        self._ssl_context = ssl_context
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self.seen: list[Seen] = []
        self.connections = 0

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        return f"{'https' if self._ssl_context else 'http'}://127.0.0.1:{self.port}"

    def url_for(self, userinfo: str) -> str:
        """Its URL with `user:password` in it."""
        return self.url.replace("://", f"://{userinfo}@")

    @property
    def open(self) -> int:
        """How many connections are open, to clients and to servers."""
        return len(self._writers)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="proxy-server", daemon=True)
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def sever(self) -> None:
        """Cut every connection, as a proxy does that dies; new ones are accepted."""
        done = threading.Event()

        def cut() -> None:
            for writer in self._writers:
                writer.transport.abort()
            done.set()

        self._loop.call_soon_threadsafe(cut)
        assert done.wait(START_TIMEOUT)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._listen()
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._ssl_context)
        self.port: int = server.sockets[0].getsockname()[1]
        return server

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def _closing(self, writer: asyncio.StreamWriter):  # type: ignore[no-untyped-def]
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with self._closing(writer):
                while await self._serve_one(reader, writer):
                    pass

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        self.seen.append(Seen(method, target, headers))
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if self._authorization not in (None, headers.get("proxy-authorization")):
            writer.write(_answer("407 Proxy Authentication Required", b"who are you?", "Proxy-Authenticate: Basic"))
            return method != "CONNECT"
        if method != "CONNECT":
            return await self._forward(method, target, lines[1:-2], body, writer)
        host, _, port = target.rpartition(":")
        try:
            upstream = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as error:
            writer.write(_answer("502 Bad Gateway", repr(error).encode()))
            return False
        async with self._closing(upstream[1]):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pumps = [_pump(reader, upstream[1]), _pump(upstream[0], writer)]
            await asyncio.wait([asyncio.ensure_future(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)
        return False

    async def _forward(
        self, method: str, target: str, lines: list[str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        url = urlsplit(target)
        if url.scheme != "http" or url.hostname is None:
            writer.write(_answer("400 Bad Request", b"the target is not absolute"))
            return True
        try:
            reader, upstream = await asyncio.open_connection(url.hostname, url.port or 80)
        except OSError as error:
            writer.write(_answer("502 Bad Gateway", repr(error).encode()))
            return True
        async with self._closing(upstream):
            kept = [line for line in lines if not line.lower().startswith(("proxy-", "connection:"))]
            path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
            upstream.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
            upstream.write(body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            # The end of its connection is nobody else's business, and this proxy goes on.
            head = [line for line in head if not line.lower().startswith("connection:")]
            writer.write("\r\n".join(head).encode("latin-1"))
            await _pump(reader, writer)
        return any(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in head)


class UnixRelay(ProxyServer):
    """A Unix socket that leads to a port of this machine.

    Args:
        path: Of the socket.
        port: Where it leads.
    """

    def __init__(self, path: str, port: int) -> None:
        super().__init__()
        self._path = path
        self._target = port

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._accept, self._path)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        target = await asyncio.open_connection("127.0.0.1", self._target)
        async with self._closing(target[1]):
            pumps = [_pump(reader, target[1]), _pump(target[0], writer)]
            await asyncio.wait([asyncio.ensure_future(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _answer(status: str, body: bytes, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


class PproxyServer:
    """The proxy `pproxy` in a process of its own: HTTP and SOCKS5 on one port.

    Args:
        user: Who may use it: `user:password`; None for everybody.
    """

    def __init__(self, user: str | None = None) -> None:
        self._user = user

    def url(self, scheme: str) -> str:
        """Its URL, with the credentials."""
        return f"{scheme}://{f'{self._user}@' if self._user else ''}127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        listen = f"http+socks5://127.0.0.1:{self.port}/{f'#{self._user}' if self._user else ''}"
        self._process = subprocess.Popen(
            # Otherwise it would ask an address for credentials once a month.
            [sys.executable, "-m", "pproxy", "-l", listen, "--auth", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise RuntimeError("pproxy does not start") from None
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
