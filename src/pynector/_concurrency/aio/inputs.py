"""Who may read the input of a batch."""

from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import TypeVar

__all__ = ["Branch", "numbered", "read_apart"]

T = TypeVar("T")


class Branch:
    """The cancel scopes of a generator that is read bit by bit, among other work of the same task.

    A generator may be in the middle of a scope of its own, or of a task group, between two reads. In a block of this,
    those scopes are the innermost ones; outside, the task does not see them. In async code, where a task of its own
    reads, there is nothing to do.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


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
    if isinstance(source, (list, tuple)):
        return enumerate(tuple(source)).__next__, _nothing
    if isinstance(source, AsyncIterable):
        return None
    items = iter(source)
    context = copy_context()
    step: Callable[[], tuple[int, T]] = partial(context.run, enumerate(items).__next__)
    return step, partial(context.run, items.close) if isinstance(items, Generator) else _nothing


async def read_apart(
    employ: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]], read: Callable[[], Awaitable[None]]
) -> bool:
    """Read an input that one task must read in a task of its own, if this colour can.

    Args:
        employ: Starts a task.
        read: Reads the input to its end.

    Returns:
        True in async code. False in blocking code, where the thread that made an input must read it.
    """
    await employ(read)
    return True


def _nothing() -> None:
    pass
