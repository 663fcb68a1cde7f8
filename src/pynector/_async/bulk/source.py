"""The input of a run, and how its items reach the workers."""

import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, Protocol

from ..._concurrency.aio.colour import dispose
from ..._concurrency.aio.locks import Event, Mutex
from ..._concurrency.aio.scopes import CancelScope, is_cancelled
from ..._telemetry import semconv
from ..._telemetry.metrics import waited
from .job import Job, as_error
from .signal import AsyncSignal

_END: Any = object()
NOT_YET: Any = object()
"""What an input of our own gives while its next item is not there, so that outcomes are handed out meanwhile."""


class AsyncRoom:
    """How many items may be live: pulled from the input, and not yet handed to the consumer.

    Whoever wants to pull draws the next number, and waits until it is below `limit`. The consumer raises `limit` by
    one with each item that it gets, which lets in the one who has that number, and nobody else.

    Args:
        size: The most items.
    """

    __slots__ = ("_closed", "_waiting", "limit")

    def __init__(self, size: int) -> None:
        self.limit = size
        self._closed = False
        self._waiting: dict[int, Event] = {}

    async def wait(self, number: int) -> None:
        """Wait for the turn of `number`."""
        event = self._waiting[number] = Event()
        try:
            if number >= self.limit and not self._closed:
                await event.wait()
        finally:
            self._waiting.pop(number, None)

    def widen(self) -> None:
        """One item has left. Only the consumer calls this."""
        number = self.limit
        self.limit = number + 1
        if self._waiting and (event := self._waiting.pop(number, None)) is not None:
            event.set()

    def close(self) -> None:
        """There is nothing more to pull: nobody needs to wait."""
        self._closed = True
        for event in list(self._waiting.values()):
            event.set()


class AsyncSource(Protocol):
    """Where workers get their items.

    Attributes:
        taken: How many items were pulled from the input.
        ended: Whether there are no more.
        error: What the input raised, if it did.
        close_error: What it raised when it was closed early, if it did.
    """

    taken: int
    ended: bool
    error: Exception | None
    close_error: Exception | None

    @property
    def waiting(self) -> int:
        """How many items were pulled and wait for a worker."""
        ...

    async def take(self) -> Job | None:
        """The next item for a worker, which waits for it; None if there are no more."""
        ...

    def stop(self) -> None:
        """Give workers no more items, and have those go that wait for one."""
        ...

    async def leftover(self) -> Job | None:
        """With all workers gone: the next item that none of them took, of an input with a length. None after those."""
        ...

    async def aclose(self) -> None:
        """Close the input, if it is a generator; call this shielded. A second call does nothing."""
        ...


class AsyncShared:
    """Items that the workers read themselves: nothing is handed over, nobody waits.

    Args:
        step: Gives the next item and its index, to one worker each; raises `StopIteration` after the last.
        close: Closes the input.
        length: How many items there are for certain, or None.
        sized: Whether the input had a length.
        room: What bounds the number of live items, if anything does.
    """

    def __init__(
        self,
        step: Callable[[], tuple[int, Any]],
        close: Callable[[], object],
        *,
        length: int | None,
        sized: bool,
        room: AsyncRoom | None,
    ) -> None:
        self._step = step
        self._close = close
        self._length = length
        self._sized = sized
        self._room = room
        self._numbers = itertools.count()
        self._stopped = False
        self.taken = 0
        self.ended = length == 0
        self.error: Exception | None = None
        self.close_error: Exception | None = None
        self.waiting = 0

    async def take(self) -> Job | None:
        """The next item for a worker, which waits for it; None if there are no more."""
        room = self._room
        if room is not None and not self.ended:
            number = next(self._numbers)
            if number >= room.limit:
                await room.wait(number)
        return None if self._stopped else self._pull()

    def stop(self) -> None:
        """Give workers no more items, and have those go that wait for one."""
        self._stopped = True
        if self._room is not None:
            self._room.close()

    def _pull(self) -> Job | None:
        if self.ended:
            return None
        try:
            index, item = self._step()
        except StopIteration:
            self._end()
            return None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.error = as_error(exc, "the input")
            self._end()
            return None
        self.taken = index + 1
        if self.taken == self._length:
            self._end()
        return Job(index, item)

    def _end(self) -> None:
        self.ended = True
        if self._room is not None:
            self._room.close()

    async def leftover(self) -> Job | None:
        """With all workers gone: the next item that none of them took, of an input with a length. None after those."""
        return self._pull() if self._sized else None

    async def aclose(self) -> None:
        """Close the input, if it is a generator. A second call does nothing."""
        close, self._close = self._close, _nothing
        try:
            close()
        except Exception as exc:
            self.close_error = exc


