"""The client, its batches and its transports: one source, in both colours."""

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
