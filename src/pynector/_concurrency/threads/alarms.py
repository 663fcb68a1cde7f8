"""Waking one waiter from anywhere."""

from collections.abc import Callable
from math import inf
from typing import Protocol

from .locks import Event
from .scopes import move_on_after

__all__ = ["Alarm", "Latch", "latches"]


class Alarm:
    """Wakes whoever has made it and waits. Wake-ups may be spurious: look at the condition again.

    Example:
        ```python
        alarm = Alarm()
        waiting.append(alarm)  # somebody, somewhere, calls alarm.ring()
        alarm.wait(2.5)
        ```
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = Event()

    def ring(self) -> None:
        """End the wait that is under way, or the next one; from any thread."""
        self._event.set()

    def wait(self, seconds: float = inf) -> None:
        """Wait until it rings, but no longer than `seconds`."""
        if seconds == inf:
            self._event.wait()
        else:
            with move_on_after(seconds):
                self._event.wait()
        self._event = Event()


class Latch(Protocol):
    """What one waiter waits for, once, until it is set."""

    def set(self) -> object:
        """End the wait."""
        ...

    def wait(self) -> object:
        """Wait until it is set."""
        ...


def latches() -> Callable[[], Latch]:
    """What makes latches where this is called: for who waits often.

    Returns:
        A function to be called each time, from where this was called.
    """
    return Event
