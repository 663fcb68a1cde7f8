"""Connections that are kept for whoever needs one next, and never more than so many."""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..._concurrency.aio.colour import ColourGuard, dispose, invoke, settle
from ..._concurrency.aio.locks import Mutex, Semaphore
from ..._concurrency.aio.scopes import move_on_after
from ..._config import UNSET, UnsetType, check_count, check_timeout
from ..._telemetry.loggers import event_logger
from ...errors import ClosedError, ConfigurationError, TimeoutError
from ..ownership import Home

C = TypeVar("C")

logger = event_logger("concurrency")

_CLOSING = 5.0
"""Seconds that closing one connection may take. It is not cut short by a cancellation, so it needs a limit."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What a connection pool is doing.

    Attributes:
        max_connections: The most connections at once.
        in_use: How many are lent out, or being made.
        idle: How many are open and free.
        tasks_waiting: How many tasks or threads wait for one.
    """

    max_connections: int
    in_use: int
    idle: int
    tasks_waiting: int


class _Entry(Generic[C]):
    """One connection."""

    __slots__ = ("connection", "epoch", "made")

    def __init__(self, connection: C, epoch: object) -> None:
        self.connection = connection
        self.epoch = epoch
        self.made = time.monotonic()


class _AsyncLoan(ColourGuard, Generic[C]):
    """What `acquire` returns: a connection for the length of a block."""

    __slots__ = ("_entry", "_pool", "_timeout", "_used")

    _public = "pynector.concurrency.ConnectionPool.acquire"

    def __init__(self, pool: "AsyncConnectionPool[C]", timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._entry: _Entry[C] | None = None
        self._used = False

    async def __aenter__(self) -> C:
        if self._used:
            raise RuntimeError("this loan was used before: call acquire() again")
        self._used = True
        self._entry = entry = await self._pool._take(self._timeout)
        return entry.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            await self._pool._give_back(entry, clean=exc_type is None)


class AsyncConnectionPool(ColourGuard, Generic[C]):
    """Lends out connections, makes them when needed, and never has more than a given number open.

    Who comes first is served first. The connection that was used last is lent out first. One whose block ended in an
    exception, a cancellation too, is closed: nobody knows what state it is in.

    One pool may be shared by any number of tasks of one event loop, or of threads. A forked child forgets the
    connections of its parent without closing them, and makes its own.

    Args:
        factory: Makes a connection.
        max_connections: The most connections at once.
        close: Closes a connection; by default its own method does. One that takes longer than 5 s is given up.
        health_check: Looks at a connection before it is lent out again. A false answer or an exception: it is closed
            and another one is taken or made. None for an answer is no complaint.
        max_age: Seconds after which a connection is not lent out again.
        timeout: Seconds that `acquire` waits for a connection, making it included; None for no limit.

    Raises:
        ConfigurationError: An argument is wrong.

    Example:
        ```python
        async with ConnectionPool(connect, max_connections=5) as pool:
            async with pool.acquire() as connection:
                await connection.execute("select 1")
        ```
    """

    __slots__ = (
        "__weakref__",
        "_close",
        "_closed",
        "_epoch",
        "_factory",
        "_health_check",
        "_home",
        "_idle",
        "_in_use",
        "_max_age",
        "_max_connections",
        "_mutex",
        "_permits",
        "_timeout",
    )

    _public = "pynector.concurrency.ConnectionPool"

    def __init__(
        self,
        factory: Callable[[], Awaitable[C]],
        max_connections: int = 10,
        *,
        close: Callable[[C], object] | None = None,
        health_check: Callable[[C], object] | None = None,
        max_age: float | None = None,
        timeout: float | None = None,
    ) -> None:
        for name, function in (("factory", factory), ("close", close), ("health_check", health_check)):
            if not callable(function) and (function is not None or name == "factory"):
                raise ConfigurationError(f"argument `{name}`: expected a function, got {type(function).__name__}")
        self._factory = factory
        self._max_connections = check_count(max_connections, "max_connections")
        self._close = close
        self._health_check = health_check
        max_age = check_timeout(max_age, "max_age")
        self._max_age = math.inf if max_age is None else max_age
        self._timeout = check_timeout(timeout)
        self._mutex = Mutex()
        self._closed = False
        self._home: Home | None = None
        self._begin()

    def _begin(self) -> None:
        self._epoch = object()
        self._permits = Semaphore(self._max_connections)
        self._idle: deque[_Entry[C]] = deque()
        self._in_use = 0

    def acquire(self, *, timeout: float | UnsetType | None = UNSET) -> _AsyncLoan[C]:
        """Borrow a connection for the length of a block.

        Args:
            timeout: Seconds to wait for one, instead of the pool's own.

        Returns:
            An async context manager that gives the connection. Entering it raises `TimeoutError` if the time is up,
            `ClosedError` if the pool is closed, and whatever the factory raises.

        Example:
            ```python
            async with pool.acquire(timeout=2) as connection:
                await connection.execute("select 1")
            ```
        """
        return _AsyncLoan(self, self._timeout if isinstance(timeout, UnsetType) else check_timeout(timeout))

    async def aclose(self) -> None:
        """Close the idle connections now, the others when they come back. Waiters get `ClosedError`.

        Raises:
            ExceptionGroup: Some connections failed to close; all were tried.
        """
        self._check_home()
        with self._mutex:
            first = not self._closed
            self._closed = True
        if first:
            # One permit too many goes round: whoever gets it sees that the pool is closed, and passes it on.
            self._permits.release()
        errors: list[Exception] = []
        while (entry := self._pop_idle()) is not None:
            error = await self._discard(entry)
            if error is not None:
                errors.append(error)
        if errors:
            raise ExceptionGroup("connections of a ConnectionPool did not close", errors)

    def statistics(self) -> PoolStatistics:
        """What the pool is doing.

        Returns:
            A snapshot.
        """
        with self._mutex:
            return PoolStatistics(
                self._max_connections, self._in_use, len(self._idle), self._permits.statistics().tasks_waiting
            )

    def __repr__(self) -> str:
        now = self.statistics()
        state = "closed" if self._closed else f"{now.in_use} in use, {now.idle} idle, {now.tasks_waiting} waiting"
        return f"<ConnectionPool of {now.max_connections}: {state}>"

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        except ExceptionGroup as group:
            if exc is None:
                raise
            for error in group.exceptions:
                _log(error)

    # The way of a connection

    async def _take(self, timeout: float | None) -> _Entry[C]:
        self._check_open()
        self._check_home()
        if timeout is None:
            return await self._take_in_turn()
        with move_on_after(timeout):
            return await self._take_in_turn()
        raise TimeoutError(f"no connection was to be had within {timeout:.6g} s: {self!r}")

    async def _take_in_turn(self) -> _Entry[C]:
        permits = self._permits
        await permits.acquire()
        try:
            self._check_open()
            with self._mutex:
                self._in_use += 1
            try:
                return await self._find()
            except BaseException:
                with self._mutex:
                    self._in_use -= 1
                raise
        except BaseException:
            permits.release()
            raise

    async def _find(self) -> _Entry[C]:
        """An idle connection that is well, or a new one. Unwell ones are closed first: they count until then."""
        while (entry := self._pop_idle()) is not None:
            try:
                usable = not self._is_old(entry) and await self._is_well(entry)
            except BaseException:
                await self._discard(entry)
                raise
            if usable:
                return entry
            await self._discard_quietly(entry)
        epoch = self._epoch
        return _Entry(await invoke(self._factory), epoch)

    async def _give_back(self, entry: _Entry[C], *, clean: bool) -> None:
        self._check_home()
        if entry.epoch is not self._epoch:
            return  # a loan of the process that this one was forked from: connection and permit are there
        try:
            with self._mutex:
                self._in_use -= 1
                keep = clean and not self._closed and not self._is_old(entry)
                if keep:
                    self._idle.append(entry)
            if not keep:
                await self._discard_quietly(entry)
        finally:
            self._permits.release()

    def _pop_idle(self) -> _Entry[C] | None:
        with self._mutex:
            return self._idle.pop() if self._idle else None

    def _is_old(self, entry: _Entry[C]) -> bool:
        return time.monotonic() - entry.made >= self._max_age

    async def _is_well(self, entry: _Entry[C]) -> bool:
        if self._health_check is None:
            return True
        try:
            verdict = await settle(self._health_check(entry.connection))
        except ConfigurationError:
            raise
        except Exception:
            return False
        return verdict is None or bool(verdict)

    async def _discard_quietly(self, entry: _Entry[C]) -> None:
        error = await self._discard(entry)
        if isinstance(error, ConfigurationError):
            raise error
        if error is not None:
            _log(error)

    async def _discard(self, entry: _Entry[C]) -> Exception | None:
        """Close a connection, whatever is going on around."""
        with move_on_after(_CLOSING, shield=True) as scope:
            try:
                if self._close is None:
                    await dispose(entry.connection)
                else:
                    await settle(self._close(entry.connection))
            except Exception as exc:
                return exc
        if scope.cancelled_caught:
            return TimeoutError(f"a {type(entry.connection).__name__} did not close within {_CLOSING:g} s")
        return None

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this ConnectionPool is closed")

    def _check_home(self) -> None:
        with self._mutex:
            if self._home is None:
                self._home = Home("ConnectionPool")
            elif self._home.left():
                # Closing what the parent still uses would end it there as well.
                self._begin()
                self._home = Home("ConnectionPool")


def _log(error: Exception) -> None:
    # A broken connection often fails to close as well: nobody can do anything about it.
    logger.debug("connection.close_failed", exc_info=error)
