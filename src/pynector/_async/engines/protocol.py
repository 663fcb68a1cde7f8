"""What an engine is to the HTTP transport."""

from collections.abc import Callable
from typing import Final, Protocol

from ..._http.wire import RawHeaders, WireRequest
from ..._messages.headers import Headers
from ..attempts import Record

TURN_TIME: Final = 0.02
"""Seconds in which a body is taken that is there already, before deadlines are looked at and others have a turn."""


class Answer:
    """A whole answer.

    Args:
        headers: As they came, or what gives them: then they are converted when somebody asks for them.

    Attributes:
        status_code: The HTTP status.
        http_version: `HTTP/1.1`, `HTTP/2`, ...
        content: The body, decoded.
        url: Where the answer came from, if the engine followed redirects; else None.
        sets_cookies: Whether there may be a Set-Cookie among its headers.
    """

    __slots__ = ("_headers", "content", "http_version", "sets_cookies", "status_code", "url")

    def __init__(
        self,
        status_code: int,
        headers: RawHeaders | Callable[[], RawHeaders],
        http_version: str,
        content: bytes,
        url: str | None = None,
        *,
        sets_cookies: bool = True,
    ) -> None:
        self.status_code = status_code
        self._headers = headers
        self.http_version = http_version
        self.content = content
        self.url = url
        self.sets_cookies = sets_cookies

    @property
    def headers(self) -> RawHeaders:
        """As they came, repeated ones kept."""
        if not isinstance(self._headers, list):
            self._headers = self._headers()
        return self._headers

    def message_headers(self) -> Headers:
        """The headers as the user gets them."""
        headers = self._headers
        return Headers.from_raw(headers) if isinstance(headers, list) else Headers.from_source(headers)


class AsyncExchange(Protocol):
    """One request that was sent, and the answer that is coming in.

    The head is there; the body is read with `read` or `receive`. `aclose` may be called at any time and any number
    of times; a body that was not read to its end costs the connection.
    """

    status_code: int
    headers: RawHeaders
    http_version: str
    url: str | None
    """Where the answer came from, if the engine followed redirects."""

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        ...

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        ...

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...


class AsyncEngine(Protocol):
    """Sends requests, one connection each at a time, and follows nothing on its own."""

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` with `headers` and read the whole answer; tell `record` when it is sent.

        Raises:
            TransportError: Anything that went wrong on the way, told in Pynector's errors.
        """
        ...

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> AsyncExchange:
        """Send `wire` with `headers` and wait for the head of the answer; tell `record` when it is sent.

        Raises:
            TransportError: Anything that went wrong on the way, told in Pynector's errors.
        """
        ...

    async def aclose(self) -> None:
        """Close every idle connection; those in use are closed when their exchange ends."""
        ...

    def abandon(self) -> None:
        """Forget every connection without a word to the peer: in a forked child they are the parent's."""
        ...
