"""An HTTP answer that is read piece by piece."""

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ..._concurrency.aio.clock import current_time
from ..._concurrency.aio.colour import ColourGuard
from ..._concurrency.aio.scopes import move_on_at
from ..._config import check_count, check_flag, check_timeout
from ..._http.lines import MAX_LINE_LENGTH, ByteChunks, Lines, TextChunks
from ..._http.sse import CONTENT_TYPE, Events, ServerSentEvent, is_event_stream
from ..._http.wire import WireRequest
from ..._lanes import Lane
from ..._messages.headers import Headers
from ..._messages.http import HttpMessage
from ..._messages.media import charset
from ..._policies.retry import Failure, RetryPolicy
from ..._telemetry.operation import Operation
from ...errors import ClosedError, HTTPDecodeError, TimeoutError
from ..attempts import Record, run_attempts
from ..engines.protocol import AsyncExchange
from ..pacing import AsyncPacer
from ..tracing import begun
from .body import AsyncBody, AsyncPieces

if TYPE_CHECKING:
    from .http import AsyncHTTPTransport


PORTION: Final = 16 * 1024
"""Bytes that are made into lines or events before deadlines are looked at."""

_ITERATION: Final = "iteration or read()"


class _Head(NamedTuple):
    """The head of an answer; for a 4xx or 5xx with its body, so that the connection is free for the next attempt."""

    wire: WireRequest
    exchange: AsyncExchange
    history: tuple[HttpMessage, ...]
    error: HttpMessage | None

    @property
    def status_code(self) -> int:
        return self.exchange.status_code


class _Opening:
    """Opening a stream, as the retry loop sees it: an attempt ends with the head of the answer."""

    def __init__(self, transport: "AsyncHTTPTransport") -> None:
        self._transport = transport
        self.retry_policy = transport.retry_policy
        self.prepare = transport.prepare
        self.excuse = transport.excuse

    async def attempt(self, prepared: WireRequest, record: Record) -> _Head:
        started = time.perf_counter()
        wire, exchange, history = await self._transport.open(prepared, record)
        record.answered()
        error = None
        if exchange.status_code >= 400:
            content = await exchange.read()
            elapsed = time.perf_counter() - started
            error = self._transport.response(wire, exchange, content, elapsed, history)
        return _Head(wire, exchange, history, error)

    def lane(self, prepared: WireRequest) -> Lane:
        return self._transport.lane(prepared)

    def payload(self, prepared: WireRequest) -> object:
        return self._transport.payload(prepared)

    def judge(self, prepared: WireRequest, answer: _Head) -> Failure | None:
        return None if answer.error is None else self._transport.judge(prepared, answer.error)

    def finish(self, prepared: WireRequest, answer: _Head, *, raise_for_status: bool) -> _Head:
        if answer.error is not None and raise_for_status:
            self._transport.finish(prepared, answer.error, raise_for_status=True)
        return answer


