"""Request bodies that are sent piece by piece: multipart forms, files, iterators."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from .._messages.http import HttpMessage
from ..errors import SerializationError
from .family import loaded
from .files import FileChunks, Readable, measure, shared_view


class StreamBody:
    """A body that is not in memory.

    Attributes:
        length: Its size in bytes, None if unknown (then it is sent chunked).
        replayable: Whether it can be sent again, for a retry or a redirect.
    """

    __slots__ = ("content_type", "length", "replayable", "source")

    def __init__(
        self,
        source: Iterable[bytes] | AsyncIterable[bytes],
        *,
        length: int | None = None,
        replayable: bool = False,
        content_type: bytes | None = None,
    ) -> None:
        self.source = source
        self.length = length
        self.replayable = replayable
        self.content_type = content_type


class _Chunks:
    """What the user gave as chunks, each of them checked."""

    __slots__ = ("_source",)

    def __init__(self, source: Iterable[bytes]) -> None:
        self._source = source

    def __iter__(self) -> Iterator[bytes]:
        return map(_checked_chunk, self._source)


class _AsyncChunks:
    """The same for an async iterable."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _CheckedSteps(aiter(self._source))


class _EitherChunks:
    """The same for what can be iterated over in both ways."""

    __slots__ = ("_source",)

    def __init__(self, source: Any) -> None:
        self._source = source

    __iter__ = _Chunks.__iter__
    __aiter__ = _AsyncChunks.__aiter__


class _CheckedSteps:
    # No async generator: one that is left half-way would be finalised by the garbage collector.
    __slots__ = ("_steps",)

    def __init__(self, steps: AsyncIterator[bytes]) -> None:
        self._steps = steps

    def __aiter__(self) -> "_CheckedSteps":
        return self

    async def __anext__(self) -> bytes:
        return _checked_chunk(await anext(self._steps))


def stream_body(message: HttpMessage) -> StreamBody | None:
    """The body of `message` if it has to be streamed; None if it has none or one that is in memory.

    Raises:
        SerializationError: The files can't be encoded, or a file is closed.
    """
    if message.files is not None:
        return _multipart(message)
    content = message.content_data
    if content is None or isinstance(content, str | bytes):
        return None
    if isinstance(content, Readable):
        length, start = measure(content)
        return StreamBody(FileChunks(content, start), length=length, replayable=start is not None)
    if isinstance(content, list | tuple):
        for chunk in content:
            _checked_chunk(chunk)  # as long as nothing is sent
    return StreamBody(_checked_chunks(content), replayable=message.is_replayable)


def _checked_chunks(content: Iterable[bytes] | AsyncIterable[bytes]) -> Iterable[bytes] | AsyncIterable[bytes]:
    if not isinstance(content, AsyncIterable):
        return _Chunks(content)
    return _EitherChunks(content) if isinstance(content, Iterable) else _AsyncChunks(content)


def _checked_chunk(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise SerializationError(f"content: a chunk of the body must be bytes, not {type(chunk).__name__}")


def _multipart(message: HttpMessage) -> StreamBody:
    httpx = loaded()  # its multipart encoder (RFC 7578) is public through Request
    try:
        request = httpx.Request("POST", "http://localhost", data=_fields(message), files=_uploads(message))
    except (TypeError, ValueError, AttributeError) as exc:
        raise SerializationError(f"files can't be encoded as multipart/form-data: {exc}") from exc
    length = request.headers.get("content-length")
    return StreamBody(
        request.stream,
        length=None if length is None else int(length),
        replayable=message.is_replayable,
        content_type=request.headers["content-type"].encode("ascii"),
    )


def _uploads(message: HttpMessage) -> list[tuple[str, Any]]:
    """The files as httpx wants them, but that each request reads an open file on its own."""
    files: Any = message.files
    uploads = []
    for name, upload in files.items() if isinstance(files, Mapping) else files:
        if isinstance(upload, tuple | list):
            filename, content, *kind = upload
            uploads.append((name, (filename, shared_view(content), *kind)))
        else:
            uploads.append((name, shared_view(upload)))
    return uploads


def _fields(message: HttpMessage) -> dict[str, object]:
    """The form as httpx wants it beside files: a mapping, repeated keys as lists."""
    form = message.form_data or {}
    fields: dict[str, object] = {}
    for item in form.items() if isinstance(form, Mapping) else form:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise SerializationError(f"form: expected pairs (name, value), got {type(item).__name__} among them")
        key, value = item
        if key in fields:
            earlier = fields[key]
            fields[key] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        else:
            fields[key] = list(value) if isinstance(value, tuple | set) else value
    return fields
