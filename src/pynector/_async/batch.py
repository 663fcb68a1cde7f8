"""Many requests, a bounded number at a time, one outcome for each."""

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn

from .._concurrency.aio.colour import iterate
from .._concurrency.aio.locks import Event
from .._concurrency.aio.scopes import is_cancelled, move_on_after
from .._concurrency.aio.streams import (
    EndOfStream,
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    create_memory_object_stream,
)
from .._concurrency.aio.tasks import TaskGroup, create_task_group
from .._messages.outcome import BatchResult, Outcome, State
from ..errors import HTTPDecodeError, HTTPIncompleteError, PynectorError, SourceError, TimeoutError, TransportError
from .attempts import Record

Call = Callable[[Any, Mapping[str, Any], Record], Awaitable[Any]]
"""Does one request, given its data and its own options."""

ProgressCallback = Callable[[int, int | None], object]
"""Called with the number of finished items and, where the input has a length, how many there are."""

_END: Any = object()


class _Job:
    """One item, and what has happened to it."""

    __slots__ = ("data", "index", "options", "record", "started")

    def __init__(self, index: int, item: Any) -> None:
        self.index = index
        self.data = item
        self.options: Mapping[str, Any] = {}
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Mapping):
            self.data, self.options = item
        self.record = Record()
        self.started: float | None = None


