"""The HTTP client inside of an SDK: the requests and answers of httpx2, over one of our own engines.

An SDK's own client waits in sockets that nobody can be called out of, queues for its pool, and does not say whether
something was sent. Under this one its deadlines hold, and it is as fast as the engine is.
"""

from collections.abc import AsyncIterator
from typing import Any

import httpx2

from ..._concurrency.aio.scopes import shield
from ..._http.settings import EngineSettings
from ..._http.url import Origin, parse_url
from ..._http.wire import WireRequest, accept_encoding
from ..._messages.http import HttpMessage
from ..._messages.redact import is_sensitive_header
from ..attempts import Record
from ..engines import make_engine
from ..engines.protocol import AsyncEngine, AsyncExchange
from ..tracing import traced
from .sending import Sending, sending

# The body is decoded, and its length is another one then.
_OF_CODED = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


class AsyncWire(httpx2.AsyncBaseTransport):
    """A transport of httpx2 over an engine.

    Args:
        name: Of the engine.
        settings: How it sends.

    Raises:
        ConfigurationError: The engine is not installed, or can't do what the settings ask for.
    """

    def __init__(self, name: str, settings: EngineSettings) -> None:
        self._engine: AsyncEngine = traced(make_engine(name, settings))
        self._home: Origin | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and wait for the head of its answer, or for all of it."""
        target, _ = parse_url(str(request.url))
        body = await request.aread()
        headers = request.headers.raw
        message = HttpMessage(request.method)
        # The first one goes where the SDK was told to go; it follows redirects on its own.
        self._home = self._home or target.origin
        trusted = target.origin == self._home
        if not trusted:
            # httpx2 takes out `Authorization` alone, and the key may be in a header of another name.
            headers = [item for item in headers if not is_sensitive_header(item[0].decode("latin-1"))]
        wire = WireRequest(request.method, target, headers, body or None, message, trusted=trusted)
        record, streamed = sending.get() or Sending(Record(), streamed=True)
        if streamed:
            exchange = await self._engine.stream(wire, headers, record)
            # The head is the first sign of an answer: what breaks from here on was received by somebody.
            return _response(exchange, stream=_Body(exchange))
        answer = await self._engine.send(wire, headers, record)
        record.answered()
        return _response(answer, content=answer.content)

    async def aclose(self) -> None:
        """Close every idle connection."""
        await self._engine.aclose()

    def abandon(self) -> None:
        """Forget every connection without a word to the peer."""
        self._engine.abandon()


class _Body(httpx2.ByteStream):
    """The body of an answer, as it comes. Of its base it has nothing but the type, which is right in both colours."""

    def __init__(self, exchange: AsyncExchange) -> None:
        super().__init__(b"")
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._exchange.receive():
            yield chunk

    async def aclose(self) -> None:
        """Give the connection back, or close it if there is more to come."""
        # Whoever closes it may be on the way out of a scope that is cancelled.
        with shield():
            await self._exchange.aclose()


def _response(answer: Any, **body: Any) -> httpx2.Response:
    headers = [item for item in answer.headers if item[0].lower() not in _OF_CODED]
    extensions = {"http_version": answer.http_version.encode("ascii")}
    return httpx2.Response(answer.status_code, headers=headers, extensions=extensions, **body)


def make_client(transport: AsyncWire, timeout: float | None) -> httpx2.AsyncClient:
    """The HTTP client to give to an SDK.

    Args:
        transport: What it sends through.
        timeout: Seconds of silence, which the engine of the transport looks after; here it is for the SDK to see.
    """
    # What can be decoded is decided below, and proxies and certificates of the environment are the engine's affair.
    codings = {"Accept-Encoding": accept_encoding().decode("ascii")}
    return httpx2.AsyncClient(
        transport=transport, timeout=timeout, headers=codings, follow_redirects=True, trust_env=False
    )
