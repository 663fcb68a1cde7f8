"""A batch whose outcomes are handed out as they come."""

from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Any, Self

from ..._concurrency.aio.clock import checkpoint_if_cancelled, current_time
from ..._concurrency.aio.colour import ColourGuard
from ..._concurrency.aio.files import offload
from ..._concurrency.aio.inputs import Branch, read_apart
from ..._concurrency.aio.scopes import move_on_at, shield
from ..._concurrency.aio.tasks import TaskGroup, create_task_group, current_task
from ..._messages.outcome import Outcome
from ..._messages.report import RunStats, Summary
from ..._messages.tally import Tally
from ..._mutex import forks
from ..._progress import ProgressCallback, show_progress
from ...errors import CheckpointError, PynectorError
from .crew import AsyncCrew
from .inputs import open_source, source_error
from .job import Calls, Ending
from .memo import Memo
from .observation import AsyncObservation
from .signal import AsyncSignal
from .source import AsyncHanded, AsyncRoom

_NEVER_LOW = -1


class AsyncBatchRun(ColourGuard):
    """The outcomes of a batch, as they come: an async context manager, and inside its block an async iterator.

    Entering begins the run, leaving ends it: by then every request has ended, and no other one starts. What is read
    from the input and not yet handed out is never more than the limit and the buffer. Make one with
    `client.stream_batch(...)`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[None]],
        calls: Calls,
        requests: Any,
        *,
        total: int | None,
        limit: int,
        buffer: int,
        ordered: bool,
        timeout: float | None,
        max_errors: int | None,
        cancels: bool,
        memo: Memo | None,
        on_progress: ProgressCallback | None,
        close_progress: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._total = total
        self._limit = limit
        self._ordered = ordered
        self._timeout = timeout
        self._on_progress = on_progress
        self._close_progress = close_progress
        self._news = AsyncSignal()
        self._room = AsyncRoom(limit + buffer)
        self._memo = memo
        name = None if memo is None or memo.key is None else memo.name
        self._source = open_source(requests, total=total, low=_NEVER_LOW, news=self._news, room=self._room, name=name)
        self._pacer = calls.pacer
        self._crew = AsyncCrew(
            self._source,
            calls,
            limit=limit,
            timeout=timeout,
            news=self._news,
            max_errors=max_errors,
            cancels=cancels,
            memo=memo,
        )
        self._crew.wanted = 0 if ordered else None
        self._group: TaskGroup | None = None
        self._task: object = None
        self._forks = forks[0]
        self._branch: Branch
        self._reads_here = False
        self._raised = False
        # Of an ordered run: what came before its turn.
        self._early: dict[int, Outcome[Any]] = {}
        self._tally = Tally()
        calls.pacer.on_resend = self._tally.retry
        self._done = 0
        self._observation = AsyncObservation(
            self._source, self._crew, calls, total=total, limit=limit, early=self._early
        )
        self._started = monotonic()
        self._elapsed: float | None = None

    @property
    def stats(self) -> RunStats:
        """How far it is, at this moment."""
        source = self._source
        ready = len(self._early) + len(self._crew.done)
        in_flight = source.taken - source.waiting - ready - self._done
        held = self._pacer.held
        return self._tally.stats(
            self._seconds(),
            total=self._total,
            ready=ready,
            # While workers are at work on other threads, the numbers may not be of the same moment.
            in_flight=max(0, min(in_flight, self._limit) - held),
            waiting=source.waiting,
            waiting_for_limit=held,
            concurrency=self._pacer.concurrency(self._limit),
            limit_history=self._pacer.limit_history(self._started),
        )

    def summary(self) -> Summary:
        """The figures of all outcomes that were handed out so far, in memory that does not grow with their number.

        Returns:
            Counts, statuses, retries, latencies, throughput and usage: `print` it, or show it in a notebook.
        """
        return self._tally.summary(self._seconds())

    def stop(self) -> None:
        """Begin no more requests. Those that are under way go on to their end, and their outcomes are handed out.

        If the input has a length, an outcome follows for each item that was left out, with the state `not_sent`.
        May be called from any task of the run's event loop, and a second time.
        """
        self._crew.drain(Ending("the run was stopped"))

    def _seconds(self) -> float:
        return monotonic() - self._started if self._elapsed is None else self._elapsed

    # Its block

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a run is entered once: call stream_batch again for another one")
        self._task = current_task()
        self._started = monotonic()
        self._observation.begin()
        self._branch = Branch()
        crew = self._crew
        crew.deadline = None if self._timeout is None else current_time() + self._timeout
        try:
            with move_on_at(crew.deadline) as scope:
                await self._connect()
                if self._memo is not None and self._memo.checkpoint is not None:
                    await offload(self._memo.checkpoint.open)
        except BaseException:
            await self._close(quietly=True)
            raise
        self._group = group = create_task_group()
        await group.__aenter__()
        try:
            if scope.cancelled_caught:
                crew.stopped = True
            else:
                await crew.start(group)
                if isinstance(self._source, AsyncHanded):
                    self._reads_here = not await read_apart(crew.employ, self._read)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        group = self._group
        if group is None:
            raise RuntimeError("this run was not entered, or was left before")
        self._crew.stopped = True
        if current_task() is not self._task:
            # Not by the group, which would cancel whoever entered it, whatever that does by now.
            self._crew.halt()
            if exc_type is GeneratorExit:
                # It is in a generator that nobody has closed: the garbage collector does, and has nobody to tell.
                self._close_progress()
                self._observation.end(self._states)
                return
            raise RuntimeError("a run must be left in the task that entered it")
        group.cancel_scope.cancel()
        self._group = None
        self._elapsed = monotonic() - self._started
        quietly = True
        try:
            # Errors of the body are its own. An interrupt is the group's too: it waits only briefly for its tasks then.
            if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                await group.__aexit__(exc_type, exc, traceback)
            else:
                await group.__aexit__(None, None, None)
            quietly = exc_type is not None
        except BaseExceptionGroup as failed:
            # Workers catch what items raise: nothing of that is in here.
            raise failed.exceptions[0] from None
        finally:
            await self._close(quietly=quietly)
            del exc, traceback
        if exc_type is None and not self._raised and self._source.close_error is not None:
            error = source_error(self._source)
            if error is not None:
                raise error

    async def _close(self, *, quietly: bool) -> None:
        """Close what is open.

        Args:
            quietly: Whether something worse has happened than that the checkpoint cannot be closed.
        """
        self._close_progress()
        self._observation.end(self._states, self._end_error())
        try:
            with shield(), self._branch:
                await self._source.aclose()
                if self._memo is not None and self._memo.checkpoint is not None:
                    await offload(self._memo.checkpoint.close)
        except CheckpointError:
            if not quietly:
                raise

    def _states(self) -> dict[str, int]:
        found = self.summary()
        return {state: getattr(found, state) for state in ("ok", "failed", "not_sent", "unknown")}

    def _end_error(self) -> PynectorError | None:
        """What the consumer was told at the end, if that was no good news."""
        error = source_error(self._source) if self._source.error is not None else None
        return error if error is not None or self._memo is None else self._memo.error

    # Its outcomes

    def __aiter__(self) -> Self:
        self._check()
        return self

    async def __anext__(self) -> Outcome[Any]:
        """The next outcome, as soon as there is one.

        Raises:
            StopAsyncIteration: There are no more.
            SourceError: The input raised, and all outcomes up to there were handed out.
        """
        self._check()
        crew = self._crew
        while True:
            if self._reads_here:
                await self._read_some()
            # First whether somebody is at work, then whether there is something: what they do last comes before.
            over = crew.left and (crew.stopped or self._source.ended or not self._reads_here)
            if self._is_ready():
                if crew.cut:
                    # By a cancellation from outside, which this task may not have seen yet: it hears of that first.
                    await checkpoint_if_cancelled()
                return self._next()
            if over:
                return await self._last()
            await self._news.wait_for(lambda: crew.left or self._is_ready())

    def _check(self) -> None:
        if self._group is None:
            if self._task is None:
                raise RuntimeError("a run is read inside its block: `async with client.stream_batch(...) as run`")
            raise RuntimeError("this run has ended: its block was left")
        if self._forks != forks[0]:
            raise RuntimeError("this run is of the parent process: begin another one in a forked child")
        if current_task() is not self._task:
            raise RuntimeError("a run is read in the task that entered it: pass its outcomes on to other tasks instead")

    def _is_ready(self) -> bool:
        """Whether the next outcome is there."""
        done = self._crew.done
        if not self._ordered:
            return bool(done)
        early = self._early
        while done:
            outcome = done.popleft()
            early[outcome.index] = outcome
        return self._done in early

    def _next(self) -> Outcome[Any]:
        """Hand out the next outcome, which is there."""
        if self._on_progress is not None:
            # Before it is taken: if the callback raises, the outcome is not lost.
            self._report(self._on_progress, self._early[self._done] if self._ordered else self._crew.done[0])
        outcome = self._early.pop(self._done) if self._ordered else self._crew.done.popleft()
        self._done += 1
        self._observation.handed_out = self._done
        if self._ordered:
            self._crew.wanted = self._done
        self._tally.add(outcome)
        self._room.widen()
        return outcome

    def _report(self, callback: ProgressCallback, outcome: Outcome[Any]) -> None:
        failed = self._tally.failed + (outcome.error is not None)
        try:
            show_progress(callback, self._done + 1, self._total, failed)
        except Exception as exc:
            raise PynectorError(f"the progress callback raised {type(exc).__name__}: {exc}") from exc

    async def _last(self) -> Outcome[Any]:
        """What nobody took, with all workers gone: nothing of it was sent."""
        # Workers may see a cancellation from outside before this task does: then that is no end.
        await checkpoint_if_cancelled()
        with self._branch:
            job = await self._source.leftover()
        if job is not None:
            self._crew.done.append(self._crew.left_out(job))
            if self._is_ready():
                return self._next()
        if not self._raised:
            self._raised = True
            error: PynectorError | None = source_error(self._source) if self._source.error is not None else None
            if error is None and self._memo is not None:
                error = self._memo.error
            if error is not None:
                raise error
        raise StopAsyncIteration

    # Its input, if one task must read it

    async def _read(self) -> None:
        """Read it in a task of its own."""
        if isinstance(self._source, AsyncHanded):
            await self._source.pump(self._pace, self._crew.reinforce)

    async def _pace(self) -> bool:
        """Wait until there is room for one more item."""
        if self._source.taken >= self._room.limit:
            await self._room.wait(self._source.taken)
        return not self._crew.stopped

    async def _read_some(self) -> None:
        """Read in this very task: one item if there is an outcome to hand out, else as many as there is room for."""
        if self._may_read():
            if self._crew.deadline is None:
                await self._read_here()
            else:
                await self._crew.attend(self._read_here)

    async def _read_here(self) -> None:
        source = self._source
        while self._may_read() and isinstance(source, AsyncHanded):
            with self._branch:
                if not await source.read():
                    return
            await self._crew.reinforce()
            if self._is_ready():
                return

    def _may_read(self) -> bool:
        source, crew = self._source, self._crew
        if crew.deadline is not None and current_time() >= crew.deadline:
            crew.stopped = True
        return source.taken < self._room.limit and not source.ended and not crew.stopped
