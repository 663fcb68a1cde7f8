"""The engine `pyreqwest`: HTTP in Rust. One and the same client of its is driven from every kind of code.

But where a thread of ours may block, a request without TLS and a proxy is better off with a client that blocks: to be
woken by pyreqwest's thread costs a thread more than all the rest.

It has no way to take a request back that waits for its answer: whoever is cancelled is free at once, while the
exchange goes on by itself until its own limits end it. So each is told the deadline of its caller.
"""

import logging
from functools import partial
from math import inf
from time import monotonic
from typing import Any, NoReturn

from pyreqwest.client import Client
from pyreqwest.http import HeaderMap
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from ..._concurrency._foreign import BlockingCall
from ..._concurrency.aio.clock import checkpoint, checkpoint_if_cancelled, current_time, sleep_until
from ..._concurrency.aio.foreign import blocking_calls, driver, finished
from ..._concurrency.aio.scopes import deadline_reader, shield
from ..._config import Secret
from ..._http import reqwest
from ..._http.body import StreamBody
from ..._http.decode import PIECE, BodyReader
from ..._http.head import examine, refuse_announced
from ..._http.proxies import Proxy, proxies_for
from ..._http.settings import EngineSettings
from ..._http.url import Origin, Origins
from ..._http.wire import RawHeaders, WireRequest
from ..._messages.headers import Headers
from ..._telemetry.loggers import event_logger
from ...errors import ConfigurationError, HTTPProtocolError
from ..attempts import Record
from .permits import AsyncPermits
from .protocol import TURN_TIME, Answer
from .rawheaders import raw_headers
from .upload import LARGE, AsyncUpload

logger = event_logger("http")

_forgotten: list[object] = []
# Clients of the parent, in a forked child: not even their destructors may run there.


