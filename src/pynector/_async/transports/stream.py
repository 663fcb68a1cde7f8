"""An HTTP answer that is read piece by piece."""

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ..._concurrency.aio.clock import current_time
from ..._concurrency.aio.colour import ColourGuard
from ..._concurrency.aio.scopes import move_on_at, shield
from ..._config import check_timeout
from ..._http.wire import WireRequest
from ..._messages.headers import Headers
from ..._messages.http import HttpMessage
from ..._policies.retry import Failure, RetryPolicy
from ...errors import ClosedError, TimeoutError
from ..attempts import Record, run_attempts
from ..engines.protocol import AsyncExchange

if TYPE_CHECKING:
    from .http import AsyncHTTPTransport


class _Head(NamedTuple):
    """The head of an answer; for a 4xx or 5xx with its body, so that the connection is free for the next attempt."""

    wire: WireRequest
    exchange: AsyncExchange
    error: HttpMessage | None


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
        return _Head(wire, exchange, error)

    def judge(self, prepared: WireRequest, answer: _Head) -> Failure | None:
        return None if answer.error is None else self._transport.judge(prepared, answer.error)

    def finish(self, prepared: WireRequest, answer: _Head, *, raise_for_status: bool) -> _Head:
        if answer.error is not None and raise_for_status:
            self._transport.finish(prepared, answer.error, raise_for_status=True)
        return answer


class AsyncHTTPStream(ColourGuard):
    """An answer whose body is read as it arrives. Entering sends the request; leaving closes the answer.

    Failures up to the head of the answer are retried; once it is there, nothing is.

    Attributes:
        status_code: The status of the answer.
        headers: Its headers.
        url: Where it came from, after redirects.
        http_version: For example `"HTTP/1.1"`.

    Example:
        ```python
        async with client.stream({"path": "/export"}) as response:
            async for chunk in response:
                file.write(chunk)
        ```
    """

    # Slots, and so no vars(): the request may have credentials in it.
    __slots__ = (
        "_data",
        "_deadline",
        "_head",
        "_idempotency_key",
        "_log",
        "_pending",
        "_policy",
        "_raise_for_status",
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
    ) -> None:
        self._transport = transport
        self._data = data
        self._policy = policy or transport.retry_policy
        self._timeout = check_timeout(name="timeout", value=timeout)
        self._deadline = math.inf
        self._raise_for_status = raise_for_status
        self._idempotency_key = idempotency_key
        self._log = log
        self._head: _Head | None = None
        self._pending = b""

    async def __aenter__(self) -> Self:
        opening = _Opening(self._transport)
        prepared = opening.prepare(self._data, {}, idempotency_key=self._idempotency_key)
        if self._timeout is not None:
            self._deadline = current_time() + self._timeout
        with move_on_at(self._deadline):
            self._head = await run_attempts(
                opening, prepared, self._policy, Record(), raise_for_status=self._raise_for_status, log=self._log
            )
        if self._head is None:
            raise self._late(prepared)
        if self._head.error is not None:
            self._pending = self._head.error.content
        self.status_code = self._head.exchange.status_code
        self.headers = Headers.from_raw(self._head.exchange.headers)
        self.http_version = self._head.exchange.http_version
        self.url = self._head.exchange.url or str(self._head.wire.target)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        head, self._head = self._head, None
        if head is not None:
            with shield():
                await head.exchange.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._receive()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def raise_for_status(self) -> Self:
        """Return the stream itself, or raise for a 4xx or 5xx that `raise_for_status=False` let pass.

        Raises:
            HTTPStatusError: The status is 400 or above; the error has the response with its body.
            ClosedError: The stream is not open.
        """
        if self._head is None:
            raise self._closed()
        if self._head.error is not None:
            self._head.error.raise_for_status()
        return self

    async def read(self) -> bytes:
        """The rest of the body, in one piece."""
        chunks = []
        while chunk := await self._receive():
            chunks.append(chunk)
        return b"".join(chunks)

    async def _receive(self) -> bytes:
        head = self._head
        if head is None:
            raise self._closed()
        if self._pending:
            chunk, self._pending = self._pending, b""
            return chunk
        if self._deadline == math.inf:
            return await head.exchange.receive()
        with move_on_at(self._deadline):
            return await head.exchange.receive()
        raise self._late(head.wire)

    def _closed(self) -> ClosedError:
        return ClosedError(
            f"this {type(self).__name__} is not open: use it with `async with ... as response:`, and read it in there"
        )

    def _late(self, wire: WireRequest) -> TimeoutError:
        return TimeoutError(f"not read to its end within {self._timeout:.6g} s: {wire.method} {wire.target.redacted}")

    def __repr__(self) -> str:
        state = "closed" if self._head is None else f"{self.status_code} {self._head.wire.target.redacted}"
        return f"<{type(self).__name__} {state}>"
