"""Reading open files that several requests may send at the same time."""

import os
from collections.abc import Iterator
from inspect import iscoroutine
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

from .._mutex import ProcessMutex
from ..errors import SerializationError

CHUNK = 65536
"""Bytes read from a file at a time."""


@runtime_checkable
class Readable(Protocol):
    """A file opened for reading."""

    def read(self, size: int = -1, /) -> bytes | str: ...


class FileView:
    """A file that can seek, read from a place of its own: the position of the file itself stays where it was.

    Args:
        file: The file. Requests in other tasks and threads may have views of it too.
        at: Where reading begins.
    """

    __slots__ = ("_at", "_file", "_mutex")

    def __init__(self, file: Any, at: int) -> None:
        self._file = file
        self._at = at
        self._mutex = _mutex_of(file)

    @property
    def name(self) -> object:
        """That of the file, which httpx looks for."""
        return getattr(self._file, "name", "upload")

    def read(self, size: int = -1, /) -> bytes | str:
        """The next piece."""
        file = self._file
        with self._mutex:
            position = file.tell()
            file.seek(self._at)
            piece = read(file, size)
            self._at = file.tell()
            file.seek(position)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the place that is read next."""
        with self._mutex:
            position = self._file.tell()
            if whence == os.SEEK_CUR:
                offset, whence = self._at + offset, os.SEEK_SET
            self._file.seek(offset, whence)
            self._at = self._file.tell()
            self._file.seek(position)
        return self._at

    def tell(self) -> int:
        """The place that is read next."""
        return self._at


class FileChunks:
    """The rest of a file from where it stood, as often as it is iterated, if the file can seek."""

    __slots__ = ("_file", "_start")

    def __init__(self, file: Readable, start: int | None) -> None:
        self._file = file
        self._start = start

    def __iter__(self) -> Iterator[bytes]:
        source = self._file if self._start is None else FileView(self._file, self._start)
        while chunk := read(source, CHUNK):
            yield chunk.encode("utf-8") if isinstance(chunk, str) else chunk


def measure(file: Any) -> tuple[int | None, int | None]:
    """How much of a file there is to send, in bytes, and where it stands; None for what can't be told.

    Raises:
        SerializationError: It is closed.
    """
    check_open(file)
    try:
        with _mutex_of(file):
            start = file.tell()
            end = file.seek(0, os.SEEK_END)
            file.seek(start)
            # A text file's positions are not byte counts.
            counts = isinstance(read(file, 0), bytes)
    except (AttributeError, OSError):
        return None, None
    return end - start if counts else None, start


def shared_view(content: Any) -> Any:
    """A view of its own for a file that can seek; anything else as it is.

    Raises:
        SerializationError: The file is closed.
    """
    if not isinstance(content, Readable):
        return content
    _, start = measure(content)
    return content if start is None else FileView(content, start)


def check_open(file: object) -> None:
    """Raise if a file is closed."""
    if getattr(file, "closed", False) is True:
        raise SerializationError("content: the file is closed; it must stay open until the request has ended")


def read(file: Any, size: int) -> bytes | str:
    """A piece of a file, which is a text or bytes."""
    piece: object = file.read(size)
    if isinstance(piece, bytes | str):
        return piece
    if iscoroutine(piece):
        piece.close()
    raise SerializationError(f"content: read() of a {type(file).__name__} gave {type(piece).__name__}, not bytes")


_mutexes: WeakValueDictionary[int, ProcessMutex] = WeakValueDictionary()
_mutexes_mutex = ProcessMutex()


def _mutex_of(file: object) -> ProcessMutex:
    """The mutex of a file: the same one as long as somebody holds it."""
    # By identity: files need be neither hashable nor open to weak references.
    with _mutexes_mutex:
        mutex = _mutexes.get(id(file))
        if mutex is None:
            mutex = _mutexes[id(file)] = ProcessMutex()
        return mutex
