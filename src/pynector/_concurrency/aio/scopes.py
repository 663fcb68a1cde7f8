"""Cancel scopes and deadlines."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf
from types import TracebackType

import anyio
from anyio import CancelScope
from anyio.lowlevel import current_token

__all__ = [
    "CancelScope",
    "current_effective_deadline",
    "deadline_reader",
    "fail_after",
    "fail_at",
    "get_cancelled_exc_class",
    "is_cancelled",
    "move_on_after",
    "move_on_at",
    "shield",
]


class _FailingScope:
    """A scope whose deadline is an error."""

    __slots__ = ("_scope",)

    def __init__(self, deadline: float, shield: bool) -> None:
        self._scope = CancelScope(deadline=deadline, shield=shield)

    def __enter__(self) -> CancelScope:
        return self._scope.__enter__()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        swallow = self._scope.__exit__(exc_type, exc, traceback)
        if swallow and anyio.current_time() >= self._scope.deadline:
            # The cause shows where the wait was cut off.
            raise TimeoutError from exc
        return bool(swallow)


def move_on_after(delay: float | None, shield: bool = False) -> CancelScope:
    """A cancel scope that is left quietly when its time is up.

    Args:
        delay: Seconds from this call; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        The scope, to be entered with `with`; its `cancelled_caught` tells whether time ran out.
    """
    return anyio.move_on_after(delay, shield)


def move_on_at(deadline: float | None, shield: bool = False) -> CancelScope:
    """A cancel scope that is left quietly at a given time.

    Args:
        deadline: The time, on the clock of `current_time()`; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        The scope, to be entered with `with`; its `cancelled_caught` tells whether time ran out.
    """
    return CancelScope(deadline=inf if deadline is None else deadline, shield=shield)


def fail_after(delay: float | None, shield: bool = False) -> AbstractContextManager[CancelScope, bool]:
    """A cancel scope that raises `TimeoutError` when its time is up.

    Args:
        delay: Seconds from this call; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        A context manager that gives the scope.

    Raises:
        TimeoutError: On leaving the block, when its deadline cut it short.
    """
    return _FailingScope(inf if delay is None else anyio.current_time() + delay, shield)


def fail_at(deadline: float | None, shield: bool = False) -> AbstractContextManager[CancelScope, bool]:
    """A cancel scope that raises `TimeoutError` at a given time.

    Args:
        deadline: The time, on the clock of `current_time()`; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        A context manager that gives the scope.

    Raises:
        TimeoutError: On leaving the block, when its deadline cut it short.
    """
    return _FailingScope(inf if deadline is None else deadline, shield)


def shield() -> CancelScope:
    """A block that cancellation from outside does not reach; it is delivered at the next wait after it.

    Returns:
        The scope, to be entered with `with`.

    Example:
        ```python
        with shield():
            await connection.aclose()
        ```
    """
    return CancelScope(shield=True)


def get_cancelled_exc_class() -> type[BaseException]:
    """The exception that cancellation raises inside a task. Clean up, then raise it again.

    Returns:
        The exception class; it does not derive from `Exception`.
    """
    return anyio.get_cancelled_exc_class()


def is_cancelled() -> bool:
    """Whether somebody has cancelled what the current task is doing.

    Returns:
        True if a scope around it is cancelled or past its deadline; in async code also if the task itself is.
    """
    if anyio.current_effective_deadline() == -inf:
        return True
    try:
        task = asyncio.current_task()
    except RuntimeError:  # not on asyncio
        return False
    return task is not None and task.cancelling() > 0


def current_effective_deadline() -> float:
    """The nearest deadline of the scopes around the current task.

    Returns:
        A time on the clock of `current_time()`: `inf` without a deadline, `-inf` if already cancelled.
    """
    return anyio.current_effective_deadline()


def deadline_reader() -> Callable[[], float]:
    """`current_effective_deadline` for who asks often, and always from where this was called."""
    return current_token().backend_class.current_effective_deadline
