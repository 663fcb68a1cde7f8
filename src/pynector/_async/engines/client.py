"""The user's own httpx client as an engine: its connections, TLS, proxies, cookies and auth."""

from collections.abc import AsyncGenerator
from typing import NoReturn, cast

import httpx

from ..._concurrency.aio.clock import checkpoint_if_cancelled
from ..._concurrency.aio.colour import iterate
from ..._concurrency.aio.scopes import shield
from ..._http.body import StreamBody
from ..._http.failures import translate
from ..._http.settings import EngineSettings
from ..._http.wire import RawHeaders, WireRequest, default_headers
from ...errors import ConfigurationError
from ..attempts import Record
from .protocol import Answer

_LEFT_TO_CLIENT = frozenset({b"host", b"cookie", b"content-length", b"transfer-encoding"})
# What a request has if nobody says otherwise: then the client's own defaults are to stand.
_DEFAULTS = frozenset((name.lower(), value) for name, value in default_headers())


class AsyncHttpxClientEngine:
    """Sends requests through an `httpx.AsyncClient` that somebody else made and will close.

    Args:
        settings: With that client in it; it says as well whether the client is to follow redirects.
    """

    def __init__(self, settings: EngineSettings) -> None:
        client = settings.client
        if not isinstance(client, httpx.AsyncClient):
            raise ConfigurationError(f"client= is a {type(client).__name__}: give an httpx.AsyncClient")
        self._client = client
        self._follow_redirects = settings.follow_redirects

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` and read the whole answer."""
        exchange = await self.stream(wire, headers, record)
        content = await exchange.read()
        return Answer(exchange.status_code, exchange.headers, exchange.http_version, content, exchange.url)

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> "AsyncHttpxClientExchange":
        """Send `wire` and wait for the head of the answer. The client adds its own headers to those of the user."""
        body = wire.body
        given = {name.lower() for name, _ in wire.message.headers.raw}
        own = [
            (name, value)
            for name, value in headers
            if (lower := name.lower()) in given or (lower not in _LEFT_TO_CLIENT and (lower, value) not in _DEFAULTS)
        ]
        request = self._client.build_request(
            wire.method,
            str(wire.target),
            headers=own,
            content=iterate(body.source) if isinstance(body, StreamBody) else body,
        )
        await checkpoint_if_cancelled()
        record.sending()
        try:
            response = await self._client.send(request, stream=True, follow_redirects=self._follow_redirects)
        except Exception as exc:
            if (error := translate(exc, wire)) is not None:
                raise error from exc
            raise
        return AsyncHttpxClientExchange(response, wire)

    async def aclose(self) -> None:
        """Nothing: the client is closed by whoever made it."""

    def abandon(self) -> None:
        """Nothing: the client is its owner's."""


class AsyncHttpxClientExchange:
    """One request that was sent through an httpx client, and the answer that is coming in."""

    __slots__ = ("_chunks", "_response", "_wire", "headers", "http_version", "status_code", "url")

    def __init__(self, response: httpx.Response, wire: WireRequest) -> None:
        self.status_code = response.status_code
        self.headers: RawHeaders = response.headers.raw
        self.http_version = response.http_version
        self.url: str | None = str(response.url.copy_with(userinfo=b""))
        self._response = response
        self._chunks = cast("AsyncGenerator[bytes]", response.aiter_bytes())
        self._wire = wire

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        chunks = []
        while chunk := await self.receive():
            chunks.append(chunk)
        return b"".join(chunks)

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        if self._response.is_closed:
            return b""
        try:
            async for chunk in self._chunks:
                if chunk:
                    return chunk
        except BaseException as exc:
            await self._fail(exc)
        await self.aclose()
        return b""

    async def aclose(self) -> None:
        """Give the connection back to the client."""
        await self._chunks.aclose()
        await self._response.aclose()

    async def _fail(self, exc: BaseException) -> NoReturn:
        with shield():
            await self.aclose()
        error = translate(exc, self._wire, partial=b"") if isinstance(exc, Exception) else None
        if error is not None:
            raise error from exc
        raise exc
