"""The network below httpcore."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Awaitable, Iterable
from functools import cache
from math import inf
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from ._connecting import AsyncioNetwork
from ._network import ByteChannel, TLSChannel

if TYPE_CHECKING:
    from httpcore import AsyncNetworkBackend

__all__ = ["network_backend"]

_SocketOption = tuple[Any, ...]


def network_backend(httpcore: ModuleType) -> "AsyncNetworkBackend":
    """The way to the network, with deadlines and cancellation in every operation.

    Args:
        httpcore: The module to serve; its base classes and exceptions are used.

    Returns:
        A backend for its `network_backend` arguments.
    """
    return cast("AsyncNetworkBackend", _backend_class(httpcore)())


@cache
def _backend_class(httpcore: ModuleType) -> "type[_Backend]":
    # The module is an argument, for httpcore has a maintained fork of the same shape.
    stream = type("AsyncNetworkStream", (_Stream, httpcore.AsyncNetworkStream), {"_httpcore": httpcore})
    members = {"_httpcore": httpcore, "_stream": stream}
    return type("AsyncNetworkBackend", (_Backend, httpcore.AsyncNetworkBackend), members)


class _Network(Protocol):
    """Connections on the event loop that runs."""

    def now(self) -> float: ...

    async def connect_tcp(self, host: str, port: int, deadline: float, local_address: str | None) -> socket.socket: ...

    async def connect_unix(self, path: str, deadline: float) -> socket.socket: ...

    def channel(self, sock: socket.socket) -> ByteChannel: ...


def _network() -> _Network | None:
    """What fits the event loop that runs; None for the usual one of Windows, which cannot watch sockets."""
    # Where trio was never imported it cannot be running. It may run as a guest of asyncio, so it comes first.
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from ._trio import TrioNetwork

        return TrioNetwork()
    loop = asyncio.get_running_loop()
    if isinstance(loop, getattr(asyncio, "ProactorEventLoop", ())):
        return None
    return AsyncioNetwork(loop)


class _Stream:
    """One connection, as httpcore's async code uses it."""

    _httpcore: Any

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        channel = self._channel
        try:
            return await channel.receive(max_bytes, inf if timeout is None else channel.now() + timeout)
        except TimeoutError as error:
            raise self._httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise self._httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        channel = self._channel
        try:
            await channel.send(buffer, inf if timeout is None else channel.now() + timeout)
        except TimeoutError as error:
            raise self._httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise self._httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        # Nothing to wait for, so nothing that a cancellation could cut short.
        self._channel.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_Stream":
        lower = self._channel
        try:
            channel = TLSChannel(lower, ssl_context, server_hostname)
            await channel.handshake(inf if timeout is None else lower.now() + timeout)
        except TimeoutError as error:
            lower.close()
            raise self._httpcore.ConnectTimeout("The handshake operation timed out") from error
        except OSError as error:
            lower.close()
            raise self._httpcore.ConnectError(str(error)) from error
        except BaseException:
            lower.close()
            raise
        return type(self)(channel)

    def get_extra_info(self, info: str) -> Any:
        channel = self._channel
        if info == "is_readable":
            return channel.pending()
        if info == "ssl_object":
            return channel.ssl_object if isinstance(channel, TLSChannel) else None
        if info == "client_addr":
            return channel.sock.getsockname()
        if info == "server_addr":
            return channel.sock.getpeername()
        if info == "socket":
            return channel.sock
        return None


class _Backend:
    """Opens connections for httpcore's async code, on whatever event loop runs then."""

    _httpcore: Any
    _stream: type[_Stream]

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> Any:
        network = _network()
        if network is None:
            return await self._httpcore.AnyIOBackend().connect_tcp(host, port, timeout, local_address, socket_options)
        deadline = inf if timeout is None else network.now() + timeout
        options = [*(socket_options or ()), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        return await self._open(network, network.connect_tcp(host, port, deadline, local_address), options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[_SocketOption] | None = None
    ) -> Any:
        if not hasattr(socket, "AF_UNIX"):
            raise RuntimeError("This system has no Unix domain sockets.")
        network = _network()
        if network is None:
            return await self._httpcore.AnyIOBackend().connect_unix_socket(path, timeout, socket_options)
        deadline = inf if timeout is None else network.now() + timeout
        return await self._open(network, network.connect_unix(path, deadline), [*(socket_options or ())])

    async def _open(
        self, network: _Network, connect: Awaitable[socket.socket], options: list[_SocketOption]
    ) -> _Stream:
        try:
            sock = await connect
            try:
                for option in options:
                    sock.setsockopt(*option)
            except BaseException:
                sock.close()
                raise
        except TimeoutError as error:
            raise self._httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise self._httpcore.ConnectError(str(error)) from error
        return self._stream(network.channel(sock))

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
