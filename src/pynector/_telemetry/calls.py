"""The calls that `traced_gather` makes."""

from collections.abc import Awaitable, Iterable
from types import CoroutineType
from typing import TypeVar

from ..errors import ConfigurationError

T = TypeVar("T")


def check_calls(calls: Iterable[T]) -> list[T]:
    """Return the calls, checked before the first of them is made.

    Args:
        calls: What the user gave.

    Raises:
        ConfigurationError: One of them can't be called, nor waited for.
    """
    found = list(calls)
    for index, call in enumerate(found):
        if not callable(call) and not isinstance(call, Awaitable):
            discard(found)
            raise ConfigurationError(
                f"argument `calls`: number {index} is {type(call).__name__}; give functions without arguments"
            )
    return found


def discard(calls: Iterable[object]) -> None:
    """Close what was not begun, so that nobody is warned of it; nothing happens to what has ended.

    Args:
        calls: The calls.
    """
    for call in calls:
        if isinstance(call, CoroutineType):
            call.close()
