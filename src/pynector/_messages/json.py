"""A message that is one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from ..errors import ConfigurationError, DeserializationError
from .body import encode_json


def checked_headers(headers: object) -> dict[str, Any]:
    """Headers of a message that is not HTTP, copied."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers: expected a mapping of names to values, got {type(headers).__name__}")
    return dict(headers)


class JsonMessage:
    """A message of headers and a payload, written as the JSON object `{"headers": ..., "payload": ...}`.

    Args:
        payload: Any JSON value.
        headers: A mapping of names to JSON values.

    Raises:
        ConfigurationError: The headers are no mapping.

    Example:
        >>> JsonMessage({"user": 1}, {"kind": "created"}).serialize()
        b'{"headers":{"kind":"created"},"payload":{"user":1}}'
    """

    __slots__ = ("headers", "payload")

    def __init__(self, payload: Any = None, headers: Mapping[str, Any] | None = None) -> None:
        self.payload = payload
        self.headers = checked_headers(headers)

    def get_headers(self) -> dict[str, Any]:
        """Return the headers."""
        return self.headers

    def get_payload(self) -> Any:
        """Return the payload."""
        return self.payload

    def serialize(self) -> bytes:
        """Turn the message into JSON bytes.

        Raises:
            SerializationError: A value is not JSON serialisable; the text names the path to it.
        """
        return encode_json({"headers": self.headers, "payload": self.payload}, "message")

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """Make a message from what `serialize` returned.

        Raises:
            DeserializationError: The bytes are not JSON, or not an object with `headers` and `payload`.
        """
        try:
            fields = json.loads(data)
        except (ValueError, TypeError, RecursionError) as error:
            raise DeserializationError(f"message: not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DeserializationError(f"message: expected a JSON object, got {type(fields).__name__}")
        headers = fields.get("headers")
        if not isinstance(headers, dict):
            found = type(headers).__name__ if "headers" in fields else "nothing"
            raise DeserializationError(f"message.headers: expected an object, got {found}")
        if "payload" not in fields:
            raise DeserializationError("message.payload: it is missing")
        return cls(fields["payload"], headers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JsonMessage):
            return NotImplemented
        return self.payload == other.payload and self.headers == other.headers

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {type(self.payload).__name__}, {len(self.headers)} headers>"
