"""A fixed number of workers that take jobs from a bounded queue."""

from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self, TypeVarTuple

from ..._concurrency.aio.colour import ColourGuard, invoke, settle
from ..._concurrency.aio.locks import Event, Mutex
from ..._concurrency.aio.scopes import CancelScope
from ..._concurrency.aio.streams import (
    BrokenResourceError,
    ClosedResourceError,
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    create_memory_object_stream,
)
from ..._concurrency.aio.tasks import TaskGroup, create_task_group, current_task
from ..._config import check_count
from ...errors import ClosedError, ConfigurationError

PosArgsT = TypeVarTuple("PosArgsT")

_Job = Callable[[], Awaitable[object]]


class AsyncWorkerPool(ColourGuard):
    """A fixed number of workers that take jobs from a bounded queue.

    Use it with `async with`: at the end of the block the jobs that were accepted are finished, and then what
    failed is raised. If the block itself raises or is cancelled, the jobs are cancelled and dropped.

    `start()` and `stop()` are the two ends of that block. Without a task group they have to be called in the same
    task, and scopes and groups that are opened between them have to be closed between them. To start a pool in one
    place and stop it in another, give `start` a task group that lives long enough.

    Args:
        num_workers: How many jobs run at once.
        queue_size: How many jobs may wait for a worker; `submit` waits while there are as many. 0: a job is handed
            over only to a worker that is free.
        on_error: Called with the exception of each job that fails, in the worker. What it raises itself is raised at
            the end. Without it the exceptions are kept, and raised together at the end; for a pool that runs
            for long, give one.

    Raises:
        ConfigurationError: An argument is wrong.

    Example:
        ```python
        async with WorkerPool(num_workers=4, queue_size=100) as pool:
            for path in paths:
                await pool.submit(process, path)
        ```
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_errors",
        "_group",
        "_mutex",
        "_num_workers",
        "_on_error",
        "_owner",
        "_queue_size",
        "_scopes",
        "_send",
        "_stopped",
        "_working",
    )

    _public = "pynector.concurrency.WorkerPool"

    def __init__(
        self, num_workers: int, queue_size: int = 100, on_error: Callable[[Exception], object] | None = None
    ) -> None:
        self._num_workers = check_count(num_workers, "num_workers")
        if queue_size != 0 or isinstance(queue_size, bool | float):
            check_count(queue_size, "queue_size")
        if on_error is not None and not callable(on_error):
            raise ConfigurationError(f"argument `on_error`: expected a function, got {type(on_error).__name__}")
        self._queue_size = queue_size
        self._on_error = on_error
        self._errors: list[Exception] = []
        self._mutex = Mutex()
        self._scopes: list[CancelScope] = []
        self._working: set[object] = set()
        self._send: MemoryObjectSendStream[_Job] | None = None
        self._group: TaskGroup | None = None
        self._owner: object = None
        self._ended = Event()
        self._stopped = False

    async def start(self, task_group: TaskGroup | None = None) -> None:
        """Start the workers, and return.

        Args:
            task_group: Where they run. Without one, the pool opens one of its own in the current task, which then has
                to call `stop()`.

        Raises:
            RuntimeError: The pool was started before.
        """
        if self._send is not None or self._stopped:
            raise RuntimeError("this WorkerPool was started before: make a new one")
        self._send, receive = create_memory_object_stream[_Job](self._queue_size)
        self._scopes = [CancelScope() for _ in range(self._num_workers)]
        group = task_group
        if group is None:
            group = self._group = create_task_group()
            self._owner = current_task()
            await group.__aenter__()
        started = 0
        try:
            for scope in tuple(self._scopes):
                await group.start_soon(self._work, receive, scope, name="WorkerPool")
                started += 1
        except BaseException:
            self._stopped = True
            self._send.close()
            self._leave(receive, self._scopes[started:])
            if self._group is not None:
                await self._group.__aexit__(None, None, None)
            raise

    async def submit(self, fn: Callable[[*PosArgsT], Awaitable[object]], *args: *PosArgsT) -> None:
        """Hand a job over, waiting while the queue is full.

        A job that submits others may wait for room for ever if all workers do so.

        Args:
            fn: The function to run; what it returns is dropped.
            args: Its positional arguments; for keyword arguments use `functools.partial`.

        Raises:
            ClosedError: The pool is not running: it was not started, or was stopped or cancelled.
        """
        if self._send is None:
            raise ClosedError("this WorkerPool is not running: use it with `async with`, or call start()")
        if not callable(fn):
            raise ConfigurationError(f"argument `fn`: expected a function, got {type(fn).__name__}")
        try:
            # An end of its own: who is waiting for room when the pool is stopped still gets through.
            with self._send.clone() as send:
                await send.send(partial(invoke, fn, *args))
        except (BrokenResourceError, ClosedResourceError):
            raise ClosedError("this WorkerPool was stopped") from None

    async def stop(self) -> None:
        """Take no more jobs, finish those that were accepted, and end the workers.

        Does nothing if the pool was stopped before, or never started.

        Raises:
            ExceptionGroup: What jobs raised, or `on_error` did.
            RuntimeError: Called in a job, or in another task than the one that opened the pool.
        """
        if self._stopped or self._send is None:
            return
        task = current_task()
        if task in self._working:
            raise RuntimeError("a job cannot stop the WorkerPool it runs in: it would wait for itself")
        if self._group is not None and task is not self._owner:
            raise RuntimeError(
                "a WorkerPool is stopped in the task that started it; to stop it elsewhere, start it in a task group"
            )
        self._stopped = True
        self._send.close()
        if self._group is not None:
            await self._group.__aexit__(None, None, None)
        else:
            try:
                await self._ended.wait()
            except BaseException:
                self._cancel()
                raise
        if self._errors:
            errors, self._errors = self._errors, []
            raise ExceptionGroup("jobs of a WorkerPool failed", errors)

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "not started"
        if self._send is not None and not self._stopped:
            state = f"{self._send.statistics().current_buffer_used} jobs waiting"
        return f"<WorkerPool of {self._num_workers}: {state}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if exc is None:
            await self.stop()
            return False
        if self._stopped or self._send is None or self._group is None:
            return False
        self._stopped = True
        self._send.close()
        self._cancel()
        if not isinstance(exc, Exception | GeneratorExit):
            return await self._group.__aexit__(exc_type, exc, traceback)
        # Not told of the error, which it would put into a group of its own.
        await self._group.__aexit__(None, None, None)
        if self._errors and isinstance(exc, Exception):
            raise ExceptionGroup("the block of a WorkerPool failed, and so did jobs", [exc, *self._errors]) from None
        return False

    def _cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def _work(self, receive: MemoryObjectReceiveStream[_Job], scope: CancelScope) -> None:
        task = current_task()
        with self._mutex:
            self._working.add(task)
        try:
            with scope:
                async for job in receive:
                    try:
                        await job()
                    except Exception as exc:
                        await self._report(exc)
        finally:
            with self._mutex:
                self._working.discard(task)
            self._leave(receive, [scope])

    def _leave(self, receive: MemoryObjectReceiveStream[_Job], scopes: list[CancelScope]) -> None:
        """Let go of workers that have ended, or never began; the last one turns off the light."""
        with self._mutex:
            self._scopes = [scope for scope in self._scopes if scope not in scopes]
            last = not self._scopes
        if last:
            receive.close()
            self._ended.set()

    async def _report(self, error: Exception) -> None:
        if self._on_error is not None:
            try:
                await settle(self._on_error(error))
            except Exception as exc:
                error = exc
            else:
                return
        self._errors.append(error)
