"""Request bodies that are sent piece by piece: multipart forms, files, iterators."""

import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from .._messages.http import HttpMessage
from ..errors import SerializationError

CHUNK = 65536
"""Bytes read from a file at a time."""


@runtime_checkable
class Readable(Protocol):
    """A file opened for reading."""

    def read(self, size: int = -1, /) -> bytes | str: ...


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


class FileChunks:
    """The rest of a file from where it stood, as often as it is iterated, if the file can seek."""

    __slots__ = ("_file", "_start")

    def __init__(self, file: Readable, start: int | None) -> None:
        self._file = file
        self._start = start

    def __iter__(self) -> Iterator[bytes]:
        if self._start is not None:
            self._file.seek(self._start)  # type: ignore[attr-defined]
        while chunk := self._file.read(CHUNK):
            yield chunk.encode("utf-8") if isinstance(chunk, str) else chunk


def stream_body(message: HttpMessage) -> StreamBody | None:
    """The body of `message` if it has to be streamed; None if it has none or one that is in memory.

    Raises:
        SerializationError: The files can't be encoded.
    """
    if message.files is not None:
        return _multipart(message)
    content = message.content_data
    if content is None or isinstance(content, str | bytes):
        return None
    if isinstance(content, Readable):
        return _file(content)
    return StreamBody(content, replayable=message.is_replayable)


def _file(file: Readable) -> StreamBody:
    try:
        start = file.tell()  # type: ignore[attr-defined]
        end = file.seek(0, os.SEEK_END)  # type: ignore[attr-defined]
        file.seek(start)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return StreamBody(FileChunks(file, None))
    # A text file's positions are not byte counts.
    length = end - start if isinstance(file.read(0), bytes) else None
    return StreamBody(FileChunks(file, start), length=length, replayable=True)


def _multipart(message: HttpMessage) -> StreamBody:
    import httpx  # its multipart encoder (RFC 7578) is public through Request

    try:
        request = httpx.Request("POST", "http://localhost", data=_fields(message), files=message.files)
    except (TypeError, ValueError, AttributeError) as exc:
        raise SerializationError(f"files can't be encoded as multipart/form-data: {exc}") from exc
    length = request.headers.get("content-length")
    return StreamBody(
        request.stream,
        length=None if length is None else int(length),
        replayable=message.is_replayable,
        content_type=request.headers["content-type"].encode("ascii"),
    )


def _fields(message: HttpMessage) -> dict[str, object]:
    """The form as httpx wants it beside files: a mapping, repeated keys as lists."""
    form = message.form_data or {}
    fields: dict[str, object] = {}
    for key, value in form.items() if isinstance(form, Mapping) else form:
        if key in fields:
            earlier = fields[key]
            fields[key] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        else:
            fields[key] = list(value) if isinstance(value, tuple | set) else value
    return fields
