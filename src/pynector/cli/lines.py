"""The lines of an input, from a file or from a pipe that gives one now and then."""

import os
import select
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

_MOMENT: Final = 0.05
"""Seconds for which a pipe is waited for, before what has finished in the meantime gets its rows."""
_PIECE: Final = 1 << 16


def lines_of(file: BinaryIO) -> Iterable[bytes | None]:
    """Read lines as they are needed; None says that the next one is not there yet.

    Args:
        file: A file or a pipe of which nothing was read.
    """
    try:
        number = file.fileno()
        waits = sys.platform != "win32" and not stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        return file  # no file of the system, so there is nothing to wait for
    return _lines_of_pipe(number) if waits else file


def _lines_of_pipe(number: int) -> Iterator[bytes | None]:
    begun: list[bytes] = []  # of the next line, which may be a long one
    while True:
        if not select.select([number], [], [], _MOMENT)[0]:
            yield None
            continue
        piece = os.read(number, _PIECE)
        if not piece:
            break
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield b"".join((*begun, line, b"\n"))
            begun.clear()
        if rest:
            begun.append(rest)
    if begun:
        yield b"".join(begun)
