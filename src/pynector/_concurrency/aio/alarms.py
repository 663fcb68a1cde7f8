"""Waking one waiter from anywhere."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Protocol

import anyio

__all__ = ["Alarm", "Latch", "latches"]


class Alarm:
    """Wakes whoever has made it and waits. Wake-ups may be spurious: look at the condition again.

    Example:
        ```python
        alarm = Alarm()
        waiting.append(alarm)  # somebody, somewhere, calls alarm.ring()
        await alarm.wait(2.5)
        ```
    """

    __slots__ = ("_event", "_schedule")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._schedule: Callable[..., object]
        if on_asyncio():
            self._schedule = asyncio.get_running_loop().call_soon_threadsafe
        else:
            self._schedule = sys.modules["trio"].lowlevel.current_trio_token().run_sync_soon

    def ring(self) -> None:
        """End the wait that is under way, or the next one; from any thread."""
        with suppress(RuntimeError):  # what trio raises there is one as well
            self._schedule(self._ring)

    def _ring(self) -> None:
        self._event.set()

    async def wait(self, seconds: float = inf) -> None:
        """Wait until it rings, but no longer than `seconds`."""
        if seconds == inf:
            await self._event.wait()
        else:
            with anyio.move_on_after(seconds):
                await self._event.wait()
        self._event = anyio.Event()


class Latch(Protocol):
    """What one waiter waits for, once, until it is set."""

    def set(self) -> object:
        """End the wait."""
        ...

    async def wait(self) -> object:
        """Wait until it is set."""
        ...


class _FutureLatch:
    """A latch on asyncio: an event has a queue of waiters, and several layers around that."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


def latches() -> Callable[[], Latch]:
    """What makes latches where this is called: for who waits often.

    Returns:
        A function to be called each time, from where this was called.
    """
    return partial(_FutureLatch, asyncio.get_running_loop()) if on_asyncio() else anyio.Event


def on_asyncio() -> bool:
    """Whether the current task is one of asyncio."""
    try:
        # None where trio is a guest of an asyncio loop.
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
