"""Task groups."""

import signal
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from inspect import iscoroutine
from math import inf
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, TypeVarTuple, overload

from ._exceptions import Cancelled
from ._parking import Task, adopt, chain_cancelled, current, disown, wake_below
from ._workers import pool
from .scopes import CancelScope

__all__ = ["TaskGroup", "TaskStatus", "create_task_group", "current_task", "run"]

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_GRACE = 0.5
"""Seconds a group waits for its tasks after a KeyboardInterrupt."""


class TaskStatus(Protocol[T_contra]):
    """Passed as `task_status` to a function that `TaskGroup.start` runs."""

    @overload
    def started(self: "TaskStatus[None]") -> None: ...

    @overload
    def started(self, value: T_contra) -> None: ...

    def started(self, value: T_contra | None = None) -> None:
        """Let `TaskGroup.start` return.

        Args:
            value: What `start` returns.
        """


class _Status(Generic[T]):
    """The answer of one task that `start` waits for."""

    __slots__ = ("abandoned", "base", "caller", "done", "error", "group", "task", "value")

    def __init__(self, group: "TaskGroup", caller: Task) -> None:
        self.group = group
        self.caller = caller
        self.done = False
        self.abandoned = False
        self.value: T | None = None
        self.error: BaseException | None = None
        # Until it has started, the task lives under the scopes of its caller; then this link is moved over.
        self.base = CancelScope()
        self.base._parent = caller.scope
        self.task: Task | None = None

    def started(self, value: T | None = None) -> None:
        if self.done:
            raise RuntimeError("called 'started' twice on the same task status")
        self.value = value
        self.move()
        self.done = True
        self.caller.wake()

    def move(self) -> None:
        """Put the task under the scopes of its group."""
        self.base._parent = self.group._scope
        # Waits below it were computed from the caller's deadlines; or the group is cancelled already.
        if self.task is not None:
            wake_below(self.task, everyone=True)


class _Job:
    """One task on its way to a worker."""

    __slots__ = ("args", "context", "error", "fn", "group", "status", "task")

    def __init__(
        self,
        group: "TaskGroup",
        task: Task,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        status: "_Status[Any] | None",
    ) -> None:
        self.group = group
        self.task = task
        self.fn = fn
        self.args = args
        self.context = context
        self.status = status
        self.error: BaseException | None = None

    def run(self) -> None:
        adopt(self.task)
        try:
            if self.status is None:
                result = self.context.run(self.fn, *self.args)
            else:
                result = self.context.run(self.fn, *self.args, task_status=self.status)
            if iscoroutine(result):
                result.close()
                raise _async_function(self.fn)
        except BaseException as error:
            self.error = error
        finally:
            disown()

    def finish(self) -> None:
        # The traceback of the error holds this job: no cycle.
        error, self.error = self.error, None
        self.group._finish(self.task, self.status, error)


def _async_function(fn: Callable[..., object]) -> TypeError:
    name = getattr(fn, "__qualname__", repr(fn))
    return TypeError(f"{name} is an async function; blocking task groups run plain functions")


