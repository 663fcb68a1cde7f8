"""How many requests may be on the wire at once: of an engine, and to one host."""

import time

from ..._concurrency.aio.locks import Mutex, Semaphore, WouldBlock
from ..._concurrency.aio.scopes import move_on_after
from ..._http.url import Origin
from ...errors import ConnectionTimeoutError


class AsyncPermits:
    """Hands out the right to have a request on the wire, first come, first served.

    Args:
        max_connections: The most requests on the wire at once.
        per_host: The same for one origin; None for no limit of its own.
        timeout: Seconds that all permits may be taken without one of them coming back; None for no limit.
    """

    def __init__(self, max_connections: int, per_host: int | None, timeout: float | None) -> None:
        self._all = _Permits(max_connections, f"all {max_connections} connections", timeout)
        self._per_host = per_host if per_host is not None and per_host < max_connections else None
        self._timeout = timeout
        self._mutex = Mutex()
        # Those with a request on the wire or waiting: who is gone leaves nothing behind.
        self._hosts: dict[Origin, _Permits] = {}

    def take(self) -> bool:
        """Take a permit if one is free, and no host has a limit of its own: for nearly all, at half the price."""
        if self._per_host is not None:
            return False
        try:
            self._all.acquire_nowait()
        except WouldBlock:
            return False
        return True

    async def acquire(self, origin: Origin) -> None:
        """Wait for a permit for a request to `origin`.

        Raises:
            ConnectionTimeoutError: All permits were taken, and none came back within the timeout.
        """
        if self._per_host is None:
            await self._all.acquire()
            return
        # That of the host first: who waits for a busy host takes nothing from requests to the others.
        host = self._host(origin, self._per_host)
        try:
            await host.acquire()
            try:
                await self._acquire_one_of_all(host)
            except BaseException:
                host.release()
                raise
        except BaseException:
            self._leave(origin, host)
            raise

    def release(self, origin: Origin) -> None:
        """Give a permit back."""
        self._all.release()
        if self._per_host is not None:
            host = self._hosts[origin]
            host.release()
            self._leave(origin, host)

    async def _acquire_one_of_all(self, host: "_Permits") -> None:
        try:
            self._all.acquire_nowait()
        except WouldBlock:
            with self._mutex:
                host.held_up += 1
            try:
                await self._all.acquire()
            finally:
                with self._mutex:
                    host.held_up -= 1
                host.last_move = time.monotonic()

    def _host(self, origin: Origin, limit: int) -> "_Permits":
        with self._mutex:
            host = self._hosts.get(origin)
            if host is None:
                name = origin.host.decode("ascii", "replace")
                text = f"all {limit} connections to {name}"
                host = self._hosts[origin] = _Permits(limit, text, self._timeout, self._all)
            host.users += 1
            return host

    def _leave(self, origin: Origin, host: "_Permits") -> None:
        with self._mutex:
            host.users -= 1
            if not host.users:
                del self._hosts[origin]


class _Permits:
    """One limit.

    Attributes:
        users: How many requests have a permit, or wait for one.
        held_up: How many have a permit of this limit, and wait for one of the limit above it.
        last_move: When a permit last came back, or one that was held up went on.
    """

    __slots__ = ("_above", "_name", "_semaphore", "_timeout", "held_up", "last_move", "users")

    def __init__(self, limit: int, name: str, timeout: float | None, above: "_Permits | None" = None) -> None:
        self._semaphore = Semaphore(limit)
        self._name = name
        self._timeout = timeout
        self._above = above
        self.users = 0
        self.held_up = 0
        self.last_move = 0.0

    def acquire_nowait(self) -> None:
        self._semaphore.acquire_nowait()

    async def acquire(self) -> None:
        try:
            self.acquire_nowait()
        except WouldBlock:
            await self._wait()

    def release(self) -> None:
        self.last_move = time.monotonic()
        self._semaphore.release()

    async def _wait(self) -> None:
        patience = self._timeout
        started = time.monotonic()
        while True:
            with move_on_after(patience):
                await self._semaphore.acquire()
                return
            # Many requests may wait for long; that is an error only if the connections in use come to nothing.
            last_move = max(started, self.last_move)
            if self.held_up and self._above is not None:
                # Not in use yet: their turn comes as the connections of the other hosts come back.
                last_move = max(last_move, self._above.last_move)
            silence = time.monotonic() - last_move
            if self._timeout is None or silence >= self._timeout:
                raise ConnectionTimeoutError(
                    f"{self._name} were in use, and none came back within {self._timeout} s", phase="pool"
                )
            patience = self._timeout - silence
