"""HTTP/1.1 on one connection (RFC 9112), one exchange at a time. The messages are read and written by h11."""

from math import inf
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import h11

from ..._concurrency.aio.clock import checkpoint
from ..._concurrency.aio.colour import iterate
from ..._http.body import StreamBody
from ..._http.peer import peer_of
from ..._http.wire import RawHeaders, WireRequest
from .protocol import TURN_TIME

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

READ_SIZE: Final = 64 * 1024
MAX_HEAD_SIZE: Final = 100 * 1024
"""Bytes of the head of an answer; browsers allow about 256 KB, most servers send no more than 8."""
MAX_INTERIM: Final = 100
"""How many 1xx answers may come before the real one."""

# One that is larger goes out by itself: joining it to the head would copy it once more.
_JOINED: Final = 16 * 1024
# How many sets of headers a connection knows as valid. Credentials are among them, so they go when it closes.
_MOST_KNOWN: Final = 16


class AsyncHTTP1Connection:
    """A connection, and the answer that is coming in on it.

    Args:
        httpcore: The module whose exceptions are raised.
        stream: Leads to the server.

    Attributes:
        status_code: Of the answer.
        headers: Of the answer, as they came.
        http_version: Of the answer.
        complete: Whether the answer was read to its end.
        reusable: Whether the connection stands right behind the end of an answer, so that another request may follow.
        max_streams: How many requests it serves at once.
        peer: Who is at the other end: the server, or a proxy.
    """

    __slots__ = (
        "_core",
        "_h11",
        "_known",
        "_stream",
        "_timeout",
        "_turn_ends",
        "_unsent",
        "complete",
        "headers",
        "http_version",
        "max_streams",
        "peer",
        "reusable",
        "status_code",
    )

    status_code: int
    headers: RawHeaders
    http_version: str

    def __init__(self, httpcore: ModuleType, stream: "AsyncNetworkStream") -> None:
        self._core = httpcore
        self._stream = stream
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_SIZE)
        self._known: dict[tuple[tuple[bytes, bytes], ...], Any] = {}
        self._timeout: float | None = None
        self._turn_ends = inf
        self._unsent = False
        self.complete = False
        self.reusable = False
        self.max_streams = 1
        self.peer = peer_of(stream)

    async def request(self, wire: WireRequest, headers: RawHeaders, timeout: float | None) -> "AsyncHTTP1Connection":
        """Send a request and wait for the head of its answer.

        Args:
            wire: The request.
            headers: What is sent as its headers.
            timeout: The longest silence of the server, in seconds.

        Returns:
            The answer: this connection itself, which serves one request at a time.

        Raises:
            Exception: Those of httpcore and of h11.
        """
        self._timeout = timeout
        self._turn_ends = inf
        self.complete = self.reusable = False
        conn = self._h11
        target, fields = self._head(wire, headers)
        try:
            data: Any = conn.send(h11.Request(method=wire.method, target=target, headers=self._checked(tuple(fields))))
        except h11.LocalProtocolError as exc:
            raise self._core.LocalProtocolError(str(exc)) from exc
        body = wire.body
        try:
            if isinstance(body, StreamBody):
                await self._stream.write(data, timeout)
                async for chunk in iterate(body.source):
                    if data := conn.send(h11.Data(data=chunk)):
                        await self._stream.write(data, timeout)
                data = conn.send(h11.EndOfMessage())
            elif body:
                piece = conn.send(h11.Data(data=body))
                end = conn.send(h11.EndOfMessage())
                if len(body) > _JOINED:
                    await self._stream.write(data, timeout)
                    await self._stream.write(piece, timeout)
                    data = end
                else:
                    data += piece + end
            else:
                data += conn.send(h11.EndOfMessage())
            if data:
                await self._stream.write(data, timeout)
        except self._core.WriteError:
            # A server may refuse before it has read everything: it has answered then, and hung up.
            self._unsent = True
        except self._core.WriteTimeout:
            # Or it has answered, and does not read on.
            if not self._stream.get_extra_info("is_readable"):
                raise
            self._unsent = True
        await self._read_head()
        return self

    def _head(self, wire: WireRequest, headers: RawHeaders) -> tuple[bytes, RawHeaders]:
        """The target of the request line, and the headers."""
        return wire.target.path, headers

    def _checked(self, headers: tuple[tuple[bytes, bytes], ...]) -> Any:
        """Headers as h11 has checked them: most requests on a connection have the same."""
        known = self._known.get(headers)
        if known is None:
            known = h11.Request(method=b"GET", target=b"/", headers=list(headers)).headers
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[headers] = known
        return known

    async def _read_head(self) -> None:
        conn = self._h11
        interim = 0
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA:
                data = await self._stream.read(READ_SIZE, self._timeout)
                if not data and conn.their_state is h11.SEND_RESPONSE:
                    raise self._core.RemoteProtocolError("Server disconnected without sending a response.")
                conn.receive_data(data)
                self._turn_ends = monotonic() + TURN_TIME
            elif isinstance(event, h11.Response) or (
                isinstance(event, h11.InformationalResponse) and event.status_code == 101
            ):
                self.status_code = event.status_code
                self.headers = event.headers.raw_items()
                self.http_version = "HTTP/" + event.http_version.decode("ascii")
                return
            else:
                interim += 1
                if interim > MAX_INTERIM:
                    raise self._core.RemoteProtocolError(f"more than {MAX_INTERIM} interim answers (1xx)")

    async def receive(self) -> bytes:
        """The next piece of the body as it is on the wire; empty at its end.

        Raises:
            Exception: Those of httpcore and of h11.
        """
        conn = self._h11
        if monotonic() > self._turn_ends:
            # One read may bring ten thousand chunks, and whoever takes them never waits for the network.
            await checkpoint()
            self._turn_ends = monotonic() + TURN_TIME
        while not self.complete:
            event = conn.next_event()
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is h11.NEED_DATA:
                conn.receive_data(await self._stream.read(READ_SIZE, self._timeout))
                self._turn_ends = monotonic() + TURN_TIME
            else:
                self.complete = True
                # Bytes beyond the end would be taken for the answer to the next request.
                if (
                    conn.our_state is h11.DONE
                    and conn.their_state is h11.DONE
                    and not self._unsent
                    and not conn.trailing_data[0]
                ):
                    conn.start_next_cycle()
                    self.reusable = True
        return b""

    async def end(self) -> None:
        """Nothing: what is not read to its end costs the connection."""

    async def is_alive(self) -> bool:
        """Whether an idle connection can be used: nothing may come unasked but the end."""
        return not self._stream.get_extra_info("is_readable")

    async def aclose(self) -> None:
        """Close the connection."""
        self.reusable = False
        self._known.clear()
        await self._stream.aclose()
