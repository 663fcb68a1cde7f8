"""Cancel scopes and deadlines."""

from collections.abc import Callable
from math import inf, isnan
from time import monotonic
from types import TracebackType
from typing import Self

from ._exceptions import Cancelled
from ._parking import ScopeLink, Task, chain_cancelled, current, wake_below

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


class CancelScope(ScopeLink):
    """A block of work that can be cancelled from outside, or ends at a deadline.

    Cancelling a scope makes every blocking call inside it raise `get_cancelled_exc_class()`, in the task that
    entered it and in the tasks of groups opened inside it, until the block is left; the scope then swallows
    that exception. A scope serves one `with` block.

    Args:
        deadline: When the scope cancels itself, on the clock of `current_time()`, in seconds.
        shield: Keep cancellations of the scopes around this one out.

    Example:
        ```python
        with CancelScope(deadline=current_time() + 5) as scope:
            work()
        if scope.cancelled_caught:
            print("gave up after five seconds")
        ```
    """

    __slots__ = ("__weakref__", "_caught", "_entered", "_host")

    def __init__(self, *, deadline: float = inf, shield: bool = False) -> None:
        if isnan(deadline):
            raise ValueError("deadline must not be NaN")
        self._deadline = deadline
        self._shielded = shield
        self._cancelled = False
        self._caught = False
        self._entered = False
        self._parent: ScopeLink | None = None
        self._host: Task | None = None

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("Each CancelScope may only be used for a single 'with' block")
        self._entered = True
        self._host = task = current()
        self._parent = task.scope
        # The last step, with no call after it: an interrupt cannot leave a scope behind here.
        task.scope = self
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        task = self._host
        if task is None:
            raise RuntimeError("This cancel scope is not active")
        if task is not current():
            raise RuntimeError("A cancel scope must be left in the task that entered it")
        out_of_order = task.scope is not self
        if out_of_order and not self._is_open_in(task):
            raise RuntimeError("This cancel scope was closed with the scope around it")
        # Also drops scopes inside this one that an interrupt kept from being left.
        task.scope = self._parent
        self._host = None
        if out_of_order and (exc is None or isinstance(exc, Exception)):
            raise RuntimeError("A cancel scope inside this one is still open; leave scopes in reverse order")
        if exc is None or not self._cancelled:
            return False
        if not self._shielded and chain_cancelled(self._parent):
            return False  # for the outer scope to catch
        if isinstance(exc, Cancelled):
            self._caught = True
            return True
        if isinstance(exc, BaseExceptionGroup):
            return self._strip(exc)
        return False

    def _strip(self, group: "BaseExceptionGroup[BaseException]") -> bool:
        """Swallow the cancellations in a group made by hand, and let the rest out."""
        cancelled, rest = group.split(Cancelled)
        if cancelled is None:
            return False
        self._caught = True
        if rest is None:
            return True
        context = rest.__context__
        try:
            raise rest
        finally:
            rest.__context__ = context

    def _is_open_in(self, task: Task) -> bool:
        scope = task.scope
        while scope is not None and scope is not self:
            scope = scope._parent
        return scope is self

    def cancel(self, reason: str | None = None) -> None:
        """Cancel this scope now. Takes no lock, so any thread, finaliser or signal handler may call it.

        Args:
            reason: For whoever reads the code; not kept.
        """
        if not self._cancelled:
            self._cancelled = True
            host = self._host
            if host is not None:
                wake_below(host)

    @property
    def deadline(self) -> float:
        """When the scope cancels itself, on the clock of `current_time()`; `inf` for never."""
        return self._deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        if isnan(value):
            raise ValueError("deadline must not be NaN")
        self._deadline = value
        self._waits_changed()

    @property
    def shield(self) -> bool:
        """True while cancellations of the scopes around this one stay out."""
        return self._shielded

    @shield.setter
    def shield(self, value: bool) -> None:
        self._shielded = value
        self._waits_changed()

    def _waits_changed(self) -> None:
        # Waiters computed how long to wait from the old values.
        host = self._host
        if host is not None:
            wake_below(host, everyone=True)

    @property
    def cancel_called(self) -> bool:
        """True once `cancel()` was called or the deadline has passed inside the block."""
        if not self._cancelled and self._host is not None and self._deadline <= monotonic():
            self.cancel()
        return self._cancelled

    @property
    def cancelled_caught(self) -> bool:
        """True if the block was cut short by this scope's own cancellation."""
        return self._caught


class _FailingScope(CancelScope):
    """A scope whose deadline is an error."""

    __slots__ = ()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        swallow = CancelScope.__exit__(self, exc_type, exc, traceback)
        if swallow and monotonic() >= self._deadline:
            # The cause shows where the wait was cut off.
            raise TimeoutError from exc
        return swallow


def move_on_after(delay: float | None, shield: bool = False) -> CancelScope:
    """A cancel scope that is left quietly when its time is up.

    Args:
        delay: Seconds from this call; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        The scope, to be entered with `with`; its `cancelled_caught` tells whether time ran out.
    """
    return CancelScope(deadline=inf if delay is None else monotonic() + delay, shield=shield)


def move_on_at(deadline: float | None, shield: bool = False) -> CancelScope:
    """A cancel scope that is left quietly at a given time.

    Args:
        deadline: The time, on the clock of `current_time()`; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        The scope, to be entered with `with`; its `cancelled_caught` tells whether time ran out.
    """
    return CancelScope(deadline=inf if deadline is None else deadline, shield=shield)


def fail_after(delay: float | None, shield: bool = False) -> CancelScope:
    """A cancel scope that raises `TimeoutError` when its time is up.

    Args:
        delay: Seconds from this call; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        A context manager that gives the scope.

    Raises:
        TimeoutError: On leaving the block, when its deadline cut it short.
    """
    return _FailingScope(deadline=inf if delay is None else monotonic() + delay, shield=shield)


def fail_at(deadline: float | None, shield: bool = False) -> CancelScope:
    """A cancel scope that raises `TimeoutError` at a given time.

    Args:
        deadline: The time, on the clock of `current_time()`; None for no limit.
        shield: Keep cancellations of the scopes around this one out.

    Returns:
        A context manager that gives the scope.

    Raises:
        TimeoutError: On leaving the block, when its deadline cut it short.
    """
    return _FailingScope(deadline=inf if deadline is None else deadline, shield=shield)


def shield() -> CancelScope:
    """A block that cancellation from outside does not reach; it is delivered at the next wait after it.

    Returns:
        The scope, to be entered with `with`.

    Example:
        ```python
        with shield():
            connection.close()
        ```
    """
    return CancelScope(shield=True)


def get_cancelled_exc_class() -> type[BaseException]:
    """The exception that cancellation raises inside a task. Clean up, then raise it again.

    Returns:
        The exception class; it does not derive from `Exception`.
    """
    return Cancelled


def is_cancelled() -> bool:
    """Whether somebody has cancelled what the current task is doing.

    Returns:
        True if a scope around it is cancelled or past its deadline; in async code also if the task itself is.
    """
    return current_effective_deadline() == -inf


def current_effective_deadline() -> float:
    """The nearest deadline of the scopes around the current task.

    Returns:
        A time on the clock of `current_time()`: `inf` without a deadline, `-inf` if already cancelled.
    """
    try:
        return current().limit()
    except Cancelled:
        return -inf


def deadline_reader() -> Callable[[], float]:
    """`current_effective_deadline` for who asks often, and always from where this was called."""
    return current_effective_deadline
