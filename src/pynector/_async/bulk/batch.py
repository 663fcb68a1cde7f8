"""A batch whose outcomes are kept, and given back as one result in the order of the input."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Any, NoReturn

from ..._concurrency.aio.clock import current_time
from ..._concurrency.aio.scopes import move_on_at, shield
from ..._concurrency.aio.tasks import create_task_group
from ..._messages.outcome import BatchResult, Outcome
from ..._progress import ProgressCallback
from ...errors import PynectorError, TimeoutError
from .crew import AsyncCrew
from .inputs import open_source, source_error
from .job import Calls
from .memo import Memo
from .observation import AsyncObservation
from .signal import AsyncSignal
from .source import AsyncHanded

_NO_NEWS = -1


class AsyncBatch:
    """Runs one batch.

    Args:
        connect: Gets the client ready, before anything is read.
        calls: How the items are sent.
        requests: The input.
        total: How many items there are, if it has a length.
        limit: The most requests at once.
        timeout: Seconds for all of it; None for no limit.
        raise_on_error: Whether the first failure ends the batch.
        memo: What is known of items before they are sent.
        on_progress: Called in the caller's own task or thread after items have finished.

    Raises:
        TypeError: The input can't be iterated over.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[None]],
        calls: Calls,
        requests: Any,
        *,
        total: int | None,
        limit: int,
        timeout: float | None,
        raise_on_error: bool,
        memo: Memo | None,
        on_progress: ProgressCallback | None,
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._raise_on_error = raise_on_error
        self._on_progress = on_progress
        self._total = total
        self._timeout = timeout
        self._news = AsyncSignal()
        self._reported = 0
        self._progress_error: Exception | None = None
        # Half of the workers may find something to do at once: the reader is woken for a number of items, not for one.
        self._low = limit // 2
        self._source = open_source(requests, total=total, low=self._low, news=self._news, room=None)
        self._crew = AsyncCrew(
            self._source,
            calls,
            limit=limit,
            timeout=timeout,
            news=self._news,
            fail_fast=raise_on_error,
            memo=memo,
        )
        self._crew.wanted = _NO_NEWS if on_progress is None else None
        self._observation = AsyncObservation(self._source, self._crew, calls, total=total, limit=limit)

    async def run(self) -> BatchResult[Any]:
        """Run it.

        Returns:
            Responses and exceptions, in the order of the input.

        Raises:
            SourceError: The input raised. What was finished is in its `outcomes`.
            Exception: With `raise_on_error`, that of the first item that failed, with the finished `outcomes` on it.
        """
        self._observation.begin()
        try:
            result = await self._run()
        except BaseException as exc:
            self._observation.end(self._states, exc)
            raise
        self._observation.end(self._states)
        return result

    def _states(self) -> Counter[str]:
        return Counter(outcome.state for outcome in self._crew.done)

    async def _run(self) -> BatchResult[Any]:
        started = time.perf_counter()
        source, crew = self._source, self._crew
        crew.deadline = None if self._timeout is None else current_time() + self._timeout
        try:
            with move_on_at(crew.deadline) as scope:
                await self._connect()
            if not scope.cancelled_caught:
                await self._work()
        finally:
            with shield():
                await source.aclose()
        error = self._progress_error or crew.failure
        if error is not None:
            self._fail(error)
        leftover: list[Outcome[Any]] = []
        while (job := await source.leftover()) is not None:
            leftover.append(crew.left_out(job))
        if self._raise_on_error and source.error is None and (crew.cut or leftover or not source.ended):
            self._fail(TimeoutError(crew.ending.reason))
        crew.done.extend(leftover)
        error = source_error(source)
        if error is not None:
            self._fail(error)
        return BatchResult(self._in_order(), elapsed=time.perf_counter() - started)

    async def _work(self) -> None:
        crew = self._crew
        try:
            async with create_task_group() as group:
                await crew.start(group)
                if isinstance(self._source, AsyncHanded):
                    await crew.attend(self._read)
                if self._on_progress is not None:
                    await self._watch()
        except BaseExceptionGroup as failed:
            # Workers catch what items raise. What else there is (no thread to be had, say) leaves bare as well.
            raise failed.exceptions[0] from None

    async def _read(self) -> None:
        if isinstance(self._source, AsyncHanded):
            await self._source.pump(self._pace, self._crew.reinforce)

    async def _pace(self) -> bool:
        """Wait until there is room for one more item that waits for a worker."""
        while True:
            self._report()
            if self._crew.stopped or self._source.waiting < self._limit:
                return not self._crew.stopped
            await self._news.wait_for(self._is_low)

    def _is_low(self) -> bool:
        return self._source.waiting <= self._low or self._crew.stopped or self._has_progress()

    def _has_progress(self) -> bool:
        return self._on_progress is not None and len(self._crew.done) > self._reported

    async def _watch(self) -> None:
        """Report progress until everything has finished."""
        crew = self._crew
        while not crew.left and self._progress_error is None:
            await self._news.wait_for(lambda: crew.left or self._has_progress())
            self._report()

    def _report(self) -> None:
        if self._on_progress is None:
            return
        done = len(self._crew.done)
        if done > self._reported and self._progress_error is None:
            self._reported = done
            try:
                self._on_progress(done, self._total)
            except Exception as exc:
                error = PynectorError(f"the progress callback raised {type(exc).__name__}: {exc}")
                error.__cause__ = exc
                self._progress_error = error
                self._crew.halt()

    def _fail(self, error: Exception) -> NoReturn:
        if isinstance(error, PynectorError):
            error.outcomes = self._in_order()
        raise error

    def _in_order(self) -> list[Outcome[Any]]:
        return sorted(self._crew.done, key=attrgetter("index"))
