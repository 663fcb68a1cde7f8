"""What has another name, or another meaning, in async code."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from inspect import iscoroutine, iscoroutinefunction
from types import TracebackType
from typing import NoReturn, TypeVar, TypeVarTuple, cast

from pynector.errors import ConfigurationError

__all__ = [
    "MULTIPLEX",
    "ColourGuard",
    "check_colour",
    "check_iterable",
    "dispose",
    "invoke",
    "iterate",
    "loop_token",
    "settle",
]

MULTIPLEX: bool = False
"""Whether several requests share an HTTP/2 connection: tasks of one event loop take turns, threads do not."""

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")


class ColourGuard:
    """Makes a class that is for one colour say so in the other one's `with` block."""

    __slots__ = ()

    _colour = "blocking"

    def __aenter__(self) -> NoReturn:
        raise _wrong_colour(type(self))

    def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> NoReturn:
        raise _wrong_colour(type(self))


def _wrong_colour(cls: type) -> TypeError:
    public: str | None = getattr(cls, "_public", None)
    if public is not None:
        there = public.replace("concurrency.sync.", "concurrency.")
        return TypeError(f"{public} is for blocking code: use `with`, or {there} in async code")
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
    check_iterable(source)
    return iter(cast("Iterable[T]", source))


def check_iterable(source: object) -> None:
    """Refuse a source that this colour can't iterate over, as long as nothing has been done for it.

    Args:
        source: What is to be iterated over later.

    Raises:
        ConfigurationError: It is an async iterable, and this is blocking code.
    """
    if not isinstance(source, Iterable) and isinstance(source, AsyncIterable):
        raise ConfigurationError("an async iterable needs AsyncPynector; Pynector takes a plain iterable")


def check_colour(thing: object, *methods: str) -> None:
    """Refuse an object of the other colour, as far as that can be seen before it is used.

    Args:
        thing: What the user gave.
        methods: The names of methods that are going to be called.

    Raises:
        ConfigurationError: It is for the other colour.
    """
    if getattr(thing, "_colour", "blocking") != "blocking":
        ours = next(base.__name__ for base in type(thing).__mro__ if base.__name__.startswith("Async"))
        raise ConfigurationError(
            f"{type(thing).__name__} is for async code: give {ours.removeprefix('Async')} in blocking code"
        )
    for name in methods:
        if iscoroutinefunction(getattr(thing, name)):
            raise ConfigurationError(
                f"{type(thing).__name__}.{name} is an async function, and blocking code runs plain ones"
            )


def invoke(fn: Callable[[*PosArgsT], T], *args: *PosArgsT) -> T:
    """Call a function of the user's that does the work of this colour.

    Args:
        fn: The function.
        args: Its positional arguments.

    Returns:
        What it returns.

    Raises:
        ConfigurationError: It is a function of the other colour.
    """
    result = fn(*args)
    if iscoroutine(result):
        result.close()
        name = getattr(fn, "__qualname__", repr(fn))
        raise ConfigurationError(f"{name} is an async function, and blocking code runs plain ones")
    return result


def settle(result: T) -> T:
    """Wait for what a callback of the user's has returned, if that is something to wait for.

    Args:
        result: What it returned.

    Returns:
        Its value.

    Raises:
        ConfigurationError: It cannot be waited for in this colour.
    """
    if iscoroutine(result):
        name = result.__qualname__
        result.close()
        raise ConfigurationError(f"{name} is an async function, and blocking code runs plain ones")
    return result


def dispose(thing: object) -> None:
    """Close something that has a method for it, in the way of this colour.

    Args:
        thing: What to close; nothing happens to what cannot be closed.

    Raises:
        ConfigurationError: It can be closed in the other colour only.
    """
    close = getattr(thing, "close", None)
    if close is not None:
        settle(close())
    elif hasattr(thing, "aclose"):
        raise ConfigurationError(f"{type(thing).__name__} can be closed in async code only: give `close=`")


def loop_token() -> object | None:
    """What identifies the running event loop; None in blocking code, which has none.

    Returns:
        An object to compare with `is`.

    Raises:
        RuntimeError: No event loop runs in this thread.
    """
    return None
