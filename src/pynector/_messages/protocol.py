"""The protocol every message follows."""

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable


@runtime_checkable
class Message(Protocol):
    """A message: it can be turned into bytes and back, and has headers and a payload.

    Any class with these four methods is a message; it needs no base class.

    Example:
        ```python
        class Text:
            def __init__(self, text: str) -> None:
                self.text = text

            def serialize(self) -> bytes:
                return self.text.encode()

            @classmethod
            def deserialize(cls, data: bytes) -> "Text":
                return cls(data.decode())

            def get_headers(self) -> dict[str, str]:
                return {}

            def get_payload(self) -> str:
                return self.text
        ```
    """

    def serialize(self) -> bytes:
        """Turn the message into bytes.

        Raises:
            SerializationError: A value in it cannot be serialised.
        """
        ...

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """Make a message from what `serialize` returned.

        Raises:
            DeserializationError: The bytes are not such a message.
        """
        ...

    def get_headers(self) -> Mapping[str, Any]:
        """Return the headers (metadata) of the message."""
        ...

    def get_payload(self) -> Any:
        """Return the content of the message."""
        ...
