"""From an origin to an open connection: directly, through a Unix socket, or through a proxy."""

import contextlib
import socket
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, cast

from ..._concurrency.aio.scopes import move_on_after, shield
from ..._concurrency.aio.sockets import network_backend
from ..._http.failures import died_before_answer
from ..._http.proxies import Proxy, proxies_for
from ..._http.settings import EngineSettings
from ..._http.tls import proxy_context, server_context
from ..._http.url import Origin
from ...errors import ConfigurationError, HTTPProxyError
from .forward import AsyncForwardConnection
from .http1 import AsyncHTTP1Connection
from .socks import check_socks, open_socks_tunnel

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream, Response

    from .http2 import AsyncHTTP2Connection

AsyncConnection: TypeAlias = "AsyncHTTP1Connection | AsyncHTTP2Connection"

# What a proxy refuses with that may be otherwise in a moment. All else is its last word.
_PASSING = frozenset({408, 425, 429, *range(500, 600)})


class AsyncDialer:
    """Makes connections, as the settings of an engine want them.

    Each step (connecting, TLS, what a proxy is told) may take as long as the timeout of the settings. Every one of
    them hears of deadlines and cancellation, and then the socket is closed.

    Args:
        httpcore: The module whose connections are made: `httpcore`, or its fork of the same shape.
        settings: The timeout, proxies, TLS, the Unix socket, and whether HTTP/2 is offered.

    Raises:
        ConfigurationError: A proxy, a certificate or the Unix socket can't be used, or what SOCKS needs is missing.
    """

    def __init__(self, httpcore: ModuleType, settings: EngineSettings) -> None:
        self._httpcore = httpcore
        self._backend = network_backend(httpcore)
        self._timeout = settings.timeout
        self._http2 = settings.http2
        if self._http2:
            check_http2()
        self._uds = settings.uds
        if self._uds is not None and not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError("argument `uds`: this system has no Unix sockets")
        self._proxies = proxies_for(settings)
        schemes = {proxy.scheme for proxy in self._proxies.all} if self._proxies is not None else set()
        if not schemes.isdisjoint(("socks5", "socks5h")):
            check_socks()
        library = httpcore.__name__.replace("httpcore", "httpx")
        self._ssl_context = server_context(settings, library)
        self._proxy_context = proxy_context(settings, library) if "https" in schemes else self._ssl_context

    async def connect(self, origin: Origin) -> AsyncConnection:
        """Make a connection to `origin`.

        Returns:
            A connection: for HTTP/2 if the server agreed to it, else for HTTP/1.1.

        Raises:
            HTTPProxyError: The proxy refused.
            ConfigurationError: HTTP/2 was agreed on by TLS, but not asked for.
            Exception: Those of httpcore, if no connection can be made. Their text names the proxy if it is to blame.
        """
        proxy = None if self._proxies is None else self._proxies.find(origin)
        stream = await self._reach(origin) if proxy is None else await self._reach_proxy(proxy)
        try:
            if proxy is not None:
                if proxy.scheme == "https":
                    with self._blaming(proxy):
                        stream = await stream.start_tls(self._proxy_context, proxy.host, self._timeout)
                    if _protocol(stream) == "h2":
                        raise _unwanted_http2(f"the proxy {proxy}")
                if not proxy.is_socks and origin.scheme == b"http":
                    return AsyncForwardConnection(self._httpcore, stream, proxy.authorization)
                stream = await self._tunnel(proxy, stream, origin)
            if origin.scheme == b"https":
                stream = await stream.start_tls(self._ssl_context, _name(origin), self._timeout)
            return await self._connection(origin, stream)
        except BaseException:
            with shield():
                await stream.aclose()
            raise

    async def _connection(self, origin: Origin, stream: "AsyncNetworkStream") -> AsyncConnection:
        if origin.scheme == b"https" and _protocol(stream) == "h2":
            if not self._http2:
                raise _unwanted_http2(origin.host.decode("ascii"))
            from .http2 import AsyncHTTP2Connection

            connection = AsyncHTTP2Connection(self._httpcore, stream)
            await connection.start(self._timeout)
            return connection
        return AsyncHTTP1Connection(self._httpcore, stream)

    async def _reach(self, origin: Origin) -> "AsyncNetworkStream":
        if self._uds is None:
            return await self._backend.connect_tcp(_address(origin), origin.port, self._timeout)
        try:
            return await self._backend.connect_unix_socket(self._uds, self._timeout)
        except self._httpcore.ConnectError as exc:
            raise self._httpcore.ConnectError(f"no connection to {self._uds}: {exc}") from exc

    async def _reach_proxy(self, proxy: Proxy) -> "AsyncNetworkStream":
        with self._blaming(proxy):
            return await self._backend.connect_tcp(proxy.host, proxy.port, self._timeout)

    async def _tunnel(self, proxy: Proxy, stream: "AsyncNetworkStream", origin: Origin) -> "AsyncNetworkStream":
        """Have the proxy connect to `origin`. In all it takes no longer than the timeout, even byte by byte."""
        with self._blaming(proxy):
            with move_on_after(self._timeout):
                if not proxy.is_socks:
                    return await self._tunnel_by_http(proxy, stream, origin)
                await open_socks_tunnel(stream, proxy, origin, self._timeout)
                return stream
            raise self._httpcore.ConnectTimeout

    async def _tunnel_by_http(self, proxy: Proxy, stream: "AsyncNetworkStream", origin: Origin) -> "AsyncNetworkStream":
        host = b"[%b]" % origin.host if b":" in origin.host else origin.host
        target = b"%b:%d" % (host, origin.port)
        at = self._httpcore.Origin(proxy.scheme.encode(), proxy.host.encode(), proxy.port)
        request = self._httpcore.Request(
            b"CONNECT",
            self._httpcore.URL(scheme=at.scheme, host=at.host, port=at.port, target=target),
            headers=_connect_headers(proxy, target),
            extensions={"timeout": {"read": self._timeout, "write": self._timeout}},
        )
        connection = self._httpcore.AsyncHTTP11Connection(at, stream)
        response: Response = await connection.handle_async_request(request)
        status = response.status
        if not 200 <= status < 300:
            reason = response.extensions["reason_phrase"].decode("latin-1")
            raise HTTPProxyError(
                f"the proxy {proxy} refused a tunnel to {target.decode()}: {status} {reason}".rstrip(),
                sent=False,
                transient=status in _PASSING,
            )
        return cast("AsyncNetworkStream", response.extensions["network_stream"])

    @contextlib.contextmanager
    def _blaming(self, proxy: Proxy) -> Iterator[None]:
        """Name the proxy in what httpcore raises. Nothing was sent to a server yet, so all of it may be repeated."""
        httpcore = self._httpcore
        where = f"no connection through the proxy {proxy}"
        try:
            yield
        except httpcore.TimeoutException as exc:
            raise httpcore.ConnectTimeout(f"{where} within the timeout") from exc
        except httpcore.NetworkError as exc:
            raise httpcore.ConnectError(f"{where}: {exc}") from exc
        except EOFError as exc:
            raise httpcore.ConnectError(f"{where}: it hung up") from exc
        except httpcore.RemoteProtocolError as exc:
            if died_before_answer(exc):
                raise httpcore.ConnectError(f"{where}: it hung up") from exc
            raise HTTPProxyError(f"the proxy {proxy} does not speak HTTP: {exc}", sent=False) from exc


