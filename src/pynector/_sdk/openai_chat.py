"""Chat completions, the API that OpenAI and many others speak: what is sent, and what its answers mean."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from .._messages.sdk import FinishReason, SdkMessage, ToolCall
from .._messages.usage import Usage
from ..errors import ConfigurationError
from .events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from .openai_reply import Reply, checked_model, parsed_as, passed_on, tool_call, usage_of
from .reading import PLAIN, items, text, words
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
_HEAD: Final = ("id", "created", "model", "service_tier", "system_fingerprint")


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
        arguments["tool_choice"] = _choice(request.tool_choice, request)
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
    if turn.name:
        message["name"] = turn.name
    return message


def _content(turn: Turn) -> str | list[dict[str, Any]] | None:
    # Servers that know texts alone are not troubled with parts.
    return (turn.text if turn.parts else None) if turn.text is not None else [_part(part) for part in turn.parts]


def _part(part: str | Image | Raw) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": part}
        case Image():
            detail = {} if part.detail is None else {"detail": part.detail}
            return {"type": "image_url", "image_url": {"url": part.data_url, **detail}}
        case Raw():
            return part.part


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.raw is not None:
        # In the other API its fields are not in an object of their own.
        flat = tool.is_custom and "custom" not in tool.raw
        inner = {name: value for name, value in tool.raw.items() if name != "type"}
        return {"type": "custom", "custom": inner} if flat else dict(tool.raw)
    function: dict[str, Any] = {**tool.extra, "name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: str, request: SdkRequest) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    kind = kind_of(choice, request)
    return {"type": kind, kind: {"name": choice}}


def kind_of(name: str, request: SdkRequest) -> str:
    """Which kind of tool has this name: `function`, or `custom` for one that takes no JSON."""
    return "custom" if any(tool.is_custom and tool.name == name for tool in request.tools) else "function"


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
    answer = None if message is None or isinstance(message, PLAIN) else words(message, "content")
    if answer is None:
        raise reply.unexpected(WANTED)
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

    __slots__ = ("_calls", "_counted", "_head", "_more", "_pieces", "_reason", "_request", "_usage", "ended", "reply")

    def __init__(self, reply: Reply, request: SdkRequest) -> None:
        self.reply = reply
        self._request = request
        self._pieces: list[str] = []
        self._calls: list[_Call] = []
        self._usage: Usage | None = None
        self._counted: Any = None
        self._reason = ""
        self._more: dict[str, str] = {}
        self._head: Any = None
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

        Raises:
            IncompleteStreamError: It is no chunk, and may have been a piece of the answer.
        """
        if isinstance(chunk, PLAIN):
            raise self.reply.incomplete(self.text, "what came is no chunk of a chat")
        if not text(self._head, "model"):
            self._head = chunk  # those of Azure begin with one that is about the prompt
        for choice in items(chunk, "choices"):
            if getattr(choice, "index", 0):
                continue  # of several choices the first one counts
            delta = getattr(choice, "delta", None)
            piece = words(delta, "content")
            if piece is None:
                raise self.reply.incomplete(self.text, "a piece of the answer is no text")
            if piece:
                self._pieces.append(piece)
                yield TextEvent(piece)
            self._keep(delta)
            for call in items(delta, "tool_calls"):
                yield from self._feed_call(call)
            if reason := text(choice, "finish_reason"):
                first, self.ended, self._reason = not self.ended, True, reason
                yield from self._feed_custom() if first else ()
        counted = getattr(chunk, "usage", None)
        usage = usage_of(counted)
        if usage is not None:
            self._usage, self._counted = usage, counted
            yield UsageEvent(usage)

    def _keep(self, delta: Any) -> None:
        """What is said beside the text: a refusal, and the thoughts that some servers send."""
        more = getattr(delta, "model_extra", None) or {}
        for name, piece in (("refusal", getattr(delta, "refusal", None)), *more.items()):
            if isinstance(piece, str) and piece:
                self._more[name] = self._more.get(name, "") + piece

    def _feed_call(self, piece: Any) -> Iterator[ToolCallEvent]:
        id, name, arguments = _pieces_of(piece)
        index = getattr(piece, "index", None)
        call = next((each for each in reversed(self._calls) if index in (each.index, None)), None)
        # Some servers number all calls alike, or not at all: then another id with a name begins another call.
        if call is None or (id and name and id != call.id):
            call = _Call(index, len(self._calls), id, name, custom=getattr(piece, "custom", None) is not None)
            self._calls.append(call)
            yield ToolCallEvent(call.number, id, name, "")
        if arguments:
            call.pieces.append(arguments)
            if not call.custom:
                yield ToolCallEvent(call.number, call.id, call.name, arguments)

    def _feed_custom(self) -> Iterator[ToolCallEvent]:
        """What a tool that takes no JSON is given can be told as JSON only once it is whole."""
        for call in self._calls:
            if call.custom:
                yield ToolCallEvent(call.number, call.id, call.name, call.arguments)

    def finish(self) -> EndEvent:
        """Say what it all was, when the stream is over.

        Raises:
            IncompleteStreamError: The end marker has not come.
            SdkTransportError: The arguments of a tool are no JSON.
            DeserializationError: The text has another form than the one that was asked for.
        """
        if not self.ended:
            raise self.reply.incomplete(self.text, "the stream ended without a finish_reason")
        calls = [(call.id, call.name, call.arguments) for call in self._calls]
        reason = _reason(self._reason, refused="refusal" in self._more, called=bool(calls))
        return EndEvent(_finished(self.reply, self._request, self.text, reason, calls, self._usage, self._head))

    def document(self) -> dict[str, Any]:
        """The completion that the same answer would have been in one piece, as far as the chunks tell."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None, "refusal": None, **self._more}
        if self._calls:
            message["tool_calls"] = [call.document() for call in self._calls]
        head = {name: getattr(self._head, name, None) for name in _HEAD}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": self._counted}


class _Call:
    """A call of a tool that is coming in."""

    __slots__ = ("custom", "id", "index", "name", "number", "pieces")

    def __init__(self, index: object, number: int, id: str, name: str, *, custom: bool) -> None:
        self.index = index
        self.number = number
        self.id = id
        self.name = name
        self.custom = custom
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        whole = "".join(self.pieces)
        return _as_json(whole) if self.custom else whole

    def document(self) -> dict[str, Any]:
        whole = "".join(self.pieces)
        if self.custom:
            return {"id": self.id, "type": "custom", "custom": {"name": self.name, "input": whole}}
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": whole}}


def _pieces_of(call: Any) -> tuple[str, str, str]:
    """The id, the name and what is given to the tool, of a call or of a piece of one."""
    custom = getattr(call, "custom", None)
    if custom is not None:
        return text(call, "id"), text(custom, "name"), text(custom, "input")
    function = getattr(call, "function", None)
    return text(call, "id"), text(function, "name"), text(function, "arguments")


def _written(call: Any) -> tuple[str, str, str]:
    """The id, the name and the arguments of a call; what a tool that takes no JSON is given is put into one."""
    id, name, given = _pieces_of(call)
    return id, name, _as_json(given) if getattr(call, "custom", None) is not None else given


def _as_json(given: str) -> str:
    return json.dumps({"input": given}, ensure_ascii=False)


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
