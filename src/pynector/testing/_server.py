"""A small, fast HTTP/1.1 server on the loopback interface, in one thread of the calling process."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from types import TracebackType
from typing import Self, cast

from pynector.testing._log import ConnectionCounts, RequestLog
from pynector.testing._routes import Routes
from pynector.testing._wire import (
    BadRequest,
    RequestParser,
    ServerHandler,
    ServerRequest,
    ServerResponse,
    encode_head,
    keeps_alive,
)

_PIPELINE = 256 * 1024
_BODILESS = (204, 304)
_CLOSE = ("connection", "close")


class LocalServer:
    """An HTTP/1.1 server for tests and demonstrations, with keep-alive, on 127.0.0.1.

    It runs on an event loop of its own in a daemon thread, so blocking code, asyncio and trio use it alike.
    Stopping it closes every connection and ends the thread.

    Routes (`{x}` is a part of the path, the values behind `?` are the defaults of the arguments):

    | route | answer |
    |---|---|
    | `/items/{n}`, `/index/{n}` | JSON `{"id": n, "name": ...}`, `{"index": n}` |
    | `/echo` and below, any method | JSON of what was on the wire: `method`, `target`, `path`, `query`, `headers`, `body` (base64), `text`, `http_version` |
    | `/slow/{n}?ms=50`, `/delay?s=1` | JSON, after that time |
    | `/status/{code}` | that status; `retry_after=` and `retry_after_ms=` add the header, `body=` replaces the JSON |
    | `/flaky/{key}?fail=2&status=503` | fails that many times for each key, then `{"key": key, "attempt": 3}`; `retry_after=` as above |
    | `/big?bytes=1000000` | that many bytes, chunked; the byte at position `i` is `i % 256` |
    | `/stream?n=5&ms=10` | that many lines of JSON, chunked, with that pause between them |
    | `/drip?n=10&ms=10&length=1` | that many bytes, one by one; `length=0` sends them chunked |
    | `/redirect/{n}` | n redirects, then JSON |
    | `/redirect-to?url=/&status=302` | one redirect |
    | `/cookies`, `/cookies/set?name=value` | the cookies sent; sets cookies and redirects to `/cookies` |
    | `/basic-auth/{user}/{password}`, `/bearer` | 200, or 401 without these credentials |
    | `/gzip`, `/deflate` | JSON, compressed |

    Args:
        app: Asked first about every request; answers it, or returns None to leave it to the routes above. A plain
            function must not block, as all connections share one thread; an `async` one may use `asyncio.sleep`.
            An exception becomes a 500.
        ssl_context: Serves HTTPS with it.
        host: Address to bind.
        port: Port to bind; 0 picks a free one.
        log_size: How many requests `requests.recent` keeps.

    Example:
        ```python
        with LocalServer() as server:
            print(server.url)  # http://127.0.0.1:40123
            ...
            assert server.requests.recent[-1].path == "/items/1"
        ```
    """  # noqa: E501

    def __init__(
        self,
        app: ServerHandler | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        log_size: int = 1000,
    ) -> None:
        self._app = app
        self._ssl_context = ssl_context
        self._address = (host, port)
        self._routes = Routes()
        self._thread: threading.Thread | None = None
        self._shut_down: Callable[[], object] = lambda: None
        self._url = ""
        self._port = 0
        self._connections: set[_Connection] = set()
        self._accepted = 0
        self._accepted_before_reset = 0
        self._in_flight = 0
        self._peak_in_flight = 0
        self.requests = RequestLog(log_size)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        if not self._url:
            raise RuntimeError("the server was never started: use it in a with block, or call start()")
        return self._url

    @property
    def host(self) -> str:
        """The address it is bound to."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port it is bound to; 0 before the first start."""
        return self._port

    @property
    def connections(self) -> ConnectionCounts:
        """How many connections are open, and how many there were."""
        return ConnectionCounts(len(self._connections), self._accepted - self._accepted_before_reset)

    @property
    def in_flight(self) -> int:
        """Requests received and not fully answered."""
        return self._in_flight

    @property
    def peak_in_flight(self) -> int:
        """The highest `in_flight` since the start or the last reset."""
        return self._peak_in_flight

    def start(self) -> Self:
        """Bind the port and serve. Returns once connections are accepted.

        Raises:
            RuntimeError: It is running.
            OSError: The port can't be bound.
        """
        if self._thread is not None:
            raise RuntimeError("the server is running")
        with contextlib.ExitStack() as opened:
            listener = opened.enter_context(socket.create_server(self._address, backlog=4096))
            listener.setblocking(False)
            # Made here, so that what can fail fails in the caller's thread.
            runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
            loop = runner.get_loop()
            opened.pop_all()
        self._port = listener.getsockname()[1]
        self._url = f"{'https' if self._ssl_context else 'http'}://{self.host}:{self._port}"
        stopping = asyncio.Event()
        self._shut_down = lambda: loop.call_soon_threadsafe(stopping.set)
        # A daemon: a program that forgot stop() still ends.
        self._thread = threading.Thread(
            target=self._run,
            args=(runner, listener, stopping),
            name=f"local-server-{self._port}",
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port and every connection, and end the thread. May be called again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._shut_down()
        thread.join()

    def reset(self) -> None:
        """Forget requests, counts and the attempts of `/flaky`. Open connections stay open."""
        self._routes.reset()
        self.requests.clear()
        self._accepted_before_reset = self._accepted
        self._peak_in_flight = self._in_flight

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<LocalServer {self._url or 'not started'}{'' if self._thread else ' (stopped)'}>"

    def _run(self, runner: asyncio.Runner, listener: socket.socket, stopping: asyncio.Event) -> None:
        with listener, runner:
            runner.run(self._serve(listener, stopping))

    async def _serve(self, listener: socket.socket, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        joining: dict[asyncio.Task[None], socket.socket] = {}

        # A callback, and no task that awaits the next connection: to cancel that could lose one just accepted.
        def accept() -> None:
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:  # the client has gone again
                return
            except OSError:  # out of descriptors: the loop would call again at once
                loop.remove_reader(listener)
                loop.call_later(0.01, lambda: None if stopping.is_set() else loop.add_reader(listener, accept))
                return
            accepted.setblocking(False)
            task = asyncio.create_task(self._join(accepted))
            joining[task] = accepted
            task.add_done_callback(joining.pop)

        loop.add_reader(listener, accept)
        await stopping.wait()
        loop.remove_reader(listener)
        await _cancel(joining)
        for connection in tuple(self._connections):
            connection.abort()
        while self._connections:  # a closed transport needs a turn of the loop to let go of its socket
            await asyncio.sleep(0)

    async def _join(self, accepted: socket.socket) -> None:
        self._accepted += 1
        number = self._accepted
        with contextlib.suppress(OSError):  # the TLS handshake failed, or the client has gone
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Connection(self, number), accepted, ssl=self._ssl_context
            )

    def _answer(self, request: ServerRequest) -> ServerResponse | Awaitable[ServerResponse | None]:
        if self._app is not None:
            answer = self._app(request)
            if answer is not None:
                return answer
        return self._routes.answer(request)

    def _began(self, request: ServerRequest) -> None:
        self.requests.add(request)
        self._in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self._in_flight)

    def _ended(self) -> None:
        self._in_flight -= 1