class AsyncHanded:
    """Items that one task reads, and hands over to the workers.

    Idle workers are woken one at a time, and each wakes the next if there is more to do. So a worker that is quick
    enough to do it all is not disturbed, and no item waits while a worker does.

    Args:
        items: The input.
        sized: Whether it had a length.
        low: How few items may wait for a worker before the reader is told.
        news: Where it is told.
        name: Called with every item, as it is read.

    Attributes:
        measured: Whether it is measured how long items wait for a worker. Set before anything is read.
    """

    def __init__(
        self,
        items: AsyncIterator[Any],
        *,
        sized: bool,
        low: int,
        news: AsyncSignal,
        name: Callable[[Job], None] | None = None,
    ) -> None:
        self._items = items
        self._name = name
        self.measured = False
        self._sized = sized
        self._low = low
        self._news = news
        self._queue: deque[Job] = deque()
        self._idle: deque[Event] = deque()
        self._waking = False
        # Between who wakes and who turns out to be awake: else one is on its way for ever that has arrived already.
        self._mutex = Mutex()
        self._cancelled = False
        self._closed = False
        self._stopped = False
        self.taken = 0
        self.ended = False
        self.error: Exception | None = None
        self.close_error: Exception | None = None

    @property
    def waiting(self) -> int:
        """How many items were pulled and wait for a worker."""
        return len(self._queue)

    # For the workers

    async def take(self) -> Job | None:
        """The next item for a worker, which waits for it; None if there are no more."""
        queue = self._queue
        while not self._stopped:
            try:
                job = queue.popleft()
            except IndexError:
                # First the end, then the queue again: nothing comes after the end.
                if not self.ended:
                    await self._rest()
                elif not queue:
                    return None
            else:
                if len(queue) <= self._low:
                    self._news.set()
                if queue and self._idle:
                    self.wake()
                if self.measured:
                    waited(semconv.QUEUE_WAIT, perf_counter() - job.read)
                return job
        return None

    def stop(self) -> None:
        """Give workers no more items, and have those go that wait for one."""
        self._stopped = True
        self._wake_all()

    async def _rest(self) -> None:
        event = Event()
        self._idle.append(event)
        try:
            if not self._queue and not self.ended and not self._stopped:
                await event.wait()
        finally:
            with self._mutex:
                try:
                    self._idle.remove(event)
                except ValueError:
                    self._waking = False  # this was the one that was woken

    def wake(self) -> bool:
        """Wake an idle worker, if none is on its way already; False if there are not enough of them for all items."""
        event: Event | None = None
        with self._mutex:
            if not self._waking:
                if not self._idle:
                    return False
                self._waking = True
                event = self._idle.pop()
            # The one on its way wakes the next, and that one another: who comes behind the last of them has nobody.
            enough = len(self._queue) <= 1 + len(self._idle)
        if event is not None:
            event.set()
        return enough

    # For the reader

    async def pump(self, pace: Callable[[], Awaitable[bool]], reinforce: Callable[[], Awaitable[None]]) -> None:
        """Read the input to its end.

        Args:
            pace: Waits until there is room for the next item; False to stop.
            reinforce: Called after each item: sees to it that somebody comes for it.
        """
        # Around all of it, for a generator may have opened a scope of its own, and closes it in this task at the end.
        with CancelScope() as guard:
            try:
                while await pace() and await self.read():
                    await reinforce()
            finally:
                guard.shield = True
                await self.aclose()

    async def read(self) -> bool:
        """Pull one item, if it is there; False if there are no more."""
        try:
            item = await anext(self._items, _END)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as exc:
            if not isinstance(exc, Exception) and is_cancelled():
                self._cancelled = isinstance(self._items, AsyncGenerator)
                raise
            self.error = as_error(exc, "the input")
            self._end()
            return False
        if item is _END:
            if self._cancelled:
                # Whoever waited for the next item gave up, and has come back: to a generator that is no more.
                self.error = RuntimeError("a cancellation ended it while it was being read")
            self._end()
            return False
        if item is NOT_YET:
            return True
        job = Job(self.taken, item)
        if self._name is not None:
            try:
                self._name(job)
            except Exception as exc:
                self.error = exc
                self._end()
                return False
        if self.measured:
            job.read = perf_counter()
        self._queue.append(job)
        self.taken += 1
        return True

    def _end(self) -> None:
        self.ended = True
        self._wake_all()

    def _wake_all(self) -> None:
        while self._idle:
            try:
                self._idle.pop().set()
            except IndexError:
                return

    async def leftover(self) -> Job | None:
        """With all workers gone: the next item that none of them took, of an input with a length. None after those."""
        if not self._queue and self._sized and not self.ended:
            await self.read()
        return self._queue.popleft() if self._queue else None

    async def aclose(self) -> None:
        """Close the input, if it is a generator. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if not isinstance(self._items, AsyncGenerator):
            return
        try:
            await dispose(self._items)
        except Exception as exc:
            self.close_error = exc


def _nothing() -> None:
    pass
