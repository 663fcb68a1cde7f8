"""Driving coroutines of a foreign library that knows asyncio only."""

import asyncio
from asyncio import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from math import inf
from types import coroutine
from typing import Any, TypeVar, cast

import anyio

from .._foreign import BlockingCalls, Closable, Feed, OutOfPatienceError, StandIn, dismiss
from .alarms import Alarm, on_asyncio

__all__ = ["Feed", "OutOfPatienceError", "blocking_calls", "drive_feeding", "driver", "finished", "start"]

T = TypeVar("T")


def driver() -> Callable[[Coroutine[Any, Any, T]], Awaitable[T]]:
    """What runs a foreign coroutine to its end, here.

    A cancellation or a deadline ends the wait at once; what the coroutine had under way elsewhere may live on. The
    coroutine's own cancellation error is never seen.

    Returns:
        A function that takes the coroutine and returns its result.
    """
    return _Driver(asyncio.get_running_loop()).drive if on_asyncio() else _drive_elsewhere


class _Driver:
    """Drives coroutines on one event loop of asyncio.

    What wakes them comes from another thread. To wake the loop is a system call, for which that thread lets go of the
    interpreter and has to wait for it again: so all that come before the loop has got up share one.
    """

    __slots__ = ("_loop", "_told", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._told = False
        self._woken: deque[_Bell] = deque()

    @coroutine
    def drive(self, steps: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
        loop, bell = self._loop, _Bell(self)
        try:
            while True:
                _set_running_loop(cast("Any", bell))
                try:
                    asked_again = steps.send(None) is None
                finally:
                    _set_running_loop(loop)
                if asked_again:
                    yield
                elif bell.rung:
                    bell.rung = False
                else:
                    future = bell.future = loop.create_future()
                    yield from future
        except StopIteration as stop:
            return cast("T", stop.value)
        except BaseException:
            # A cancellation has to go on as the very error that the loop threw in: anyio's scopes know theirs by it.
            dismiss(steps)
            raise

    def ring(self, bell: "_Bell") -> None:
        """End the wait of a coroutine, from any thread."""
        self._woken.append(bell)
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # Before the first look: who rings after the last one tells the loop again.
        self._told = False
        woken = self._woken
        while woken:
            woken.popleft().hear()


class _Bell(StandIn):
    """The loop that one coroutine sees.

    Attributes:
        future: What the coroutine waits for, once it has to.
        rung: Whether it rang before that.
    """

    __slots__ = ("_driver", "future", "rung")

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver
        self.future: asyncio.Future[None] | None = None
        self.rung = False

    def call_soon_threadsafe(self, callback: object, *args: object, context: object = None) -> None:
        self._driver.ring(self)

    def hear(self) -> None:
        """It rang: in the event loop."""
        future, self.future = self.future, None
        if future is None:
            self.rung = True
        elif not future.done():
            future.set_result(None)


async def _drive_elsewhere(steps: Coroutine[Any, Any, T]) -> T:
    alarm = Alarm()
    loop: Any = StandIn(alarm.ring)
    outer = _get_running_loop()
    try:
        while True:
            try:
                _set_running_loop(loop)
                asked_again = steps.send(None) is None
            finally:
                _set_running_loop(outer)
            if not asked_again:
                await alarm.wait()
    except StopIteration as stop:
        return cast("T", stop.value)
    except BaseException:
        dismiss(steps)
        raise


def blocking_calls(build: Callable[[], Closable]) -> BlockingCalls | None:
    """Clients of a foreign library whose calls block the thread, each for one call at a time.

    Args:
        build: Makes one more.

    Returns:
        Them; None where nothing may block, and `driver` is what there is.
    """
    return None


async def drive_feeding(
    steps: Coroutine[Any, Any, T], feed: Feed, chunks: AsyncIterator[bytes], patience: float | None = None
) -> T:
    """Run a foreign coroutine to its end that uploads something on the way.

    The source of the upload is run by the caller. `feed` stays open when the coroutine succeeds: the upload may go on
    while the answer is read already, by another coroutine.

    Args:
        steps: The coroutine.
        feed: What it pulls chunks from.
        chunks: The source.
        patience: Seconds that may pass without a chunk being asked for; None for no limit.

    Returns:
        What it returns.

    Raises:
        OutOfPatienceError: More time has passed.
        Exception: Whatever the source has raised.
    """
    alarm = Alarm()
    outer = _get_running_loop()
    feed.attach(alarm.ring)
    until = inf if patience is None else anyio.current_time() + patience
    try:
        while True:
            try:
                _set_running_loop(cast("Any", feed))
                asked_again = steps.send(None) is None
            finally:
                _set_running_loop(outer)
            if feed.wanted():
                feed.deliver(await _next(chunks))
                until = inf if patience is None else anyio.current_time() + patience
            elif not asked_again:
                await _wait(alarm, until)
    except StopIteration as stop:
        return cast("T", stop.value)
    except BaseException:
        feed.close()
        dismiss(steps)
        raise
    finally:
        feed.attach(None)


async def _wait(alarm: Alarm, until: float) -> None:
    left = until - anyio.current_time()
    if left <= 0:
        raise OutOfPatienceError
    await alarm.wait(left)


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    async for chunk in chunks:
        if chunk:
            return chunk
    return None


def finished(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a foreign coroutine that has nothing to wait for.

    Args:
        steps: The coroutine.

    Returns:
        What it returns.

    Raises:
        RuntimeError: It has to wait.
    """
    try:
        steps.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    steps.close()
    raise RuntimeError("the coroutine has to wait")


def start(steps: Coroutine[Any, Any, object]) -> None:
    """Have a foreign coroutine begin what it does. Nobody waits for it: it is to be closed.

    Args:
        steps: The coroutine.
    """
    outer = _get_running_loop()
    try:
        _set_running_loop(cast("Any", StandIn(_ignore)))
        steps.send(None)
    finally:
        _set_running_loop(outer)


def _ignore() -> None:
    pass
