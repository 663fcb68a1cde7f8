"""What a download needs besides the network: where it is written, and what of it can be asked for again."""

import contextlib
import errno
import io
import os
import re
import stat
from dataclasses import dataclass
from inspect import iscoroutine
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from .._messages.headers import Headers
from .._messages.http import HttpMessage
from ..errors import ConfigurationError, HTTPProtocolError

_is_content_range: Final = re.compile(r"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Download:
    """A download that is complete.

    Attributes:
        path: The file it is in, absolute; None if it was written to an open file.
        size: Its size in bytes.
        response: The last answer: status, headers, URL. Its `content` is empty.
    """

    path: Path | None
    size: int
    response: HttpMessage


class Target(Protocol):
    """Where a download is written. Nothing is touched before `open`."""

    @property
    def path(self) -> Path | None:
        """The file it is in at the end, if it is known by a path."""
        ...

    @property
    def rewindable(self) -> bool:
        """Whether what was written can be taken back."""
        ...

    @property
    def slow(self) -> bool:
        """Whether a write may wait for a disk."""
        ...

    def open(self) -> None:
        """Get ready for the first byte; a second call does nothing."""
        ...

    def write(self, pieces: list[bytes]) -> None:
        """Write all of them."""
        ...

    def rewind(self) -> None:
        """Take back what was written."""
        ...

    def commit(self) -> None:
        """It is complete."""
        ...

    def discard(self) -> None:
        """Leave nothing half done behind. Does nothing after `commit`."""
        ...


class PathTarget:
    """A path: it gets its file when the file is complete, and until then stays as it was.

    Args:
        path: The path.
        overwrite: Whether there may be a file.

    Raises:
        ConfigurationError: The path is of a device or another thing that is not replaced by a file.
        OSError: The folder does not exist, or the path is a folder, or (without `overwrite`) exists.
    """

    rewindable = True
    slow = True

    def __init__(self, path: str, *, overwrite: bool) -> None:
        # A link stays, and what it leads to is replaced.
        self.path = Path(os.path.realpath(path))
        self._overwrite = overwrite
        self._temporary = self.path  # until there is one
        self._file: BinaryIO | None = None
        try:
            mode = os.lstat(self.path).st_mode
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "no such folder to download to", str(self.path.parent)) from None
            return
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "a download needs the name of a file", str(self.path))
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "the file exists, and overwrite=False", str(self.path))
        if not stat.S_ISREG(mode):
            raise ConfigurationError(f"{self.path} is no regular file: open it, and give the open file")

    def open(self) -> None:
        """Make a temporary file in the same folder, so that renaming it is all that is left to do."""
        if self._file is None:
            name = f".{self.path.name[:40]}.{os.urandom(8).hex()}.part"
            self._temporary = self.path.with_name(name)
            # Not by `tempfile`: it would be readable by its owner only, whatever the umask says.
            self._file = open(self._temporary, "xb", buffering=0)  # noqa: SIM115

    def write(self, pieces: list[bytes]) -> None:
        """Write all of them."""
        _write_all(self._opened(), pieces)

    def rewind(self) -> None:
        """Make the file empty."""
        file = self._opened()
        file.seek(0)
        file.truncate()

    def commit(self) -> None:
        """Give the file its name."""
        self._opened().close()
        if self._overwrite:
            os.replace(self._temporary, self.path)
        else:
            _rename_to_new(self._temporary, self.path)
        self._temporary = self.path

    def discard(self) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if self._temporary != self.path:
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise RuntimeError("open() comes first")
        return self._file


class FileTarget:
    """A file of the user's, from where it stands. It is never closed.

    Args:
        file: Opened for writing bytes.

    Raises:
        ConfigurationError: It is no such thing.
    """

    path = None

    def __init__(self, file: Any) -> None:
        if not callable(getattr(file, "write", None)):
            raise ConfigurationError(
                f"to is of type {type(file).__name__}: give a path, or a file that is open for writing"
            )
        if isinstance(file, io.TextIOBase) or hasattr(file, "encoding"):
            raise ConfigurationError('to is a file for text: open it in binary mode, "wb"')
        if getattr(file, "closed", False) is True:
            raise ConfigurationError("to is a file that is closed: it must stay open until the download has ended")
        self._file = file
        # Only where it is sure that the file does not care which thread it is used in.
        self.slow = isinstance(file, io.BufferedWriter | io.BufferedRandom | io.FileIO)
        self._start = 0
        self.rewindable = False

    def open(self) -> None:
        """Remember where the file stands, if it can go back there."""
        if not self.rewindable:
            try:
                self.rewindable = bool(self._file.seekable())
                self._start = self._file.tell() if self.rewindable else 0
            except (AttributeError, OSError):
                self.rewindable = False

    def write(self, pieces: list[bytes]) -> None:
        """Write all of them."""
        _write_all(self._file, pieces)

    def rewind(self) -> None:
        """Cut the file where it stood."""
        self._file.seek(self._start)
        self._file.truncate()

    def commit(self) -> None:
        """Hand on what the file has buffered."""
        if callable(flush := getattr(self._file, "flush", None)):
            flush()

    def discard(self) -> None:
        """Nothing: what was written to a file of the user's stays."""


