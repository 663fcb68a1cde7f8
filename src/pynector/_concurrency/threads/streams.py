"""Memory streams: pass items from task to task, with back-pressure."""

import warnings
from collections import deque
from collections.abc import Iterator
from math import inf
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from ..._mutex import ProcessMutex
from ._exceptions import BrokenResourceError, Cancelled, ClosedResourceError, EndOfStream, WouldBlock
from ._parking import Task, Waiter, current, withdraw

__all__ = [
    "BrokenResourceError",
    "ClosedResourceError",
    "EndOfStream",
    "MemoryObjectReceiveStream",
    "MemoryObjectSendStream",
    "MemoryObjectStreamStatistics",
    "WouldBlock",
    "create_memory_object_stream",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class MemoryObjectStreamStatistics(NamedTuple):
    """What a memory stream holds, and who waits for it."""

    current_buffer_used: int
    max_buffer_size: float
    open_send_streams: int
    open_receive_streams: int
    tasks_waiting_send: int
    tasks_waiting_receive: int


class _Waiter(Waiter, Generic[T]):
    """A task that waits for room or for an item; granted once the item has passed, or never will."""

    __slots__ = ("item", "refusal", "stream")

    item: T

    def __init__(self, task: Task, stream: object) -> None:
        super().__init__(task)
        self.stream = stream
        self.refusal: type[Exception] | None = None


class _State(Generic[T]):
    """What both ends share. The mutex is held for a few plain statements only, never across a wait."""

    __slots__ = ("buffer", "limit", "mutex", "open_receive", "open_send", "receivers", "senders")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        # Its owner may take it again: a finaliser may close an end in the middle of an operation.
        self.mutex = ProcessMutex()
        self.buffer: deque[T] = deque()
        self.senders: deque[_Waiter[T]] = deque()
        self.receivers: deque[_Waiter[T]] = deque()
        self.open_send = 0
        self.open_receive = 0

    def statistics(self) -> MemoryObjectStreamStatistics:
        with self.mutex:
            return MemoryObjectStreamStatistics(
                len(self.buffer),
                self.limit,
                self.open_send,
                self.open_receive,
                len(self.senders),
                len(self.receivers),
            )


def _refuse(queue: "deque[_Waiter[T]]", reason: type[Exception], stream: object | None = None) -> list[Task]:
    """Turn waiters away, all or those of one end; called with the mutex held, gives the tasks to wake."""
    woken: list[Task] = []
    for waiter in list(queue):
        if (stream is None or waiter.stream is stream) and withdraw(queue, waiter):
            waiter.refusal = reason
            waiter.granted = True
            woken.append(waiter.task)
    return woken


class MemoryObjectSendStream(Generic[T_contra]):
    """The sending end of a memory stream. Close it, or use it in a `with` block."""

    __slots__ = ("__weakref__", "_closed", "_state")

    def __init__(self, state: "_State[T_contra]") -> None:
        self._state = state
        self._closed = False
        with state.mutex:
            state.open_send += 1

    def send_nowait(self, item: T_contra) -> None:
        """Send an item if nothing needs to wait for that.

        Args:
            item: The item.

        Raises:
            WouldBlock: The buffer is full and nobody waits for an item.
            ClosedResourceError: This end is closed.
            BrokenResourceError: Every receiving end is closed.
        """
        state = self._state
        with state.mutex:
            if self._closed:
                raise ClosedResourceError
            if not state.open_receive:
                raise BrokenResourceError
            if state.receivers:
                receiver = state.receivers.popleft()
                receiver.item = item
                receiver.granted = True
            elif len(state.buffer) < state.limit:
                state.buffer.append(item)
                return
            else:
                raise WouldBlock
        receiver.task.wake()

    def send(self, item: T_contra) -> None:
        """Send an item, waiting for room if needed.

        Args:
            item: The item.

        Raises:
            ClosedResourceError: This end is closed.
            BrokenResourceError: Every receiving end is closed.
        """
        task = current()
        if task.scope is not None:
            task.limit()
        try:
            self.send_nowait(item)
        except WouldBlock:
            pass
        else:
            return
        state = self._state
        waiter: _Waiter[T_contra] = _Waiter(task, self)
        waiter.item = item
        with state.mutex:
            # Again, for it may have changed; the allocation above must not happen with the mutex held.
            try:
                self.send_nowait(item)
            except WouldBlock:
                state.senders.append(waiter)
            else:
                return
        try:
            waiter.wait()
        except BaseException as error:
            with state.mutex:
                if not waiter.granted:
                    state.senders.remove(waiter)
                    raise
            if not isinstance(error, Cancelled):
                raise
        if waiter.refusal is not None:
            raise waiter.refusal

    def clone(self) -> "MemoryObjectSendStream[T_contra]":
        """Make another sending end; receivers see the end of the stream when all are closed.

        Returns:
            The new end.

        Raises:
            ClosedResourceError: This end is closed.
        """
        if self._closed:
            raise ClosedResourceError
        return MemoryObjectSendStream(self._state)

    def close(self) -> None:
        """Close this end. Whoever waits in `send` on it gets `ClosedResourceError`."""
        state = self._state
        with state.mutex:
            if self._closed:
                return
            self._closed = True
            state.open_send -= 1
            woken = _refuse(state.senders, ClosedResourceError, self)
            if not state.open_send:
                woken += _refuse(state.receivers, EndOfStream)
        for task in woken:
            task.wake()

    def statistics(self) -> MemoryObjectStreamStatistics:
        """What the stream holds, and who waits for it.

        Returns:
            A snapshot.
        """
        return self._state.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        _warn_if_open(self)


class MemoryObjectReceiveStream(Generic[T_co]):
    """The receiving end of a memory stream; iterate over it. Close it, or use it in a `with` block."""

    __slots__ = ("__weakref__", "_closed", "_state")

    def __init__(self, state: "_State[T_co]") -> None:
        self._state = state
        self._closed = False
        with state.mutex:
            state.open_receive += 1

    def receive_nowait(self) -> T_co:
        """Take an item if there is one.

        Returns:
            The item.

        Raises:
            WouldBlock: There is none yet.
            EndOfStream: There is none, and every sending end is closed.
            ClosedResourceError: This end is closed.
        """
        state = self._state
        with state.mutex:
            if self._closed:
                raise ClosedResourceError
            if state.senders:
                # Out of the buffer first: a finaliser in between may receive as well, and find it empty.
                sender = state.senders.popleft()
                item = sender.item
                if state.buffer:
                    item = state.buffer.popleft()
                    state.buffer.append(sender.item)
                sender.granted = True
            elif state.buffer:
                return state.buffer.popleft()
            elif not state.open_send:
                raise EndOfStream
            else:
                raise WouldBlock
        sender.task.wake()
        return item

    def receive(self) -> T_co:
        """Take the next item, waiting for one if needed.

        Returns:
            The item.

        Raises:
            EndOfStream: There is none, and every sending end is closed.
            ClosedResourceError: This end is closed.
        """
        task = current()
        if task.scope is not None:
            task.limit()
        try:
            return self.receive_nowait()
        except WouldBlock:
            pass
        state = self._state
        waiter: _Waiter[T_co] = _Waiter(task, self)
        with state.mutex:
            # Again, for it may have changed; the allocation above must not happen with the mutex held.
            try:
                return self.receive_nowait()
            except WouldBlock:
                state.receivers.append(waiter)
        try:
            waiter.wait()
        except BaseException as error:
            with state.mutex:
                if not waiter.granted:
                    state.receivers.remove(waiter)
                    raise
            # An item that is here already is not lost to a cancellation, only to an interrupt.
            if not isinstance(error, Cancelled):
                raise
        if waiter.refusal is not None:
            raise waiter.refusal
        return waiter.item

    def clone(self) -> "MemoryObjectReceiveStream[T_co]":
        """Make another receiving end; each item goes to one of them.

        Returns:
            The new end.

        Raises:
            ClosedResourceError: This end is closed.
        """
        if self._closed:
            raise ClosedResourceError
        return MemoryObjectReceiveStream(self._state)

    def close(self) -> None:
        """Close this end. Whoever waits in `receive` on it gets `ClosedResourceError`."""
        state = self._state
        with state.mutex:
            if self._closed:
                return
            self._closed = True
            state.open_receive -= 1
            woken = _refuse(state.receivers, ClosedResourceError, self)
            if not state.open_receive:
                woken += _refuse(state.senders, BrokenResourceError)
        for task in woken:
            task.wake()

    def statistics(self) -> MemoryObjectStreamStatistics:
        """What the stream holds, and who waits for it.

        Returns:
            A snapshot.
        """
        return self._state.statistics()

    def __iter__(self) -> Iterator[T_co]:
        return self

    def __next__(self) -> T_co:
        try:
            return self.receive()
        except EndOfStream:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        _warn_if_open(self)


def _warn_if_open(stream: "MemoryObjectSendStream[T] | MemoryObjectReceiveStream[T]") -> None:
    # A finaliser takes no lock, so it only tells.
    if not getattr(stream, "_closed", True):
        warnings.warn(
            f"Unclosed <{type(stream).__name__} at {id(stream):x}>",
            ResourceWarning,
            stacklevel=2,
            source=stream,
        )


class create_memory_object_stream(  # noqa: N801 - a class only so that it can be subscripted
    tuple[MemoryObjectSendStream[T], MemoryObjectReceiveStream[T]]
):
    """Make a stream that passes items from task to task.

    Args:
        max_buffer_size: How many items may wait in it: an integer, or `inf`. With 0, `send` waits until
            somebody receives.

    Returns:
        The sending and the receiving end.

    Example:
        ```python
        send, receive = create_memory_object_stream[int](10)
        ```
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]
        cls, max_buffer_size: float = 0
    ) -> tuple[MemoryObjectSendStream[T], MemoryObjectReceiveStream[T]]:
        """Make the pair."""
        if max_buffer_size != inf and not isinstance(max_buffer_size, int):
            raise ValueError("max_buffer_size must be either an integer or math.inf")
        if max_buffer_size < 0:
            raise ValueError("max_buffer_size cannot be negative")
        state: _State[T] = _State(max_buffer_size)
        return MemoryObjectSendStream(state), MemoryObjectReceiveStream(state)
