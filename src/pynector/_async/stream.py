"""A streamed answer, as the client hands it out."""

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn

from .._concurrency.aio.colour import ColourGuard


class AsyncClientStream(ColourGuard):
    """An async context manager around the stream of a transport. Entering sends the request."""

    # Slots, and so no vars(): the request may have credentials in it.
    __slots__ = ("_data", "_open_stream", "_options", "_stream")

    def __init__(
        self,
        open_stream: Callable[[Any, Mapping[str, Any]], Awaitable[Any]],
        data: Any,
        options: Mapping[str, Any],
    ) -> None:
        self._open_stream = open_stream
        self._data = data
        self._options = options
        self._stream: Any = None

    def __aiter__(self) -> NoReturn:
        raise TypeError("a stream is read inside its with block: `async with client.stream(...) as response`")

    async def __aenter__(self) -> Any:
        self._stream = await self._open_stream(self._data, self._options)
        return await self._stream.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        suppress: bool | None = await self._stream.__aexit__(exc_type, exc, traceback)
        return suppress
