"""The engines `httpx` and `httpx2`: their network and TLS, under connections of our own layout.

Above httpcore's network stand h11 and h2 themselves. Its own connections and pools, and the layers of httpx, take
more time than everything else together.
"""

import logging
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from ..._concurrency.aio.clock import checkpoint_if_cancelled
from ..._concurrency.aio.scopes import shield
from ..._http.decode import BodyReader
from ..._http.failures import died_before_answer, translate
from ..._http.head import examine, refuse_announced
from ..._http.logs import redact_logs_of
from ..._http.settings import EngineSettings
from ..._http.wire import RawHeaders, WireRequest
from ..._messages.headers import Headers
from ..._telemetry.loggers import event_logger
from ..attempts import Record
from .connections import AsyncConnections, AsyncLease
from .dial import AsyncDialer
from .http1 import AsyncHTTP1Connection
from .protocol import Answer

if TYPE_CHECKING:
    from .http2stream import AsyncHTTP2Stream

AsyncResponse: TypeAlias = "AsyncHTTP1Connection | AsyncHTTP2Stream"

logger = event_logger("http")


class AsyncHttpxEngine:
    """Sends requests over connections of its own.

    Args:
        httpcore: `httpcore`, or its fork of the same shape.
        settings: How.

    Raises:
        ConfigurationError: A setting can't be used, or what it needs is not installed.
    """

    def __init__(self, httpcore: ModuleType, settings: EngineSettings) -> None:
        redact_logs_of(httpcore.__name__)
        self._timeout = settings.timeout
        self._wire_limit = settings.max_response_size
        self._limit = settings.max_decompressed_size
        self._limited = self._wire_limit is not None or self._limit is not None
        self._connections = AsyncConnections(AsyncDialer(httpcore, settings), settings)

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` with `headers` and read the whole answer."""
        lease, response, reader = await self._open(wire, headers, record)
        received: list[bytes] = []
        try:
            while chunk := await response.receive():
                received.append(chunk if reader is None else reader.feed(chunk))
            if reader is not None:
                received.append(reader.finish())
        except BaseException as exc:
            await self.give_up(lease, response)
            _raise(exc, wire, received)
        await self._connections.release(lease)
        content = received[0] if len(received) == 1 else b"".join(received)
        return Answer(response.status_code, response.headers, response.http_version, content)

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> "AsyncHttpxExchange":
        """Send `wire` with `headers` and wait for the head of the answer."""
        lease, response, reader = await self._open(wire, headers, record)
        return AsyncHttpxExchange(self, wire, lease, response, reader)

    async def aclose(self) -> None:
        """Close every idle connection; those in use are closed when their exchange ends."""
        await self._connections.aclose()

    def abandon(self) -> None:
        """Forget every connection without a word to the peer."""
        self._connections.abandon()

    async def release(self, lease: AsyncLease) -> None:
        """Take a connection back whose answer was read to its end."""
        await self._connections.release(lease)

    async def _open(
        self, wire: WireRequest, headers: RawHeaders, record: Record
    ) -> tuple[AsyncLease, AsyncResponse, BodyReader | None]:
        """Send a request, and read and examine the head of its answer."""
        reused = False
        try:
            lease = await self._connections.acquire(wire.target.origin)
            reused = lease.reused
            response: AsyncResponse | None = None
            try:
                # Permits and locks are handed over even to a task that is cancelled: it must not send any more.
                await checkpoint_if_cancelled()
                record.peer = lease.connection.peer
                record.sending()
                response = await lease.connection.request(wire, headers, self._timeout)
                codings, length = examine(response.http_version, response.headers)
                reader = None
                if self._limited:
                    if self._wire_limit is not None:
                        refuse_announced(self._wire_limit, length, wire.method, response.status_code)
                    reader = BodyReader(codings, self._wire_limit, self._limit)
                elif codings is not None:
                    reader = BodyReader(codings, None, None)
            except BaseException:
                await self.give_up(lease, response)
                raise
        except Exception as exc:
            error = translate(exc, wire)
            if error is None:
                raise
            # A reused connection that ends before the first byte of an answer was most likely dead already.
            error.stale = reused and died_before_answer(exc)
            raise error from exc
        if logger.is_enabled_for(logging.DEBUG):
            _log(wire, response, reused)
        return lease, response, reader

    async def give_up(self, lease: AsyncLease, response: "AsyncHTTP1Connection | AsyncHTTP2Stream | None") -> None:
        """Take a connection back in the middle of an exchange."""
        with shield():
            try:
                if response is not None:
                    await response.end()
            finally:
                await self._connections.release(lease)


class AsyncHttpxExchange:
    """One request that was sent, and the answer that is coming in."""

    __slots__ = ("_engine", "_lease", "_reader", "_response", "_wire", "headers", "http_version", "status_code", "url")

    def __init__(
        self,
        engine: AsyncHttpxEngine,
        wire: WireRequest,
        lease: AsyncLease,
        response: AsyncResponse,
        reader: BodyReader | None,
    ) -> None:
        self.status_code = response.status_code
        self.headers = response.headers
        self.http_version = response.http_version
        self.url: str | None = None
        self._engine = engine
        self._wire = wire
        self._lease: AsyncLease | None = lease
        self._response = response
        self._reader = reader

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        chunks: list[bytes] = []
        while chunk := await self._receive(chunks):
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        return await self._receive([])

    async def _receive(self, received: list[bytes]) -> bytes:
        if self._lease is None:
            return b""
        reader = self._reader
        try:
            while chunk := await self._response.receive():
                data = chunk if reader is None else reader.feed(chunk)
                if data:
                    return data
            rest = b"" if reader is None else reader.finish()
        except BaseException as exc:
            await self.aclose()
            _raise(exc, self._wire, received)
        lease, self._lease = self._lease, None
        await self._engine.release(lease)
        return rest

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._engine.give_up(lease, self._response)


def _raise(exc: BaseException, wire: WireRequest, received: list[bytes]) -> NoReturn:
    """Raise what went wrong in the middle of a body, in our own errors."""
    error = translate(exc, wire, partial=b"".join(received)) if isinstance(exc, Exception) else None
    try:
        if error is not None:
            raise error from exc
        raise exc
    finally:
        # A frame that holds the exception it raises waits for the garbage collector, with all that it knows.
        del error, exc


def _log(wire: WireRequest, response: AsyncResponse, reused: bool) -> None:
    logger.debug(
        "http.response",
        method=wire.method,
        url=wire.target.redacted.partition("?")[0],
        status_code=response.status_code,
        http_version=response.http_version,
        connection="reused" if reused else "new",
        headers=repr(Headers.from_raw(response.headers)),
    )
