"""Transports: protocols, messages, the registry, and the errors that every transport may raise."""

from .._async.transports.protocol import AsyncTransport, AsyncTransportFactory
from .._messages.binary import BinaryMessage
from .._messages.http import HttpMessage
from .._messages.json import JsonMessage
from .._messages.protocol import Message
from .._registry import TransportFactoryRegistry
from .._sync.transports.protocol import Transport, TransportFactory
from ..errors import (
    ConnectionError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    DeserializationError,
    MessageError,
    SerializationError,
    TLSError,
    TransportError,
    TransportSpecificError,
)

__all__ = [
    "AsyncTransport",
    "AsyncTransportFactory",
    "BinaryMessage",
    "ConnectionError",
    "ConnectionRefusedError",
    "ConnectionTimeoutError",
    "DeserializationError",
    "HttpMessage",
    "JsonMessage",
    "Message",
    "MessageError",
    "SerializationError",
    "TLSError",
    "Transport",
    "TransportError",
    "TransportFactory",
    "TransportFactoryRegistry",
    "TransportSpecificError",
]
