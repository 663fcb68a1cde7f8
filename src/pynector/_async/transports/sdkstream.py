"""The answer of a language model that is read piece by piece."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..._concurrency.aio.clock import current_time
from ..._concurrency.aio.colour import ColourGuard
from ..._concurrency.aio.scopes import move_on_at, shield
from ..._config import check_timeout
from ..._lanes import Lane
from ..._messages.sdk import FinishReason, SdkMessage
from ..._messages.usage import Usage
from ..._policies.retry import Failure, RetryPolicy
from ..._sdk.events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from ..._sdk.request import SdkRequest
from ..._telemetry.operation import Generation, Operation
from ...errors import ClosedError, IncompleteStreamError, TimeoutError, TransportError
from ..adapters.base import AsyncSDKAdapter, misbehaving
from ..adapters.sending import Sending, sending
from ..attempts import Record, run_attempts
from ..pacing import AsyncPacer
from ..tracing import begun

if TYPE_CHECKING:
    from .sdk import AsyncSdkTransport


class _Begun:
    """A stream whose first event is there."""

    __slots__ = ("events", "first")

    def __init__(self, events: AsyncGenerator[StreamEvent, None], first: StreamEvent) -> None:
        self.events = events
        self.first = first


class _Opening:
    """Opening a stream, as the retry loop sees it: an attempt ends with the first event."""

    def __init__(self, transport: "AsyncSdkTransport", adapter: AsyncSDKAdapter) -> None:
        self._transport = transport
        self._adapter = adapter
        self.retry_policy = transport.retry_policy
        self.prepare = transport.prepare
        self.excuse = transport.excuse

    async def attempt(self, prepared: SdkRequest, record: Record) -> _Begun:
        await self._transport.connect_once()
        doubt = record.unanswered
        if not self._adapter.reports_sending:
            record.sending()
        token = sending.set(Sending(record, streamed=True))
        events: AsyncGenerator[StreamEvent, None] | None = None
        try:
            events = _generator_of(self._adapter, prepared)
            first = await anext(events)
        except BaseException as exc:
            if events is not None:
                with shield():
                    await events.aclose()
            if isinstance(exc, StopAsyncIteration):
                exc = IncompleteStreamError("the stream ended before its first event", provider=self._adapter.provider)
            if not isinstance(exc, Exception):
                raise
            error = self._transport.told(exc, record, doubt)
            raise error from error.__cause__
        finally:
            sending.reset(token)
        record.answered()
        return _Begun(events, first)

    def lane(self, prepared: SdkRequest) -> Lane:
        return self._transport.lane(prepared)

    def payload(self, prepared: SdkRequest) -> object:
        return self._transport.payload(prepared)

    def judge(self, prepared: SdkRequest, answer: _Begun) -> Failure | None:
        return None

    def finish(self, prepared: SdkRequest, answer: _Begun, *, raise_for_status: bool) -> _Begun:
        return answer


def _generator_of(adapter: AsyncSDKAdapter, prepared: SdkRequest) -> AsyncGenerator[StreamEvent, None]:
    """The events of an adapter, which somebody else may have written."""
    events: object = adapter.stream(prepared)
    if isinstance(events, AsyncGenerator):
        return events
    close = getattr(events, "close", None)
    if callable(close):  # or it may complain, when it is collected, that nobody has used it
        close()
    raise misbehaving(adapter, "stream", events, "async generator")


class _Events:
    """No generator: whoever breaks out of a loop over it leaves nothing behind that event loops complain of."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[], Awaitable[StreamEvent | None]]) -> None:
        self._take = take

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        event = await self._take()
        if event is None:
            raise StopAsyncIteration
        return event


