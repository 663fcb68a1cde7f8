"""Answers that were received for a task and that it has not read yet."""

from collections import deque
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Self
from weakref import WeakKeyDictionary

from ..._concurrency.aio.tasks import current_task


class _Boxes:
    """The boxes of one task, by transport."""

    __slots__ = ("by_transport", "task")

    def __init__(self, task: object) -> None:
        self.task = task
        self.by_transport: WeakKeyDictionary[object, deque[Any]] = WeakKeyDictionary()


# A task's context ends with it, and so do its boxes. A child task starts with a copy of the context: that it is not
# the owner tells it to make its own.
_boxes: ContextVar[_Boxes | None] = ContextVar("pynector_inbox", default=None)


def put(transport: object, answer: Any) -> None:
    """Keep `answer` for the running task until it reads it from `transport`."""
    task = current_task()
    boxes = _boxes.get()
    if boxes is None or boxes.task is not task:
        boxes = _Boxes(task)
        _boxes.set(boxes)
    boxes.by_transport.setdefault(transport, deque()).append(answer)


class AsyncInbox:
    """Iterates over what the running task has not read yet, then ends."""

    __slots__ = ("_transport",)

    def __init__(self, transport: object) -> None:
        self._transport = transport

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        boxes = _boxes.get()
        if boxes is None or boxes.task is not current_task() or not (box := boxes.by_transport.get(self._transport)):
            raise StopAsyncIteration
        return box.popleft()

    async def aclose(self) -> None:
        """Nothing to do: what was not read stays."""


def inbox(transport: object) -> AsyncIterator[Any]:
    """What the running task sent through `transport` and has not read the answer of yet."""
    return AsyncInbox(transport)
