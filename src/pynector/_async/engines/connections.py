"""The connections of one engine: one per request in flight, kept for the next request to the same origin.

httpcore's own pool looks at every connection for every request, and can leak a slot when a request is cancelled. Here
a request waits for a permit (first come, first served), then takes the connection to its origin that was used last,
or makes one. A connection that saw anything but a clean end is closed.

Over HTTP/2, tasks share one connection, up to what the server takes at once; then there is a further one.
"""

import copy
import time
from collections import deque
from typing import TYPE_CHECKING

from ..._concurrency.aio.colour import MULTIPLEX
from ..._concurrency.aio.locks import Event, Mutex
from ..._concurrency.aio.scopes import shield
from ..._http.settings import EngineSettings
from ..._http.url import Origin, Origins
from .dial import AsyncDialer
from .permits import AsyncPermits

if TYPE_CHECKING:
    from .http1 import AsyncHTTP1Connection
    from .http2 import AsyncHTTP2Connection


class AsyncLease:
    """A connection while it is in use.

    Attributes:
        connection: The connection.
        origin: Where it leads.
        reused: Whether it served another request before.
        users: How many requests it serves now.
        idle_since: When its last request ended, on the monotonic clock.
    """

    __slots__ = ("connection", "idle_since", "origin", "reused", "users")

    def __init__(self, connection: "AsyncHTTP1Connection | AsyncHTTP2Connection", origin: Origin) -> None:
        self.connection = connection
        self.origin = origin
        self.reused = False
        self.users = 1
        self.idle_since = 0.0


class _Attempt:
    """Somebody makes a connection that others may share."""

    __slots__ = ("error", "over")

    def __init__(self) -> None:
        self.over = Event()
        self.error: Exception | None = None