def make_target(to: Any, *, overwrite: bool) -> Target:
    """What `to=` of a download means.

    Raises:
        ConfigurationError: It is no path and no file, or one that can't be written to.
        OSError: The path can't be written to.
    """
    if isinstance(to, str | os.PathLike):
        path = os.fspath(to)
        if not isinstance(path, str) or not path or "\0" in path:
            raise ConfigurationError(f"to={path!r:.80} is no usable path")
        return PathTarget(path, overwrite=overwrite)
    return FileTarget(to)


class Ranges:
    """How the rest of something is asked for, when a part of it is here (RFC 9110, 13.1.5 and 14).

    Attributes:
        total: The size of the whole in bytes, if the server told.
    """

    __slots__ = ("_validator", "total")

    def __init__(self) -> None:
        self._validator: str | None = None
        self.total: int | None = None

    @property
    def resumable(self) -> bool:
        """Whether there is something to tell the same content from another one by."""
        return self._validator is not None

    def begin(self, headers: Headers) -> None:
        """Learn from the head of an answer that has it all."""
        self._validator = self.total = None
        if _is_encoded(headers):
            return  # counts and ranges are of the encoded bytes, and decoded ones are written
        length = headers.get("content-length", "").strip()
        if length.isascii() and length.isdigit() and len(length) < 19:
            self.total = int(length)
        if headers.get("accept-ranges", "").strip().lower() != "none":
            self._validator = _strong_validator(headers)

    def forget(self) -> None:
        """Ask for all of it next time."""
        self._validator = self.total = None

    def ask(self, size: int) -> list[tuple[bytes, str]]:
        """The headers that ask for what comes behind `size` bytes, if it is still the same content."""
        if self._validator is None:
            return []
        return [(b"Range", f"bytes={size}-"), (b"If-Range", self._validator)]

    def check(self, headers: Headers, size: int) -> None:
        """Make sure that an answer goes on behind `size` bytes of the same content.

        Raises:
            HTTPProtocolError: It does not. The next attempt will ask for all of it.
        """
        match = _is_content_range(headers.get("content-range", "").strip())
        total = None if match is None or match[3] == "*" else int(match[3])
        tag = headers.get("etag")
        if (
            match is None
            or _is_encoded(headers)
            or int(match[1]) != size
            or (total is not None and self.total is not None and total != self.total)
            or (tag is not None and (self._validator or "").startswith('"') and tag.strip() != self._validator)
        ):
            self.forget()
            said = headers.get("content-range", "no range")
            raise HTTPProtocolError(f"asked for what follows byte {size}, got {said!r:.80}", transient=True)
        if total is not None:
            self.total = total


def _is_encoded(headers: Headers) -> bool:
    return headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


def _strong_validator(headers: Headers) -> str | None:
    """What tells this content from every other one, byte for byte; None if there is nothing that does."""
    tag = headers.get("etag", "").strip()
    if tag:
        return tag if len(tag) > 1 and tag[0] == tag[-1] == '"' else None
    modified, date = headers.get("last-modified"), headers.get("date")
    if modified is None or date is None:
        return None
    from email.utils import parsedate_to_datetime  # slow to import

    try:
        # Changed twice within a second, a file would have the same time both times (RFC 9110, 8.8.2.2).
        strong = (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= 1
    except (ValueError, TypeError):
        return None
    return modified.strip() if strong else None


def _write_all(file: Any, pieces: list[bytes]) -> None:
    for piece in pieces:
        rest: bytes | memoryview = piece
        while rest:
            written = file.write(rest)
            if iscoroutine(written):
                written.close()
                raise ConfigurationError(f"to: write() of a {type(file).__name__} is async; give a plain file")
            if written is None and isinstance(file, io.RawIOBase):
                raise BlockingIOError(errno.EAGAIN, "the file takes nothing now: download needs a blocking one")
            if not isinstance(written, int) or written >= len(rest):
                break
            rest = memoryview(rest)[written:]  # a file without a buffer may take a part only


def _rename_to_new(source: Path, target: Path) -> None:
    """Rename a file, unless the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the last look is not quite the rename
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "the file exists, and overwrite=False", str(target)) from None
        source.rename(target)
    else:
        source.unlink()
