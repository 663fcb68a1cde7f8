"""The body of an answer, read once, in one way, by one task at a time."""

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar

from ..._concurrency.aio.clock import checkpoint
from ..._concurrency.aio.scopes import move_on_at, shield
from ..._http.lines import PieceDecoder
from ..._http.wire import WireRequest
from ..._telemetry.operation import Operation
from ...errors import ClosedError, HTTPIncompleteError, TimeoutError, TransportError
from ..engines.protocol import AsyncExchange

T = TypeVar("T")


class AsyncBody:
    """What is still to come of an answer.

    Args:
        exchange: Where it comes from.
        wire: What was asked.
        first: What was read of it already.
        deadline: When it has to be read, on the clock of `current_time()`.
        timeout: How many seconds that were, for the text of an error.
        operation: The span of all of it, which ends with it.
    """

    __slots__ = (
        "_busy",
        "_deadline",
        "_ended",
        "_exchange",
        "_first",
        "_operation",
        "_over",
        "_reader",
        "_timeout",
        "_wire",
    )

    def __init__(
        self,
        exchange: AsyncExchange,
        wire: WireRequest,
        first: bytes,
        deadline: float,
        timeout: float | None,
        operation: Operation | None = None,
    ) -> None:
        self._operation = operation
        self._exchange = exchange
        self._wire = wire
        self._first = first
        self._deadline = deadline
        self._timeout = timeout
        self._reader: str | None = None
        self._over: str | None = None
        self._busy = False
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether it was read to its end."""
        return self._ended

    def claim(self, reader: str, *, again: bool = False) -> None:
        """Begin to read it in some way.

        Args:
            reader: How, for the text of an error.
            again: Whether that may be done several times, each with what is left.

        Raises:
            ClosedError: It is read in another way, or was read to its end, or is closed.
        """
        if self._over is not None:
            raise ClosedError(self._over)
        if self._reader is None:
            self._reader = reader
        elif self._reader != reader or not again or self._ended:
            was = "was read to its end" if self._ended else "is read"
            raise ClosedError(f"the body {was} with {self._reader} already: it is read once, and in one way")

    async def receive(self) -> bytes:
        """The next piece; empty at its end.

        Raises:
            ClosedError: It was closed, or broke off before.
            TimeoutError: The deadline has passed.
            TransportError: It broke off.
        """
        if self._over is not None:
            raise ClosedError(self._over)
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._ended:
            return b""
        data = await self._guarded(self._exchange.receive)
        if not data:
            self._ended = True
            self._end()
        return data

    async def pause(self) -> None:
        """Look at deadlines and cancellation, in the middle of what was received at once.

        Raises:
            ClosedError: It was closed.
            TimeoutError: The deadline has passed.
        """
        if self._over is not None:
            raise ClosedError(self._over)
        await self._guarded(checkpoint)

    async def read(self) -> bytes:
        """All that is left, in one piece."""
        chunks = []
        try:
            while chunk := await self.receive():
                chunks.append(chunk)
        except HTTPIncompleteError as exc:
            exc.partial = b"".join([*chunks, exc.partial])
            raise
        return b"".join(chunks)

    async def aclose(self, why: str = "this answer is closed") -> None:
        """End the exchange now: its connection goes back, or is closed if it has more to say.

        Args:
            why: What those who read on are told.
        """
        if self._over is None:
            self._over = why
        with shield():
            await self._exchange.aclose()
        self._end()

    def _end(self, error: BaseException | None = None) -> None:
        if self._operation is not None:
            self._operation.end(error)

    def blame(self, error: TransportError) -> None:
        """Write into an error which request it is about."""
        error.method, error.url = self._wire.method, self._wire.target.redacted
        self._end(error)

    async def _guarded(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take a step, one task at a time. If it fails, that is the end."""
        if self._busy:
            raise RuntimeError("another task is reading this answer: give each task an answer of its own")
        self._busy = True
        try:
            return await self._bounded(step)
        except BaseException as exc:
            self._end(exc)
            await self.aclose(f"the answer broke off before its end: {type(exc).__name__}")
            raise
        finally:
            self._busy = False

    async def _bounded(self, step: Callable[[], Awaitable[T]]) -> T:
        if self._deadline == math.inf:
            return await step()
        with move_on_at(self._deadline):
            return await step()
        raise TimeoutError(
            f"not read to its end within {self._timeout:.6g} s: {self._wire.method} {self._wire.target.redacted}"
        )


class AsyncPieces(Generic[T]):
    """An async iterator over a body, in pieces of one kind. It can be left and taken up again.

    Not a generator: leaving it early leaves nothing behind for the garbage collector. Leaving the block of the
    response, or `aclose`, ends the exchange.

    Args:
        body: What it reads.
        decoder: Makes the pieces.
        most: The most bytes that it is fed at once; None for whatever arrives. They may be thousands of pieces, and
            deadlines are looked at no sooner than when those are gone.
    """

    __slots__ = ("_body", "_decoder", "_ended", "_left", "_most", "_pieces")

    def __init__(self, body: AsyncBody, decoder: PieceDecoder[T], most: int | None) -> None:
        self._body = body
        self._decoder = decoder
        self._most = most
        self._left = memoryview(b"")
        self._pieces: Iterator[T] = iter(())
        self._ended = False

    def __aiter__(self) -> "AsyncPieces[T]":
        return self

    async def __anext__(self) -> T:
        while True:
            try:
                for piece in self._pieces:
                    return piece
            except TransportError as exc:
                self._body.blame(exc)
                await self._body.aclose(f"the answer was given up before its end: {type(exc).__name__}")
                raise
            if self._ended:
                raise StopAsyncIteration
            data = await self._receive()
            self._ended = not data
            self._pieces = self._decoder.feed(data) if data else self._decoder.finish()

    async def _receive(self) -> bytes:
        most = self._most
        if self._left and most is not None:
            await self._body.pause()
        else:
            data = await self._body.receive()
            if most is None or len(data) <= most:
                return data
            self._left = memoryview(data)
        part, self._left = self._left[:most], self._left[most:]
        return part.tobytes()

    async def aclose(self) -> None:
        """End the exchange now. Idempotent."""
        self._pieces = iter(())
        self._left = memoryview(b"")
        if not self._ended:
            await self._body.aclose()
