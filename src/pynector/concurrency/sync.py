"""Structured concurrency for blocking code, on threads: the names of `pynector.concurrency`, without `await`.

Imports neither anyio nor asyncio.
"""

from .._concurrency.threads.clock import checkpoint, current_time, sleep, sleep_until
from .._concurrency.threads.locks import (
    CapacityLimiter,
    CapacityLimiterStatistics,
    Condition,
    Event,
    Lock,
    Semaphore,
    WaitStatistics,
)
from .._concurrency.threads.scopes import (
    CancelScope,
    current_effective_deadline,
    fail_after,
    fail_at,
    get_cancelled_exc_class,
    move_on_after,
    move_on_at,
    shield,
)
from .._concurrency.threads.streams import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    MemoryObjectStreamStatistics,
    WouldBlock,
    create_memory_object_stream,
)
from .._concurrency.threads.tasks import TaskGroup, TaskStatus, create_task_group, run
from .._sync.patterns.parallel import parallel_requests
from .._sync.patterns.pool import ConnectionPool, PoolStatistics
from .._sync.patterns.retrying import retry_with_timeout
from .._sync.patterns.workers import WorkerPool

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
    "shield",
    "sleep",
    "sleep_until",
]
