"""`CheckpointFile`: the file that a batch can be resumed from."""

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from typing import Any, Final
from weakref import WeakSet

from .._messages.outcome import Outcome
from .._mutex import ProcessMutex
from ..errors import CheckpointError, ClosedError, ConfigurationError
from .format import MARK, Header, NotACheckpointError, header_line, read_header, read_record, record_line, restore
from .lock import open_and_lock
from .table import DigestTable, digest_of
from .values import Decode, Encode, ValueCodec

_HEADER_MAX: Final = 4096  # bytes
_PIECE: Final = 16 * 1024  # bytes read at once of a record


class CheckpointFile:
    """A file that keeps the outcome of each item of a batch as soon as it is there.

    It is one JSON object per line: a header, then one record per outcome. The file belongs to one job, whose
    fingerprint is in the header, and to one writer at a time: a lock on it lasts until `close`, or the end of the
    process, whatever that was. A record is handed to the system before `write` returns, so it outlives the process,
    also a `kill -9`; at most the records of the last second do not outlive the machine. A last line that is not
    complete is cut off when the file is opened.

    Per item only its digest and place in the file are in memory (36 to 72 bytes); answers are read when asked for. It
    may be used from several threads. A forked child can't use the file that its parent has opened.

    Outcomes that are not `ok` are kept as well, for those who look and for `retry_failed=False`. Those of the state
    `not_sent` are not: nothing has become of these items.

    Args:
        path: The file; it is made if there is none.
        fingerprint: Of the job, see `fingerprint`.
        retry_failed: Whether an item that failed, or of which nobody knows (`unknown`: it was sent, and no answer
            seen), has to be done again. With False its error is its outcome in this run too, and nothing is sent
            twice.
        encode: Turns each answer into plain values (see `ValueCodec`); by default it has to be one that is known.
        decode: Turns these into an answer again.
        message_types: Further classes of messages that answers may have.
        usage_type: Makes the usage of an outcome of its fields, given by name; by default it comes back as a dict.
        sync_interval: The least seconds between two times that `write` waits for the disk; infinity for never.
        syncs: Whether `write` waits for the disk at all, or the owner sees to that.

    Raises:
        ConfigurationError: An argument is wrong.

    Example:
        ```python
        checkpoint = CheckpointFile("run.jsonl", fingerprint({"base_url": "https://api.example.com"}))
        checkpoint.open()
        outcome = checkpoint.outcome("a-1", 0, request)
        ```
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fingerprint: str,
        *,
        retry_failed: bool = True,
        encode: Encode | None = None,
        decode: Decode | None = None,
        message_types: Sequence[type[Any]] = (),
        usage_type: Callable[..., Any] | None = None,
        sync_interval: float = 1.0,
        syncs: bool = True,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path) or "\0" in os.fsdecode(path):
            raise ConfigurationError(f"argument `checkpoint`: {path!r:.80} is not accepted; give the path of a file")
        # Absolute: the program may go to another folder before it is opened.
        self.path = os.path.abspath(os.fsdecode(path))
        self._fingerprint = fingerprint
        self._retry_failed = retry_failed
        self._codec = ValueCodec(encode, decode, message_types)
        self._usage_type = usage_type
        self._sync_interval = sync_interval
        self._syncs = syncs
        self._mutex = ProcessMutex()
        self._fd: int | None = None
        self._forked = False
        self._reset()

    def _reset(self) -> None:
        self._places = DigestTable()  # of the record of each key: its offset, and whether it is ok in the lowest bit
        self._ok = 0
        self._run = ""
        self._torn_at: int | None = None
        self._dirty = False
        self._synced_at = time.monotonic()

    def open(self) -> None:
        """Open and lock the file, and read what is in it. Does nothing if it is open.

        Raises:
            CheckpointError: Somebody else has it open; it is no checkpoint, or of another job or a newer version, or
                damaged before its last line (then it is left as it is); or it can't be opened, read or written.
        """
        if self._fd is not None:
            return
        self._forked = False
        self._reset()
        try:
            self._fd = open_and_lock(self.path)
            _opened.add(self)
            self._load(self._fd)
        except OSError as error:
            self._release()
            raise self._error(f"it cannot be opened: {_reason(error)}") from error
        except CheckpointError as error:
            self._release()
            raise self._error(str(error)) from None
        except BaseException:
            self._release()
            raise

    def finished(self, key: str) -> Mapping[str, Any] | None:
        """Return the record of an item that does not have to be done again, as it is in the file; else None.

        Raises:
            CheckpointError: The file can't be read, or was changed by somebody else.
            ClosedError: It is not open.
        """
        digest = digest_of(key)
        with self._mutex:
            fd = self._opened()
            number = self._places.get(digest)
            if number is None or (self._retry_failed and not number & 1):
                return None
            try:
                line = _read_line(fd, number >> 1)
            except OSError as error:
                raise self._error(f"it cannot be read: {_reason(error)}") from error
        record = read_record(line)
        if record is None or record["key"] != key:
            raise self._error("it was changed by somebody else while it was in use")
        return record

    def outcome(self, key: str, index: int, request: Any) -> Outcome[Any] | None:
        """Return the outcome of an item that does not have to be done again; else None.

        Args:
            key: The key of the item.
            index: Its place in the input of this run.
            request: The item.

        Returns:
            The outcome as it was, its source being `checkpoint`. An `HttpMessage` is without its history and has the
            item for its request; an error is without its cause.

        Raises:
            CheckpointError: The file can't be read, or its answer can't be made again; the text says why.
            ClosedError: It is not open.
        """
        record = self.finished(key)
        if record is None:
            return None
        try:
            return restore(record, index, request, self._codec, self._usage_type)
        except Exception as error:  # also what a message type of the user's raises
            raise self._error(f"the answer of item {key!r:.200} cannot be made again: {error}") from error

    def write(self, outcome: Outcome[Any], key: str) -> None:
        """Keep an outcome. Does nothing for one that is `not_sent`, or comes from a checkpoint.

        Args:
            outcome: What became of the item.
            key: Its key.

        Raises:
            SerializationError: The answer can't be kept in a file; the text says why. Nothing was written: in the next
                run the item is done again.
            CheckpointError: The file can't be written (the disk is full). What was in it before still is.
            ClosedError: It is not open.
        """
        if outcome.state == "not_sent" or outcome.source == "checkpoint":
            return
        line = record_line(outcome, key, self._codec)
        digest = digest_of(key)
        with self._mutex:
            fd = self._opened()
            try:
                place = self._append(fd, line)
            except OSError as error:
                raise self._error(f"it cannot be written: {_reason(error)}") from error
            self._note(digest, place, outcome.state == "ok")
            self._dirty = True
        if self._syncs and self.is_due():
            self.sync()

    def is_due(self) -> bool:
        """Whether it is time to `sync`."""
        return self._dirty and time.monotonic() - self._synced_at >= self._sync_interval

    def sync(self) -> None:
        """Wait until all that was written is on the disk; this may take long.

        Raises:
            CheckpointError: It can't be written.
            ClosedError: It is not open.
        """
        with self._mutex:
            fd, dirty = self._opened(), self._dirty
            self._dirty = False
            self._synced_at = time.monotonic()
        if dirty:
            try:
                os.fsync(fd)
            except OSError as error:
                if self._fd != fd:
                    return  # another thread has closed it meanwhile, after a sync of its own
                self._dirty = True
                raise self._error(f"it cannot be written: {_reason(error)}") from error

    def close(self) -> None:
        """Wait for the disk, close the file and release its lock. Closing it again does nothing.

        Raises:
            CheckpointError: The last records can't be written to the disk. It is closed all the same.
        """
        if self._fd is None:
            return
        try:
            self.sync()
        finally:
            self._release()

    def idempotency_key(self, key: str) -> str:
        """Return a text that is the same for an item in every run that resumes this job, and in no other job.

        A server that knows idempotency keys recognises by it a request that was sent before a crash.

        Raises:
            ClosedError: It is not open.
        """
        self._opened()
        return f"{digest_of(f'{self._run} {key}'):032x}"

    def __len__(self) -> int:
        """How many items there are that do not have to be done again."""
        return self._ok if self._retry_failed else len(self._places)

    def __bool__(self) -> bool:
        return True  # also an empty one

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r} {'closed' if self._fd is None else 'open'}, {len(self)} items>"

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the interpreter anything may be gone
            self._release()

    # The file

    def _load(self, fd: int) -> None:
        """Read all records, and cut off what is behind the last complete one."""
        with open(fd, "rb", closefd=False) as file:
            end = self._load_header(file)
            for number, line in enumerate(file, 2):
                record = read_record(line) if line.endswith(b"\n") else None
                if record is None:
                    if file.peek(1):
                        raise CheckpointError(
                            f"line {number} is damaged; remove it, so that its item is done again, or give another path"
                        )
                    break
                self._note(digest_of(record["key"]), end, record["state"] == "ok")
                end += len(line)
        if end < os.fstat(fd).st_size:
            os.ftruncate(fd, end)
        if end == 0:
            self._begin(fd)

    def _load_header(self, file: BufferedReader) -> int:
        """Read the first line; 0 if there is none yet, else its length."""
        line = file.readline(_HEADER_MAX)
        complete = line.endswith(b"\n")
        if not line or (not complete and len(line) < _HEADER_MAX and _is_begun(line)):
            return 0
        try:
            header = read_header(line)
        except NotACheckpointError as error:
            raise CheckpointError(f"it is no checkpoint file of Pynector ({error}); give another path") from None
        if header.fingerprint != self._fingerprint:
            raise CheckpointError(
                "it belongs to another job: the base URL, the transport, the headers or the options were different. "
                "Give these again to resume that job, or another path to begin a new one (or remove the file)"
            )
        self._run = header.run
        return len(line) if complete else 0

    def _begin(self, fd: int) -> None:
        """Write the header of a new file."""
        header = Header(self._fingerprint, os.urandom(8).hex())
        self._append(fd, header_line(header))
        self._run = header.run
        os.fsync(fd)
        _sync_folder(self.path)

    def _append(self, fd: int, line: bytes) -> int:
        """Write a line, wholly or not at all, and return where it begins."""
        if self._torn_at is not None:
            os.ftruncate(fd, self._torn_at)
            self._torn_at = None
        start = os.lseek(fd, 0, os.SEEK_END)
        try:
            written = os.write(fd, line)
            while written < len(line):  # a full disk takes a part of it, and then raises
                written += os.write(fd, line[written:])
        except BaseException:  # also Ctrl-C between two parts
            try:
                os.ftruncate(fd, start)
            except OSError:
                self._torn_at = start
            raise
        return start

    def _note(self, digest: int, place: int, ok: bool) -> None:
        before = self._places.get(digest)
        if before is not None and before & 1:
            if not ok:
                return  # an answer that is there is not lost to a later failure
        elif ok:
            self._ok += 1
        self._places.put(digest, place << 1 | ok)

    def _opened(self) -> int:
        if self._fd is None:
            if self._forked:
                raise self._error("it was opened in the parent process, and belongs to that; open another path here")
            raise ClosedError(f"checkpoint {self.path}: it is not open")
        return self._fd

    def _release(self) -> None:
        with self._mutex:
            fd, self._fd = self._fd, None
            if fd is None:
                return
            if self._torn_at is not None:
                with suppress(OSError):  # the next one to open it tries again
                    os.ftruncate(fd, self._torn_at)
            os.close(fd)

    def _error(self, text: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {self.path}: {text}")

    def _in_child(self) -> None:
        """Let go of the parent's file: as long as a child had it open, its lock would outlive the parent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._forked = True
            with suppress(OSError):
                os.close(fd)


def _is_begun(line: bytes) -> bool:
    """Whether a line without an end is the beginning of a header: its writer was killed."""
    if not (MARK.startswith(line) or line.startswith(MARK)):
        return False
    try:
        read_header(line)
    except NotACheckpointError:
        return True
    except CheckpointError:
        pass
    return False


def _read_line(fd: int, place: int) -> bytes:
    # Not `pread`, which Windows lacks. The position is nobody's: what is written always goes to the end.
    os.lseek(fd, place, os.SEEK_SET)
    pieces: list[bytes] = []
    while piece := os.read(fd, _PIECE):
        line, newline, _ = piece.partition(b"\n")
        pieces.append(line)
        if newline:
            break
    return b"".join(pieces)


def _sync_folder(path: str) -> None:
    """Make the name of a new file outlive the machine, where that takes a call of its own."""
    with suppress(OSError):
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such folder"
    return error.strerror or str(error)


_opened: "WeakSet[CheckpointFile]" = WeakSet()


def _in_child() -> None:
    for checkpoint in list(_opened):
        checkpoint._in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
