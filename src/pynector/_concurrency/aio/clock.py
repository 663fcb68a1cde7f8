"""Time: the clock of the deadlines, sleeping, and looking for a cancellation."""

import anyio
import anyio.lowlevel

__all__ = ["checkpoint", "checkpoint_if_cancelled", "current_time", "sleep", "sleep_until"]


def current_time() -> float:
    """The clock of the deadlines.

    Returns:
        Seconds since some fixed point; only differences mean something.
    """
    return anyio.current_time()


async def checkpoint() -> None:
    """Raise if the current task is cancelled, and let other tasks run where they need that.

    Raises:
        BaseException: `get_cancelled_exc_class()`, if a scope around the task is cancelled.
    """
    await anyio.lowlevel.checkpoint()


async def checkpoint_if_cancelled() -> None:
    """Raise if the current task is cancelled; where it is not, go on without a pause.

    Raises:
        BaseException: `get_cancelled_exc_class()`, if a scope around the task is cancelled.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()


async def sleep(delay: float) -> None:
    """Wait; a cancellation or a deadline ends the wait.

    Args:
        delay: Seconds; zero lets other tasks run.
    """
    await anyio.sleep(delay)


async def sleep_until(deadline: float) -> None:
    """Wait until a given time; a cancellation or an earlier deadline ends the wait.

    Args:
        deadline: The time, on the clock of `current_time()`.
    """
    await anyio.sleep_until(deadline)
