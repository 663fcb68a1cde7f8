"""Pynector in async code: written by hand. The blocking twin is generated from it."""

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
