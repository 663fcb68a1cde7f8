"""Where rows are written: a file, which can be gone on with, or a stream."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import BinaryIO, Final, Protocol

from . import rows


class OutputError(Exception):
    """The output can't be used; the text says why, and what to do."""


class Output(Protocol):
    """Takes rows.

    Attributes:
        done: The digests of the requests that need not be sent again.
        name: What it is called, for messages.
        resumable: Whether a later run can go on with it.
    """

    done: set[bytes]
    name: str
    resumable: bool

    def write(self, line: bytes) -> None:
        """Write a line; it has left this process when the call returns."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


def digest(custom_id: str) -> bytes:
    """What is kept of a `custom_id`: 16 bytes, however long it is."""
    return blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class StreamOutput:
    """Rows to a pipe or a device.

    Args:
        stream: Where they go.
        name: What it is called.
        owned: Whether it is closed with this.
    """

    resumable = False

    def __init__(self, stream: BinaryIO, name: str, *, owned: bool = False) -> None:
        self._stream = stream
        self._owned = owned
        self.name = name
        self.done: set[bytes] = set()

    def write(self, line: bytes) -> None:
        """Write a line."""
        self._stream.write(line)
        self._stream.flush()

    def close(self) -> None:
        """Write no more."""
        if self._owned:
            self._stream.close()


class FileOutput:
    """Rows to a file, which no other run writes meanwhile.

    Each row is one write, at the end. So a process that is killed leaves whole rows, and at most one torn one behind
    them, which the next run cuts off.

    Args:
        path: The file.
        resume: Whether to go on with the rows it has: those of requests that succeeded stay, the others are removed,
            as they are sent again.

    Raises:
        OutputError: It has rows and `resume` was not asked for, another run has it, or it is no output of a batch.
        OSError: It can't be opened, read or written.
    """

    resumable = True

    def __init__(self, path: str, *, resume: bool) -> None:
        self.name = path
        # A link stays one: the new file takes the place of what it leads to.
        self._path = os.path.realpath(path)
        self.done: set[bytes] = set()
        self._file = self._open_locked()
        try:
            self._size = os.fstat(self._file).st_size
            if self._size and not resume:
                raise OutputError(f"{path} is not empty: add --resume to go on with it, or name another file")
            if self._size:
                self._keep_good()
        except BaseException:
            os.close(self._file)
            raise

    # Rows

    def write(self, line: bytes) -> None:
        """Append a line. It survives the end of this process, however sudden."""
        try:
            _write_all(self._file, line)
        except OSError:
            # Half a row (a full disk) must not stay: what comes behind it would be lost with it.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Hand everything to the disk, and let others have the file. A second call does nothing.

        Raises:
            OutputError: The disk does not take it.
        """
        if self._file < 0:
            return
        file, self._file = self._file, -1
        try:
            os.fsync(file)
        except OSError as error:
            raise OutputError(f"{self.name}: {error.strerror or error}") from None
        finally:
            os.close(file)

    # The lock

    def _open_locked(self) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                self._lock(file)
                # Whoever had the lock may have put another file in its place: then this one is nobody's any more.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file), os.stat(self._path)):
                        return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _lock(self, file: int) -> None:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{self.name} is being written by another run") from None

    # What an earlier run has left

    def _keep_good(self) -> None:
        """Learn what is done, and remove every row of what is not.

        As long as all rows are good, nothing is written but the end of a torn one is cut off. From the first bad row
        on, the good ones go to a new file, which takes the place of the old one when it is complete.
        """
        good_bytes, unended = 0, False
        copy: int | None = None
        try:
            for number, line in self._lines():
                row = rows.read_row(line)
                if row is None and line.strip():
                    if self._is_torn(line):
                        break
                    raise OutputError(f"{self.name}, line {number}: no row of a batch output; is it the right file?")
                key = digest(row.custom_id) if row is not None and row.ok else None
                if key is None or key in self.done:
                    if copy is None:
                        copy = self._begin_copy(good_bytes)
                    continue
                self.done.add(key)
                if copy is not None:
                    _write_all(copy, line)
                good_bytes += len(line)
                unended = not line.endswith(b"\n")
            if copy is None:
                os.ftruncate(self._file, good_bytes)
            else:
                self._put_in_place(copy)
                copy = None
        finally:
            if copy is not None:
                os.close(copy)
                os.unlink(self._copy_path)
        self._size = good_bytes
        if unended:
            self.write(b"\n")  # an editor took it away, but the row is whole

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with open(os.dup(self._file), "rb") as file:
            file.seek(0)
            yield from enumerate(file, 1)

    @staticmethod
    def _is_torn(line: bytes) -> bool:
        """Whether it may be the beginning of a row. Only the last line of a file has no end."""
        return line.startswith(b"{") and not line.endswith(b"\n")

    @property
    def _copy_path(self) -> str:
        folder, name = os.path.split(self._path)
        return os.path.join(folder, f".{name}.resuming")

    def _begin_copy(self, size: int) -> int:
        """Begin a new file with the first `size` bytes of this one. Nobody else does: this run has the lock."""
        with suppress(FileNotFoundError):
            os.unlink(self._copy_path)  # of a run that was killed while it did this
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        copy = os.open(self._copy_path, flags, 0o600)
        try:
            os.fchmod(copy, stat.S_IMODE(os.fstat(self._file).st_mode))
            at = 0
            while at < size:
                piece = os.pread(self._file, min(_PIECE, size - at), at)
                _write_all(copy, piece)
                at += len(piece)
        except BaseException:
            os.close(copy)
            os.unlink(self._copy_path)
            raise
        return copy

    def _put_in_place(self, copy: int) -> None:
        # Locked before it can be found, and on the disk before it is the only one.
        self._lock(copy)
        os.fsync(copy)
        os.rename(self._copy_path, self._path)
        old, self._file = self._file, copy
        os.close(old)


_PIECE: Final = 1 << 20


def _write_all(file: int, data: bytes) -> None:
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


def open_output(path: str, *, resume: bool) -> Output:
    """Open the output at a path: a file, or what is there that is none (a pipe, `/dev/null`).

    Raises:
        OutputError: It can't be used.
        OSError: It can't be opened.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISREG(mode):
        return FileOutput(path, resume=resume)
    if resume:
        raise OutputError(f"{path} is no file, so that there is nothing to resume")
    return StreamOutput(open(path, "wb"), path, owned=True)  # open until the process ends
