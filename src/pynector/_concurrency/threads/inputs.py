"""Who may read the input of a batch."""

from collections.abc import AsyncIterable, Callable, Iterable
from itertools import count
from math import inf
from types import TracebackType
from typing import TypeVar

from ._parking import ScopeLink, current

__all__ = ["Branch", "numbered", "read_apart"]

T = TypeVar("T")


class Branch:
    """The cancel scopes of a generator that is read bit by bit, among other work of the same task.

    A generator may be in the middle of a scope of its own, or of a task group, between two reads. In a block of this,
    those scopes are the innermost ones; outside, the task does not see them. In async code, where a task of its own
    reads, there is nothing to do.
    """

    __slots__ = ("_around", "_base", "_innermost", "_root")

    def __init__(self) -> None:
        # What the scopes of the generator have around them: where it is read, and else where this was made.
        self._base = ScopeLink()
        self._base._cancelled = self._base._shielded = False
        self._base._deadline = inf
        self._base._parent = self._root = current().scope
        self._innermost: ScopeLink = self._base
        self._around: ScopeLink | None = None

    def __enter__(self) -> None:
        task = current()
        self._around = self._base._parent = task.scope
        task.scope = self._innermost

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task = current()
        self._innermost = task.scope or self._base
        task.scope, self._around = self._around, None
        self._base._parent = self._root


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
