"""The default engine: HTTP/1.1 over httpcore, on connections of our own layout."""

import contextlib
import functools
import os
import ssl
from collections.abc import AsyncIterable
from typing import Any, NoReturn, cast

import httpcore
import httpx

from ..._concurrency.aio.clock import checkpoint_if_cancelled
from ..._concurrency.aio.colour import iterate
from ..._concurrency.aio.scopes import shield
from ..._concurrency.aio.sockets import network_backend
from ..._http.body import StreamBody
from ..._http.decode import make_decoder
from ..._http.failures import died_before_answer, translate, why_refused
from ..._http.logs import redact_logs_of
from ..._http.settings import EngineSettings
from ..._http.wire import RawHeaders, WireRequest
from ...errors import ConfigurationError, HTTPProtocolError
from ..attempts import Record
from .connections import AsyncConnections, AsyncLease
from .protocol import Answer


class AsyncHttpxEngine:
    """Sends requests over connections of its own, one request each at a time.

    Args:
        settings: How.
    """

    def __init__(self, settings: EngineSettings) -> None:
        redact_logs_of("httpcore")
        timeout = settings.timeout
        self._extensions = {"timeout": {"connect": timeout, "read": timeout, "write": timeout, "pool": None}}
        self._connections = AsyncConnections(
            network_backend=network_backend(httpcore),
            ssl_context=ssl_context(bool(settings.verify_ssl), settings.trust_env),
            settings=settings,
        )

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` with `headers` and read the whole answer."""
        exchange = await self.stream(wire, headers, record)
        content = await exchange.read()
        return Answer(exchange.status_code, exchange.headers, exchange.http_version, content)

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> "AsyncHttpxExchange":
        """Send `wire` with `headers` and wait for the head of the answer."""
        request = _Request(wire, headers, self._extensions)
        reused = False
        try:
            lease = await self._connections.acquire(wire.target.origin)
            reused = lease.reused
            try:
                # Permits and locks are handed over even to a task that is cancelled: it must not send any more.
                await checkpoint_if_cancelled()
                record.sending()
                response = await lease.connection.handle_async_request(request)
                if (reason := why_refused(response.extensions["http_version"], response.headers)) is not None:
                    raise HTTPProtocolError(reason)
            except BaseException:
                with shield():
                    await self._connections.release(lease)
                raise
        except Exception as exc:
            error = translate(exc, wire)
            if error is None:
                raise
            # A reused connection that ends before the first byte of an answer was most likely dead already.
            error.stale = reused and died_before_answer(exc)
            raise error from exc
        return AsyncHttpxExchange(response, lease, self._connections, wire)

    async def aclose(self) -> None:
        """Close every idle connection; those in use are closed when their exchange ends."""
        await self._connections.aclose()

    def abandon(self) -> None:
        """Forget every connection without a word to the peer."""
        self._connections.abandon()


class _Request(httpcore.Request):
    """A request made of parts that were checked already: the constructor would check every header again."""

    def __init__(self, wire: WireRequest, headers: RawHeaders, extensions: dict[str, Any]) -> None:
        origin, _, path = wire.target
        body = wire.body
        self.method = wire.method.encode("ascii")
        self.url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=path)
        self.headers = headers
        if isinstance(body, StreamBody):
            self.stream = iterate(body.source)
        else:
            self.stream = iterate((body,) if body else ())
        self.extensions = extensions


class AsyncHttpxExchange:
    """One request that was sent, and the answer that is coming in."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_connections",
        "_decoder",
        "_lease",
        "_received",
        "_response",
        "_wire",
        "headers",
        "http_version",
        "status_code",
        "url",
    )

    def __init__(
        self, response: httpcore.Response, lease: AsyncLease, connections: AsyncConnections, wire: WireRequest
    ) -> None:
        self.status_code = response.status
        self.headers: RawHeaders = response.headers
        self.http_version: str = response.extensions["http_version"].decode("ascii")
        self.url: str | None = None
        self._response = response
        self._chunks = aiter(cast("AsyncIterable[bytes]", response.stream))
        self._complete = False
        self._decoder = make_decoder(response.headers)
        self._lease: AsyncLease | None = lease
        self._connections = connections
        self._wire = wire
        self._received: list[bytes] = []

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        received = self._received
        try:
            async for chunk in self._chunks:
                received.append(chunk)
            self._complete = True
            body = received[0] if len(received) == 1 else b"".join(received)
            if self._decoder is not None and body:
                body = self._decoder.decode(body) + self._decoder.finish()
        except BaseException as exc:
            await self._fail(exc)
        await self.aclose()
        return body

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        if self._lease is None:
            return b""
        decoder = self._decoder
        try:
            async for chunk in self._chunks:
                data = chunk if decoder is None else decoder.decode(chunk)
                if data:
                    return data
            self._complete = True
            rest = b"" if decoder is None else decoder.finish()
        except BaseException as exc:
            await self._fail(exc)
        await self.aclose()
        return rest

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                if not self._complete:
                    await self._cut_short(lease)
                await self._response.aclose()
            finally:
                await self._connections.release(lease)

    async def _cut_short(self, lease: AsyncLease) -> None:
        lease.spent = True
        await lease.connection.aclose()
        # Reading on from a closed connection ends httpcore's nested generators in an error. Left suspended, the inner
        # one would be finalised by the garbage collector, too late and with a warning.
        with contextlib.suppress(Exception):
            async for _ in self._chunks:
                pass

    async def _fail(self, exc: BaseException) -> NoReturn:
        with shield():
            await self.aclose()
        error = translate(exc, self._wire, partial=b"".join(self._received)) if isinstance(exc, Exception) else None
        if error is not None:
            raise error from exc
        raise exc


_SSL_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def ssl_context(verify: bool, trust_env: bool) -> ssl.SSLContext:
    """A context shared by every engine with the same options and environment: building one costs 17 ms.

    Raises:
        ConfigurationError: The environment names certificates that can't be loaded.
    """
    sources = tuple(os.environ.get(name) for name in _SSL_VARIABLES) if trust_env else ()
    try:
        return _ssl_context(verify, trust_env, sources)
    except OSError as exc:  # an ssl.SSLError is one too
        named = " and ".join(f"{name}={os.environ[name]}" for name in _SSL_VARIABLES if os.environ.get(name))
        raise ConfigurationError(f"the certificates of {named} can't be loaded: {exc}") from exc


@functools.lru_cache(maxsize=8, typed=True)
def _ssl_context(verify: bool, trust_env: bool, sources: tuple[str | None, ...]) -> ssl.SSLContext:
    context = httpx.create_ssl_context(verify=verify, trust_env=trust_env)
    context.set_alpn_protocols(["http/1.1"])
    return context
