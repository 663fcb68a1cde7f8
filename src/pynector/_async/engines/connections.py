"""The connections of one engine: one per request in flight, kept for the next request to the same origin.

httpcore's own pool looks at every connection for every request, and can leak a slot when a request is cancelled. Here
a request waits for a permit (first come, first served), then takes the connection to its origin that was used last,
or makes one. A connection that saw anything but a clean end is closed.
"""

import ssl
import time
from collections import deque

import httpcore

from ..._concurrency.aio.locks import Mutex
from ..._concurrency.aio.scopes import shield
from ..._http.settings import EngineSettings
from ..._http.url import Origin
from .permits import AsyncPermits


class AsyncLease:
    """A connection while one request uses it.

    Attributes:
        connection: The connection.
        origin: Where it leads.
        reused: Whether it served another request before.
        spent: Whether it was closed under the request. It may call itself idle all the same.
        idle_since: When its last request ended, on the monotonic clock.
    """

    __slots__ = ("connection", "idle_since", "origin", "reused", "spent")

    def __init__(self, connection: httpcore.AsyncConnectionInterface, origin: Origin) -> None:
        self.connection = connection
        self.origin = origin
        self.reused = False
        self.spent = False
        self.idle_since = 0.0


class AsyncConnections:
    """Hands out connections.

    Args:
        network_backend: Opens sockets; it carries deadlines and cancellation to every socket operation.
        ssl_context: For https, shared by all connections.
        settings: The time-out for connecting, and then TLS; how many connections; how long idle ones are kept.
    """

    def __init__(
        self,
        *,
        network_backend: httpcore.AsyncNetworkBackend,
        ssl_context: ssl.SSLContext,
        settings: EngineSettings,
    ) -> None:
        self._backend = network_backend
        self._ssl_context = ssl_context
        self._timeout = settings.timeout
        self._keepalive_expiry = settings.keepalive_expiry
        self._max_connections = settings.max_connections
        self._permits = AsyncPermits(settings.max_connections, settings.max_connections_per_host, settings.timeout)
        self._mutex = Mutex()
        self._by_origin: dict[Origin, deque[AsyncLease]] = {}
        # Every idle connection, longest idle first. A dict, for removal of any one in O(1).
        self._idle: dict[AsyncLease, None] = {}
        self._in_use = 0
        self._closed = False

    async def acquire(self, origin: Origin) -> AsyncLease:
        """Wait for a permit, then take an idle connection to `origin` that is alive, or make one.

        Raises:
            ConnectionTimeoutError: All connections were in use, and none came back within the timeout.
            Exception: Those of httpcore, if no connection can be made.
        """
        await self._permits.acquire(origin)
        with self._mutex:
            self._in_use += 1
        try:
            while (lease := self._take_idle(origin)) is not None:
                # Without this probe (microseconds), a request that can't be repeated is lost with every connection
                # that the server has closed meanwhile.
                idle = time.monotonic() - lease.idle_since
                if idle <= self._keepalive_expiry and not lease.connection.has_expired():
                    lease.reused = True
                    return lease
                await self._close(lease)
            if (evicted := self._evict()) is not None:
                await self._close(evicted)
            return await self._connect(origin)
        except BaseException:
            with self._mutex:
                self._in_use -= 1
            self._permits.release(origin)
            raise

    async def release(self, lease: AsyncLease) -> None:
        """Take a connection back: keep it if its exchange ended cleanly, close it otherwise."""
        try:
            with self._mutex:
                self._in_use -= 1
                keep = not (self._closed or lease.spent) and _is_clean(lease.connection)
                if keep:
                    lease.idle_since = time.monotonic()
                    self._idle[lease] = None
                    stack = self._by_origin.get(lease.origin)
                    if stack is None:
                        stack = self._by_origin[lease.origin] = deque()
                    stack.append(lease)
            stale = self._take_expired() if keep else lease
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

    async def _connect(self, origin: Origin) -> AsyncLease:
        host = origin.host.decode("ascii")
        stream = await self._backend.connect_tcp(host, origin.port, timeout=self._timeout)
        if origin.scheme == b"https":
            try:
                stream = await stream.start_tls(self._ssl_context, server_hostname=host, timeout=self._timeout)
            except BaseException:
                with shield():
                    await stream.aclose()
                raise
        # One request at a time, so HTTP/1.1; when it expires is looked after here.
        return AsyncLease(httpcore.AsyncHTTP11Connection(httpcore.Origin(*origin), stream), origin)

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

    def _take_expired(self) -> AsyncLease | None:
        """One idle connection past its time, if there is one: each request that ends sweeps away one."""
        with self._mutex:
            oldest = next(iter(self._idle), None)
            if oldest is None or time.monotonic() - oldest.idle_since <= self._keepalive_expiry:
                return None
            return self._take_oldest()

    def _evict(self) -> AsyncLease | None:
        """The longest idle connection, if the one about to be made would be one too many."""
        with self._mutex:
            if self._in_use + len(self._idle) <= self._max_connections:
                return None
            return self._take_oldest()

    async def _close(self, lease: AsyncLease) -> None:
        # Closing must not be cut short by a cancellation: it would leave the socket open.
        with shield():
            await lease.connection.aclose()


def _is_clean(connection: httpcore.AsyncConnectionInterface) -> bool:
    """Whether a connection stands right behind the end of an answer.

    Bytes beyond it that were read already would be taken for the answer to the next request.
    """
    if not connection.is_idle():
        return False
    # httpcore has no public way to ask for them. Should its insides change, the test of this fails.
    state = getattr(connection, "_h11_state", None)
    return state is None or not state.trailing_data[0]
