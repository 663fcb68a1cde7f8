"""The network below httpcore."""

import socket
import ssl
from collections.abc import Callable, Iterable
from functools import cache
from math import inf
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from ._connecting import connect_tcp, connect_unix
from ._network import ByteChannel, SocketChannel, TLSChannel
from .clock import sleep

if TYPE_CHECKING:
    from httpcore import NetworkBackend

__all__ = ["network_backend"]

_SocketOption = tuple[Any, ...]


def network_backend(httpcore: ModuleType) -> "NetworkBackend":
    """The way to the network, with deadlines and cancellation in every operation.

    Args:
        httpcore: The module to serve; its base classes and exceptions are used.

    Returns:
        A backend for its `network_backend` arguments.
    """
    return cast("NetworkBackend", _backend_class(httpcore)())


@cache
def _backend_class(httpcore: ModuleType) -> "type[_Backend]":
    # The module is an argument, for httpcore has a maintained fork of the same shape.
    stream = type("NetworkStream", (_Stream, httpcore.NetworkStream), {"_httpcore": httpcore})
    return type("NetworkBackend", (_Backend, httpcore.NetworkBackend), {"_httpcore": httpcore, "_stream": stream})


def _deadline(timeout: float | None) -> float:
    return inf if timeout is None else monotonic() + timeout


class _Stream:
    """One connection, as httpcore's blocking code uses it."""

    _httpcore: Any

    def __init__(self, channel: ByteChannel) -> None:
        self._channel = channel

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._channel.receive(max_bytes, _deadline(timeout))
        except TimeoutError as error:
            raise self._httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise self._httpcore.ReadError(str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        try:
            self._channel.send(buffer, _deadline(timeout))
        except TimeoutError as error:
            raise self._httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise self._httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        self._channel.sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_Stream":
        try:
            channel = TLSChannel(self._channel, ssl_context, server_hostname)
            channel.handshake(_deadline(timeout))
        except TimeoutError as error:
            self.close()
            raise self._httpcore.ConnectTimeout("The handshake operation timed out") from error
        except OSError as error:
            self.close()
            raise self._httpcore.ConnectError(str(error)) from error
        except BaseException:
            self.close()
            raise
        return type(self)(channel)

    def get_extra_info(self, info: str) -> Any:
        channel = self._channel
        if info == "ssl_object":
            return channel.ssl_object if isinstance(channel, TLSChannel) else None
        if info == "client_addr":
            return channel.sock.getsockname()
        if info == "server_addr":
            return channel.sock.getpeername()
        if info == "socket":
            return channel.sock
        if info == "is_readable":
            return channel.pending()
        return None


class _Backend:
    """Opens connections for httpcore's blocking code."""

    _httpcore: Any
    _stream: type[_Stream]

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> _Stream:
        options = [*(socket_options or ()), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        return self._open(lambda: connect_tcp(host, port, _deadline(timeout), local_address), options)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[_SocketOption] | None = None
    ) -> _Stream:
        if not hasattr(socket, "AF_UNIX"):
            raise RuntimeError("This system has no Unix domain sockets.")
        return self._open(lambda: connect_unix(path, _deadline(timeout)), [*(socket_options or ())])

    def _open(self, connect: Callable[[], socket.socket], options: list[_SocketOption]) -> _Stream:
        try:
            sock = connect()
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
        return self._stream(SocketChannel(sock))

    def sleep(self, seconds: float) -> None:
        sleep(seconds)