class _Connection(asyncio.Protocol):
    """One connection: reads a request, answers it, then reads the next."""

    def __init__(self, server: LocalServer, number: int) -> None:
        self._server = server
        self._parser = RequestParser(number)
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        if self._task is None:
            self._advance()
        elif len(self._parser) > _PIPELINE:
            self._transport.pause_reading()

    def _advance(self) -> None:
        """Answer what has been received, in order, until an answer takes time."""
        while self._task is None and not self._transport.is_closing():
            try:
                request = self._parser.next_request()
            except BadRequest as error:
                self._transport.write(_encode(error.status, (_CLOSE,), str(error).encode()))
                self._transport.close()
                return
            if request is None:
                if self._parser.take_continue():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._handle(request)

    def _handle(self, request: ServerRequest) -> None:
        self._server._began(request)
        try:
            answer = self._server._answer(request)
        except Exception as error:
            answer = _failure(error)
        if isinstance(answer, ServerResponse) and isinstance(answer.body, bytes):
            # Most answers are ready at once: a task for each would halve the speed.
            self._server._ended()
            self._send(request, answer, answer.body)
        else:
            self._task = asyncio.create_task(self._handle_later(request, answer))

    async def _handle_later(
        self, request: ServerRequest, answer: ServerResponse | Awaitable[ServerResponse | None]
    ) -> None:
        try:
            try:
                response = answer if isinstance(answer, ServerResponse) else await answer
                if response is None:
                    fallback = self._server._routes.answer(request)
                    response = fallback if isinstance(fallback, ServerResponse) else await fallback
            except Exception as error:
                response = _failure(error)
            body = response.body
            if not isinstance(body, bytes):
                await self._send_stream(request, response, body)
        finally:
            self._server._ended()
            self._task = None
        if isinstance(body, bytes):
            self._send(request, response, body)
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._advance()

    def _send(self, request: ServerRequest, response: ServerResponse, body: bytes) -> None:
        close = not keeps_alive(request)
        headers = _connection_headers(request, close)
        head_only = request.method == "HEAD"
        try:
            data = _encode(response.status, (*response.headers, *headers), body, head_only=head_only)
        except ValueError as error:  # the app's status or headers can't be sent
            data = _encode(500, headers, str(error).encode(), head_only=head_only)
        self._transport.write(data)
        if close:
            self._transport.close()

    async def _send_stream(self, request: ServerRequest, response: ServerResponse, body: AsyncIterable[bytes]) -> None:
        chunked = response.length is None and request.http_version == "1.1"
        close = not keeps_alive(request) or (response.length is None and not chunked)
        headers = [*response.headers, *_connection_headers(request, close)]
        if chunked:
            headers.append(("transfer-encoding", "chunked"))
        elif response.length is not None:
            headers.append(("content-length", str(response.length)))
        write = self._transport.write
        try:
            write(encode_head(response.status, headers))
            if request.method != "HEAD" and response.status not in _BODILESS:
                async for part in body:
                    if part:
                        write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                    await self._writable.wait()
                    await asyncio.sleep(0)  # a fast reader must not keep the other connections waiting
                if chunked:
                    write(b"0\r\n\r\n")
        except Exception:  # too late for a status: a cut answer is the honest one
            self._transport.abort()
        finally:
            if isinstance(body, AsyncGenerator):
                await body.aclose()
        if close:
            self._transport.close()


async def _cancel(joining: dict[asyncio.Task[None], socket.socket]) -> None:
    """End what has not become a connection yet."""
    unfinished = dict(joining)
    for task in unfinished:
        task.cancel()
    if unfinished:
        await asyncio.wait(unfinished)
    for task, accepted in unfinished.items():
        if task.cancelled():
            accepted.close()  # cancelled before its first step, nobody else knows the socket


def _connection_headers(request: ServerRequest, close: bool) -> tuple[tuple[str, str], ...]:
    if close:
        return (_CLOSE,)
    return (("connection", "keep-alive"),) if request.http_version == "1.0" else ()


def _failure(error: Exception) -> ServerResponse:
    return ServerResponse.json({"error": f"{type(error).__name__}: {error}"}, 500)


def _encode(status: int, headers: tuple[tuple[str, str], ...], body: bytes, *, head_only: bool = False) -> bytes:
    if status in _BODILESS:
        return encode_head(status, headers)
    head = encode_head(status, (*headers, ("content-length", str(len(body)))))
    return head if head_only else head + body
