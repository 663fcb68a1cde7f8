"""What comes in while an answer is streamed."""

from dataclasses import dataclass
from typing import TypeAlias

from .._messages.sdk import SdkMessage
from .._messages.usage import Usage


@dataclass(frozen=True, slots=True)
class TextEvent:
    """A piece of the text.

    Attributes:
        text: The piece, never empty.
    """

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A piece of a call of a tool. The whole calls are in the message at the end.

    Attributes:
        index: Which of the calls of this answer, from 0.
        id: The provider's id of the call.
        name: The name of the tool.
        arguments: A piece of the JSON text of its arguments; empty in the first event of a call.
    """

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """The tokens so far. The last one of a stream has all of them."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The answer is complete: the last event of every stream that did not fail.

    Attributes:
        message: The whole answer, as `request` would have given it.
    """

    message: SdkMessage


StreamEvent: TypeAlias = TextEvent | ToolCallEvent | UsageEvent | EndEvent