class AsyncHTTPStream(ColourGuard):
    """An answer whose body is read as it arrives. Entering sends the request; leaving closes the answer.

    Failures up to the head of the answer are retried; once it is there, nothing is. The body is read once, in one way:
    by iterating over the response, or with one of the `iter_` methods, or with `read`.

    Attributes:
        status_code: The status of the answer.
        headers: Its headers.
        url: Where it came from, after redirects.
        http_version: For example `"HTTP/1.1"`.

    Example:
        ```python
        async with client.stream({"path": "/export"}) as response:
            async for line in response.iter_lines():
                print(line)
        ```
    """

    # Slots, and so no vars(): the request may have credentials in it.
    __slots__ = (
        "_begin",
        "_body",
        "_data",
        "_head",
        "_idempotency_key",
        "_log",
        "_message",
        "_pacer",
        "_policy",
        "_raise_for_status",
        "_started",
        "_timeout",
        "_transport",
        "headers",
        "http_version",
        "status_code",
        "url",
    )

    status_code: int
    headers: Headers
    url: str
    http_version: str

    def __init__(
        self,
        transport: "AsyncHTTPTransport",
        data: Any,
        *,
        policy: RetryPolicy | None = None,
        timeout: float | None = None,
        raise_for_status: bool = True,
        idempotency_key: str | None = None,
        log: bool = True,
        pacer: AsyncPacer | None = None,
        begin: Callable[[WireRequest, Record], Operation | None] | None = None,
    ) -> None:
        self._transport = transport
        self._begin = begin
        self._data = data
        self._policy = policy or transport.retry_policy
        self._timeout = check_timeout(name="timeout", value=timeout)
        self._raise_for_status = raise_for_status
        self._idempotency_key = idempotency_key
        self._log = log
        self._pacer = pacer
        self._started = 0.0
        self._head: _Head
        self._body: AsyncBody | None = None
        self._message: HttpMessage | None = None

    async def __aenter__(self) -> Self:
        opening = _Opening(self._transport)
        prepared = opening.prepare(self._data, {}, idempotency_key=self._idempotency_key)
        deadline = math.inf if self._timeout is None else current_time() + self._timeout
        self._started = time.perf_counter()
        record = Record()
        operation = None if self._begin is None else self._begin(prepared, record)
        head = await begun(operation, self._send, opening, prepared, record, deadline)
        first = b"" if head.error is None else head.error.content
        self._head, self._message = head, None
        self._body = AsyncBody(head.exchange, head.wire, first, deadline, self._timeout, operation)
        self.status_code = head.exchange.status_code
        self.headers = Headers.from_raw(head.exchange.headers)
        self.http_version = head.exchange.http_version
        self.url = head.exchange.url or str(head.wire.target)
        return self

    async def _send(self, opening: _Opening, prepared: WireRequest, record: Record, deadline: float) -> _Head:
        with move_on_at(deadline):
            head: _Head = await run_attempts(
                opening,
                prepared,
                self._policy,
                record,
                raise_for_status=self._raise_for_status,
                log=self._log,
                pacer=self._pacer,
            )
            return head
        raise TimeoutError(
            f"not read to its end within {self._timeout or 0:.6g} s: {prepared.method} {prepared.target.redacted}"
        )

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        body, self._body = self._body, None
        if body is not None:
            await body.aclose()

    # The body

    def __aiter__(self) -> Self:
        self._open().claim(_ITERATION, again=True)
        return self

    async def __anext__(self) -> bytes:
        body = self._open()
        if not body.ended:
            body.claim(_ITERATION, again=True)
        chunk = await body.receive()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def iter_bytes(self, chunk_size: int | None = None) -> AsyncPieces[bytes]:
        """Read the body as bytes, after decompression.

        Args:
            chunk_size: Bytes of each chunk; only the last may be shorter. None for chunks as they arrive, each at once.

        Returns:
            An async iterator. Its `aclose` ends the answer early, as leaving the block does.

        Raises:
            ClosedError: The body is read already; an iterator can be taken up again, but not be asked for twice.
        """
        if chunk_size is not None:
            check_count(chunk_size, "chunk_size")
        return AsyncPieces(self._claimed("iter_bytes()"), ByteChunks(chunk_size), _portion(chunk_size))

    def iter_text(self, chunk_size: int | None = None) -> AsyncPieces[str]:
        """Read the body as text, in the charset of its content type, else UTF-8. What does not fit becomes U+FFFD.

        Args:
            chunk_size: Characters of each chunk; only the last may be shorter. None for chunks as they arrive.

        Returns:
            An async iterator, as that of `iter_bytes`.

        Raises:
            ClosedError: The body is read already.
        """
        if chunk_size is not None:
            check_count(chunk_size, "chunk_size")
        return AsyncPieces(self._claimed("iter_text()"), TextChunks(self._encoding(), chunk_size), _portion(chunk_size))

    def iter_lines(self, *, max_line_length: int | None = MAX_LINE_LENGTH) -> AsyncPieces[str]:
        r"""Read the body line by line. A line ends with `\n`, `\r\n` or `\r`, which is not part of it.

        Args:
            max_line_length: The most characters of a line; None for no limit. A longer one is a
                `ResponseTooLargeError`.

        Returns:
            An async iterator over text, as that of `iter_text`. The last line may have no end.

        Raises:
            ClosedError: The body is read already.
        """
        if max_line_length is not None:
            check_count(max_line_length, "max_line_length")
        return AsyncPieces(self._claimed("iter_lines()"), Lines(self._encoding(), max_line_length), PORTION)

    def iter_events(
        self, *, check_content_type: bool = True, max_event_size: int | None = MAX_LINE_LENGTH
    ) -> AsyncPieces[ServerSentEvent]:
        """Read the body as server-sent events. A last event without the empty line behind it is dropped.

        Args:
            check_content_type: Whether the content type must be `text/event-stream`.
            max_event_size: The most characters of an event; None for no limit. A longer one is a
                `ResponseTooLargeError`.

        Returns:
            An async iterator, as that of `iter_bytes`.

        Raises:
            HTTPDecodeError: The content type is another one.
            ClosedError: The body is read already.
        """
        if max_event_size is not None:
            check_count(max_event_size, "max_event_size")
        body = self._open()
        if check_flag(check_content_type, "check_content_type"):
            kind = self.headers.get("content-type", "")
            if not is_event_stream(kind):
                said = f"of type {kind!r:.80}" if kind else "of no type"
                error = HTTPDecodeError(f"the answer, a {self.status_code}, is {said} and not {CONTENT_TYPE}")
                body.blame(error)
                raise error
        return AsyncPieces(self._claimed("iter_events()"), Events(max_event_size), PORTION)

    async def read(self) -> bytes:
        """Read the body, or what iterating over the response has left of it, in one piece; `text` and `json` have it.

        Returns:
            The bytes; the same ones when it is called again.

        Raises:
            ClosedError: The body is read already in another way.
        """
        message = self._message
        if message is None:
            body, head = self._claimed(_ITERATION, again=True), self._head
            content = await body.read()
            elapsed = time.perf_counter() - self._started
            message = self._transport.response(head.wire, head.exchange, content, elapsed, head.history)
            self._message = message
        return message.content

    def text(self) -> str:
        """What `read` has read, as text. Bytes that do not fit the charset become U+FFFD.

        Raises:
            ClosedError: `read` was not called before.
        """
        return self._read_message("text").text

    def json(self) -> Any:
        """What `read` has read, parsed as JSON.

        Raises:
            DeserializationError: It is not JSON.
            ClosedError: `read` was not called before.
        """
        return self._read_message("json").json()

    def raise_for_status(self) -> Self:
        """Return the stream itself, or raise for a 4xx or 5xx that `raise_for_status=False` let pass.

        Raises:
            HTTPStatusError: The status is 400 or above; the error has the response with its body.
            ClosedError: The stream is not open.
        """
        self._open()
        if self._head.error is not None:
            self._head.error.raise_for_status()
        return self

    # Inside

    def _open(self) -> AsyncBody:
        if self._body is None:
            raise ClosedError(
                f"this {type(self).__name__} is not open: use it with `async with ... as response:`, "
                "and read it in there"
            )
        return self._body

    def _claimed(self, reader: str, *, again: bool = False) -> AsyncBody:
        body = self._open()
        body.claim(reader, again=again)
        return body

    def _encoding(self) -> str:
        return charset(self.headers.get("content-type", "")) or "utf-8"

    def _read_message(self, name: str) -> HttpMessage:
        if self._message is None:
            raise ClosedError(f"{name}() is about what was read: call `await response.read()` before")
        return self._message

    def __repr__(self) -> str:
        state = "closed" if self._body is None else f"{self.status_code} {self._head.wire.target.redacted}"
        return f"<{type(self).__name__} {state}>"


def _portion(chunk_size: int | None) -> int | None:
    return None if chunk_size is None else max(chunk_size, PORTION)