class AsyncPyreqwestEngine:
    """Sends requests through pyreqwest, whose connections are its own business.

    Args:
        settings: How.

    Raises:
        ConfigurationError: A setting asks for what pyreqwest can't do, or it was used before a fork.
    """

    def __init__(self, settings: EngineSettings) -> None:
        reqwest.check_settings(settings)
        reqwest.claim_process()
        self._settings = settings
        self._no_tls = reqwest.why_no_tls(settings)
        self._proxies = proxies_for(settings)
        self._clients: dict[tuple[bool, Proxy | None], Client] = {}
        self._client = self._client_for(None)
        self._permits = AsyncPermits(settings.max_connections, settings.max_connections_per_host, settings.timeout)
        self._wire_limit = settings.max_response_size
        self._limit = settings.max_decompressed_size
        self._limited = self._wire_limit is not None or self._limit is not None
        self._drive = driver()
        self._deadline = deadline_reader()
        self._usual = Secret[tuple[RawHeaders, HeaderMap]](([], HeaderMap()))
        self._blocking = blocking_calls(partial(reqwest.build_plain_client, settings))
        self._patience = None if settings.timeout is None else reqwest.patience(settings.timeout)
        # Where an answer came from: a connection to it may have been kept.
        self._known = Origins()

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` with `headers` and read the whole answer."""
        body = wire.body
        if self._limited or (body is not None and (isinstance(body, StreamBody) or len(body) > LARGE)):
            exchange = await self._open(wire, headers, record, whole=True)
            content = await exchange.read()
            return Answer(exchange.status_code, exchange.headers, exchange.http_version, content)
        origin = wire.target.origin
        if not self._permits.take():
            await self._permits.acquire(origin)
        try:
            deadline = self._deadline()
            if deadline == -inf:
                # Permits are handed over even to a task that is cancelled: it must not send any more.
                await checkpoint_if_cancelled()
            doubt = record.unanswered
            call = None if self._blocking is None or not self._is_plain(origin) else self._blocking.begin()
            try:
                client = self._client_for_origin(origin) if call is None else call.client
                request = self._request(client, wire, headers, deadline)
                if body is not None:
                    if reqwest.declared_length(headers) != len(body):
                        raise HTTPProtocolError("the body is not as long as its Content-Length says", sent=False)
                    request.body_bytes(body)
                ready = request.build()
                record.sending()
                response = await self._drive(ready.send()) if call is None else call.run(ready.send, deadline)
                version = reqwest.http_version(response)
                head = response.headers
                codings = self._examine(version, head, call)
                content = (finished(response.bytes()) if call is None else response.bytes()).to_bytes()
                if call is not None:
                    call.keep()
                if codings is not None:
                    content = await _decode(content, codings)
            except Exception as exc:
                await self._explain(exc, wire, record, deadline, doubt)
        finally:
            # A client is closed when nobody has it any more, and a traceback of this may be kept.
            call = client = request = ready = None
            self._permits.release(origin)
        self._known.add(origin)
        if logger.is_enabled_for(logging.DEBUG):
            _log(wire, response.status, version, raw_headers(head))
        # Most headers are never asked for, and to convert them takes a tenth of the whole call.
        late = partial(raw_headers, head)
        return Answer(response.status, late, version, content, sets_cookies=reqwest.has_header(head, "set-cookie"))

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> "AsyncPyreqwestExchange":
        """Send `wire` with `headers` and wait for the head of the answer."""
        return await self._open(wire, headers, record, whole=False)

    async def aclose(self) -> None:
        """Close every idle connection; those in use are closed when their exchange ends."""
        self._clients.clear()
        del self._client
        if self._blocking is not None:
            self._blocking.close()

    def abandon(self) -> None:
        """Forget every connection without a word to the peer."""
        _forgotten.extend(self._clients.values())
        _forgotten.append(self._blocking)

    def _examine(self, version: str, head: HeaderMap, call: BlockingCall | None) -> list[bytes] | None:
        """Look at the head of an answer whose connection may be used again already."""
        try:
            if reqwest.is_plain_head(version, head):
                return None
            return examine(version, raw_headers(head))[0]
        except HTTPProtocolError:
            # Who knows what comes next on that connection: no other way to close it than to have new ones for all. But
            # the client of a single call goes with it.
            if call is None:
                self._clients.clear()
                self._client = self._client_for(None)
            raise

    async def _open(
        self, wire: WireRequest, headers: RawHeaders, record: Record, *, whole: bool
    ) -> "AsyncPyreqwestExchange":
        origin = wire.target.origin
        upload: AsyncUpload | None = None
        client: Any = None
        await self._permits.acquire(origin)
        try:
            deadline = self._deadline()
            if deadline == -inf:
                await checkpoint_if_cancelled()  # as in `send`
            if not whole:
                # It may be for the head of the answer alone, so the exchange is not told.
                deadline = inf
            doubt = record.unanswered
            try:
                body = wire.body
                if isinstance(body, StreamBody) or (body is not None and len(body) > LARGE):
                    upload = AsyncUpload(wire, headers, self._patience)
                client = self._client_for_origin(origin, uploads=upload is not None)
                request = self._request(client, wire, headers, deadline).streamed_read_buffer_limit(0)
                if upload is not None:
                    request.body_stream(upload.feed.stream)
                elif isinstance(body, bytes):
                    request.body_bytes(body)
                streamed = request.build_streamed()
                steps = reqwest.opening(streamed)
                record.sending()
                response = await (self._drive(steps) if upload is None else upload.drive(steps))
                exchange = AsyncPyreqwestExchange(self, wire, streamed, response, upload)
                try:
                    exchange.start(self._wire_limit, self._limit)
                except BaseException:
                    await self._end(streamed, upload)
                    raise
            except Exception as exc:
                await self._explain(exc, wire, record, deadline, doubt)
        except BaseException:
            if upload is not None:
                upload.feed.close()
            self._permits.release(origin)
            client = request = streamed = steps = None  # a traceback of this may be kept, as of `send`
            raise
        self._known.add(origin)
        if logger.is_enabled_for(logging.DEBUG):
            _log(wire, exchange.status_code, exchange.http_version, exchange.headers)
        return exchange

    def _request(self, client: Any, wire: WireRequest, headers: RawHeaders, deadline: float) -> Any:
        if self._no_tls is not None and wire.target.origin.scheme == b"https":
            raise ConfigurationError(self._no_tls)
        request: Any = None
        try:
            try:
                request = client.request(wire.method, str(wire.target))
            except ValueError as exc:
                raise HTTPProtocolError(f"not a valid request for engine='pyreqwest': {exc}", sent=False) from None
            request = request.headers(self._header_map(headers))
            if deadline != inf:
                request.timeout(reqwest.remaining(deadline - current_time()))
            return request
        finally:
            client = request = None  # a traceback of this may be kept, as of `send`

    def _header_map(self, headers: RawHeaders) -> HeaderMap:
        # Most requests have the headers of the one before, in the very same list.
        last, converted = self._usual.get()
        if headers is not last:
            converted = HeaderMap(reqwest.text_headers(headers))
            self._usual = Secret((headers, converted))
        return converted

    def _is_plain(self, origin: Origin) -> bool:
        return origin.scheme == b"http" and (self._proxies is None or self._proxies.find(origin) is None)

    def _client_for_origin(self, origin: Origin, *, uploads: bool = False) -> Client:
        if self._proxies is not None:
            return self._client_for(self._proxies.find(origin), uploads=uploads)
        return self._client_for(None, uploads=True) if uploads else self._client

    def _client_for(self, proxy: Proxy | None, *, uploads: bool = False) -> Client:
        client = self._clients.get((uploads, proxy))
        if client is None:
            client = reqwest.build_client(self._settings, uploads=uploads, proxy=proxy)
            client = self._clients.setdefault((uploads, proxy), client)
        return client

    async def _explain(
        self, exc: Exception, wire: WireRequest, record: Record, deadline: float, doubt: bool
    ) -> NoReturn:
        """Raise what went wrong before there was an answer."""
        reqwest.scrub(exc)
        if deadline != inf and current_time() >= deadline - (0.01 if reqwest.timed_out(exc) else 0.0):
            # It was the deadline of the caller, whose own error is the one to be seen. On an event loop that comes by a
            # timer, which this one is later than.
            await sleep_until(max(deadline, current_time()) + 0.001)
            await checkpoint_if_cancelled()
        if record.unanswered and not reqwest.was_sent(exc):
            record.unsent(doubt)
        proxy = None if self._proxies is None else self._proxies.find(wire.target.origin)
        error = reqwest.translate(exc, wire, proxy=proxy)
        if error is None:
            raise exc
        if reqwest.died_before_answer(exc) and wire.target.origin in self._known:
            # Most likely the server had closed a connection that was kept. Once only: the next one is a new one.
            self._known.discard(wire.target.origin)
            error.stale = True
        raise error from (None if error is exc else exc)

    async def _end(self, streamed: StreamRequest, upload: AsyncUpload | None) -> None:
        with shield():
            if upload is not None:
                upload.feed.close()
            await self._drive(reqwest.closing(streamed))

    async def finish(self, wire: WireRequest, streamed: StreamRequest, upload: AsyncUpload | None) -> None:
        """End an exchange, and give its permit back."""
        try:
            await self._end(streamed, upload)
        finally:
            self._permits.release(wire.target.origin)

    async def drive(self, steps: Any) -> Any:
        """Run what pyreqwest has to do."""
        return await self._drive(steps)


class AsyncPyreqwestExchange:
    """One request that was sent, and the answer that is coming in."""

    __slots__ = (
        "_body",
        "_engine",
        "_open",
        "_reader",
        "_response",
        "_streamed",
        "_turn_ends",
        "_upload",
        "_wire",
        "headers",
        "http_version",
        "status_code",
        "url",
    )

    def __init__(
        self,
        engine: AsyncPyreqwestEngine,
        wire: WireRequest,
        streamed: StreamRequest,
        response: Response,
        upload: AsyncUpload | None,
    ) -> None:
        self.status_code = response.status
        self.headers: RawHeaders = raw_headers(response.headers)
        self.http_version = reqwest.http_version(response)
        self.url: str | None = None
        self._engine = engine
        self._wire = wire
        self._streamed = streamed
        self._body = response.body_reader
        self._upload = upload
        self._reader: BodyReader | None = None
        self._turn_ends = monotonic() + TURN_TIME
        self._open = True

    def start(self, wire_limit: int | None, limit: int | None) -> None:
        """Look at the head of the answer, and get ready for its body."""
        codings, length = examine(self.http_version, self.headers)
        if wire_limit is not None:
            refuse_announced(wire_limit, length, self._wire.method, self.status_code)
        if codings is not None or wire_limit is not None or limit is not None:
            self._reader = BodyReader(codings, wire_limit, limit)

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
        if not self._open:
            return b""
        reader = self._reader
        try:
            while True:
                if monotonic() > self._turn_ends:
                    # What has come already is there without a wait, and so without a look at deadlines.
                    await checkpoint()
                    self._turn_ends = monotonic() + TURN_TIME
                steps = self._body.read_chunk()
                chunk = await (self._engine.drive(steps) if self._upload is None else self._upload.drive(steps))
                if chunk is None:
                    break
                data: bytes = chunk.to_bytes() if reader is None else reader.feed(chunk.to_bytes())
                if data:
                    return data
            rest = b"" if reader is None else reader.finish()
        except BaseException as exc:
            await self.aclose()
            if isinstance(exc, Exception) and (error := reqwest.translate(exc, self._wire, b"".join(received))):
                raise error from (None if error is exc else exc)
            raise
        await self.aclose()
        return rest

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        if self._open:
            self._open = False
            await self._engine.finish(self._wire, self._streamed, self._upload)


def _log(wire: WireRequest, status_code: int, version: str, headers: RawHeaders) -> None:
    logger.debug(
        "http.response",
        method=wire.method,
        url=wire.target.redacted.partition("?")[0],
        status_code=status_code,
        http_version=version,
        headers=repr(Headers.from_raw(headers)),
    )


async def _decode(content: bytes, codings: list[bytes]) -> bytes:
    reader = BodyReader(codings, None, None)
    if len(content) <= PIECE:
        return reader.feed(content) + reader.finish() if content else content
    parts = []
    for start in range(0, len(content), PIECE):
        parts.append(reader.feed(content[start : start + PIECE]))
        # What a piece becomes may be a thousand times larger: deadlines hold for that as well.
        await checkpoint()
    return b"".join([*parts, reader.finish()])