class TaskGroup:
    """Runs functions at the same time, and is left only when all of them have ended.

    The first failure cancels the others. Failures, that of the body included, leave as one `ExceptionGroup`,
    also if there is just one; `KeyboardInterrupt` and `SystemExit` leave bare. Make one with
    `create_task_group()`.
    """

    __slots__ = (
        "__weakref__",
        "_active",
        "_critical",
        "_cut_short",
        "_errors",
        "_generation",
        "_host",
        "_leaving",
        "_scope",
        "_tasks",
    )

    def __init__(self) -> None:
        self._scope = CancelScope()
        self._tasks: dict[Task, None] = {}
        self._errors: list[BaseException] = []
        self._critical: BaseException | None = None
        self._cut_short = False
        self._host: Task | None = None
        self._active = False
        self._leaving = False
        self._generation: object = None

    @property
    def cancel_scope(self) -> CancelScope:
        """The scope around the body and all tasks: cancel it to end the group."""
        return self._scope

    def __enter__(self) -> Self:
        if self._host is not None:
            raise RuntimeError("TaskGroup cannot be entered more than once")
        self._host = host = current()
        self._generation = pool.generation
        self._scope.__enter__()
        host.groups = (*host.groups, self)
        self._active = True
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        host = self._host
        if host is None or not self._active:
            raise RuntimeError("This task group is not active")
        cause: BaseException | None = exc
        host.waits += 1
        try:
            if exc is not None:
                self._fail(exc)
            cause = self._wait(host, exc)
        except BaseException as error:
            self._fail(error)  # an interrupt in the middle of handling another
        finally:
            host.pass_on()
            self._active = False
            host.groups = tuple(group for group in host.groups if group is not self)
        errors, critical = self._errors, self._critical
        self._errors = []
        self._critical = None
        try:
            if critical is not None:
                cause = critical
            elif errors:
                # Every error is in the group already: no "during handling of" for each level of nesting.
                cause = BaseExceptionGroup("unhandled errors in a TaskGroup", errors)
                cause.__suppress_context__ = True
            if cause is None or cause is exc:
                return self._scope.__exit__(exc_type, exc, traceback)
            if self._scope.__exit__(type(cause), cause, cause.__traceback__):
                return True
            raise cause
        finally:
            # An exception refers to this frame: no cycle.
            del errors, critical, cause, exc, traceback

    def _wait(self, host: Task, exc: BaseException | None) -> BaseException | None:
        """Wait for the tasks; returns the exception that is to leave if no task failed."""
        cause = exc
        waited = False
        self._leaving = True
        while True:
            try:
                # Not the loop itself first: in CPython 3.11 an interrupt on its way back would escape `try`.
                tasks = self._tasks
                while tasks and self._generation is pool.generation:
                    waited = True
                    if isinstance(self._critical, KeyboardInterrupt):
                        self._wait_briefly(host, self._critical)
                        tasks = {}
                    elif self._critical is not None or self._scope._cancelled:
                        host.hold(inf)
                    else:
                        host.park()
                if (waited or self._cut_short) and cause is None and self._critical is None:
                    # The tasks may have seen a cancellation or a deadline before this one did.
                    host.limit()
                # Only then turn newcomers away: a task that is just being added is seen here, or sees this.
                self._active = False
                if not self._tasks or not tasks or self._generation is not pool.generation:
                    return cause
                self._active = True
            except Cancelled as cancelled:
                self._scope.cancel()
                if cause is None:
                    cause = cancelled
            except (KeyboardInterrupt, SystemExit) as critical:
                if host.grace is not None and host.grace[0] is self._critical:
                    host.grace = (host.grace[0], 0.0)  # interrupted again: wait no longer
                self._fail(critical)

    def _wait_briefly(self, host: Task, interrupt: KeyboardInterrupt) -> None:
        """Wait for the tasks of an interrupted group, but not for ever: some may not be able to hear it."""
        # Groups around this one share its time.
        if host.grace is None or host.grace[0] is not interrupt:
            host.grace = (interrupt, monotonic() + _GRACE)
        end = host.grace[1]
        while self._tasks and (left := end - monotonic()) > 0:
            host.hold(left)
        if stuck := [task.name for task in list(self._tasks)]:
            shown = ", ".join(stuck[:5]) + (", ..." if len(stuck) > 5 else "")
            interrupt.add_note(
                f"{len(stuck)} task(s) did not end within {_GRACE} s of the interrupt and were left to their "
                f"daemon threads: {shown}"
            )

    def _fail(self, error: BaseException) -> None:
        """Note a failure, and cancel the group."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            if self._critical is None or not isinstance(self._critical, KeyboardInterrupt):
                self._critical = error
            if self._host is not None:
                self._host.wake()
        elif isinstance(error, Cancelled):
            self._cut_short = True
        else:
            self._errors.append(error)
        if not chain_cancelled(self._scope):
            self._scope.cancel()

    def _finish(self, task: Task, status: "_Status[Any] | None", error: BaseException | None) -> None:
        """Called on the worker when a task has ended."""
        if status is not None and not (status.done or status.abandoned):
            status.error = error or RuntimeError("Child exited without calling task_status.started()")
            self._tasks.pop(task, None)
            status.done = True
            status.caller.wake()
        else:
            if error is not None:
                self._fail(error)
            self._tasks.pop(task, None)
        if self._leaving and not self._tasks:
            host = self._host
            if host is not None:
                host.wake()

    def start_soon(self, fn: Callable[[*PosArgsT], object], *args: *PosArgsT, name: str | None = None) -> None:
        """Start a task, and return as soon as it is on its way.

        Args:
            fn: The function to run.
            args: Its positional arguments; for keyword arguments use `functools.partial`.
            name: The name of the task, for whoever debugs.

        Raises:
            RuntimeError: The group has ended, or was never entered.
        """
        self._launch(Task(name or _name_of(fn), self._scope), fn, args, None)

    def start(self, fn: Callable[..., object], *args: Any, name: str | None = None) -> Any:
        """Start a task, and wait until it says that it is ready.

        Args:
            fn: The function to run; it gets a keyword argument `task_status` and calls
                `task_status.started(value)`.
            args: Its positional arguments.
            name: The name of the task, for whoever debugs.

        Returns:
            What the task passed to `started`.

        Raises:
            RuntimeError: The task ended without calling `started`, or the group has ended.
            BaseException: Whatever the task raised before it called `started`, bare.
        """
        caller = current()
        status: _Status[Any] = _Status(self, caller)
        task = Task(name or _name_of(fn), status.base)
        status.task = task
        status.base._host = task
        caller.starting = task
        caller.waits += 1
        try:
            self._launch(task, fn, args, status)
            try:
                while not status.done:
                    caller.park()
            except Cancelled:
                # The task is cancelled as well, and its failures are the caller's: wait for it.
                while not status.done:
                    caller.hold(inf)
                raise
        except BaseException:
            # Only an interrupt gets here with the task still on its way: leave it to the group.
            status.abandoned = True
            status.move()
            raise
        finally:
            caller.starting = None
            caller.pass_on()
        if status.error is not None:
            try:
                raise status.error
            finally:
                del status
        return status.value

    def _launch(
        self, task: Task, fn: Callable[..., object], args: tuple[Any, ...], status: "_Status[Any] | None"
    ) -> None:
        # In before the check: a group that is just closing sees the task, or the task sees it closed.
        self._tasks[task] = None
        if not self._active or self._generation is not pool.generation:
            self._tasks.pop(task, None)
            raise RuntimeError("This task group is not active; no new tasks can be started.")
        try:
            pool.submit(_Job(self, task, fn, args, copy_context(), status))
        except BaseException:
            self._tasks.pop(task, None)
            raise


def _name_of(fn: Callable[..., object]) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def create_task_group() -> TaskGroup:
    """Make a task group.

    Returns:
        The group, to be entered once.

    Example:
        ```python
        with create_task_group() as tg:
            tg.start_soon(fetch, "/a")
            tg.start_soon(fetch, "/b")
        ```
    """
    return TaskGroup()


def current_task() -> object:
    """An object that stands for the running task: the same for its whole life, and no other task's.

    Returns:
        The object; compare it with `is`.
    """
    return current()


def run(fn: Callable[[*PosArgsT], T], *args: *PosArgsT) -> T:
    """Run a function so that the first Ctrl-C is a clean cancel, and the second the raw `KeyboardInterrupt`.

    Args:
        fn: The function to run.
        args: Its positional arguments.

    Returns:
        What the function returns.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the function.
    """
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        return _checked(fn, args)
    scope = CancelScope()
    interrupted = False

    def on_interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        scope.cancel()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        with scope:
            return _checked(fn, args)
    finally:
        if signal.getsignal(signal.SIGINT) is on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    raise KeyboardInterrupt


def _checked(fn: Callable[..., T], args: tuple[Any, ...]) -> T:
    result = fn(*args)
    if iscoroutine(result):
        result.close()
        raise _async_function(fn)
    return result
