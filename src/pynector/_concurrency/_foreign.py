"""What a coroutine that knows asyncio only is given in place of an event loop."""

from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

_FUTURE = (object(),)

T = TypeVar("T")


class Closable(Protocol):
    """A client of a foreign library. Closing it ends what it has under way, from any thread, without a wait."""

    def close(self) -> None: ...


class BlockingCall(Protocol):
    """One call of a client that blocks its thread: `threads._calls.Call`."""

    @property
    def client(self) -> Any: ...

    def run(self, function: Callable[[], T], deadline: float) -> T: ...

    def keep(self) -> None: ...


class BlockingCalls(Protocol):
    """The clients for such calls: `threads._calls.Calls`."""

    def begin(self) -> BlockingCall | None: ...

    def close(self) -> None: ...


class OutOfPatienceError(Exception):
    """An upload was asked for nothing for too long."""


def dismiss(steps: Coroutine[Any, Any, object]) -> None:
    """Close a coroutine; what it raises at that is of no interest beside the reason for it."""
    from asyncio import CancelledError

    with suppress(Exception, CancelledError):
        steps.close()


class StandIn:
    """As much of an event loop as such a coroutine needs: something to wait on, and a way to be woken.

    It has to wait when it yields something; when it yields None it wants to be asked again at once.

    Args:
        wake: Called when it is worth asking it again, from any thread.
    """

    __slots__ = ("_wake",)

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake

    def create_future(self) -> tuple[object, ...]:
        """A future: it is awaited once, and yields one thing. Who is woken asks the coroutine, not the future."""
        return _FUTURE

    def call_soon_threadsafe(self, callback: object, *args: object, context: object = None) -> None:
        """Wake: the only callbacks are those that would set a future's result."""
        self._wake()


class Feed:
    """An upload that a foreign coroutine pulls. Whoever drives that coroutine runs the source as well.

    To the foreign side it is an async iterable and an event loop, which makes a task of every step. Its tasks are
    but wishes that `Feed` keeps, one at a time, until the driver serves them.

    Attributes:
        exhausted: Whether the source has come to its end.
    """

    __slots__ = ("_closed", "_jobs", "_wake", "_wish", "exhausted")

    def __init__(self) -> None:
        self._closed = False
        self._jobs: deque[Callable[[], object]] = deque()
        self._wake: Callable[[], object] | None = None
        self._wish: _Wish | None = None
        self.exhausted = False

    # The driver's side

    def attach(self, wake: Callable[[], object] | None) -> None:
        """Say who drives: `wake` is called when there may be something to do, from any thread."""
        self._wake = wake

    def wanted(self) -> bool:
        """Whether a chunk is asked for."""
        self._run_jobs()
        return self._wish is not None

    def deliver(self, chunk: bytes | None) -> None:
        """Give the chunk that is asked for; None at the end."""
        wish, self._wish = self._wish, None
        self.exhausted = chunk is None
        if wish is not None:
            wish.settle(wish.end() if chunk is None else chunk)

    def close(self) -> None:
        """Give no more. An upload that was not finished breaks off, with its connection."""
        self._closed = True
        self._wake = None
        self._refuse()

    def _refuse(self) -> None:
        self._run_jobs()
        wish, self._wish = self._wish, None
        if wish is not None:
            wish.settle(None)

    def _run_jobs(self) -> None:
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:  # the other thread had it
                return
            job()

    # The foreign side: an async iterable

    @property
    def stream(self) -> Any:
        """This, as what is told to be an iterable of bytes."""
        return self

    def __aiter__(self) -> "Feed":
        return self

    def __anext__(self) -> "_Wish":
        return _Wish(self)

    # The foreign side: an event loop

    def create_future(self) -> tuple[object, ...]:
        """As `StandIn` has it."""
        return _FUTURE

    def call_soon_threadsafe(self, callback: Callable[[], object], *args: object, context: object = None) -> None:
        """Wake the driver, and have it run a callback without arguments: the start of a task."""
        if not args:
            self._jobs.append(callback)
            if self._closed:
                self._refuse()
        wake = self._wake
        if wake is not None:
            wake()

    def create_task(self, step: object) -> "_Wish":
        """The task for one step."""
        return _Wish(self, step)

    def wish(self, wish: "_Wish") -> None:
        """Keep a wish for the driver. Not served at once: the foreign side holds a lock until its task is made."""
        self._wish = wish


class _Wish:
    """One chunk that is asked for: an awaitable that is awaited only at the end, and a task that does not run."""

    __slots__ = ("_chunk", "_done", "_feed", "_step")

    def __init__(self, feed: Feed, step: Any = None) -> None:
        self._feed = feed
        self._step = step
        self._chunk: object = None
        self._done: Callable[[_Wish], object] | None = None

    def __await__(self) -> Iterator[object]:
        return _End()

    def end(self) -> object:
        """What stands for the end: the default value that the foreign side has given to `anext`."""
        try:
            self._step.send(None)
        except StopIteration as stop:
            return stop.value
        raise RuntimeError("the end of an upload was not understood")

    def add_done_callback(self, callback: "Callable[[_Wish], object]") -> None:
        self._done = callback
        self._feed.wish(self)

    def settle(self, chunk: object) -> None:
        self._chunk = chunk
        if self._done is not None:
            with suppress(RuntimeError):  # nobody is interested any more
                self._done(self)

    def result(self) -> object:
        if self._chunk is None:
            raise ConnectionAbortedError("the upload was given up")
        return self._chunk

    def cancel(self) -> None:
        pass


class _End:
    """What an async iterator returns at its end: it raises in the first step."""

    def __iter__(self) -> "_End":
        return self

    def __next__(self) -> object:
        raise StopAsyncIteration

    def send(self, value: object) -> object:
        raise StopAsyncIteration
