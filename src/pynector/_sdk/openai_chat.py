"""Chat completions, the API that OpenAI and many others speak: what is sent, and what its answers mean."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .._messages.sdk import FinishReason, SdkMessage, ToolCall
from .._messages.usage import Usage
from ..errors import ConfigurationError
from .events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from .openai_reply import Reply, checked_model, items, parsed_as, passed_on, text, tool_call, usage_of
from .request import SdkRequest, Tool
from .schema import ResponseFormat
from .turns import Image, Raw, Turn

WANTED: Final = "a chat completion"

_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_NEWEST: Final = ("openai.com", "azure.com")


def knows_completion_tokens(base_url: str) -> bool:
    """Tell whether a server knows `max_completion_tokens`: OpenAI and Azure do, and want it for models that reason.

    Other servers, such as vLLM and Ollama, were made for the `max_tokens` that it has replaced, and some ignore what
    they don't know.
    """
    host = urlsplit(base_url).hostname or ""
    return any(host == name or host.endswith(f".{name}") for name in _NEWEST)


def arguments_of(request: SdkRequest, *, completion_tokens: bool) -> dict[str, Any]:
    """Make the arguments for `chat.completions.create`.

    Args:
        request: What is asked.
        completion_tokens: Whether the server knows `max_completion_tokens`; else it is sent `max_tokens`.

    Raises:
        ConfigurationError: The API can't do what is asked for.
    """
    arguments: dict[str, Any] = {"model": checked_model(request), "messages": _messages(request)}
    if request.max_tokens is not None:
        arguments["max_completion_tokens" if completion_tokens else "max_tokens"] = request.max_tokens
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    if request.top_p is not None:
        arguments["top_p"] = request.top_p
    if request.stop:
        arguments["stop"] = list(request.stop)
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        arguments["tool_choice"] = _choice(request.tool_choice)
    if request.response_format is not None:
        arguments["response_format"] = _format(request.response_format)
    return {**arguments, **passed_on(request)}


def _messages(request: SdkRequest) -> list[dict[str, Any]]:
    messages = [] if request.system is None else [{"role": "system", "content": request.system}]
    return [*messages, *map(_message, request.turns)]


def _message(turn: Turn) -> dict[str, Any]:
    if turn.role != "user" and any(isinstance(part, Image) for part in turn.parts):
        raise ConfigurationError(f"messages: in chat completions a picture is the user's, not of the role {turn.role}")
    message: dict[str, Any] = {"role": turn.role, "content": _content(turn)}
    if turn.tool_calls:
        message["tool_calls"] = [_call(call) for call in turn.tool_calls]
    if turn.role == "tool":
        message["tool_call_id"] = turn.tool_call_id
    return message


def _content(turn: Turn) -> str | list[dict[str, Any]] | None:
    # Servers that know texts alone are not troubled with parts.
    return (turn.text if turn.parts else None) if turn.text is not None else [_part(part) for part in turn.parts]


def _part(part: str | Image | Raw) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": part}
        case Image():
            return {"type": "image_url", "image_url": {"url": part.data_url}}
        case Raw():
            return part.part


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.raw is not None:
        return dict(tool.raw)
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: str) -> str | dict[str, Any]:
    return choice if choice in ("auto", "none", "required") else {"type": "function", "function": {"name": choice}}


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": named_schema(wanted)}


def named_schema(wanted: ResponseFormat) -> dict[str, Any]:
    """The schema as both APIs of OpenAI take it. If they shall keep to it strictly, its objects must be closed."""
    schema = {"name": wanted.name, "schema": wanted.closed_schema() if wanted.strict else wanted.schema}
    return schema if wanted.strict is None else {**schema, "strict": wanted.strict}


def message_of(reply: Reply, request: SdkRequest) -> SdkMessage:
    """Make a message of a chat completion. If there are several choices, it is the first one.

    Raises:
        SdkTransportError: It is no chat completion, or the arguments of a tool are no JSON.
        DeserializationError: The text has another form than the one that was asked for.
    """
    completion = reply.parse(WANTED)
    choice = next(iter(items(completion, "choices")), None)
    message = getattr(choice, "message", None)
    if message is None:
        raise reply.unexpected(WANTED)
    answer = text(message, "content")
    reason = text(choice, "finish_reason")
    calls = [_written(call) for call in items(message, "tool_calls")]
    return _finished(
        reply,
        request,
        answer,
        _reason(reason, refused=bool(text(message, "refusal")), called=bool(calls)),
        calls,
        usage_of(getattr(completion, "usage", None)),
        completion,
    )


class ChatStream:
    """Puts the chunks of a stream together.

    Args:
        reply: The HTTP side of the stream.
        request: What was asked.

    Attributes:
        reply: As given.
        ended: Whether the end marker has come; only tokens may follow.
    """

    __slots__ = ("_calls", "_last", "_pieces", "_reason", "_refused", "_request", "_usage", "ended", "reply")

    def __init__(self, reply: Reply, request: SdkRequest) -> None:
        self.reply = reply
        self._request = request
        self._pieces: list[str] = []
        self._calls: list[_Call] = []
        self._usage: Usage | None = None
        self._reason = ""
        self._refused = False
        self._last: Any = None
        self.ended = False

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def feed(self, chunk: Any) -> Iterator[StreamEvent]:
        """Take in a chunk.

        Args:
            chunk: A `ChatCompletionChunk` of the SDK.

        Yields:
            What is new in it.
        """
        self._last = chunk
        for choice in items(chunk, "choices"):
            if getattr(choice, "index", 0):
                continue  # of several choices the first one counts
            delta = getattr(choice, "delta", None)
            if piece := text(delta, "content"):
                self._pieces.append(piece)
                yield TextEvent(piece)
            if text(delta, "refusal"):
                self._refused = True
            for call in items(delta, "tool_calls"):
                yield from self._feed_call(call)
            if reason := text(choice, "finish_reason"):
                self._reason = reason
                self.ended = True
        usage = usage_of(getattr(chunk, "usage", None))
        if usage is not None:
            self._usage = usage
            yield UsageEvent(usage)

    def _feed_call(self, piece: Any) -> Iterator[ToolCallEvent]:
        id, name, arguments = _written(piece)
        index = getattr(piece, "index", None)
        call = next((each for each in reversed(self._calls) if index in (each.index, None)), None)
        # Some servers number all calls alike, or not at all: then another id with a name begins another call.
        if call is None or (id and name and id != call.id):
            call = _Call(index, len(self._calls), id, name)
            self._calls.append(call)
            yield ToolCallEvent(call.number, id, name, "")
        if arguments:
            call.pieces.append(arguments)
            yield ToolCallEvent(call.number, call.id, call.name, arguments)

    def finish(self) -> EndEvent:
        """Say what it all was, when the stream is over.

        Raises:
            IncompleteStreamError: The end marker has not come.
            SdkTransportError: The arguments of a tool are no JSON.
            DeserializationError: The text has another form than the one that was asked for.
        """
        if not self.ended:
            raise self.reply.incomplete(self.text, "the stream ended without a finish_reason")
        calls = [(call.id, call.name, "".join(call.pieces)) for call in self._calls]
        reason = _reason(self._reason, refused=self._refused, called=bool(calls))
        message = _finished(self.reply, self._request, self.text, reason, calls, self._usage, self._last)
        return EndEvent(message)


class _Call:
    """A call of a tool that is coming in."""

    __slots__ = ("id", "index", "name", "number", "pieces")

    def __init__(self, index: object, number: int, id: str, name: str) -> None:
        self.index = index
        self.number = number
        self.id = id
        self.name = name
        self.pieces: list[str] = []


def _written(call: Any) -> tuple[str, str, str]:
    """The id, the name and the arguments of a call; what a tool that takes no JSON is given is put into one."""
    custom = getattr(call, "custom", None)
    if custom is not None:
        return text(call, "id"), text(custom, "name"), json.dumps({"input": text(custom, "input")})
    function = getattr(call, "function", None)
    return text(call, "id"), text(function, "name"), text(function, "arguments")


def _reason(said: str, *, refused: bool, called: bool) -> FinishReason:
    if refused:
        return "content_filter"
    reason: FinishReason = _REASONS.get(said, "other")
    # A call that `tool_choice` has asked for by name ends with `stop`.
    return "tool_calls" if called and reason == "stop" else reason


def _finished(
    reply: Reply,
    request: SdkRequest,
    answer: str,
    reason: FinishReason,
    calls: list[tuple[str, str, str]],
    usage: Usage | None,
    raw: Any,
) -> SdkMessage:
    return SdkMessage(
        text=answer,
        model=text(raw, "model"),
        finish_reason=reason,
        usage=usage,
        tool_calls=[tool_call(*call, reply, cut=reason == "length") for call in calls],
        parsed=parsed_as(request, answer, reason, reply),
        request_id=reply.request_id,
        headers=reply.headers,
        raw=raw,
    )
