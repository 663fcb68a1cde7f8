"""Blocking code called from async code."""

from collections.abc import Callable
from inspect import iscoroutine
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
from anyio import CapacityLimiter

from ..threads.scopes import CancelScope as ThreadScope
from .clock import checkpoint
from .scopes import get_cancelled_exc_class
from .tasks import create_task_group

__all__ = ["run_sync_in_worker"]

PosArgsT = TypeVarTuple("PosArgsT")
T = TypeVar("T")


async def run_sync_in_worker(
    fn: Callable[[*PosArgsT], T],
    *args: *PosArgsT,
    abandon_on_cancel: bool = False,
    limiter: CapacityLimiter | None = None,
) -> T:
    """Run a blocking function in a worker thread, without blocking the event loop.

    The function sees a copy of the caller's context variables. A cancellation of the caller reaches it at its next
    blocking call of `pynector.concurrency.sync` or of a blocking client of this library. Other code (`time.sleep`, a
    database driver) does not hear it: then the caller waits until the function has ended, and is cancelled
    at its next wait if the function ended well.

    Args:
        fn: The function to run.
        args: Its positional arguments; for keyword arguments use `functools.partial`.
        abandon_on_cancel: On a cancellation, do not wait for the function: its thread runs on by itself, and what
            it returns or raises is dropped.
        limiter: Bounds how many functions run at once; by default one of 40 tokens that the whole event loop shares.

    Returns:
        What the function returns.

    Raises:
        TypeError: It is an async function.

    Example:
        ```python
        digest = await run_sync_in_worker(hash_file, "big.iso")
        ```
    """
    scope = ThreadScope()
    results: list[T] = []

    def call() -> None:
        with scope:
            result = fn(*args)
            if iscoroutine(result):
                result.close()
                name = getattr(fn, "__qualname__", repr(fn))
                raise TypeError(f"{name} is an async function: await it, there is no need for a worker thread")
            results.append(result)

    async def pass_on_cancellation() -> None:
        try:
            await anyio.sleep_forever()
        except get_cancelled_exc_class():
            # Not raised again: the group would raise it in place of a result that is there all the same.
            scope.cancel()

    failure: Exception | None = None
    async with create_task_group() as group:
        await group.start_soon(pass_on_cancellation)
        try:
            await anyio.to_thread.run_sync(call, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
        except Exception as error:
            failure = error  # bare, not in the group of tasks that is no business of the caller's
        group.cancel_scope.cancel()
    if failure is not None:
        try:
            raise failure
        finally:
            del failure
    if not results:
        # The function was cut short by the cancellation that it heard of; it is raised here.
        await checkpoint()
    return results[0]
