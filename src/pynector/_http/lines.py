"""Bytes into the pieces that the user asked for, whatever pieces they arrive in.

Each decoder is fed what arrives and gives what is complete with it, at once. What a feed gives must be used up before
the next feed. Time and memory are linear in what was fed, also for a line that arrives byte by byte.
"""

import codecs
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Final, Protocol, TypeVar

from ..errors import ResponseTooLargeError

T_co = TypeVar("T_co", covariant=True)

MAX_LINE_LENGTH: Final = 16 * 1024 * 1024
"""Characters of one line, or of one event: an image in base64 fits, an endless line does not."""


_MARKS: Final = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


class PieceDecoder(Protocol[T_co]):
    """Turns bytes into pieces."""

    def feed(self, data: bytes, /) -> Iterator[T_co]:
        """The pieces that `data` completes."""
        ...

    def finish(self) -> Iterator[T_co]:
        """What is left at the end of the body."""
        ...


class ByteChunks:
    """Bytes in chunks of one size; the last one may be shorter.

    Args:
        size: Bytes of a chunk; None for chunks as they arrive.
    """

    __slots__ = ("_held", "_length", "_size")

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._held: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The chunks that `data` completes."""
        size = self._size
        if size is None:
            yield data
            return
        start = 0
        if self._length + len(data) >= size:
            if self._held:
                start = size - self._length
                yield b"".join([*self._held, data[:start]])
                self._held, self._length = [], 0
            while start + size <= len(data):
                yield data[start : start + size]
                start += size
        if start < len(data):
            self._held.append(data[start:])
            self._length += len(data) - start

    def finish(self) -> Iterator[bytes]:
        """The last chunk, if it is a short one."""
        if self._held:
            yield b"".join(self._held)


class TextChunks:
    """Text in chunks of one length; the last one may be shorter.

    Args:
        encoding: A name that Python knows. Bytes that do not fit become U+FFFD.
        size: Characters of a chunk; None for chunks as they arrive.
    """

    __slots__ = ("_decode", "_held", "_length", "_size")

    def __init__(self, encoding: str, size: int | None = None) -> None:
        self._decode = _decoder(encoding)
        self._size = size
        self._held = StringIO()
        self._length = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """The chunks that `data` completes; a character whose bytes are not all there yet has to wait."""
        return self._cut(self._decode(data))

    def finish(self) -> Iterator[str]:
        """The last chunk, if it is a short one."""
        yield from self._cut(self._decode(b"", True))
        if self._length:
            yield self._held.getvalue()

    def _cut(self, text: str) -> Iterator[str]:
        size = self._size
        if size is None:
            if text:
                yield text
            return
        start = 0
        if self._length + len(text) >= size:
            if self._length:
                start = size - self._length
                yield self._held.getvalue() + text[:start]
                self._held, self._length = StringIO(), 0
            while start + size <= len(text):
                yield text[start : start + size]
                start += size
        if start < len(text):
            self._length += self._held.write(text[start:])


def _decoder(encoding: str) -> Callable[..., str]:
    """What decodes text piece by piece."""
    name = codecs.lookup(encoding).name
    if name in _MARKS:
        return _PerhapsMarked(name).decode
    return codecs.getincrementaldecoder(encoding)("replace").decode


class _PerhapsMarked:
    """UTF-16 or UTF-32. Piece by piece, Python's decoders insist on a byte order mark; for a whole body they do not."""

    __slots__ = ("_begun", "_first", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._first = b""
        self._begun: Callable[..., str] | None = None

    def decode(self, data: bytes, final: bool = False) -> str:
        if self._begun is None:
            data = self._first = self._first + data
            marks = _MARKS[self._name]
            if len(data) < len(marks[0]) and not final:
                return ""
            name = self._name if data.startswith(marks) else f"{self._name}-{sys.byteorder[0]}e"
            self._begun = codecs.getincrementaldecoder(name)("replace").decode
        return self._begun(data, final)


class LineSplitter:
    r"""Text into lines, which end with `\n`, `\r\n` or `\r`.

    A `\r` ends its line at once: whether a `\n` follows is seen later, and is not waited for.

    Args:
        limit: The most characters of a line; None for no limit.
        what: What the limit is for, for the text of an error.
    """

    __slots__ = ("_after_return", "_held", "_length", "_limit", "_what")

    def __init__(self, limit: int | None, what: str) -> None:
        self._limit = limit
        self._what = what
        self._held = StringIO()
        self._length = 0
        self._after_return = False

    def feed(self, text: str) -> Iterator[str]:
        """The lines that `text` completes, without their ends.

        Raises:
            ResponseTooLargeError: A line is longer than the limit.
        """
        if self._after_return and text:
            self._after_return = False
            if text[0] == "\n":
                text = text[1:]
        if not text:
            return
        if "\r" in text:
            self._after_return = text[-1] == "\r"
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        for line in lines:
            self._check(len(line))
            if self._length:
                self._held.write(line)
                line = self._held.getvalue()  # noqa: PLW2901
                self._held, self._length = StringIO(), 0
            yield line
        if rest:
            self._check(len(rest))
            self._length += self._held.write(rest)

    def finish(self) -> Iterator[str]:
        """The last line, if it has no end."""
        if self._length:
            yield self._held.getvalue()

    def _check(self, more: int) -> None:
        if self._limit is not None and self._length + more > self._limit:
            raise too_large(self._what, self._limit)


class Lines:
    """Bytes into lines of text.

    Args:
        encoding: A name that Python knows. Bytes that do not fit become U+FFFD.
        limit: The most characters of a line; None for no limit.
    """

    __slots__ = ("_splitter", "_text")

    def __init__(self, encoding: str, limit: int | None = MAX_LINE_LENGTH) -> None:
        self._text = TextChunks(encoding)
        self._splitter = LineSplitter(limit, "a line")

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that `data` completes.

        Raises:
            ResponseTooLargeError: A line is longer than the limit.
        """
        for text in self._text.feed(data):
            yield from self._splitter.feed(text)

    def finish(self) -> Iterator[str]:
        """The last line, if it has no end."""
        for text in self._text.finish():
            yield from self._splitter.feed(text)
        yield from self._splitter.finish()


def too_large(what: str, limit: int) -> ResponseTooLargeError:
    """The error for a line or an event that is longer than `limit`."""
    return ResponseTooLargeError(f"{what} is longer than {limit:,} characters, the limit that was set for it")