class AsyncBatch:
    """Runs one batch: workers pull items, and each item ends in exactly one outcome.

    A list or tuple is read by the workers. Any other input may be bound to the task or thread that made it, so the
    caller reads it, as far ahead as there are workers.

    Args:
        connect: Gets the client ready, before anything is read.
        call: Does one request.
        source: The items, `data` or `(data, options)`: a list or tuple, or an iterator.
        total: How many there are, if that is known.
        limit: The most requests at once.
        raise_on_error: Whether the first failure ends the batch.
        on_progress: Called in the caller's own task or thread after items have finished.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[None]],
        call: Call,
        source: list[Any] | tuple[Any, ...] | AsyncIterator[Any],
        *,
        total: int | None,
        limit: int,
        raise_on_error: bool,
        on_progress: ProgressCallback | None,
    ) -> None:
        self._connect = connect
        self._call = call
        # A copy: what the user does to a list meanwhile changes nothing.
        self._items = tuple(source) if isinstance(source, list | tuple) else None
        self._source = iterate(()) if isinstance(source, list | tuple) else source
        self._limit = limit
        self._raise_on_error = raise_on_error
        self._on_progress = on_progress
        self._total = total
        self._live: dict[int, _Job] = {}
        self._outcomes: dict[int, Outcome[Any]] = {}
        self._error: Exception | None = None
        self._source_error: Exception | None = None
        self._pulled = 0
        self._exhausted = False
        self._reported = 0
        self._news = Event()
        self._stop: Callable[[], object] = lambda: None

    async def run(self, timeout: float | None) -> BatchResult[Any]:
        """Run it.

        Args:
            timeout: Seconds for the whole batch; None for no limit.

        Returns:
            Responses and exceptions, in the order of the input.

        Raises:
            SourceError: The input raised. What was finished is in its `outcomes`.
            Exception: With `raise_on_error`, that of the first item that failed, with the finished `outcomes` on it.
        """
        started = time.perf_counter()
        late = False
        if timeout is None:
            await self._run()
        else:
            with move_on_after(timeout) as scope:
                await self._run()
            # The deadline may pass while the last item is being put into its slot.
            late = scope.cancelled_caught and not self._complete
        if self._error is not None:
            self._fail(self._error)
        if late and self._raise_on_error and self._source_error is None:
            self._fail(TimeoutError(f"the batch did not end within {timeout:.6g} s"))
        if not self._complete:
            await self._settle(f"the batch did not end within {timeout:.6g} s" if late else "the batch was cut short")
        if self._source_error is not None:
            error = SourceError(
                f"the input raised {type(self._source_error).__name__} after {self._pulled} items: {self._source_error}"
            )
            error.__cause__ = self._source_error
            self._fail(error)
        return BatchResult(self._in_order(), elapsed=time.perf_counter() - started)

    @property
    def _complete(self) -> bool:
        """Whether everything was read, and has its outcome."""
        return self._exhausted and len(self._outcomes) == self._pulled

    async def _run(self) -> None:
        await self._connect()
        if self._items == ():
            self._exhausted = True
            return
        send, receive = create_memory_object_stream[_Job](self._limit)
        with send, receive:
            try:
                async with create_task_group() as group:
                    self._stop = group.cancel_scope.cancel
                    if self._items is not None:
                        await self._share(group, self._items)
                    else:
                        await self._feed(group, send, receive)
                    await self._watch()
            except BaseExceptionGroup as failed:
                # Workers catch what items raise. What else there is (no thread to be had, say) leaves bare as well.
                raise failed.exceptions[0] from None

    async def _share(self, group: TaskGroup, items: tuple[Any, ...]) -> None:
        """Let the workers take the items themselves: nothing is handed over, nobody waits."""
        indexes = itertools.count()

        async def pull() -> _Job | None:
            # One step of a built-in iterator: no two threads get the same number.
            index = next(indexes)
            return self._admit(index, items[index]) if index < len(items) else None

        self._pulled = len(items)
        self._exhausted = True
        for number in range(min(self._limit, len(items))):
            if not await self._hire(group, pull, number):
                break

    async def _hire(self, group: TaskGroup, pull: Callable[[], Awaitable[_Job | None]], workers: int) -> bool:
        """Start one more worker; False if the system has no more, and those there are must do."""
        try:
            await group.start_soon(self._work, pull)
        except RuntimeError:
            if workers == 0:
                raise
            return False
        return True

    async def _feed(
        self, group: TaskGroup, send: MemoryObjectSendStream[_Job], receive: MemoryObjectReceiveStream[_Job]
    ) -> None:
        """Read the input here and hand the items over. Waits while the workers have enough to do."""

        async def pull() -> _Job | None:
            try:
                return await receive.receive()
            except EndOfStream:
                return None

        workers = 0
        while self._error is None:
            try:
                item = await anext(self._source, _END)
            except Exception as exc:
                self._source_error = exc
                break
            if item is _END:
                self._exhausted = True
                break
            if workers < self._limit and send.statistics().tasks_waiting_receive == 0:
                workers += await self._hire(group, pull, workers)
            job = self._admit(self._pulled, item)
            self._pulled += 1
            await send.send(job)
            self._report()
        send.close()

    async def _watch(self) -> None:
        """Report progress until everything has finished."""
        if self._on_progress is None:
            return
        while self._reported < self._pulled:
            await self._news.wait()
            self._report()

    def _report(self) -> None:
        if self._on_progress is None:
            return
        # First the new event, then the count: what finishes after the count sets the new one.
        self._news = Event()
        done = len(self._outcomes)
        if done > self._reported:
            self._reported = done
            try:
                self._on_progress(done, self._total)
            except Exception as exc:
                self._error = exc
                self._stop()

    def _admit(self, index: int, item: Any) -> _Job:
        job = self._live[index] = _Job(index, item)
        return job

    async def _work(self, pull: Callable[[], Awaitable[_Job | None]]) -> None:
        while (job := await pull()) is not None:
            job.started = time.perf_counter()
            try:
                value = await self._call(job.data, job.options, job.record)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as exc:
                if not isinstance(exc, Exception) and is_cancelled():
                    raise
                error = exc if isinstance(exc, Exception) else _stray(exc)
                self._end(job, error=error, state=_state_after(error, job.record))
                if self._raise_on_error:
                    self._error = self._error or error
                    self._stop()
                    return
            else:
                self._end(job, value=value, state="ok")

    def _end(self, job: _Job, *, state: State, value: Any = None, error: Exception | None = None) -> None:
        elapsed = 0.0 if job.started is None else time.perf_counter() - job.started
        self._outcomes[job.index] = Outcome(
            index=job.index,
            request=job.data,
            value=value,
            error=error,
            state=state,
            attempts=job.record.attempts,
            elapsed=elapsed,
        )
        del self._live[job.index]
        if self._on_progress is not None:
            self._news.set()

    async def _settle(self, reason: str) -> None:
        """Give every item that was cut short, or never begun, its outcome."""
        await self._admit_rest()
        for job in list(self._live.values()):
            state: State
            if job.record.unanswered:
                state, what = "unknown", "this request was sent, and no answer seen"
            elif job.record.sent:
                state, what = "failed", "this request had failed and was waiting to be sent again"
            else:
                state, what = "not_sent", "this request was not sent"
            self._end(job, error=TimeoutError(f"{reason}: {what}"), state=state)

    async def _admit_rest(self) -> None:
        """Of an input with a length, every item gets an outcome, also those that were not read."""
        if self._items is not None:
            for index, item in enumerate(self._items):
                if index not in self._outcomes and index not in self._live:
                    self._admit(index, item)
        elif self._total is not None and self._source_error is None:
            while self._pulled < self._total and (item := await anext(self._source, _END)) is not _END:
                self._admit(self._pulled, item)
                self._pulled += 1

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, PynectorError):
            error.outcomes = self._in_order()
        raise error

    def _in_order(self) -> list[Outcome[Any]]:
        return [self._outcomes[index] for index in sorted(self._outcomes)]


def _stray(exc: BaseException) -> Exception:
    """The error of an item whose transport raised a cancellation that nobody had asked for."""
    error = TransportError(f"the transport raised {type(exc).__name__}, though nothing was cancelled")
    error.__cause__ = exc
    return error


def _state_after(error: Exception, record: Record) -> State:
    """What is known of an item that ended in an error of its own."""
    if record.unanswered and not isinstance(error, HTTPIncompleteError | HTTPDecodeError):
        return "unknown"
    return "not_sent" if isinstance(error, TimeoutError) and not record.sent else "failed"
