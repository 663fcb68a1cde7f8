"""Who may read the input of a batch."""

from collections.abc import AsyncIterable, Callable, Iterable
from itertools import count
from typing import TypeVar

__all__ = ["numbered", "read_apart"]

T = TypeVar("T")


def numbered(
    source: Iterable[T] | AsyncIterable[T],
) -> tuple[Callable[[], tuple[int, T]], Callable[[], object]] | None:
    """Read an input from any task: each item goes to one of them, with its number.

    In async code that is every plain iterable, as all tasks run on one thread; it sees one context all the time, a
    copy of the present one. In blocking code it is a list or tuple, for anything else may be bound to its thread.

    Args:
        source: The input. A list is copied: what happens to it meanwhile changes nothing.

    Returns:
        What gives the next number and item, and raises `StopIteration` after the last; and what closes the input, if
        it is a generator. None if only one task may read it.

    Raises:
        TypeError: It cannot be iterated over.
    """
    if not isinstance(source, (list, tuple)):
        return None
    items = tuple(source)
    numbers = count()

    def step() -> tuple[int, T]:
        # One step of a built-in iterator: no two threads get the same number.
        number = next(numbers)
        try:
            return number, items[number]
        except IndexError:
            raise StopIteration from None

    return step, _nothing


def read_apart(employ: Callable[[Callable[[], None]], None], read: Callable[[], None]) -> bool:
    """Read an input that one task must read in a task of its own, if this colour can.

    Args:
        employ: Starts a task.
        read: Reads the input to its end.

    Returns:
        True in async code. False in blocking code, where the thread that made an input must read it.
    """
    return False


def _nothing() -> None:
    pass
