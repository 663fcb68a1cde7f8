"""Request bodies that pyreqwest takes piece by piece, while whoever sends the request runs their source."""

from collections.abc import AsyncIterator
from typing import Any

from ..._concurrency.aio.colour import iterate
from ..._concurrency.aio.foreign import Feed, OutOfPatienceError, drive_feeding
from ..._http import reqwest
from ..._http.body import StreamBody
from ..._http.wire import RawHeaders, WireRequest
from ...errors import ConnectionTimeoutError, HTTPProtocolError

LARGE = 256 * 1024
"""Bodies above this size are sent in pieces of it: they may take longer than the network may be silent."""


class AsyncUpload:
    """A body on its way out, piece by piece."""

    def __init__(self, wire: WireRequest, headers: RawHeaders, patience: float | None) -> None:
        body = wire.body
        self.feed = Feed()
        source = body.source if isinstance(body, StreamBody) else reqwest.pieces(body or b"", LARGE)
        self._chunks = _Counted(iterate(source), reqwest.declared_length(headers))
        self._patience = patience

    async def drive(self, steps: Any) -> Any:
        """Run what pyreqwest has to do, and the source of the body with it."""
        try:
            return await drive_feeding(steps, self.feed, self._chunks, self._patience)
        except OutOfPatienceError:
            if self.feed.exhausted:
                raise ConnectionTimeoutError("the server sent nothing within the timeout", phase="read") from None
            raise ConnectionTimeoutError("the server took nothing within the timeout", phase="write") from None


class _Counted:
    """The chunks of a body, which must not be larger than was said: what is too much would be cut off silently."""

    __slots__ = ("_chunks", "_left")

    def __init__(self, chunks: AsyncIterator[bytes], length: int | None) -> None:
        self._chunks = chunks
        self._left = length

    def __aiter__(self) -> "_Counted":
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        if self._left is not None:
            self._left -= len(chunk)
            # The last chunk is asked for by its size, and the end after it not at all.
            if self._left < 0 or (self._left == 0 and [extra async for extra in self._chunks if extra]):
                raise HTTPProtocolError("Too much data for declared Content-Length")
        return chunk