class AsyncConnections:
    """Hands out connections.

    Args:
        dialer: Makes connections.
        settings: How many connections, how long to wait for one, and how long idle ones are kept.
    """

    def __init__(self, dialer: AsyncDialer, settings: EngineSettings) -> None:
        self._dialer = dialer
        self._keepalive_expiry = settings.keepalive_expiry
        self._max_connections = settings.max_connections
        self._permits = AsyncPermits(settings.max_connections, settings.max_connections_per_host, settings.timeout)
        self._mutex = Mutex()
        self._by_origin: dict[Origin, deque[AsyncLease]] = {}
        # Every idle connection, longest idle first. A dict, for removal of any one in O(1).
        self._idle: dict[AsyncLease, None] = {}
        self._open = 0
        # Also if nothing is to be kept: then it is as if closed, for those that come back.
        self._closed = settings.keepalive_expiry <= 0
        self._shares = settings.http2 and MULTIPLEX
        # Over HTTP/2: those in use, who makes one just now, and the servers that speak HTTP/1.1 only.
        self._shared: dict[Origin, list[AsyncLease]] = {}
        self._attempts: dict[Origin, _Attempt] = {}
        self._unshared = Origins()

    async def acquire(self, origin: Origin) -> AsyncLease:
        """Wait for a permit, then take a connection to `origin` that is alive, or make one.

        Raises:
            ConnectionTimeoutError: All connections were in use, and none came back within the timeout.
            Exception: Those of httpcore, if no connection can be made.
        """
        if not self._permits.take():
            await self._permits.acquire(origin)
        try:
            if self._shares and origin.scheme == b"https" and origin not in self._unshared:
                return await self._share(origin)
            return await self._take(origin)
        except BaseException:
            self._permits.release(origin)
            raise

    async def release(self, lease: AsyncLease) -> None:
        """Take a connection back: keep it if its exchange ended cleanly, close it otherwise."""
        stale: AsyncLease | None = None
        try:
            with self._mutex:
                lease.users -= 1
                if not lease.users:
                    stale = self._put_back(lease)
            if stale is not None:
                await self._close(stale)
        finally:
            self._permits.release(lease.origin)

    async def aclose(self) -> None:
        """Close the idle connections now, the others when they come back."""
        with self._mutex:
            self._closed = True
            leases = list(self._idle)
            self._forget()
        for lease in leases:
            await self._close(lease)

    def abandon(self) -> None:
        """Forget every connection without closing it."""
        self._closed = True
        self._forget()

    def _forget(self) -> None:
        self._idle.clear()
        self._by_origin.clear()
        self._shared.clear()

    # For one request alone

    async def _take(self, origin: Origin) -> AsyncLease:
        while (lease := self._take_idle(origin)) is not None:
            # Without this probe (microseconds), a request that can't be repeated is lost with every connection
            # that the server has closed meanwhile.
            if time.monotonic() - lease.idle_since <= self._keepalive_expiry and await self._is_alive(lease):
                lease.reused = True
                lease.users = 1
                return lease
            await self._close(lease)
        evicted: AsyncLease | None = None
        with self._mutex:
            self._open += 1
            if self._open > self._max_connections:
                evicted = self._take_oldest()
        try:
            if evicted is not None:
                await self._close(evicted)
            return AsyncLease(await self._dialer.connect(origin), origin)
        except BaseException:
            with self._mutex:
                self._open -= 1
            raise

    async def _is_alive(self, lease: AsyncLease) -> bool:
        try:
            return await lease.connection.is_alive()
        except BaseException:
            await self._close(lease)
            raise

    def _take_idle(self, origin: Origin) -> AsyncLease | None:
        with self._mutex:
            stack = self._by_origin.get(origin)
            if not stack:
                return None
            lease = stack.pop()
            del self._idle[lease]
            if not stack:
                del self._by_origin[origin]
            return lease

    def _put_back(self, lease: AsyncLease) -> AsyncLease | None:
        """Keep a connection if that is possible. What is returned is to be closed: each request sweeps away one."""
        origin = lease.origin
        if self._shares:
            self._unlist(lease)
        if self._closed or not lease.connection.reusable:
            return lease
        lease.idle_since = now = time.monotonic()
        idle = self._idle
        idle[lease] = None
        stack = self._by_origin.get(origin)
        if stack is None:
            stack = self._by_origin[origin] = deque()
        stack.append(lease)
        oldest = next(iter(idle))
        return self._take_oldest() if now - oldest.idle_since > self._keepalive_expiry else None

    def _take_oldest(self) -> AsyncLease | None:
        lease = next(iter(self._idle), None)
        if lease is not None:
            del self._idle[lease]
            stack = self._by_origin[lease.origin]
            # Used last, reused first: the longest idle one of an origin lies at the other end.
            stack.popleft()
            if not stack:
                del self._by_origin[lease.origin]
        return lease

    async def _close(self, lease: AsyncLease) -> None:
        with self._mutex:
            self._open -= 1
        # Closing must not be cut short by a cancellation: it would leave the socket open.
        with shield():
            await lease.connection.aclose()

    # For several requests at once

    async def _share(self, origin: Origin) -> AsyncLease:
        while origin not in self._unshared:
            for lease in self._shared.get(origin, ()):
                if lease.connection.reusable and lease.users < lease.connection.max_streams:
                    lease.users += 1
                    lease.reused = True
                    return lease
            attempt = self._attempts.get(origin)
            if attempt is None:
                return await self._take_shared(origin)
            await attempt.over.wait()
            if attempt.error is not None:
                # One for each: it is changed on its way up.
                raise copy.copy(attempt.error) from attempt.error
        return await self._take(origin)

    async def _take_shared(self, origin: Origin) -> AsyncLease:
        attempt = self._attempts[origin] = _Attempt()
        try:
            lease = await self._take(origin)
            if lease.connection.max_streams > 1:
                self._shared.setdefault(origin, []).append(lease)
            else:
                self._unshared.add(origin)
        except Exception as exc:
            attempt.error = exc
            raise
        else:
            return lease
        finally:
            del self._attempts[origin]
            attempt.over.set()

    def _unlist(self, lease: AsyncLease) -> None:
        leases = self._shared.get(lease.origin)
        if leases is not None and lease in leases:
            leases.remove(lease)
            if not leases:
                del self._shared[lease.origin]
