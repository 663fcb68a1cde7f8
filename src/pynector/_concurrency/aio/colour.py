"""What has another name, or another meaning, in blocking code."""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, NoReturn, TypeVar, TypeVarTuple, cast

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

MULTIPLEX: bool = True
"""Whether several requests share an HTTP/2 connection: tasks of one event loop take turns, threads do not."""

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")


class ColourGuard:
    """Makes a class that is for one colour say so in the other one's `with` block."""

    __slots__ = ()

    _colour = "async"

    def __enter__(self) -> NoReturn:
        raise _wrong_colour(type(self))

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        raise _wrong_colour(type(self))


def _wrong_colour(cls: type) -> TypeError:
    public: str | None = getattr(cls, "_public", None)
    if public is not None:
        package, _, name = public.partition("concurrency.")
        return TypeError(
            f"{public} is for async code: use `async with`, or {package}concurrency.sync.{name} in blocking code"
        )
    ours = next((base for base in cls.__mro__ if base.__name__.startswith("Async")), cls)
    twin = ours.__name__.removeprefix("Async")
    name = cls.__name__
    return TypeError(f"{name} is for async code: use `async with {name}(...)`, or `with {twin}(...)` in blocking code")


class _Steps(Generic[T]):
    """An async iterator over a plain iterator, without a pause between its items."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items

    def __aiter__(self) -> "_Steps[T]":
        return self

    async def __anext__(self) -> T:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


def iterate(source: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    """Iterate over whatever the user gave.

    Args:
        source: An iterable; in async code also an async one.

    Returns:
        An iterator over its items.

    Raises:
        TypeError: It cannot be iterated over.
        ConfigurationError: It is an async iterable, and this is blocking code.
    """
    if isinstance(source, AsyncIterable):
        return aiter(source)
    return _Steps(iter(source))


def check_iterable(source: object) -> None:
    """Refuse a source that this colour can't iterate over, as long as nothing has been done for it.

    Args:
        source: What is to be iterated over later.

    Raises:
        ConfigurationError: It is an async iterable, and this is blocking code.
    """


def check_colour(thing: object, *methods: str) -> None:
    """Refuse an object of the other colour, as far as that can be seen before it is used.

    Args:
        thing: What the user gave.
        methods: The names of methods that are going to be called.

    Raises:
        ConfigurationError: It is for the other colour.
    """
    # Whether a plain function gives something to wait for is seen when it is called.
    if getattr(thing, "_colour", "async") != "async":
        ours = next(base.__name__ for base in type(thing).__mro__ if base.__module__.startswith("pynector."))
        raise ConfigurationError(f"{type(thing).__name__} is for blocking code: give Async{ours} in async code")


async def invoke(fn: Callable[[*PosArgsT], Awaitable[T]], *args: *PosArgsT) -> T:
    """Call a function of the user's that does the work of this colour.

    Args:
        fn: The function.
        args: Its positional arguments.

    Returns:
        What it returns.

    Raises:
        ConfigurationError: It is a function of the other colour.
    """
    result: object = fn(*args)
    if isinstance(result, Awaitable):
        return cast("T", await result)
    name = getattr(fn, "__qualname__", repr(fn))
    raise ConfigurationError(
        f"{name} is a plain function, and async code runs async ones; for blocking work there is run_sync_in_worker()"
    )


async def settle(result: Awaitable[T] | T) -> T:
    """Wait for what a callback of the user's has returned, if that is something to wait for.

    Args:
        result: What it returned.

    Returns:
        Its value.

    Raises:
        ConfigurationError: It cannot be waited for in this colour.
    """
    if isinstance(result, Awaitable):
        return cast("T", await result)
    return result


async def dispose(thing: object) -> None:
    """Close something that has a method for it, in the way of this colour.

    Args:
        thing: What to close; nothing happens to what cannot be closed.

    Raises:
        ConfigurationError: It can be closed in the other colour only.
    """
    close = getattr(thing, "aclose", None) or getattr(thing, "close", None)
    if close is not None:
        await settle(close())


def loop_token() -> object | None:
    """What identifies the running event loop; None in blocking code, which has none.

    Returns:
        An object to compare with `is`.

    Raises:
        RuntimeError: No event loop runs in this thread.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    # Where trio was never imported it cannot be running, and importing it to ask takes long.
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            token: object = trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass
        else:
            return token
    raise RuntimeError("no event loop is running in this thread; call this from async code")
