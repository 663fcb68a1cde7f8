"""Credentials that are more than one header: callables that sign, and the flows of httpx."""

import importlib
import time
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, cast

from .._concurrency.aio.colour import iterate, settle
from .._concurrency.aio.locks import Lock
from .._concurrency.aio.scopes import shield
from .._http.auth import AuthFlow, Sign, is_flow
from .._http.body import StreamBody
from .._http.callbacks import Head, answer_message, sent_message, users_code, with_headers
from .._http.url import parse_url
from .._http.wire import RawHeaders, WireBuilder, WireRequest
from .._messages.body import JsonCodec
from .._messages.http import HttpMessage
from ..errors import ConfigurationError
from .attempts import Record
from .engines.protocol import Answer, AsyncEngine, AsyncExchange

_refreshing: ContextVar[tuple[object, ...]] = ContextVar("pynector_refreshing", default=())
"""The engines that get new credentials just now, for whom this runs: what that sends may go through one of them."""


def credentialed(
    engine: AsyncEngine, auth: Sign | AuthFlow, builder: WireBuilder, codec: JsonCodec | None
) -> AsyncEngine:
    """An engine that gives every request the credentials of `auth`.

    Args:
        engine: What sends.
        auth: A callable that signs, or an `httpx.Auth`.
        builder: Keeps the cookies.
        codec: What answers parse JSON with.
    """
    if is_flow(auth):
        return AsyncFlowEngine(engine, cast("AuthFlow", auth), builder)
    return AsyncSigningEngine(engine, cast("Sign", auth), builder, codec)


class AsyncSigningEngine:
    """An engine whose requests are signed by a callable, which may get new credentials after a 401.

    Args:
        engine: What sends.
        sign: The user's callable; it may have a method `refresh`.
        builder: Keeps the cookies.
        codec: What answers parse JSON with.
    """

    def __init__(self, engine: AsyncEngine, sign: Sign, builder: WireBuilder, codec: JsonCodec | None) -> None:
        self._engine = engine
        self._sign = sign
        self._refresh: Callable[[HttpMessage], Any] | None = getattr(sign, "refresh", None)
        self._builder = builder
        self._codec = codec
        # Many requests may get a 401 at once: one of them gets new credentials, and the others wait for it.
        self._lock = Lock()
        self._renewals = 0
        self._failed: int | None = None

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Sign and send `wire`, and read the whole answer."""
        if not _takes_credentials(wire):
            return await self._engine.send(wire, headers, record)
        known = self._renewals
        request = await self._signed(wire, headers)
        started = time.perf_counter()
        answer = await self._engine.send(wire, request.headers.raw, record)
        if answer.status_code != 401 or self._refresh is None:
            return answer
        record.answered()
        response = answer_message(answer, answer.content, request, time.perf_counter() - started, self._codec)
        if not await self._renew(response, known) or not wire.replayable:
            return answer
        request = await self._signed_again(wire, answer)
        return await self._engine.send(wire, request.headers.raw, record)

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> AsyncExchange:
        """Sign and send `wire`, and wait for the head of the answer."""
        if not _takes_credentials(wire):
            return await self._engine.stream(wire, headers, record)
        known = self._renewals
        request = await self._signed(wire, headers)
        started = time.perf_counter()
        exchange = await self._engine.stream(wire, request.headers.raw, record)
        if exchange.status_code != 401 or self._refresh is None:
            return exchange
        kept = AsyncKeptExchange(exchange)
        content = await kept.keep()
        record.answered()
        response = answer_message(exchange, content, request, time.perf_counter() - started, self._codec)
        if not await self._renew(response, known) or not wire.replayable:
            return kept
        request = await self._signed_again(wire, exchange)
        return await self._engine.stream(wire, request.headers.raw, record)

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()

    def abandon(self) -> None:
        """Abandon the engine."""
        self._engine.abandon()

    async def _signed(self, wire: WireRequest, headers: RawHeaders) -> HttpMessage:
        request = sent_message(wire, headers)
        with users_code:
            returned = await settle(self._sign(request))
        return sent_message(wire, with_headers(headers, returned, "the callable auth="))

    async def _signed_again(self, wire: WireRequest, answer: Head) -> HttpMessage:
        self._builder.store_cookies(wire, answer.headers)
        return await self._signed(wire, self._builder.with_cookies(wire))

    async def _renew(self, response: HttpMessage, known: int) -> bool:
        """Get new credentials, unless another request did since `known`. Whether there are new ones."""
        refreshing = _refreshing.get()
        if self._refresh is None or self in refreshing:
            return False
        async with self._lock:
            if self._renewals != known:
                # Those who waited while it failed do not try it again, one after another.
                return self._failed != known
            token = _refreshing.set((*refreshing, self))
            try:
                with users_code:
                    await settle(self._refresh(response))
            except Exception:
                self._failed = known
                self._renewals += 1
                raise
            finally:
                _refreshing.reset(token)
            # Not for one that was cancelled: nobody knows how far it came, so that the next one tries.
            self._renewals += 1
            return True


class AsyncFlowEngine:
    """An engine whose requests go through the flow of an `httpx.Auth`, which may send others before and after.

    Args:
        engine: What sends.
        auth: The user's, of httpx or of httpx2.
        builder: Keeps the cookies.

    Raises:
        ConfigurationError: It has no flow for this kind of code.
    """

    def __init__(self, engine: AsyncEngine, auth: AuthFlow, builder: WireBuilder) -> None:
        self._engine = engine
        self._auth: Any = auth
        self._builder = builder
        self._httpx = _package_of(auth)
        base, kind = self._httpx.Auth, type(auth)
        if not callable(getattr(auth, "async_auth_flow", None)) or (
            getattr(kind, "async_auth_flow", None) is base.async_auth_flow
            and getattr(kind, "auth_flow", None) is base.auth_flow
        ):
            raise ConfigurationError(
                f"auth of type {kind.__name__} has no flow for this kind of code: define auth_flow or async_auth_flow"
            )

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` through the flow, and read the whole answer."""
        if not _takes_credentials(wire):
            return await self._engine.send(wire, headers, record)
        steps = _Steps(self._httpx, self._auth, wire, headers)
        try:
            sent = await steps.first()
            while True:
                answer = await self._engine.send(sent, sent.headers, record)
                record.answered()
                following = await steps.after(answer, answer.content)
                if following is None:
                    return answer
                self._builder.store_cookies(sent, answer.headers)
                sent = following
        finally:
            await steps.aclose()

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> AsyncExchange:
        """Send `wire` through the flow, and wait for the head of the answer."""
        if not _takes_credentials(wire):
            return await self._engine.stream(wire, headers, record)
        steps = _Steps(self._httpx, self._auth, wire, headers)
        try:
            sent = await steps.first()
            while True:
                exchange = AsyncKeptExchange(await self._engine.stream(sent, sent.headers, record))
                record.answered()
                try:
                    content = await exchange.keep() if steps.wants_content else exchange.pieces()
                    following = await steps.after(exchange, content)
                    if following is None:
                        return exchange
                    await exchange.keep()
                except BaseException:
                    with shield():
                        await exchange.aclose()
                    raise
                self._builder.store_cookies(sent, exchange.headers)
                sent = following
        finally:
            await steps.aclose()

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()

    def abandon(self) -> None:
        """Abandon the engine."""
        self._engine.abandon()