def _address(origin: Origin) -> str:
    """The host as a name lookup takes it: the zone of an IPv6 address stands behind "%25" in a URL (RFC 6874)."""
    host = origin.host.decode("ascii")
    return host.replace("%25", "%", 1) if ":" in host else host


def _name(origin: Origin) -> str:
    """The host as a certificate names it: a zone means something on this machine only."""
    host = origin.host.decode("ascii")
    return host.partition("%")[0] if ":" in host else host


def _connect_headers(proxy: Proxy, target: bytes) -> list[tuple[bytes, bytes]]:
    # In no variable of a function that waits: a crash report may show those.
    authorization = proxy.authorization
    headers = [(b"Host", target)]
    return headers if authorization is None else [*headers, (b"Proxy-Authorization", authorization)]


def _protocol(stream: "AsyncNetworkStream") -> str | None:
    """What was agreed on by ALPN (RFC 7301)."""
    ssl_object = stream.get_extra_info("ssl_object")
    return None if ssl_object is None else ssl_object.selected_alpn_protocol()


def _unwanted_http2(peer: str) -> ConfigurationError:
    return ConfigurationError(
        f"the ssl.SSLContext offers HTTP/2, and {peer} took it: give http2=True, or offer http/1.1 alone (a proxy is "
        "never spoken to in HTTP/2)"
    )


def check_http2() -> None:
    """See that the package `h2` is there, which knows the frames of HTTP/2.

    Raises:
        ConfigurationError: It is not.
    """
    try:
        import h2  # noqa: F401
    except ImportError as exc:
        raise ConfigurationError("http2=True needs the package h2: pip install 'pynector[http2]'") from exc
