"""The workers of a run."""

import time
from collections import deque
from collections.abc import Awaitable, Callable

from ..._concurrency.aio.clock import checkpoint, current_time
from ..._concurrency.aio.scopes import CancelScope, is_cancelled, move_on_at
from ..._concurrency.aio.tasks import TaskGroup
from ..._messages.outcome import Outcome
from .job import Calls
from .signal import AsyncSignal
from .source import AsyncHanded, AsyncShared

_BREATH = 63
"""A worker that never had to wait looks up after so many items and one; a power of two less one."""


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
        fail_fast: Whether the first failure ends the run.

    Attributes:
        deadline: When the run ends, on the clock of `current_time()`; None for never. Set before it starts.
        done: Outcomes in the order in which they came.
        wanted: Which index `news` is told of: None for any, -1 for none.
        stopped: Set when no item may be begun any more.
        cut: Whether an item was cut short.
        failure: With `fail_fast`, the first error.
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
    ) -> None:
        self._source = source
        self._calls = calls
        self._limit = limit
        self.deadline: float | None = None
        self._timeout = timeout
        self._news = news
        self._fail_fast = fail_fast
        self._group: TaskGroup | None = None
        self._hired = 0
        self._scopes: dict[CancelScope, None] = {}
        self.done: deque[Outcome[object]] = deque()
        self.wanted: int | None = None
        self.stopped = False
        self.cut = False
        self.failure: Exception | None = None

    @property
    def left(self) -> bool:
        """Whether nobody is at work."""
        return not self._scopes

    @property
    def reason(self) -> str:
        """Why an item was cut short."""
        if self.deadline is None or current_time() < self.deadline:
            return "the batch was cut short"
        return f"the batch did not end within {self._timeout:.6g} s"

    async def start(self, group: TaskGroup) -> None:
        """Begin. With a shared source each worker starts the next when it has got an item itself.

        Raises:
            RuntimeError: The system has no thread to give, not even for one worker.
        """
        self._group = group
        if isinstance(self._source, AsyncShared) and not self._source.ended:
            await self._hire()

    async def reinforce(self) -> None:
        """See to it that somebody comes for the item that was just read."""
        source = self._source
        if isinstance(source, AsyncHanded) and not source.wake() and self._hired < self._limit:
            await self._hire()

    async def _hire(self) -> None:
        # Counted before it starts, for a worker looks at the count to see whether to start another one.
        self._hired += 1
        try:
            await self.employ(self._work)
        except RuntimeError:
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
        self._scopes[scope] = None
        try:
            await group.start_soon(self.attend, fn, scope)
        except RuntimeError:
            del self._scopes[scope]
            raise

    async def attend(self, fn: Callable[[], Awaitable[None]], scope: CancelScope | None = None) -> None:
        """Run something in this task, until the run ends."""
        if scope is None:
            scope = move_on_at(self.deadline)
            self._scopes[scope] = None
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

    def halt(self) -> None:
        """End the run now. Whoever calls this is cancelled as well, if the run is what it works for."""
        self.stopped = True
        for scope in list(self._scopes):
            scope.cancel()

    async def _work(self) -> None:
        source, done, news = self._source, self.done, self._news
        send, defaults, plan = self._calls.send, self._calls.defaults, self._calls.plan
        # Only the newest worker starts another one, so that no two do so at a time.
        hiring = isinstance(source, AsyncShared) and self._hired < self._limit
        count = 0
        while not self.stopped:
            job = await source.take()
            if job is None:
                return
            if hiring:
                hiring = False
                if not source.ended:
                    await self._hire()
            own = job.options
            started = time.perf_counter()
            try:
                value = await send(job.data, {**defaults, **own} if own else own, job, plan)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as exc:
                elapsed = time.perf_counter() - started
                if not isinstance(exc, Exception) and is_cancelled():
                    self.cut = True
                    if not self._fail_fast:
                        done.append(job.cut(self.reason, elapsed))
                    raise
                outcome = job.fail(exc, elapsed)
                done.append(outcome)
                if self._fail_fast:
                    self.failure = self.failure or outcome.error
                    self.halt()
                    return
                del outcome
            else:
                done.append(job.succeed(value, time.perf_counter() - started))
                del value
            wanted = self.wanted
            if wanted is None or wanted == job.index:
                news.set()
            # Nothing of a finished item is kept while waiting for the next one.
            del job, own
            count += 1
            if not count & _BREATH:
                await checkpoint()