class _Steps:
    """The flow of one request: what is sent next, from one answer to the other."""

    def __init__(self, httpx: Any, auth: Any, wire: WireRequest, headers: RawHeaders) -> None:
        self._httpx = httpx
        self._wire = wire
        body = wire.body
        content = _pieces(body) if isinstance(body, StreamBody) else body
        self._request: Any = httpx.Request(wire.method, str(wire.target), headers=headers, content=content)
        if not any(name.lower() == b"content-length" for name, _ in headers):
            self._request.headers.pop("content-length", None)  # httpx adds it where the body is sent in chunks
        self._first = self._request
        self._url = self._request.url
        self._stream = self._request.stream
        self._sent_body = False
        self._started = 0.0
        self.wants_content: bool = getattr(auth, "requires_response_body", False)
        self._flow: AsyncGenerator[Any, Any] = auth.async_auth_flow(self._request)

    async def first(self) -> WireRequest:
        """The first request."""
        with users_code:
            self._request = await anext(self._flow)
        return await self._next()

    async def after(self, answer: Head, content: Any) -> WireRequest | None:
        """The request that follows an answer; None if that is the last one."""
        elapsed = time.perf_counter() - self._started
        # What comes with `content` is decoded already.
        headers = [item for item in answer.headers if item[0].lower() not in _FRAMING]
        response = self._httpx.Response(
            answer.status_code,
            headers=headers,
            content=content,
            request=self._request,
            extensions={"http_version": answer.http_version.encode("ascii")},
        )
        response.elapsed = timedelta(seconds=elapsed)
        with users_code:
            try:
                self._request = await self._flow.asend(response)
            except StopAsyncIteration:
                return None
        if self._sent_body and self._streams() and not self._wire.replayable:
            return None
        return await self._next()

    async def aclose(self) -> None:
        """End the flow."""
        with users_code:
            await self._flow.aclose()

    def _streams(self) -> bool:
        return isinstance(self._wire.body, StreamBody) and self._request.stream is self._stream

    async def _next(self) -> WireRequest:
        request, wire = self._request, self._wire
        if request is self._first and request.url == self._url:
            target = wire.target
        else:
            target = parse_url(str(request.url)).target
        if self._streams():
            body = wire.body
            self._sent_body = True
        else:
            body = await request.aread() or None
        self._started = time.perf_counter()
        return WireRequest(request.method, target, request.headers.raw, body, wire.message, redirected=wire.redirected)


class AsyncKeptExchange:
    """An answer that may be read before the one who asked for it does."""

    __slots__ = ("_content", "_exchange", "headers", "http_version", "status_code", "url")

    def __init__(self, exchange: AsyncExchange) -> None:
        self._exchange = exchange
        self._content: bytes | None = None
        self.status_code = exchange.status_code
        self.headers = exchange.headers
        self.http_version = exchange.http_version
        self.url = exchange.url

    async def keep(self) -> bytes:
        """The whole body, which can be read once more."""
        if self._content is None:
            self._content = await self._exchange.read()
        return self._content

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The whole body, when it is asked for; it can be read once more."""
        yield await self.keep()

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        if self._content is None:
            return await self._exchange.read()
        content, self._content = self._content, b""
        return content

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        return await self._exchange.receive() if self._content is None else await self.read()

    async def aclose(self) -> None:
        """End the exchange."""
        await self._exchange.aclose()


_FRAMING = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


def _takes_credentials(wire: WireRequest) -> bool:
    """Not after a redirect to another origin, nor over an `Authorization` of the request's own."""
    return wire.trusted and "authorization" not in wire.message.headers


def _package_of(auth: object) -> Any:
    """The module that `auth` is made for."""
    families = (cls.__module__.partition(".")[0] for cls in type(auth).__mro__)
    return importlib.import_module(next((name for name in families if name in ("httpx", "httpx2")), "httpx"))


def _pieces(body: StreamBody) -> AsyncGenerator[bytes]:
    return (piece async for piece in iterate(body.source))
