"""Structured concurrency for async code, on asyncio and trio; `pynector.concurrency.sync` is its blocking twin."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._async.patterns.parallel import parallel_requests as parallel_requests
    from .._async.patterns.pool import AsyncConnectionPool as ConnectionPool
    from .._async.patterns.pool import PoolStatistics as PoolStatistics
    from .._async.patterns.retrying import retry_with_timeout as retry_with_timeout
    from .._async.patterns.workers import AsyncWorkerPool as WorkerPool
    from .._concurrency.aio.clock import checkpoint as checkpoint
    from .._concurrency.aio.clock import current_time as current_time
    from .._concurrency.aio.clock import sleep as sleep
    from .._concurrency.aio.clock import sleep_until as sleep_until
    from .._concurrency.aio.locks import CapacityLimiter as CapacityLimiter
    from .._concurrency.aio.locks import CapacityLimiterStatistics as CapacityLimiterStatistics
    from .._concurrency.aio.locks import Condition as Condition
    from .._concurrency.aio.locks import Event as Event
    from .._concurrency.aio.locks import Lock as Lock
    from .._concurrency.aio.locks import Semaphore as Semaphore
    from .._concurrency.aio.locks import WaitStatistics as WaitStatistics
    from .._concurrency.aio.scopes import CancelScope as CancelScope
    from .._concurrency.aio.scopes import current_effective_deadline as current_effective_deadline
    from .._concurrency.aio.scopes import fail_after as fail_after
    from .._concurrency.aio.scopes import fail_at as fail_at
    from .._concurrency.aio.scopes import get_cancelled_exc_class as get_cancelled_exc_class
    from .._concurrency.aio.scopes import move_on_after as move_on_after
    from .._concurrency.aio.scopes import move_on_at as move_on_at
    from .._concurrency.aio.scopes import shield as shield
    from .._concurrency.aio.streams import BrokenResourceError as BrokenResourceError
    from .._concurrency.aio.streams import ClosedResourceError as ClosedResourceError
    from .._concurrency.aio.streams import EndOfStream as EndOfStream
    from .._concurrency.aio.streams import MemoryObjectReceiveStream as MemoryObjectReceiveStream
    from .._concurrency.aio.streams import MemoryObjectSendStream as MemoryObjectSendStream
    from .._concurrency.aio.streams import MemoryObjectStreamStatistics as MemoryObjectStreamStatistics
    from .._concurrency.aio.streams import WouldBlock as WouldBlock
    from .._concurrency.aio.streams import create_memory_object_stream as create_memory_object_stream
    from .._concurrency.aio.tasks import TaskGroup as TaskGroup
    from .._concurrency.aio.tasks import TaskStatus as TaskStatus
    from .._concurrency.aio.tasks import create_task_group as create_task_group
    from .._concurrency.aio.tasks import run as run
    from .._concurrency.aio.workers import run_sync_in_worker as run_sync_in_worker

__all__ = [
    "BrokenResourceError",
    "CancelScope",
    "CapacityLimiter",
    "CapacityLimiterStatistics",
    "ClosedResourceError",
    "Condition",
    "ConnectionPool",
    "EndOfStream",
    "Event",
    "Lock",
    "MemoryObjectReceiveStream",
    "MemoryObjectSendStream",
    "MemoryObjectStreamStatistics",
    "PoolStatistics",
    "Semaphore",
    "TaskGroup",
    "TaskStatus",
    "WaitStatistics",
    "WorkerPool",
    "WouldBlock",
    "checkpoint",
    "create_memory_object_stream",
    "create_task_group",
    "current_effective_deadline",
    "current_time",
    "fail_after",
    "fail_at",
    "get_cancelled_exc_class",
    "move_on_after",
    "move_on_at",
    "parallel_requests",
    "retry_with_timeout",
    "run",
    "run_sync_in_worker",
    "shield",
    "sleep",
    "sleep_until",
]

# Imported when asked for: the blocking twin below this package must not load an event loop.
_LAZY = {
    "checkpoint": ".._concurrency.aio.clock",
    "current_time": ".._concurrency.aio.clock",
    "sleep": ".._concurrency.aio.clock",
    "sleep_until": ".._concurrency.aio.clock",
    "CapacityLimiter": ".._concurrency.aio.locks",
    "CapacityLimiterStatistics": ".._concurrency.aio.locks",
    "Condition": ".._concurrency.aio.locks",
    "Event": ".._concurrency.aio.locks",
    "Lock": ".._concurrency.aio.locks",
    "Semaphore": ".._concurrency.aio.locks",
    "WaitStatistics": ".._concurrency.aio.locks",
    "CancelScope": ".._concurrency.aio.scopes",
    "current_effective_deadline": ".._concurrency.aio.scopes",
    "fail_after": ".._concurrency.aio.scopes",
    "fail_at": ".._concurrency.aio.scopes",
    "get_cancelled_exc_class": ".._concurrency.aio.scopes",
    "move_on_after": ".._concurrency.aio.scopes",
    "move_on_at": ".._concurrency.aio.scopes",
    "shield": ".._concurrency.aio.scopes",
    "BrokenResourceError": ".._concurrency.aio.streams",
    "ClosedResourceError": ".._concurrency.aio.streams",
    "EndOfStream": ".._concurrency.aio.streams",
    "MemoryObjectReceiveStream": ".._concurrency.aio.streams",
    "MemoryObjectSendStream": ".._concurrency.aio.streams",
    "MemoryObjectStreamStatistics": ".._concurrency.aio.streams",
    "WouldBlock": ".._concurrency.aio.streams",
    "create_memory_object_stream": ".._concurrency.aio.streams",
    "TaskGroup": ".._concurrency.aio.tasks",
    "TaskStatus": ".._concurrency.aio.tasks",
    "create_task_group": ".._concurrency.aio.tasks",
    "run": ".._concurrency.aio.tasks",
    "parallel_requests": ".._async.patterns.parallel",
    "ConnectionPool": ".._async.patterns.pool",
    "PoolStatistics": ".._async.patterns.pool",
    "retry_with_timeout": ".._async.patterns.retrying",
    "WorkerPool": ".._async.patterns.workers",
    "run_sync_in_worker": ".._concurrency.aio.workers",
}
# A class with I/O is `AsyncX` inside the library; here it has the name that it has in blocking code.
_ASYNC = {"ConnectionPool": "AsyncConnectionPool", "WorkerPool": "AsyncWorkerPool"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name], __name__), _ASYNC.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
