"""A lock on an open file, which the system takes back when the process ends, however it ends."""

import errno
import os
import stat
import sys
from contextlib import suppress
from typing import Final

from ..errors import CheckpointError

_HELD: Final = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    # Far behind the end of any file: a locked byte can't be read by others, on Windows.
    _PLACE = 2**30

    def try_lock(fd: int) -> bool:
        """Lock a file, if nobody else has; False if somebody has.

        Raises:
            OSError: It can't be locked at all.
        """
        position = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise
        finally:
            os.lseek(fd, position, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(fd: int) -> bool:
        """Lock a file, if nobody else has; False if somebody has.

        It is a lock of the open file, and not of the process: a second opening in the same process is somebody else.
        A child that was forked has the same open file, and has to close it.

        Raises:
            OSError: It can't be locked at all.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                return False
            raise
        return True


def open_and_lock(path: str) -> int:
    """Open a file for reading and appending, locked; it is made if there is none.

    Raises:
        CheckpointError: Somebody else has it open, or it is no regular file.
        OSError: It can't be opened.
    """
    while True:
        fd = os.open(path, _FLAGS, 0o666)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError("it is no regular file; give the path of one")
            if not try_lock(fd):
                raise CheckpointError(
                    "another run has it open, in this process or in another one: wait for its end, or give another path"
                )
            with suppress(FileNotFoundError):
                # Between the two calls it may have been removed or replaced: then the lock is on nothing.
                if os.path.samestat(status, os.stat(path)):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
