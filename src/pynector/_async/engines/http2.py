"""HTTP/2 on one connection (RFC 9113): many exchanges at once, or one after the other. The frames are h2's.

No task stands behind a connection: of those that wait for something, one reads for all. A task that gives up resets
its own stream; the others never notice.
"""

import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from ..._concurrency.aio.clock import checkpoint_if_cancelled, current_time
from ..._concurrency.aio.colour import MULTIPLEX, iterate
from ..._concurrency.aio.locks import Event, Lock
from ..._concurrency.aio.scopes import CancelScope, current_effective_deadline, move_on_after, move_on_at
from ..._concurrency.aio.tasks import create_task_group
from ..._http.body import StreamBody
from ..._http.frames import FrameSplitter
from ..._http.wire import RawHeaders, WireRequest
from ...errors import HTTPProtocolError
from .http1 import MAX_HEAD_SIZE, MAX_INTERIM, READ_SIZE

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

STREAM_WINDOW: Final = 1024 * 1024
"""Bytes of one body that may wait to be read."""
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""Bytes under way of all bodies. Room is made as they come in: a body that nobody reads never stops the others."""
_FLUSH: Final = 64 * 1024
_SMALL: Final = 16 * 1024
_GRACE: Final = 0.1
"""Seconds that a cancelled task may go on with a write: half a frame would be the end of every other request."""

# Of HTTP/1.1 and of one hop: they have no place here (RFC 9113, 8.2.2).
_LEFT_OUT: Final = frozenset(
    {b"host", b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)


class AsyncHTTP2Connection:
    """A connection. In blocking code it serves one request at a time.

    Args:
        httpcore: The module whose exceptions are raised.
        stream: Leads to a server that has agreed to HTTP/2.

    Attributes:
        reusable: Whether another request may be sent.
        max_streams: How many requests the server takes at once.
    """

    def __init__(self, httpcore: ModuleType, stream: "AsyncNetworkStream") -> None:
        self._core = httpcore
        self._stream = stream
        self._h2 = h2.connection.H2Connection(
            # As other clients have it: servers in the wild break the rules for headers.
            h2.config.H2Configuration(client_side=True, validate_inbound_headers=False)
        )
        codes = h2.settings.SettingCodes
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                codes.MAX_HEADER_LIST_SIZE: MAX_HEAD_SIZE,
            },
        )
        # Of a server, and some take offence at it.
        del self._h2.local_settings[codes.ENABLE_CONNECT_PROTOCOL]
        self._frames = FrameSplitter()
        self._streams: dict[int, AsyncHTTP2Stream] = {}
        # Those that wait while another one reads, longest first.
        self._waiting: dict[AsyncHTTP2Stream, Event] = {}
        self._reader: object | None = None
        self._writing = Lock()
        self._mute = False
        self._closed = False
        self._greeted = False
        self._uncredited = 0
        self._last_read = 0.0
        self.reusable = True
        self.max_streams = 1

    async def start(self, timeout: float | None) -> None:
        """Exchange settings with the server.

        Raises:
            Exception: Those of httpcore.
        """
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        await self._flush(timeout)
        while not self._greeted:
            # Before them nobody knows how many requests it takes at once.
            data = await self._stream.read(READ_SIZE, timeout)
            if not data:
                raise self._core.ConnectError("the server hung up instead of sending its HTTP/2 settings")
            self._take(data)
        await self._flush(timeout)

    async def request(self, wire: WireRequest, headers: RawHeaders, timeout: float | None) -> "AsyncHTTP2Stream":
        """Send a request and wait for the head of its answer.

        Args:
            wire: The request.
            headers: What is sent as its headers.
            timeout: The longest silence of the server about this request, in seconds.

        Raises:
            HTTPProtocolError: The server has not taken the request; it may be sent again.
            Exception: Those of httpcore.
        """
        body = wire.body
        fields = [
            (b":method", wire.method.encode("ascii")),
            (b":authority", next((value for name, value in headers if name.lower() == b"host"), wire.target.authority)),
            (b":scheme", wire.target.origin.scheme),
            (b":path", wire.target.path),
        ]
        fields += [(lower, value) for name, value in headers if (lower := name.lower()) not in _LEFT_OUT]
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, fields, end_stream=not body)
        except h2.exceptions.ProtocolError as exc:
            # Too many at once, or all numbers are used up.
            self.reusable = self.reusable and isinstance(exc, h2.exceptions.TooManyStreamsError)
            raise _not_taken(f"the HTTP/2 connection takes no request: {exc}") from exc
        stream = self._streams[number] = AsyncHTTP2Stream(self, number, timeout)
        stream.sent = not body
        try:
            await self._flush(timeout)
            if body:
                await self._send_body(stream, body)
            await self.wait(stream, stream.has_head)
            if not stream.status_code:
                stream.raise_failure()
                raise self._core.RemoteProtocolError("the answer has no status")
        except BaseException:
            await stream.end()
            raise
        return stream

    async def _send_body(self, stream: "AsyncHTTP2Stream", body: bytes | StreamBody) -> None:
        conn = self._h2
        async for chunk in iterate(body.source if isinstance(body, StreamBody) else (body,)):
            view, sent = memoryview(chunk), 0
            while sent < len(view):
                await self.wait(stream, stream.may_send)
                if stream.over:
                    return  # answered, or refused, before it was all there
                room = _FLUSH
                while sent < len(view) and (size := min(room, self.window(stream.number), len(view) - sent)) > 0:
                    conn.send_data(stream.number, view[sent : sent + size].tobytes())
                    sent += size
                    room -= size
                await self._flush(stream.timeout)
                stream.touch()
        if not stream.over:
            conn.end_stream(stream.number)
            stream.sent = True
            await self._flush(stream.timeout)
            stream.touch()

    async def wait(self, stream: "AsyncHTTP2Stream", happened: Callable[[], bool]) -> None:
        """Wait for something to happen to `stream`, and read for all if nobody does.

        Raises:
            Exception: `ReadTimeout` of httpcore: nothing was heard about `stream` for too long.
        """
        while not happened():
            if self._reader is not None:
                await self._follow(stream)
                continue
            self._reader = stream
            try:
                while not happened():
                    await self._read(stream)
            except BaseException:
                self._reader = None
                self._pass_on()
                raise
            self._reader = None
        if self._reader is None:
            # Also if it never read: it may have been chosen to when its own news was there already.
            self._pass_on()

    async def _follow(self, stream: "AsyncHTTP2Stream") -> None:
        event = self._waiting[stream] = Event()
        try:
            with move_on_after(stream.patience()):
                await event.wait()
                return
            raise self._silent(stream)
        except BaseException:
            # It may have been chosen to read just now.
            if self._reader is None:
                self._waiting.pop(stream, None)
                self._pass_on()
            raise
        finally:
            self._waiting.pop(stream, None)

    def _pass_on(self) -> None:
        """Let somebody else read."""
        if (event := next(iter(self._waiting.values()), None)) is not None:
            event.set()

    def _wake(self, stream: "AsyncHTTP2Stream") -> None:
        if (event := self._waiting.get(stream)) is not None:
            event.set()

    def _wake_all(self) -> None:
        for event in self._waiting.values():
            event.set()

    async def _read(self, stream: "AsyncHTTP2Stream") -> None:
        try:
            data = await self._stream.read(READ_SIZE, stream.patience())
        except self._core.ReadTimeout:
            raise self._silent(stream) from None
        except Exception as exc:
            self._lose(str(exc) or "connection lost while reading")
            return
        self._last_read = time.monotonic()
        if data:
            self._take(data)
        else:
            self._lose("the server hung up")
        await self._flush(stream.timeout)

    def _silent(self, stream: "AsyncHTTP2Stream") -> Exception:
        if self._last_read <= stream.heard:
            # Not a word about anything: the connection itself may be dead, so nobody else gets onto it.
            self.reusable = False
        error: Exception = self._core.ReadTimeout("the server sent nothing within the timeout")
        return error

    def _take(self, data: bytes) -> None:
        """Tell each stream what came in for it."""
        try:
            frames, goodbye = self._frames.split(data)
            events = self._h2.receive_data(frames)
        except h2.exceptions.ProtocolError as exc:
            self._lose(f"the server broke the rules of HTTP/2: {exc}", broken=True)
            return
        for event in events:
            self._dispatch(event)
        if goodbye is not None:
            # h2 would take it for the end of everything, but what was taken on is still answered (RFC 9113, 6.8).
            self.reusable = False
            for stream in list(self._streams.values()):
                if stream.number > goodbye:
                    stream.fail(_not_taken("the server closes the HTTP/2 connection and has not taken the request"))
                    self._wake(stream)

    def _dispatch(self, event: Any) -> None:
        events = h2.events
        kind = type(event)
        if kind is events.RemoteSettingsChanged:
            self._greeted = True
            self.max_streams = self._h2.remote_settings.max_concurrent_streams
            self._wake_all()  # the windows may be larger
            return
        number = getattr(event, "stream_id", None)
        if kind is events.WindowUpdated and not number:
            self._wake_all()
            return
        if kind is events.DataReceived:
            self._uncredited += event.flow_controlled_length
            if self._uncredited >= CONNECTION_WINDOW // 4:
                self._h2.increment_flow_control_window(self._uncredited)
                self._uncredited = 0
        stream = None if number is None else self._streams.get(number)
        if stream is None:
            return
        stream.touch()
        if kind is events.DataReceived:
            stream.take_data(event.data, event.flow_controlled_length)
        elif kind is events.ResponseReceived:
            stream.take_head(event.headers)
        elif kind is events.InformationalResponseReceived:
            stream.interim += 1
            if stream.interim > MAX_INTERIM:
                stream.fail(self._core.RemoteProtocolError(f"more than {MAX_INTERIM} interim answers (1xx)"))
        elif kind is events.StreamEnded:
            stream.over = True
        elif kind is events.StreamReset:
            self._reset(stream, event.error_code)
        self._wake(stream)

    def _reset(self, stream: "AsyncHTTP2Stream", code: int) -> None:
        codes = h2.errors.ErrorCodes
        if code == codes.REFUSED_STREAM:
            stream.fail(_not_taken("the server refused the request (REFUSED_STREAM)"))
        elif code == codes.NO_ERROR and stream.over:
            pass  # it needs no more of our body (RFC 9113, 8.1)
        else:
            name = code.name if isinstance(code, codes) else str(code)
            self._cut(stream, f"the server ended the stream with {name}")

    def _cut(self, stream: "AsyncHTTP2Stream", why: str, *, broken: bool = False) -> None:
        if stream.status_code:
            text = f"{why} without sending complete message body"
        elif broken:
            text = why
        else:
            text = f"{why}: Server disconnected without sending a response."
        stream.fail(self._core.RemoteProtocolError(text))

    def _lose(self, why: str, *, broken: bool = False) -> None:
        """Tell every stream that the connection is gone."""
        self.reusable = False
        self._mute = True
        for stream in self._streams.values():
            if not stream.over:
                self._cut(stream, why, broken=broken)
        self._wake_all()

    async def _flush(self, timeout: float | None) -> None:
        """Send what h2 has to say."""
        async with self._writing:
            data = self._h2.data_to_send()
            if not data or self._mute:
                return
            try:
                await (self._write_whole(data, timeout) if MULTIPLEX else self._write(data, timeout))
            except self._core.WriteError:
                # There may be answers to be read all the same.
                self._mute = True
                self.reusable = False

    async def _write(self, data: bytes, timeout: float | None) -> None:
        try:
            await self._stream.write(data, timeout)
        except self._core.WriteError:
            raise
        except BaseException:
            # Half a frame may be out: nothing can follow it.
            self._lose("the connection was given up in the middle of a write")
            raise

    async def _write_whole(self, data: bytes, timeout: float | None) -> None:
        """Write even if this task is cancelled, for a moment: others have requests on this connection."""
        if len(data) <= _SMALL:
            # For so little there is nearly always room. If not, only a deadline cuts it short.
            limit = max(current_effective_deadline(), current_time()) + _GRACE
            with move_on_at(limit, shield=True):
                await self._write(data, timeout)
            await checkpoint_if_cancelled()
            return
        whole, written = CancelScope(shield=True), Event()
        error: Exception | None = None
        async with create_task_group() as group:
            await group.start_soon(_give_grace, whole, written)
            with whole:
                try:
                    await self._write(data, timeout)
                except Exception as exc:
                    error = exc
            written.set()
            group.cancel_scope.cancel()
        if error is not None:
            raise error

    async def is_alive(self) -> bool:
        """Whether an idle connection can be used, after reading what came meanwhile."""
        self._reader = self
        try:
            while self.reusable and self._stream.get_extra_info("is_readable"):
                try:
                    data = await self._stream.read(READ_SIZE, _GRACE)
                except self._core.ReadTimeout:
                    break  # a part of a TLS record
                if data:
                    self._take(data)
                else:
                    self._lose("the server hung up")
            await self._flush(_GRACE)
        except Exception:
            self.reusable = False
        finally:
            self._reader = None
            self._pass_on()
        return self.reusable

    def window(self, number: int) -> int:
        """How many bytes of a body the server takes now, in one frame."""
        return min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)

    async def credit(self, stream: "AsyncHTTP2Stream", size: int) -> None:
        """Let the server send more for a stream: so much was read."""
        self._h2.increment_flow_control_window(size, stream.number)
        await self._flush(stream.timeout)

    async def forget(self, stream: "AsyncHTTP2Stream") -> None:
        """End a stream, and tell the server if it does not know."""
        if self._streams.pop(stream.number, None) is None or (stream.over and stream.sent) or self._mute:
            return
        try:
            self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # it is over on the wire
        with move_on_after(_GRACE, shield=True):
            await self._flush(stream.timeout)

    async def aclose(self) -> None:
        """Take leave and close the connection."""
        if self._closed:
            return
        self._closed = True
        self.reusable = False
        try:
            if not self._mute:
                self._h2.close_connection()
                with move_on_after(_GRACE, shield=True):
                    await self._flush(_GRACE)
        except Exception:  # noqa: S110 - it was a courtesy
            pass
        finally:
            self._lose("the connection was closed")
            await self._stream.aclose()


class AsyncHTTP2Stream:
    """One request, and the answer that is coming in.

    Attributes:
        status_code: Of the answer.
        headers: Of the answer, as they came.
        http_version: `HTTP/2`.
        complete: Whether the answer was read to its end.
        number: Of the stream.
        timeout: The longest silence of the server about it, in seconds.
        heard: When something was last heard about it, or sent.
        interim: How many 1xx answers have come.
        sent: Whether the request is out to its end.
        over: Whether nothing more comes in.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_failure",
        "_uncredited",
        "complete",
        "headers",
        "heard",
        "http_version",
        "interim",
        "number",
        "over",
        "sent",
        "status_code",
        "timeout",
    )

    def __init__(self, connection: AsyncHTTP2Connection, number: int, timeout: float | None) -> None:
        self._connection = connection
        self._chunks: list[bytes] = []
        self._failure: Exception | None = None
        self._uncredited = 0
        self.status_code = 0
        self.headers: RawHeaders = []
        self.http_version = "HTTP/2"
        self.complete = False
        self.number = number
        self.timeout = timeout
        self.heard = time.monotonic()
        self.interim = 0
        self.sent = False
        self.over = False

    async def receive(self) -> bytes:
        """The next piece of the body as it is on the wire; empty at its end.

        Raises:
            Exception: Those of httpcore.
        """
        if not (self._chunks or self.over):
            await self._connection.wait(self, self.has_news)
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            if self._uncredited >= STREAM_WINDOW // 2 and not self.over:
                size, self._uncredited = self._uncredited, 0
                await self._connection.credit(self, size)
            return data
        self.raise_failure()
        self.complete = True
        return b""

    async def end(self) -> None:
        """Be done with it: what was not read is not wanted any more."""
        await self._connection.forget(self)

    def take_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep the head of the answer."""
        for name, value in headers:
            if name == b":status":
                self.status_code = int(value) if value.isdigit() else 0
            elif not name.startswith(b":"):
                self.headers.append((name, value))

    def take_data(self, data: bytes, size: int) -> None:
        """Keep a piece of the body, which counts for `size` bytes in its window."""
        if data:
            self._chunks.append(data)
        self._uncredited += size

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has one."""
        if self._failure is None:
            self._failure = error
        self.over = True

    def raise_failure(self) -> None:
        """Raise the error it ended with, if there is one."""
        if self._failure is not None:
            raise self._failure

    def touch(self) -> None:
        """Something was heard about it, or sent."""
        self.heard = time.monotonic()

    def patience(self) -> float | None:
        """Seconds that may pass until something must be heard."""
        return None if self.timeout is None else max(0.0, self.heard + self.timeout - time.monotonic())

    def has_head(self) -> bool:
        """Whether the head of the answer is there, or never comes."""
        return bool(self.status_code) or self.over

    def has_news(self) -> bool:
        """Whether there is a piece of the body, or its end."""
        return bool(self._chunks) or self.over

    def may_send(self) -> bool:
        """Whether the server takes more of our body, or no longer wants it."""
        return self.over or self._connection.window(self.number) > 0


async def _give_grace(scope: CancelScope, written: Event) -> None:
    """Cancel a shielded write, but only a moment after the task around it was cancelled."""
    try:
        await written.wait()
    finally:
        with move_on_after(_GRACE, shield=True):
            await written.wait()
        scope.cancel()


def _not_taken(text: str) -> HTTPProtocolError:
    # Nothing was done with it (RFC 9113, 8.7), so that whatever it is may be sent again.
    return HTTPProtocolError(text, sent=False, transient=True)
