"""What has another name, or another meaning, in async code."""

from collections.abc import AsyncIterable, Iterable, Iterator
from types import TracebackType
from typing import NoReturn, TypeVar

from pynector.errors import ConfigurationError

__all__ = ["ColourGuard", "iterate", "loop_token"]

T = TypeVar("T")


class ColourGuard:
    """Makes a class that is for one colour say so in the other one's `with` block."""

    __slots__ = ()

    def __aenter__(self) -> NoReturn:
        raise _wrong_colour(type(self))

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> NoReturn:
        raise _wrong_colour(type(self))


def _wrong_colour(cls: type) -> TypeError:
    ours = next((base for base in cls.__mro__ if base.__module__.startswith("pynector.")), cls)
    name = cls.__name__
    return TypeError(
        f"{name} is for blocking code: use `with {name}(...)`, or `async with Async{ours.__name__}(...)` in async code"
    )


def iterate(source: Iterable[T] | AsyncIterable[T]) -> Iterator[T]:
    """Iterate over whatever the user gave.

    Args:
        source: An iterable; in async code also an async one.

    Returns:
        An iterator over its items.

    Raises:
        TypeError: It cannot be iterated over.
        ConfigurationError: It is an async iterable, and this is blocking code.
    """
    if not isinstance(source, Iterable) and isinstance(source, AsyncIterable):
        raise ConfigurationError("an async iterable needs AsyncPynector; Pynector takes a plain iterable")
    return iter(source)


def loop_token() -> object | None:
    """What identifies the running event loop; None in blocking code, which has none.

    Returns:
        An object to compare with `is`.

    Raises:
        RuntimeError: No event loop runs in this thread.
    """
    return None
