"""A message of raw bytes with a small JSON header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Self

from ..errors import ConfigurationError, DeserializationError
from .body import encode_json
from .json import checked_headers

_LENGTH_SIZE: Final = 4


class BinaryMessage:
    r"""Headers and bytes: four bytes of header length (big-endian), the headers as JSON, then the payload.

    Args:
        payload: The bytes.
        headers: A mapping of names to JSON values.

    Raises:
        ConfigurationError: The payload is not bytes, or the headers are no mapping.

    Example:
        >>> BinaryMessage(b"\x00\x01").serialize()
        b'\x00\x00\x00\x02{}\x00\x01'
    """

    __slots__ = ("headers", "payload")

    def __init__(self, payload: bytes = b"", headers: Mapping[str, Any] | None = None) -> None:
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise ConfigurationError(f"payload: expected bytes, got {type(payload).__name__}")
        self.payload = bytes(payload)
        self.headers = checked_headers(headers)

    def get_headers(self) -> dict[str, Any]:
        """Return the headers."""
        return self.headers

    def get_payload(self) -> bytes:
        """Return the payload."""
        return self.payload

    def serialize(self) -> bytes:
        """Turn the message into bytes.

        Raises:
            SerializationError: A header is not JSON serialisable; the text names it.
        """
        headers = encode_json(self.headers, "headers")
        return len(headers).to_bytes(_LENGTH_SIZE, "big") + headers + self.payload

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """Make a message from what `serialize` returned.

        Raises:
            DeserializationError: The bytes are cut short, or the header is not a JSON object.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise DeserializationError(f"message: expected bytes, got {type(data).__name__}")
        data = bytes(data)
        if len(data) < _LENGTH_SIZE:
            raise DeserializationError(f"message: {len(data)} bytes are too few for the header length")
        end = _LENGTH_SIZE + int.from_bytes(data[:_LENGTH_SIZE], "big")
        if end > len(data):
            raise DeserializationError(
                f"message: the headers should end at byte {end}, but there are only {len(data)} bytes"
            )
        try:
            headers = json.loads(data[_LENGTH_SIZE:end])
        except (ValueError, RecursionError) as error:
            raise DeserializationError(f"headers: not JSON: {error}") from error
        if not isinstance(headers, dict):
            raise DeserializationError(f"headers: expected a JSON object, got {type(headers).__name__}")
        return cls(data[end:], headers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BinaryMessage):
            return NotImplemented
        return self.payload == other.payload and self.headers == other.headers

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.payload)} bytes, {len(self.headers)} headers>"
