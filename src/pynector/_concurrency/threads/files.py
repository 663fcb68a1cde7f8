"""Files: what the system may let wait for a disk."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

__all__ = ["offload"]

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")


def offload(fn: Callable[[*PosArgsT], T], *args: *PosArgsT) -> T:
    """Run a function that waits for a disk, where it keeps nobody but the caller waiting.

    A cancellation does not cut it short; it is delivered when the function has ended.

    Args:
        fn: The function; it should take milliseconds.
        args: Its positional arguments.

    Returns:
        What the function returns.
    """
    return fn(*args)
