"""Spans and measurements around requests on the wire, and around the calls that they are made for."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .._concurrency.aio.clock import current_time
from .._concurrency.aio.scopes import current_effective_deadline
from .._http.wire import RawHeaders, WireRequest
from .._sdk.request import SdkRequest
from .._telemetry import semconv
from .._telemetry.attempt import HTTPAttempt, sent_headers, start_attempt
from .._telemetry.operation import Operation, start_generation, start_operation
from .._telemetry.tracing import Tracing, suppressed, tracing
from ..errors import TimeoutError
from .attempts import Record
from .engines.protocol import Answer, AsyncEngine, AsyncExchange

T = TypeVar("T")


def traced(engine: AsyncEngine, *, foreign: bool = False) -> AsyncEngine:
    """An engine with spans, if there is anything to make them with.

    Args:
        engine: What sends.
        foreign: Whether it is the application's own client, which may be instrumented itself.
    """
    found = tracing()
    return engine if found is None else AsyncTracedEngine(engine, found, foreign=foreign)


class AsyncTracedEngine:
    """An engine each of whose exchanges is a span, that sends the context of this span along.

    Args:
        engine: What sends.
        found: What spans are made with.
        foreign: Whether it is the application's own client. If that is instrumented as well, it is told to leave its
            spans out: there would be two for each request.
    """

    def __init__(self, engine: AsyncEngine, found: Tracing, *, foreign: bool = False) -> None:
        self._engine = engine
        self._tracing = found
        self._foreign = foreign

    async def send(self, wire: WireRequest, headers: RawHeaders, record: Record) -> Answer:
        """Send `wire` and read the whole answer."""
        if record.spans is None or self._tracing.is_idle():
            return await self._engine.send(wire, headers, record)
        attempt, headers = self._begin(wire, headers, record)
        if attempt is None:
            return await self._engine.send(wire, headers, record)
        deadline = current_effective_deadline()
        try:
            if self._foreign:
                with suppressed(self._tracing, attempt):
                    answer = await self._engine.send(wire, headers, record)
            else:
                answer = await self._engine.send(wire, headers, record)
        except BaseException as exc:
            attempt.peer = record.peer
            attempt.end(reason(exc, deadline))
            raise
        attempt.peer = record.peer
        attempt.answered(answer.status_code, answer.http_version)
        attempt.end()
        return answer

    async def stream(self, wire: WireRequest, headers: RawHeaders, record: Record) -> AsyncExchange:
        """Send `wire` and wait for the head of the answer; the span goes on until its end."""
        if record.spans is None or self._tracing.is_idle():
            return await self._engine.stream(wire, headers, record)
        attempt, headers = self._begin(wire, headers, record)
        if attempt is None:
            return await self._engine.stream(wire, headers, record)
        deadline = current_effective_deadline()
        try:
            if self._foreign:
                with suppressed(self._tracing, attempt):
                    exchange = await self._engine.stream(wire, headers, record)
            else:
                exchange = await self._engine.stream(wire, headers, record)
        except BaseException as exc:
            attempt.peer = record.peer
            attempt.end(reason(exc, deadline))
            raise
        attempt.peer = record.peer
        attempt.answered(exchange.status_code, exchange.http_version)
        return AsyncTracedExchange(exchange, attempt, deadline)

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()

    def abandon(self) -> None:
        """Abandon the engine."""
        self._engine.abandon()

    def _begin(self, wire: WireRequest, headers: RawHeaders, record: Record) -> tuple[HTTPAttempt | None, RawHeaders]:
        spans = record.spans or 0
        record.peer = None
        attempt = start_attempt(self._tracing, wire, spans)
        if spans >= 0:
            record.spans = spans + 1
        return attempt, sent_headers(self._tracing, wire, headers, attempt)


class AsyncTracedExchange:
    """An answer that comes in, and the span that ends with it: at its end, at a failure, or when it is closed."""

    __slots__ = ("_attempt", "_deadline", "_exchange", "headers", "http_version", "status_code", "url")

    def __init__(self, exchange: AsyncExchange, attempt: HTTPAttempt, deadline: float) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._deadline = deadline
        self.status_code = exchange.status_code
        self.headers = exchange.headers
        self.http_version = exchange.http_version
        self.url = exchange.url

    async def read(self) -> bytes:
        """The whole body, decoded. Ends the exchange."""
        try:
            content = await self._exchange.read()
        except BaseException as exc:
            self._attempt.end(reason(exc, self._deadline))
            raise
        self._attempt.end()
        return content

    async def receive(self) -> bytes:
        """The next piece of the body, decoded; empty at its end, which ends the exchange."""
        try:
            piece = await self._exchange.receive()
        except BaseException as exc:
            self._attempt.end(reason(exc, self._deadline))
            raise
        if not piece:
            self._attempt.end()
        return piece

    async def aclose(self) -> None:
        """End the exchange."""
        try:
            await self._exchange.aclose()
        finally:
            self._attempt.end()


def reason(error: BaseException, deadline: float) -> BaseException:
    """Why something ended: of a cancellation by a deadline that has passed, that this was so.

    Args:
        error: What was raised.
        deadline: That of the scopes around it before: of one that is cancelled nobody can say why.
    """
    if isinstance(error, Exception) or current_time() < deadline:
        return error
    return TimeoutError("the deadline has passed")


# What the application asks for


def begin(
    attempts: Any,
    prepared: Any,
    record: Record,
    *,
    name: str = semconv.REQUEST,
    streamed: bool = False,
    spans: bool = True,
) -> Operation | None:
    """Start the span of a call, whatever kind it is of.

    Args:
        attempts: What the retry loop sends it through.
        prepared: What is sent.
        record: What happens to it.
        name: Of the span, if it is no question to a language model.
        streamed: Whether the answer is read as it comes.
        spans: Whether there is a span; else it is measured only, if it is a question to a language model.

    Returns:
        It has to be ended; None if nothing would be recorded.
    """
    index = getattr(record, "index", None)
    attributes = {} if index is None else {semconv.BATCH_INDEX: index}
    if isinstance(prepared, SdkRequest):
        adapter = attempts.adapter
        return start_generation(
            prepared,
            record,
            attributes,
            provider=adapter.provider,
            base_url=getattr(adapter, "base_url", None),
            streamed=streamed,
            spans=spans,
        )
    return start_operation(name, record, attributes) if spans else None


async def within(operation: Operation, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Call something, as what `operation` is about, and end it by that."""
    answer = await begun(operation, fn, *args)
    operation.answered(answer)
    operation.end()
    return answer


async def begun(operation: Operation | None, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Call something that is the beginning of what `operation` is about: it ends if that fails."""
    if operation is None:
        return await fn(*args)
    try:
        with operation.current():
            answer = await fn(*args)
    except BaseException as exc:
        operation.end(exc)
        raise
    operation.begun()
    return answer
