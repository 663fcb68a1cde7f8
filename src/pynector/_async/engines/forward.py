"""Connections to a forward proxy, which passes requests for http:// URLs on (RFC 9112, 3.2.2)."""

from types import ModuleType
from typing import TYPE_CHECKING

from ..._config import Secret
from ..._http.wire import RawHeaders, WireRequest
from .http1 import AsyncHTTP1Connection

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream


class AsyncForwardConnection(AsyncHTTP1Connection):
    """HTTP/1.1 to a forward proxy: the request line has the whole URL in it.

    One that stays open serves one origin only, as all connections do here, though the proxy would not mind.

    Args:
        httpcore: The module whose exceptions are raised.
        stream: Leads to the proxy.
        authorization: The value of `Proxy-Authorization`; None without credentials.
    """

    __slots__ = ("_authorization",)

    def __init__(self, httpcore: ModuleType, stream: "AsyncNetworkStream", authorization: bytes | None) -> None:
        super().__init__(httpcore, stream)
        self._authorization = None if authorization is None else Secret(authorization)

    def _head(self, wire: WireRequest, headers: RawHeaders) -> tuple[bytes, RawHeaders]:
        if self._authorization is not None and all(name.lower() != b"proxy-authorization" for name, _ in headers):
            # A new list: the old one is what is sent again should this fail, and may then go elsewhere.
            headers = [*headers, (b"Proxy-Authorization", self._authorization.get())]
        return str(wire.target).encode(), headers
