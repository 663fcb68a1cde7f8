"""Task groups."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, TypeVarTuple

import anyio
from anyio import CancelScope
from anyio.abc import TaskStatus

__all__ = ["TaskGroup", "TaskStatus", "create_task_group", "current_task", "run"]

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")


class TaskGroup:
    """Runs functions at the same time, and is left only when all of them have ended.

    The first failure cancels the others. Failures, that of the body included, leave as one `ExceptionGroup`,
    also if there is just one; `KeyboardInterrupt` and `SystemExit` leave bare. Make one with
    `create_task_group()`.
    """

    __slots__ = ("__weakref__", "_group")

    def __init__(self) -> None:
        self._group = anyio.create_task_group()

    @property
    def cancel_scope(self) -> CancelScope:
        """The scope around the body and all tasks: cancel it to end the group."""
        return self._group.cancel_scope

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            return bool(await self._group.__aexit__(exc_type, exc, traceback))
        except BaseExceptionGroup as group:
            critical = _critical_in(group)
            if critical is None:
                raise
        # Outside the handler, for the group would become the context of one of its own members.
        if critical is exc:
            return False
        try:
            raise critical
        finally:
            del critical, exc, traceback

    async def start_soon(
        self, fn: Callable[[*PosArgsT], Awaitable[object]], *args: *PosArgsT, name: str | None = None
    ) -> None:
        """Start a task, and return as soon as it is on its way.

        Args:
            fn: The function to run.
            args: Its positional arguments; for keyword arguments use `functools.partial`.
            name: The name of the task, for whoever debugs.

        Raises:
            RuntimeError: The group has ended, or was never entered.
        """
        self._group.start_soon(fn, *args, name=name)  # type: ignore[arg-type] # needs a coroutine at run time only

    async def start(self, fn: Callable[..., Awaitable[object]], *args: Any, name: str | None = None) -> Any:
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
        return await self._group.start(fn, *args, name=name)  # type: ignore[arg-type]


def _critical_in(group: "BaseExceptionGroup[BaseException]") -> BaseException | None:
    """The first interrupt or exit in a group, however deep; an interrupt comes before an exit."""
    found: BaseException | None = None
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        elif isinstance(error, KeyboardInterrupt):
            return error
        elif isinstance(error, SystemExit) and found is None:
            found = error
    return found


def create_task_group() -> TaskGroup:
    """Make a task group.

    Returns:
        The group, to be entered once.

    Example:
        ```python
        async with create_task_group() as tg:
            await tg.start_soon(fetch, "/a")
            await tg.start_soon(fetch, "/b")
        ```
    """
    return TaskGroup()


def current_task() -> object:
    """An object that stands for the running task: the same for its whole life, and no other task's.

    Returns:
        The object; compare it with `is`.
    """
    try:
        task: object = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None and (trio := sys.modules.get("trio")) is not None:
        task = trio.lowlevel.current_task()
    if task is None:
        raise RuntimeError("no task is running in this thread; call this from async code")
    return task


def run(
    fn: Callable[[*PosArgsT], Awaitable[T]], *args: *PosArgsT, backend: Literal["asyncio", "trio"] = "asyncio"
) -> T:
    """Run a function so that the first Ctrl-C is a clean cancel, and the second the raw `KeyboardInterrupt`.

    Args:
        fn: The function to run.
        args: Its positional arguments.
        backend: The event loop to run it on.

    Returns:
        What the function returns.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the function.
    """
    return anyio.run(fn, *args, backend=backend)
