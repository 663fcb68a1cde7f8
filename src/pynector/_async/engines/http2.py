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
import hpack

from ..._concurrency.aio.colour import MULTIPLEX, iterate
from ..._concurrency.aio.locks import Event
from ..._concurrency.aio.scopes import move_on_after
from ..._http.body import StreamBody
from ..._http.frames import FrameSplitter
from ..._http.logs import silence_header_tables
from ..._http.peer import peer_of
from ..._http.wire import RawHeaders, WireRequest
from ...errors import HTTPProtocolError
from .http1 import MAX_HEAD_SIZE, READ_SIZE
from .http2stream import STREAM_WINDOW, AsyncHTTP2Stream
from .http2writer import GRACE, AsyncFrameWriter

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""Bytes under way of all bodies. Room is made as they come in: a body that nobody reads never stops the others."""
_FLUSH: Final = 64 * 1024
# How often an idle connection is read from before it is used: who has more to say than this is better left alone.
_MOST_NEWS: Final = 16

# Seconds in which requests may be given up without a word from the server, before no others follow them: the connection
# may be dead, and who gives up early never waits for its time-out. Where it is not shared there is less to be lost.
_DOUBT: Final = 1.0 if MULTIPLEX else 0.1

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
        peer: Who is at the other end: the server, or a proxy.
    """

    def __init__(self, httpcore: ModuleType, stream: "AsyncNetworkStream") -> None:
        silence_header_tables()
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
        self._h2.decoder = _Decoder(max_header_list_size=MAX_HEAD_SIZE)
        self._writer = AsyncFrameWriter(httpcore, stream, self._h2.data_to_send, self._lose)
        self._frames = FrameSplitter()
        self._streams: dict[int, AsyncHTTP2Stream] = {}
        # Those that wait while another one reads, longest first.
        self._waiting: dict[AsyncHTTP2Stream, Event] = {}
        self._reader: object | None = None
        self._closed = False
        self._greeted = False
        self._lost: str | None = None
        self._uncredited = 0
        self._last_read = 0.0
        self._doubted = 0.0
        self.reusable = True
        self.max_streams = 1
        self.peer = peer_of(stream)

    async def start(self, timeout: float | None) -> None:
        """Exchange settings with the server.

        Raises:
            Exception: Those of httpcore.
        """
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        core = self._core
        try:
            await self._writer.flush(timeout)
            while not self._greeted:
                # Before them nobody knows how many requests it takes at once.
                data = await self._stream.read(READ_SIZE, timeout)
                if not data:
                    raise core.ConnectError("the server hung up instead of sending its HTTP/2 settings")
                self._take(data)
                if self._lost is not None:
                    raise core.RemoteProtocolError(self._lost)
            await self._writer.flush(timeout)
        except (core.ReadTimeout, core.WriteTimeout) as exc:
            raise core.ConnectTimeout("the server did not send its HTTP/2 settings within the timeout") from exc
        except core.ReadError as exc:
            raise core.ConnectError(f"no HTTP/2 settings from the server: {exc}") from exc

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
        fields += [
            (lower, value)
            for name, value in headers
            if (lower := name.lower()) not in _LEFT_OUT and (lower != b"te" or value == b"trailers")
        ]
        if not self.reusable:
            raise _not_taken("the HTTP/2 connection takes no further request")
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, fields, end_stream=not body)
        except (h2.exceptions.TooManyStreamsError, h2.exceptions.NoAvailableStreamIDError) as exc:
            self.reusable = self.reusable and isinstance(exc, h2.exceptions.TooManyStreamsError)
            raise _not_taken(f"the HTTP/2 connection takes no request: {exc}") from exc
        except h2.exceptions.ProtocolError as exc:
            # Headers were encoded that never go out: the server would misread all that follow.
            self.reusable = False
            # Its text may quote a header.
            raise self._core.LocalProtocolError("not a valid request in HTTP/2") from exc.with_traceback(None)
        stream = AsyncHTTP2Stream(self, number, timeout, bodiless=wire.method == "HEAD")
        self._streams[number] = stream
        stream.sent = not body
        try:
            await self._writer.flush(timeout)
            if body:
                await self._send_body(stream, body)
            await self.wait(stream, stream.has_head)
            if not stream.status_code:
                stream.raise_failure()
                raise self.remote_error("the answer has no status")
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
                await self._writer.flush(stream.timeout)
                stream.touch()
        if not stream.over:
            conn.end_stream(stream.number)
            stream.sent = True
            await self._writer.flush(stream.timeout)
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
        await self._writer.nudge(stream.timeout)

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
        except Exception as exc:  # h2 lets through some that are not its own
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
            stream.take_interim()
        elif kind is events.StreamEnded:
            stream.take_end()
        elif kind is events.StreamReset:
            self._reset(stream, event.error_code)
        self._wake(stream)

    def _reset(self, stream: "AsyncHTTP2Stream", code: int) -> None:
        codes = h2.errors.ErrorCodes
        stream.ended = stream.sent = True
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
        stream.fail(self.remote_error(text))

    def remote_error(self, text: str) -> Exception:
        """What is raised if the server does not do as it should."""
        error: Exception = self._core.RemoteProtocolError(text)
        return error

    def _lose(self, why: str | None, *, broken: bool = False) -> None:
        """Tell every stream that the connection is gone. Without a reason: that nobody can be sent any more on it."""
        self.reusable = False
        if why is None or self._lost is not None:
            return
        self._lost = why
        self._writer.mute = True
        for stream in self._streams.values():
            if not stream.over:
                self._cut(stream, why, broken=broken)
        self._wake_all()

    async def is_alive(self) -> bool:
        """Whether an idle connection can be used, after reading what came meanwhile."""
        self._reader = self
        try:
            for _ in range(_MOST_NEWS):
                if not (self.reusable and self._stream.get_extra_info("is_readable")):
                    break
                try:
                    data = await self._stream.read(READ_SIZE, GRACE)
                except self._core.ReadTimeout:
                    break  # a part of a TLS record
                if data:
                    self._take(data)
                else:
                    self._lose("the server hung up")
            else:
                self.reusable = False
            await self._writer.flush(GRACE)
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
        await self._writer.nudge(stream.timeout)

    async def forget(self, stream: "AsyncHTTP2Stream") -> None:
        """End a stream, and tell the server if it does not know."""
        if self._streams.pop(stream.number, None) is None or (stream.ended and stream.sent) or self._writer.mute:
            return
        self._doubt(stream)
        try:
            self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
        except h2.exceptions.ProtocolError:
            return  # it is over on the wire
        if self._writer.has_room():
            # Otherwise whoever writes next takes it along.
            with move_on_after(GRACE, shield=True):
                await self._writer.flush(stream.timeout)

    def _doubt(self, stream: "AsyncHTTP2Stream") -> None:
        """Whether others should follow a request that is given up."""
        if stream.over or self._last_read > stream.heard:
            return
        if self._doubted <= self._last_read:
            self._doubted = stream.heard
        if time.monotonic() - self._doubted >= _DOUBT:
            self.reusable = False

    async def aclose(self) -> None:
        """Take leave and close the connection."""
        if self._closed:
            return
        self._closed = True
        self.reusable = False
        try:
            if not self._writer.mute:
                self._h2.close_connection()
                if self._writer.has_room():
                    with move_on_after(GRACE, shield=True):
                        await self._writer.flush(GRACE)
        except Exception:  # noqa: S110 - it was a courtesy
            pass
        finally:
            self._lose("the connection was closed")
            await self._stream.aclose()


def _not_taken(text: str) -> HTTPProtocolError:
    # Nothing was done with it (RFC 9113, 8.7), so that whatever it is may be sent again.
    return HTTPProtocolError(text, sent=False, transient=True)


class _Decoder(hpack.Decoder):
    """Hides Content-Length from h2, for which a body of another length is the end of the whole connection."""

    def decode(self, data: bytes | memoryview, raw: bool = False) -> Iterable[hpack.HeaderTuple]:
        """The headers in a header block."""
        return [
            hpack.HeaderTuple(b"Content-Length", field[1]) if field[0] == b"content-length" else field
            for field in super().decode(bytes(data), raw)
        ]
