"""Messages: what transports carry."""

from .._messages.binary import BinaryMessage
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from .._messages.json import JsonMessage
from .._messages.protocol import Message

__all__ = ["BinaryMessage", "Headers", "HttpMessage", "JsonMessage", "Message"]
