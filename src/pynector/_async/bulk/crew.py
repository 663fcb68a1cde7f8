"""The workers of a run."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ..._concurrency.aio.clock import checkpoint, current_time
from ..._concurrency.aio.files import offload
from ..._concurrency.aio.locks import Mutex
from ..._concurrency.aio.scopes import CancelScope, is_cancelled, move_on_at
from ..._concurrency.aio.tasks import TaskGroup
from ..._lanes import Lane
from ..._messages.outcome import Outcome
from ..._policies.fatal import Fatal
from ..._telemetry.operation import BatchOperation
from ..pacing import Withdrawn
from .job import Calls, Ending, Job
from .memo import Memo
from .signal import AsyncSignal
from .source import AsyncHanded, AsyncShared

_BREATH = 63
"""A worker that never had to wait looks up after so many items and one; a power of two less one."""
_LANES = 1_000


class AsyncCrew:
    """Takes items from a source, sends each, and puts its outcome into `done`.

    Every worker has a cancel scope of its own with the deadline of the run. So the run can end without a word to
    the task that consumes it, and each worker itself says what became of its item.

    Args:
        source: Where the items come from.
        calls: How they are sent.
        limit: The most workers.
        timeout: Seconds that the run has, for the text of errors; None for no limit.
        news: Told when a worker has finished an item, as `wanted` has it, and when the last one has left.
        fail_fast: Whether the first failure ends the run, without a word on the other items.
        max_errors: How many failures end the run; None for never.
        cancels: Whether they end what is under way as well, rather than let it finish.
        memo: What is known of items before they are sent.

    Attributes:
        deadline: When the run ends, on the clock of `current_time()`; None for never. Set before it starts.
        done: Outcomes in the order in which they came.
        wanted: Which index `news` is told of: None for any, -1 for none.
        stopped: Set when no item may be begun any more.
        cut: Whether an item was cut short.
        failure: With `fail_fast`, the first error.
        operation: The span of the run, if there is one.
    """

    def __init__(
        self,
        source: AsyncShared | AsyncHanded,
        calls: Calls,
        *,
        limit: int,
        timeout: float | None,
        news: AsyncSignal,
        fail_fast: bool = False,
        max_errors: int | None = None,
        cancels: bool = False,
        memo: Memo | None = None,
    ) -> None:
        self._source = source
        self._calls = calls
        self._pacer = calls.pacer
        self._max_errors = max_errors
        self._cancels = cancels
        self._memo = memo
        self._errors = 0
        self._fatal = Fatal()
        # Where something was let through, with no refusal since: that is all that has to be known of success.
        self._let_through: set[Lane | None] = set()
        self._mutex = Mutex()
        self._ending: Ending | None = None
        self._limit = limit
        self.deadline: float | None = None
        self._timeout = timeout
        self._news = news
        self._fail_fast = fail_fast
        self._group: TaskGroup | None = None
        self._hired = 0
        # Of everybody who is at work, with what they do.
        self._scopes: dict[CancelScope, object] = {}
        self.done: deque[Outcome[object]] = deque()
        self.wanted: int | None = None
        self.stopped = False
        self.cut = False
        self.failure: Exception | None = None
        self.operation: BatchOperation | None = None

    @property
    def left(self) -> bool:
        """Whether nobody is at work."""
        return not self._scopes

    @property
    def ending(self) -> Ending:
        """Why an item was cut short."""
        if self._ending is not None:
            return self._ending
        if self.deadline is None or current_time() < self.deadline:
            return Ending("the batch was cut short", timed_out=True)
        return Ending(f"the batch did not end within {self._timeout:.6g} s", timed_out=True)

    async def start(self, group: TaskGroup) -> None:
        """Begin. With a shared source each worker starts the next when it has got an item itself.

        Raises:
            RuntimeError: The system has no thread to give, not even for one worker.
        """
        self._group = group
        if self._pacer.is_adaptive:
            self._pacer.on_admitted = self._call_help
        if isinstance(self._source, AsyncShared) and not self._source.ended:
            await self._hire()

    async def reinforce(self) -> None:
        """See to it that somebody comes for the item that was just read."""
        source = self._source
        # Where some wait for the number of requests at once, one more would only wait with them.
        if isinstance(source, AsyncHanded) and source.waiting and not source.wake() and not self._pacer.crowd:
            await self._hire()

    async def _call_help(self) -> None:
        """An adaptive limit has let a request go: is there room for one more?"""
        if self._pacer.crowd or self.stopped:
            return
        if isinstance(self._source, AsyncHanded):
            if self._source.waiting:
                await self.reinforce()
        elif not self._source.ended:
            await self._hire()

    async def _hire(self) -> None:
        with self._mutex:
            if self._hired >= self._limit:
                return
            # Counted before it starts, for a worker looks at the count to see whether to start another one.
            self._hired += 1
        try:
            await self.employ(self._work)
        except RuntimeError:
            with self._mutex:
                self._hired -= 1
                if self._hired == 0:
                    raise
                self._limit = self._hired  # the system has no more threads to give: those there are must do

    async def employ(self, fn: Callable[[], Awaitable[None]]) -> None:
        """Run something in a task of its own, until the run ends."""
        group = self._group
        if group is None:
            raise RuntimeError("the crew was not started")
        scope = move_on_at(self.deadline)
        # Before it starts: whoever halts the run from now on finds it, and it sees who did so before.
        self._scopes[scope] = fn
        try:
            await group.start_soon(self.attend, fn, scope)
        except RuntimeError:
            del self._scopes[scope]
            raise

    async def attend(self, fn: Callable[[], Awaitable[None]], scope: CancelScope | None = None) -> None:
        """Run something in this task, until the run ends."""
        if scope is None:
            scope = move_on_at(self.deadline)
            self._scopes[scope] = fn
        try:
            with scope:
                await fn()
            if scope.cancelled_caught:
                self.stopped = True
        except BaseException:
            # A cancellation from outside, say: without this worker nothing may go on as if there were nothing.
            self.stopped = self.stopped or fn == self._work
            raise
        finally:
            del self._scopes[scope]
            if not self._scopes:
                self._news.set()

    def drain(self, ending: Ending) -> None:
        """Begin no more items; those that are under way go on to their end. From any task or thread of the run."""
        with self._mutex:
            if self.stopped:
                return
            self._ending = ending
            self.stopped = True
        self._source.stop()
        self._pacer.stop(ending)
        for scope, fn in list(self._scopes.items()):
            if fn != self._work:
                scope.cancel()  # who reads the input, and may wait for an item that comes too late
        self._news.set()

    def halt(self) -> None:
        """End the run now. Whoever calls this is cancelled as well, if the run is what it works for."""
        self.stopped = True
        for scope in list(self._scopes):
            scope.cancel()

    async def _work(self) -> None:
        if self.operation is not None:
            # For good: this task, and the context that it has of its own, are there for nothing else.
            self.operation.current().__enter__()
        source, done, news = self._source, self.done, self._news
        send, defaults, plan, pacer = self._calls.send, self._calls.defaults, self._calls.plan, self._pacer
        memo = self._memo
        # Only the newest worker starts another one, so that no two do so at a time. With an adaptive limit, the pacer
        # calls for help when there is room.
        hiring = isinstance(source, AsyncShared) and pacer.on_admitted is None
        count = 0
        while not self.stopped:
            count += 1
            if not count & _BREATH:
                await checkpoint()
            job = await source.take()
            if job is None:
                return
            if hiring:
                hiring = False
                if not source.ended:
                    await self._hire()
            if self._is_stopped():
                if not self._fail_fast:
                    self._finish(job, self.left_out(job), cut=True)
                news.set()
                return
            if memo is not None and memo.concerns(job) and (known := memo.begin(job)) is not None:
                self._hand_out(known)
                for outcome in known:
                    # What failed in an earlier run has ended that one, and must not end this one as well.
                    if outcome.error is not None and outcome.source != "checkpoint":
                        self._count(1, outcome.error)
                continue
            own = self._calls.options(job, None if memo is None else memo.checkpoint)
            started = time.perf_counter()
            try:
                value = await send(job.request, {**defaults, **own} if own else own, job, plan, pacer)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as exc:
                elapsed = time.perf_counter() - started
                if isinstance(exc, Withdrawn):
                    self._finish(job, self.left_out(job, elapsed, exc.ending), cut=True)
                elif not isinstance(exc, Exception) and is_cancelled():
                    self.cut = True
                    if not self._fail_fast:
                        self._finish(job, self.left_out(job, elapsed), cut=True)
                    raise
                else:
                    outcome = job.fail(exc, elapsed)
                    number = self._finish(job, outcome)
                    if self._fail_fast:
                        self.failure = self.failure or outcome.error
                        self.halt()
                        return
                    if outcome.error is not None:
                        self._failed(job, outcome.error, number)
                    del outcome
            else:
                if job.lane not in self._let_through:
                    self._succeeded(job)
                outcome = job.succeed(value, time.perf_counter() - started)
                if memo is not None and not memo.plain:
                    self._hand_out(memo.conclude(job, outcome))
                else:
                    done.append(outcome)
                del value, outcome
            wanted = self.wanted
            if wanted is None or wanted == job.index:
                news.set()
            if memo is not None and memo.checkpoint is not None and memo.checkpoint.is_due():
                await offload(memo.sync)
            # Nothing of a finished item is kept while waiting for the next one.
            del job, own

    def _is_stopped(self) -> bool:
        return self.stopped

    def left_out(self, job: Job, elapsed: float = 0.0, ending: Ending | None = None) -> Outcome[Any]:
        """The outcome of an item if the run, or something else, ends before it has one."""
        if self._memo is not None and job.key is None and self._memo.concerns(job):
            self._memo.label(job)
        return job.cut(ending or self.ending, elapsed)

    def _finish(self, job: Job, outcome: Outcome[Any], *, cut: bool = False) -> int:
        """An item has its outcome. Returns how many items have got theirs by that."""
        if self._memo is None or self._memo.plain:
            self.done.append(outcome)
            return 1
        outcomes = self._memo.conclude(job, outcome, cut=cut)
        self._hand_out(outcomes)
        return len(outcomes)

    def _hand_out(self, outcomes: list[Outcome[Any]]) -> None:
        """Hand out the outcomes of one item, and of those that it has told the way of, as a memo says."""
        self.done.extend(outcomes)
        if self._memo is not None and self._memo.error is not None:
            self.drain(Ending("the batch was ended by its checkpoint", self._memo.error))
        self._news.set()

    def _succeeded(self, job: Job) -> None:
        with self._mutex:
            if len(self._let_through) >= _LANES:
                self._let_through.clear()  # a crawl of a million hosts
            self._let_through.add(job.lane)
            self._fatal.observe(job.lane, None)

    def _failed(self, job: Job, error: Exception, number: int) -> None:
        """An item has failed, and maybe others with it: that may be the end of all."""
        with self._mutex:
            self._let_through.discard(job.lane)
            reason = self._fatal.observe(job.lane, error)
        if reason is None and self._pacer.barred and job.lane in self._pacer.barred:
            reason = "the server asks to wait for longer than `retry_after_max`"
        if reason is not None:
            if job.lane is not None and self._pacer.several:
                # Of a list of links to many servers, one that asks for a password is no reason to stop.
                self._pacer.close(job.lane, Ending(f"every request to this server would fail ({reason})", error))
            else:
                self.drain(Ending(f"the batch was ended, as every request would fail ({reason})", error))
        self._count(number, error)

    def _count(self, number: int, error: Exception) -> None:
        """So many items have failed."""
        with self._mutex:
            self._errors += number
            enough = self._max_errors is not None and self._errors >= self._max_errors
        if enough:
            failures = "a failure" if self._max_errors == 1 else f"{self._max_errors} failures"
            self.drain(Ending(f"the batch was ended by {failures}", error))
            if self._cancels:
                self.halt()
