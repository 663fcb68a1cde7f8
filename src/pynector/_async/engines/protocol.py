"""What an engine is to the HTTP transport."""

from typing import Protocol

from ..._http.wire import RawHeaders, WireRequest
from ..attempts import Record


class Answer:
    """A whole answer.

    Attributes:
        status_code: The HTTP status.
        headers: As they came, repeated ones kept.
        http_version: `HTTP/1.1`, `HTTP/2`, ...
        content: The body, decoded.
        url: Where the answer came from, if the engine followed redirects; else None.
    """

    __slots__ = ("content", "headers", "http_version", "status_code", "url")

    def __init__(
        self, status_code: int, headers: RawHeaders, http_version: str, content: bytes, url: str | None = None
    ) -> None:
        self.status_code = status_code
        self.headers = headers
        self.http_version = http_version
        self.content = content
        self.url = url


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
