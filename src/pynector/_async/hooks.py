"""Hooks: the user's callables that see every exchange on the wire."""

import time

from .._concurrency.aio.colour import settle
from .._concurrency.aio.scopes import shield
from .._http.arguments import Hooks
from .._http.callbacks import Head, answer_message, sent_message, users_code, with_headers
from .._http.wire import RawHeaders, WireRequest
from .._messages.body import JsonCodec
from .._messages.http import HttpMessage
from .attempts import Record
from .engines.protocol import Answer, AsyncEngine, AsyncExchange


class AsyncHookedEngine:
    """An engine that calls hooks before and after each of its exchanges.

    Args:
        engine: What sends.
        hooks: The hooks.
        codec: What answers parse JSON with.
    """

    def __init__(self, engine: AsyncEngine, hooks: Hooks, codec: JsonCodec | None) -> None:
        self._engine = engine
        self._hooks = hooks
        self._codec = codec

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` and read the whole answer, with the hooks around it."""
        request = await self._before(wire, headers)
        started = time.perf_counter()
        answer = await self._engine.send(wire, request.headers.raw, record)
        record.answered()
        await self._after(answer, answer.content, request, time.perf_counter() - started)
        return answer

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> AsyncExchange:
        """Send `wire` and wait for the head of the answer, with the hooks around it."""
        request = await self._before(wire, headers)
        started = time.perf_counter()
        exchange = await self._engine.stream(wire, request.headers.raw, record)
        record.answered()
        try:
            await self._after(exchange, b"", request, time.perf_counter() - started)
        except BaseException:
            with shield():
                await exchange.aclose()
            raise
        return exchange

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()

    def abandon(self) -> None:
        """Abandon the engine."""
        self._engine.abandon()

    async def _before(self, wire: WireRequest, headers: RawHeaders) -> HttpMessage:
        request = sent_message(wire, headers)
        for hook in self._hooks.request:
            with users_code:
                returned = await settle(hook(request))
            if returned is not None:
                changed = with_headers(headers, returned, "a request hook")
                request, headers = sent_message(wire, changed), changed
        return request

    async def _after(self, answer: Head, content: bytes, request: HttpMessage, elapsed: float) -> None:
        if not self._hooks.response:
            return
        response = answer_message(answer, content, request, elapsed, self._codec)
        for hook in self._hooks.response:
            with users_code:
                await settle(hook(response))
