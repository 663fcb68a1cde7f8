"""Patterns that stand on the primitives: a connection pool, a worker pool, bounded fan-out, retries."""

from .parallel import parallel_requests
from .pool import AsyncConnectionPool, PoolStatistics
from .retrying import retry_with_timeout
from .workers import AsyncWorkerPool

__all__ = ["AsyncConnectionPool", "AsyncWorkerPool", "PoolStatistics", "parallel_requests", "retry_with_timeout"]
