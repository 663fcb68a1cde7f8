"""What is asked, in the words of Anthropic's messages API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import ConfigurationError
from .request import SdkRequest, Tool
from .settings import hidden
from .turns import Image, Part, Raw, Turn

DEFAULT_MAX_TOKENS: Final = 4096
"""The most tokens of an answer to a request that does not say: the API wants a number in every one."""


def arguments_of(request: SdkRequest) -> dict[str, Any]:
    """The arguments of `messages.create` for a request.

    Args:
        request: What is asked.

    Raises:
        ConfigurationError: The request has no model, or wants something that Anthropic does not have.
    """
    if request.input is not None:
        raise ConfigurationError("anthropic has no embeddings: `input` goes to another provider, such as openai")
    model = request.model or request.extra.get("model")
    if not model:
        raise ConfigurationError("no model was given: anthropic needs model=, for the request or for the transport")
    if "stream" in request.extra:
        raise ConfigurationError("extra has `stream`: leave it out, and read a stream with client.stream(...)")
    arguments: dict[str, Any] = {
        "model": model,
        "messages": _messages(request.turns),
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
    }
    if request.system:
        arguments["system"] = request.system
    if request.stop:
        arguments["stop_sequences"] = list(request.stop)
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    choice = _tool_choice(request)
    if choice is not None:
        arguments["tool_choice"] = choice
    if request.headers:
        arguments["extra_headers"] = hidden(request.headers)
    body = _body(request)
    if body:
        arguments["extra_body"] = body
    return arguments


def _body(request: SdkRequest) -> dict[str, Any]:
    """What goes past the signature of the SDK, which does not have it in each of its versions."""
    body: dict[str, Any] = {}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    wanted = request.response_format
    if wanted is not None:
        if wanted.schema is None:
            raise ConfigurationError("response_format: anthropic has no free JSON: give a JSON schema")
        body["output_config"] = {"format": {"type": "json_schema", "schema": wanted.bare_schema()}}
    for name, value in request.extra.items():
        # Beside the form of the answer stands how much effort it is worth: to give the one is not to drop the other.
        if name == "output_config" and name in body and isinstance(value, Mapping):
            body[name] = {**body[name], **value}
        else:
            body[name] = value
    return body


def _messages(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    if any(turn.name for turn in turns):
        raise ConfigurationError("messages: anthropic has no `name` in them: leave it out, or put it into the text")
    messages: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = (
        None  # of the tools, all in one message, which may go on with the user's words
    )
    for turn in turns:
        if turn.role == "tool":
            if results is None:
                results = []
                messages.append({"role": "user", "content": results})
            results.append({"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": _content(turn)})
            continue
        if turn.role == "user" and results is not None:
            results.extend(map(_part, turn.parts))
        else:
            messages.append({"role": turn.role, "content": _content(turn)})
        results = None
    return messages


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    if len(turn.parts) == 1 and isinstance(turn.parts[0], str) and not turn.tool_calls:
        return turn.parts[0]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in turn.tool_calls
    ]
    return [*map(_part, turn.parts), *calls]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Image) and part.detail not in (None, "auto"):
        raise ConfigurationError("messages: anthropic has no `detail` of a picture: leave it out, or say auto")
    match part:
        case str():
            return {"type": "text", "text": part}
        case Image(url=str(url)):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image():
            source = {"type": "base64", "media_type": part.media_type, "data": part.data}
            return {"type": "image", "source": source}
        case Raw():
            return part.part


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.is_custom:
        raise ConfigurationError(f"tools: {tool.name!r:.80} takes no JSON, which anthropic does not have")
    if tool.raw is not None:
        return dict(tool.raw)
    body: dict[str, Any] = {**tool.extra, "name": tool.name, "input_schema": tool.parameters}
    if tool.description is not None:
        body["description"] = tool.description
    if tool.strict is not None:
        body["strict"] = tool.strict
    return body


def _tool_choice(request: SdkRequest) -> dict[str, Any] | None:
    choice = request.tool_choice
    match choice:
        case None:
            return None
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
    return {"type": "tool", "name": choice}
