"""The user's own httpx client as an engine: its connections, TLS, proxies, cookies and auth."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, NoReturn, cast

from ..._concurrency.aio.clock import checkpoint_if_cancelled
from ..._concurrency.aio.colour import iterate
from ..._concurrency.aio.scopes import shield
from ..._http.body import StreamBody
from ..._http.decode import BodyReader
from ..._http.failures import translate
from ..._http.family import loaded_all
from ..._http.head import examine, refuse_announced
from ..._http.settings import EngineSettings
from ..._http.wire import RawHeaders, WireRequest, default_headers
from ..._telemetry.foreign import tame
from ...errors import ConfigurationError
from ..attempts import Record
from .protocol import Answer

_LEFT_TO_CLIENT = frozenset({b"host", b"cookie", b"content-length", b"transfer-encoding"})
# What a request has if nobody says otherwise: then the client's own defaults are to stand.
_DEFAULTS = frozenset((name.lower(), value) for name, value in default_headers())


class AsyncHttpxClientEngine:
    """Sends requests through an `httpx.AsyncClient` (or that of httpx2) which somebody else made and will close.

    Args:
        settings: With that client in it; it says as well whether the client is to follow redirects.
    """

    def __init__(self, settings: EngineSettings) -> None:
        client = settings.client
        if not any(isinstance(client, module.AsyncClient) for module in loaded_all()):
            raise ConfigurationError(f"client= is a {type(client).__name__}: give an httpx.AsyncClient")
        # What its own log lines say is the application's affair.
        tame("httpx", "httpcore", "httpx2", "httpcore2", redacted=False)
        self._client = client
        self._wire_limit = settings.max_response_size
        self._limit = settings.max_decompressed_size
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
        try:
            codings, length = examine(response.http_version, response.headers.raw)
            if self._wire_limit is not None:
                refuse_announced(self._wire_limit, length, wire.method, response.status_code)
            if response.is_stream_consumed:
                # By a hook of the client: it is decoded.
                reader = BodyReader(None, None, self._limit)
            else:
                reader = BodyReader(codings, self._wire_limit, self._limit)
        except BaseException as exc:
            with shield():
                await response.aclose()
            if isinstance(exc, Exception):
                translate(exc, wire)
            raise
        return AsyncHttpxClientExchange(response, wire, reader)

    async def aclose(self) -> None:
        """Nothing: the client is closed by whoever made it."""

    def abandon(self) -> None:
        """Nothing: the client is its owner's."""


class AsyncHttpxClientExchange:
    """One request that was sent through an httpx client, and the answer that is coming in."""

    __slots__ = ("_chunks", "_over", "_reader", "_response", "_wire", "headers", "http_version", "status_code", "url")

    def __init__(self, response: Any, wire: WireRequest, reader: BodyReader) -> None:
        self.status_code: int = response.status_code
        self.headers: RawHeaders = response.headers.raw
        self.http_version: str = response.http_version
        self.url: str | None = str(response.url.copy_with(userinfo=b""))
        self._response = response
        raw = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        self._chunks = cast("AsyncGenerator[bytes]", raw)
        self._reader = reader
        self._over = False
        self._wire = wire

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        chunks = []
        while chunk := await self.receive():
            chunks.append(chunk)
        return b"".join(chunks)

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        if self._over:
            return b""
        try:
            async for chunk in self._chunks:
                if data := self._reader.feed(chunk):
                    return data
            self._over = True
            rest = self._reader.finish()
        except BaseException as exc:
            await self._fail(exc)
        await self.aclose()
        return rest

    async def aclose(self) -> None:
        """Give the connection back to the client."""
        cut_short, self._over = not self._over, True
        if cut_short and self.http_version.startswith("HTTP/1"):
            # The generators inside of httpx would be finalised by the garbage collector, too late and with a warning.
            # Reading on from a closed connection ends them in an error.
            await self._response.aclose()
            with contextlib.suppress(Exception):
                async for _ in self._chunks:
                    pass
        await self._chunks.aclose()
        await self._response.aclose()

    async def _fail(self, exc: BaseException) -> NoReturn:
        with shield():
            await self.aclose()
        error = translate(exc, self._wire, partial=b"") if isinstance(exc, Exception) else None
        try:
            if error is not None:
                raise error from exc
            raise exc
        finally:
            # A frame that holds the exception it raises waits for the garbage collector, with all that it knows.
            del error, exc
