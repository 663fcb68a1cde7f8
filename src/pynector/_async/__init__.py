"""The client, its batches and its transports: one source, in both colours."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncPynector
    from .transports.factory import AsyncHTTPTransportFactory
    from .transports.http import AsyncHTTPTransport
    from .transports.protocol import AsyncTransport, AsyncTransportFactory

__all__ = [
    "AsyncHTTPTransport",
    "AsyncHTTPTransportFactory",
    "AsyncPynector",
    "AsyncTransport",
    "AsyncTransportFactory",
]

# Imported when asked for: structured concurrency alone needs no client.
_MODULES = {
    "AsyncHTTPTransport": ".transports.http",
    "AsyncHTTPTransportFactory": ".transports.factory",
    "AsyncPynector": ".client",
    "AsyncTransport": ".transports.protocol",
    "AsyncTransportFactory": ".transports.protocol",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)
