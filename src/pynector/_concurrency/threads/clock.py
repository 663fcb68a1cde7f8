"""Time: the clock of the deadlines, sleeping, and looking for a cancellation."""

import time
from math import isnan

from ._parking import current

__all__ = ["checkpoint", "checkpoint_if_cancelled", "current_time", "sleep", "sleep_until"]


def current_time() -> float:
    """The clock of the deadlines.

    Returns:
        Seconds since some fixed point; only differences mean something.
    """
    return time.monotonic()


def checkpoint() -> None:
    """Raise if the current task is cancelled, and let other tasks run where they need that.

    Raises:
        BaseException: `get_cancelled_exc_class()`, if a scope around the task is cancelled.
    """
    task = current()
    if task.scope is not None:
        task.limit()


def checkpoint_if_cancelled() -> None:
    """Raise if the current task is cancelled; where it is not, go on without a pause.

    Raises:
        BaseException: `get_cancelled_exc_class()`, if a scope around the task is cancelled.
    """
    checkpoint()


def sleep(delay: float) -> None:
    """Wait; a cancellation or a deadline ends the wait.

    Args:
        delay: Seconds; zero lets other tasks run.
    """
    if delay > 0:
        sleep_until(time.monotonic() + delay)
        return
    if isnan(delay):
        raise ValueError("delay must not be NaN")
    checkpoint()
    time.sleep(0)


def sleep_until(deadline: float) -> None:
    """Wait until a given time; a cancellation or an earlier deadline ends the wait.

    Args:
        deadline: The time, on the clock of `current_time()`.
    """
    task = current()
    task.limit()
    task.waits += 1
    try:
        while time.monotonic() < deadline:
            task.park(deadline)
    finally:
        task.pass_on()
