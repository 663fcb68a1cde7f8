"""`SdkMessage`: the answer of a language model, alike for every provider."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias

from ..errors import DeserializationError
from .body import encode_json
from .usage import Usage

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "other"]
"""Why a model ended its answer: it had said all; it came to `max_tokens`, or to the end of what it can read; it wants
tools to be called; the provider withheld the rest; something that only the provider knows, see `raw`."""

_EMPTY: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants to be called.

    Attributes:
        id: The provider's id of the call: the answer to it refers to that.
        name: The name of the tool.
        arguments: Its arguments, parsed.
    """

    id: str
    name: str
    arguments: dict[str, Any]


class SdkMessage:
    """The answer of a language model. Treat it as a value.

    Args:
        text: All text of the answer.
        model: The model that has answered, by the name that the provider gives it.
        finish_reason: Why the answer ended.
        usage: The tokens it took.
        tool_calls: The tools that are to be called.
        parsed: With a `response_format`, what the text was parsed to: an instance of the pydantic model, or a JSON
            value.
        embeddings: Of a request to embed texts, one vector for each.
        request_id: The provider's id of the request, for its support.
        headers: The headers of the HTTP answer.
        raw: The object of the provider's own SDK; None for an answer that comes from a checkpoint.

    Example:
        >>> SdkMessage(text="Hello!", model="gpt-5")
        <SdkMessage gpt-5 stop, 6 characters>
    """

    __slots__ = (
        "__weakref__",
        "_headers",
        "embeddings",
        "finish_reason",
        "model",
        "parsed",
        "raw",
        "request_id",
        "text",
        "tool_calls",
        "usage",
    )

    def __init__(
        self,
        *,
        text: str = "",
        model: str = "",
        finish_reason: FinishReason = "stop",
        usage: Usage | None = None,
        tool_calls: Sequence[ToolCall] = (),
        parsed: Any = None,
        embeddings: Sequence[Sequence[float]] | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: Any = None,
    ) -> None:
        self.text = text
        self.model = model
        self.finish_reason: FinishReason = finish_reason
        self.usage = usage
        self.tool_calls = tuple(tool_calls)
        self.parsed = parsed
        self.embeddings = embeddings
        self.request_id = request_id
        self._headers = _EMPTY if headers is None else headers
        self.raw = raw

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the HTTP answer; empty where there is none."""
        return self._headers

    # The Message protocol

    def get_headers(self) -> Mapping[str, str]:
        """Return the headers of the HTTP answer."""
        return self._headers

    def get_payload(self) -> dict[str, Any]:
        """Return what `serialize` writes, as plain values."""
        usage = self.usage
        return {
            "text": self.text,
            "model": self.model,
            "finish_reason": self.finish_reason,
            "usage": None if usage is None else {name: getattr(usage, name) for name in Usage.__slots__},
            "tool_calls": [{"id": each.id, "name": each.name, "arguments": each.arguments} for each in self.tool_calls],
            "parsed": _plain(self.parsed),
            "embeddings": self.embeddings,
            "request_id": self.request_id,
        }

    def serialize(self) -> bytes:
        """Turn the message into JSON bytes, without `raw` and the headers.

        Raises:
            SerializationError: A value is not JSON serialisable; the text names the path to it.
        """
        return encode_json(self.get_payload(), "message")

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """Make a message from what `serialize` returned. What was an instance of a model is a mapping then.

        Raises:
            DeserializationError: The bytes are not a serialised SdkMessage.
        """
        try:
            fields = json.loads(data)
            usage = fields.pop("usage")
            calls = fields.pop("tool_calls")
            return cls(
                usage=None if usage is None else Usage(**usage),
                tool_calls=[ToolCall(each["id"], each["name"], each["arguments"]) for each in calls],
                **fields,
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DeserializationError(f"not a serialised SdkMessage: {type(error).__name__}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return self.get_payload() == other.get_payload() if isinstance(other, SdkMessage) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        # Without `raw`: whoever reads it may not have the SDK.
        fields = {name: getattr(self, name) for name in _FIELDS}
        return _restore, (type(self), {**fields, "headers": dict(self._headers)})

    def __repr__(self) -> str:
        what = f"{len(self.embeddings)} embeddings" if self.embeddings is not None else f"{len(self.text)} characters"
        calls = f", {len(self.tool_calls)} tool calls" if self.tool_calls else ""
        return f"<{type(self).__name__} {self.model} {self.finish_reason}, {what}{calls}>"


_FIELDS: Final = (
    "text",
    "model",
    "finish_reason",
    "usage",
    "tool_calls",
    "parsed",
    "embeddings",
    "request_id",
)


def _restore(cls: type[SdkMessage], fields: Mapping[str, Any]) -> SdkMessage:
    return cls(**fields)


def _plain(parsed: Any) -> Any:
    """An instance of a pydantic model as plain values."""
    dump = getattr(parsed, "model_dump", None)
    return dump(mode="json") if callable(dump) else parsed