class AsyncSdkStream(ColourGuard):
    """The answer of a language model, as it is written. Entering sends the request; leaving closes the answer.

    Iterating gives its text, piece by piece; `events` gives everything. Failures up to the first event are retried;
    once it is there, nothing is.

    Attributes:
        text: The text so far, also after a failure.
        usage: The tokens it took, as far as the provider has told.
        message: The whole answer, once it has come; None before.

    Example:
        ```python
        async with client.stream("Tell me a story.") as answer:
            async for piece in answer:
                print(piece, end="")
        print(answer.usage)
        ```
    """

    # Slots, and so no vars(): the request may have credentials in it.
    __slots__ = (
        "_adapter",
        "_begin",
        "_data",
        "_deadline",
        "_ended",
        "_events",
        "_first",
        "_how",
        "_operation",
        "_options",
        "_pieces",
        "_record",
        "_request",
        "_started",
        "_timeout",
        "_transport",
        "message",
        "usage",
    )

    def __init__(
        self,
        transport: "AsyncSdkTransport",
        adapter: AsyncSDKAdapter,
        data: Any,
        options: Mapping[str, Any],
        *,
        policy: RetryPolicy,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        log: bool = True,
        pacer: AsyncPacer | None = None,
        begin: Callable[[SdkRequest, Record], Operation | None] | None = None,
    ) -> None:
        self._begin = begin
        self._operation: Operation | None = None
        self._transport = transport
        self._adapter = adapter
        self._data = data
        self._options = options
        self._how = (policy, idempotency_key, log, pacer)
        self._timeout = check_timeout(name="timeout", value=timeout)
        self._deadline = math.inf
        self._events: AsyncGenerator[StreamEvent, None] | None = None
        self._first: StreamEvent | None = None
        self._pieces: list[str] = []
        self._request: SdkRequest | None = None
        self._record = Record()
        self._started = 0.0
        self._ended = False
        self.usage: Usage | None = None
        self.message: SdkMessage | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; None before its end."""
        return None if self.message is None else self.message.finish_reason

    async def __aenter__(self) -> Self:
        if self._request is not None:
            raise RuntimeError("a stream is entered once: ask again for another one")
        idempotency_key = self._how[1]
        opening = _Opening(self._transport, self._adapter)
        prepared = self._request = opening.prepare(self._data, self._options, idempotency_key=idempotency_key)
        self._started = current_time()
        if self._timeout is not None:
            self._deadline = self._started + self._timeout
        record = self._record
        if self._begin is not None:
            self._operation = self._begin(prepared, record)
        opened = await begun(self._operation, self._send, opening, prepared, record)
        self._events, self._first = opened.events, opened.first
        return self

    async def _send(self, opening: _Opening, prepared: SdkRequest, record: Record) -> _Begun:
        policy, _, log, pacer = self._how
        with move_on_at(self._deadline):
            opened: _Begun = await run_attempts(opening, prepared, policy, record, log=log, pacer=pacer)
            return opened
        raise self._timed_out()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        events, self._events = self._events, None
        if events is not None:
            with shield():
                await events.aclose()
        self._end()

    def _end(self, error: BaseException | None = None) -> None:
        """What the span is about is over."""
        if self._operation is not None:
            self._operation.end(error)

    # What comes

    def __aiter__(self) -> Self:
        self._open()
        return self

    async def __anext__(self) -> str:
        """The next piece of the text."""
        while (event := await self._next()) is not None:
            if isinstance(event, TextEvent):
                return event.text
        raise StopAsyncIteration

    def events(self) -> AsyncIterator[StreamEvent]:
        """All that comes: text, calls of tools, usage, and at the end an `EndEvent` with the whole message.

        Raises:
            IncompleteStreamError: The stream ended too early; `partial` has the text that did come.
            SdkTransportError: The provider reported an error in the middle.
            TimeoutError: The timeout has passed.
        """
        self._open()
        return _Events(self._next)

    async def read(self) -> SdkMessage:
        """Read to the end, and return the whole message."""
        while await self._next() is not None:
            pass
        if self.message is None:
            raise ClosedError("this stream has failed before its end")
        return self.message

    def _open(self) -> AsyncGenerator[StreamEvent, None]:
        if self._events is None:
            raise ClosedError(
                f"this {type(self).__name__} is not open: use it with `async with ... as answer:`, and read it in there"
            )
        return self._events

    async def _next(self) -> StreamEvent | None:
        events = self._open()
        if self._ended:
            return None
        event, self._first = self._first, None
        if event is None:
            try:
                event = await self._pull(events)
            except Exception as exc:
                self._end(exc)
                raise
        match event:
            case TextEvent():
                self._pieces.append(event.text)
            case UsageEvent():
                self.usage = event.usage
                if isinstance(self._operation, Generation):
                    self._operation.used(event.usage)
            case EndEvent():
                self.message = event.message
                self.usage = event.message.usage or self.usage
                self._ended = True
                if self._operation is not None:
                    self._operation.answered(event.message)
                    self._operation.end()
            case ToolCallEvent():
                pass
            case _:
                self._ended = True  # type: ignore[unreachable]  # not for an adapter that somebody else has written
                error = misbehaving(self._adapter, "stream", event, "event")
                self._end(error)
                raise error
        return event

    async def _pull(self, events: AsyncGenerator[StreamEvent, None]) -> StreamEvent:
        try:
            with move_on_at(self._deadline):
                return await anext(events)
        except StopAsyncIteration:
            self._ended = True
            error: Exception = IncompleteStreamError(
                "the stream ended without its end marker", partial=self.text, provider=self._adapter.provider
            )
            raise self._counted(error) from None
        except Exception as exc:
            self._ended = True
            error = self._counted(self._adapter.translate_error(exc))
            raise error from error.__cause__ or (None if error is exc else exc)
        self._ended = True
        raise self._timed_out()

    def _counted(self, error: Exception) -> Exception:
        """An error in the middle, with what the retry loop puts on those before."""
        if isinstance(error, TransportError):
            error.attempts, error.elapsed = self._record.attempts, current_time() - self._started
        return error

    def _timed_out(self) -> TimeoutError:
        return TimeoutError(f"not read to its end within {self._timeout or 0:.6g} s: {self._request}")

    def __repr__(self) -> str:
        state = "ended" if self._ended else "not open" if self._events is None else "open"
        return f"<{type(self).__name__} {state}, {len(self._pieces)} pieces>"
