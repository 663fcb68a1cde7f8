"""The messages of a conversation, in words that mean the same for every provider."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

from .._messages.sdk import ToolCall
from ..errors import ConfigurationError

Role: TypeAlias = Literal["user", "assistant", "tool"]

_SYSTEM: Final = ("system", "developer")
_KEYS: Final = frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "refusal"})


class Image:
    """A picture in a message: where it is, or what is in it.

    Attributes:
        url: Where it is; None if it is here.
        data: It, in base64; empty if it is elsewhere.
        media_type: Of what is here.
        detail: How closely it is to be looked at, where a provider asks that; None for what the provider says.
    """

    __slots__ = ("data", "detail", "media_type", "url")

    def __init__(
        self, url: str | None = None, data: str = "", media_type: str = "image/png", detail: str | None = None
    ) -> None:
        self.url = url
        self.data = data
        self.media_type = media_type
        self.detail = detail

    @property
    def data_url(self) -> str:
        """It, or where it is, as one URL."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.data}"


class Raw:
    """A part that only the provider knows, sent as it is."""

    __slots__ = ("part",)

    def __init__(self, part: Mapping[str, Any]) -> None:
        self.part = dict(part)


Part: TypeAlias = str | Image | Raw


class Turn:
    """One message.

    Attributes:
        role: Who says it: `user`, `assistant`, or `tool` for what a tool has answered.
        parts: What it says: texts and pictures.
        tool_calls: What the assistant wants to be called.
        tool_call_id: Which call a tool answers.
        name: Who of several speakers it is.
    """

    __slots__ = ("name", "parts", "role", "tool_call_id", "tool_calls")

    def __init__(
        self,
        role: Role,
        parts: tuple[Part, ...],
        tool_calls: tuple[ToolCall, ...] = (),
        tool_call_id: str = "",
        name: str | None = None,
    ) -> None:
        self.role: Role = role
        self.parts = parts
        self.tool_calls = tool_calls
        self.tool_call_id = tool_call_id
        self.name = name

    @classmethod
    def of_text(cls, role: Role, text: str) -> "Turn":
        """A message of text alone."""
        return cls(role, (text,))

    @property
    def text(self) -> str | None:
        """What it says, if that is text alone."""
        if all(isinstance(part, str) for part in self.parts):
            return "".join(cast("tuple[str, ...]", self.parts))
        return None


def checked_turns(messages: object) -> tuple[tuple[Turn, ...], str | None]:
    """The conversation, and what stands in it as `system` (or `developer`), which is one text then.

    Raises:
        ConfigurationError: A message is wrong; the text says which, and what is right.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise ConfigurationError('messages: expected a list such as [{"role": "user", "content": "..."}]')
    turns: list[Turn] = []
    system: list[str] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if isinstance(message, Turn):
            turns.append(message)
            continue
        if not isinstance(message, Mapping):
            raise ConfigurationError(f"{where}: expected a mapping with `role` and `content`")
        role = message.get("role")
        if role in _SYSTEM:
            text = Turn("user", _parts(message.get("content"), where)).text
            if text is None:
                raise ConfigurationError(f"{where}: what the system says is text alone")
            system.append(text)
        else:
            turns.append(_turn(message, where))
    if not turns:
        raise ConfigurationError("messages: there is none of the user")
    return tuple(turns), "\n\n".join(system) if system else None


def _turn(message: Mapping[str, Any], where: str) -> Turn:
    unknown = next((name for name in message if name not in _KEYS), None)
    if unknown is not None:
        raise ConfigurationError(f"{where}: unknown key {unknown!r:.80}; known are {', '.join(sorted(_KEYS))}")
    role, content, name = message.get("role"), message.get("content"), message.get("name")
    if not isinstance(name, str | None):
        raise ConfigurationError(f"{where}.name: expected text, got {type(name).__name__}")
    match role:
        case "user":
            return Turn("user", _parts(content, where), name=name)
        case "assistant":
            calls = tuple(_call(each, f"{where}.tool_calls") for each in message.get("tool_calls") or ())
            if content is None:
                content = message.get("refusal")  # as it stands in an answer of OpenAI
            return Turn("assistant", () if calls and not content else _parts(content, where), calls, name=name)
        case "tool":
            call = message.get("tool_call_id")
            if not isinstance(call, str):
                raise ConfigurationError(f"{where}: give the `tool_call_id` that this answers")
            return Turn("tool", _parts(content, where), tool_call_id=call)  # its name stands in the call
    raise ConfigurationError(f"{where}: the role {role!r:.80} is not one of system, user, assistant and tool")


def _parts(content: object, where: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (content,)
    if isinstance(content, Sequence) and not isinstance(content, bytes) and content:
        return tuple(_part(each, f"{where}.content[{number}]") for number, each in enumerate(content))
    raise ConfigurationError(f"{where}.content: expected text, or a list of parts, got {type(content).__name__}")


def _part(part: object, where: str) -> Part:
    """A part in our words, or in those of OpenAI or Anthropic."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise ConfigurationError(f"{where}: expected text or a mapping, got {type(part).__name__}")
    match part:
        case {"type": "text" | "image", "cache_control": Mapping()}:
            return Raw(part)  # only the provider knows what that means, and without it the request costs more
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return text
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return _from_url(url)
        case {"type": "image_url", "image_url": {"url": str(url), **inner}}:
            return _from_url(url, _text_in(inner, "detail", where))
        case {"type": "image", "url": str(url)} | {"type": "input_image", "image_url": str(url)}:
            return _from_url(url, _text_in(part, "detail", where))
        case {"type": "image", "data": str() | bytes() as data}:
            encoded = data if isinstance(data, str) else base64.b64encode(data).decode("ascii")
            media_type = _text_in(part, "media_type", where) or "image/png"
            return Image(data=encoded, media_type=media_type, detail=_text_in(part, "detail", where))
        case {"type": "image", "source": {"type": "base64", "data": str(data), "media_type": str(media_type)}}:
            return Image(data=data, media_type=media_type)
        case {"type": "text" | "image" | "image_url"}:
            raise ConfigurationError(
                f'{where}: give {{"type": "text", "text": ...}}, {{"type": "image", "url": ...}} or '
                '{"type": "image", "data": bytes, "media_type": "image/png"}'
            )
        case {"type": str()}:
            return Raw(part)
    raise ConfigurationError(f"{where}: a part has a `type`, such as text or image")


def _from_url(url: str, detail: str | None = None) -> Image:
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return Image(data=data, media_type=head.removeprefix("data:").removesuffix(";base64"), detail=detail)
    return Image(url=url, detail=detail)


def _text_in(part: Mapping[Any, Any], name: str, where: str) -> str | None:
    found = part.get(name)
    if isinstance(found, str | None):
        return found
    raise ConfigurationError(f"{where}.{name}: expected text, got {type(found).__name__}")


def _call(call: object, where: str) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    if isinstance(call, Mapping):
        body = call.get("function", call)
        name, arguments, number = body.get("name"), body.get("arguments", {}), call.get("id")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError:
                raise ConfigurationError(f"{where}: the arguments are not JSON") from None
        if isinstance(name, str) and isinstance(number, str) and isinstance(arguments, dict):
            return ToolCall(number, name, arguments)
    raise ConfigurationError(f'{where}: give a ToolCall, or {{"id": ..., "name": ..., "arguments": {{...}}}}')
