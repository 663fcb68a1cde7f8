"""The responses API of OpenAI: what is sent, and what its answers mean."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._messages.sdk import FinishReason, SdkMessage
from ..errors import ConfigurationError
from .events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from .openai_chat import kind_of, named_schema
from .openai_reply import Reply, checked_model, parsed_as, passed_on, told, tool_call, usage_of
from .reading import PLAIN, count, items, text, words
from .request import SdkRequest, Tool
from .schema import ResponseFormat
from .turns import Image, Raw, Turn

WANTED: Final = "a response"


def arguments_of(request: SdkRequest) -> dict[str, Any]:
    """Make the arguments for `responses.create`.

    Raises:
        ConfigurationError: The API can't do what is asked for.
    """
    if request.stop:
        raise ConfigurationError('stop: the responses API of OpenAI has none; use api="chat"')
    if any(turn.name for turn in request.turns):
        raise ConfigurationError('messages: the responses API of OpenAI has no `name` in them; use api="chat"')
    arguments: dict[str, Any] = {
        "model": checked_model(request),
        "input": [item for turn in request.turns for item in _items(turn)],
    }
    if request.system is not None:
        arguments["instructions"] = request.system
    if request.max_tokens is not None:
        arguments["max_output_tokens"] = request.max_tokens
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    if request.top_p is not None:
        arguments["top_p"] = request.top_p
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        arguments["tool_choice"] = _choice(request.tool_choice, request)
    if request.response_format is not None:
        arguments["text"] = {"format": _format(request.response_format)}
    return {**arguments, **passed_on(request)}


def _items(turn: Turn) -> Iterator[dict[str, Any]]:
    """What a message is there: calls of tools, and what these have answered, stand for themselves."""
    if turn.role == "tool":
        yield {"type": "function_call_output", "call_id": turn.tool_call_id, "output": _content(turn)}
        return
    if turn.role == "assistant" and any(isinstance(part, Image) for part in turn.parts):
        raise ConfigurationError("messages: in the responses API a picture is the user's or a tool's, not the model's")
    if turn.parts:
        yield {"role": turn.role, "content": _content(turn)}
    for call in turn.tool_calls:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    kind = "output_text" if turn.role == "assistant" else "input_text"
    return turn.text if turn.text is not None else [_part(part, kind) for part in turn.parts]


def _part(part: str | Image | Raw, kind: str) -> dict[str, Any]:
    match part:
        case str():
            return {"type": kind, "text": part}
        case Image():
            return {"type": "input_image", "image_url": part.data_url, "detail": part.detail or "auto"}
        case Raw():
            return part.part


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.raw is not None:
        # In the other API its fields are in an object of their own.
        inner = tool.raw.get("custom") if tool.is_custom else None
        return {"type": "custom", **inner} if isinstance(inner, Mapping) else dict(tool.raw)
    flat: dict[str, Any] = {**tool.extra, "type": "function", "name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        flat["description"] = tool.description
    if tool.strict is not None:
        flat["strict"] = tool.strict
    return flat


def _choice(choice: str, request: SdkRequest) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": kind_of(choice, request), "name": choice}


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", **named_schema(wanted)}


def message_of(reply: Reply, request: SdkRequest) -> SdkMessage:
    """Make a message of a response.

    Raises:
        SdkTransportError: It is no response, or one that failed, or the arguments of a tool are no JSON.
        DeserializationError: The text has another form than the one that was asked for.
    """
    response = reply.parse(WANTED)
    if not isinstance(getattr(response, "output", None), list):
        raise reply.unexpected(WANTED)
    return _finished(reply, request, response)


class ResponsesStream:
    """Puts the events of a stream together.

    Args:
        reply: The HTTP side of the stream.
        request: What was asked.

    Attributes:
        reply: As given.
        ended: Whether the end marker, which has the whole response, has come.
    """

    __slots__ = ("_calls", "_final", "_pieces", "_request", "ended", "reply")

    def __init__(self, reply: Reply, request: SdkRequest) -> None:
        self.reply = reply
        self._request = request
        self._pieces: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._final: Any = None
        self.ended = False

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    def feed(self, event: Any) -> Iterator[StreamEvent]:
        """Take in an event.

        Args:
            event: A `ResponseStreamEvent` of the SDK.

        Yields:
            What is new in it.

        Raises:
            SdkTransportError: It tells that the response has failed.
        """
        if isinstance(event, PLAIN):
            raise self.reply.incomplete(self.text, "an event is not one of the API")
        match getattr(event, "type", None):
            case "response.output_text.delta":
                piece = words(event, "delta")
                if piece is None:
                    raise self.reply.incomplete(self.text, "a piece of the answer is no text")
                if piece:
                    self._pieces.append(piece)
                    yield TextEvent(piece)
            case "response.output_item.added":
                yield from self._feed_item(event)
            case "response.output_item.done":
                yield from self._feed_custom(event)
            case "response.function_call_arguments.delta":
                yield from self._feed_arguments(event, text(event, "delta"))
            case "response.function_call_arguments.done":
                # All of them once more; some servers send nothing before.
                call = self._calls.get(count(event, "output_index"))
                if call is not None and not call.begun:
                    yield from self._feed_arguments(event, text(event, "arguments"))
            case "response.completed" | "response.incomplete":
                self._final = getattr(event, "response", None)
                self.ended = True
                usage = usage_of(getattr(self._final, "usage", None))
                if usage is not None:
                    yield UsageEvent(usage)
            case "response.failed":
                raise told(getattr(getattr(event, "response", None), "error", None), self.reply.request_id)
            case "error":
                raise told(event, self.reply.request_id)

    def _feed_item(self, event: Any) -> Iterator[ToolCallEvent]:
        item = getattr(event, "item", None)
        if getattr(item, "type", None) == "function_call":
            call = _Call(len(self._calls), text(item, "call_id"), text(item, "name"))
            self._calls[count(event, "output_index")] = call
            yield ToolCallEvent(call.number, call.id, call.name, "")
            yield from self._feed_arguments(event, text(item, "arguments"))

    def _feed_custom(self, event: Any) -> Iterator[ToolCallEvent]:
        """What a tool that takes no JSON is given can be told as JSON only once it is whole."""
        item = getattr(event, "item", None)
        if getattr(item, "type", None) == "custom_tool_call":
            call = _Call(len(self._calls), text(item, "call_id"), text(item, "name"))
            self._calls[count(event, "output_index")] = call
            yield ToolCallEvent(call.number, call.id, call.name, "")
            yield from self._feed_arguments(event, json.dumps({"input": text(item, "input")}))

    def _feed_arguments(self, event: Any, piece: str) -> Iterator[ToolCallEvent]:
        call = self._calls.get(count(event, "output_index"))
        if call is not None and piece:
            call.begun = True
            yield ToolCallEvent(call.number, call.id, call.name, piece)

    def finish(self) -> EndEvent:
        """Say what it all was, when the stream is over.

        Raises:
            IncompleteStreamError: The end marker has not come.
            SdkTransportError: The arguments of a tool are no JSON.
            DeserializationError: The text has another form than the one that was asked for.
        """
        if not isinstance(getattr(self._final, "output", None), list):
            raise self.reply.incomplete(self.text, "the stream ended without a response that is complete")
        return EndEvent(_finished(self.reply, self._request, self._final))


class _Call:
    """A call of a tool that is coming in."""

    __slots__ = ("begun", "id", "name", "number")

    def __init__(self, number: int, id: str, name: str) -> None:
        self.number = number
        self.id = id
        self.name = name
        self.begun = False


def _finished(reply: Reply, request: SdkRequest, response: Any) -> SdkMessage:
    if text(response, "status") in ("failed", "cancelled"):
        error = getattr(response, "error", None) or f"the response is {response.status}"
        raise told(error, reply.request_id)
    pieces: list[str] = []
    calls: list[tuple[str, str, str]] = []
    refused = False
    for item in items(response, "output"):
        match text(item, "type"):
            case "message":
                for part in items(item, "content"):
                    refused = refused or text(part, "type") == "refusal"
                    pieces.append(text(part, "text"))
            case "function_call":
                calls.append((text(item, "call_id"), text(item, "name"), text(item, "arguments")))
            case "custom_tool_call":
                given = json.dumps({"input": text(item, "input")})
                calls.append((text(item, "call_id"), text(item, "name"), given))
    reason = _reason(response, refused=refused, called=bool(calls))
    answer = "".join(pieces)
    return SdkMessage(
        text=answer,
        model=text(response, "model"),
        finish_reason=reason,
        usage=usage_of(getattr(response, "usage", None)),
        tool_calls=[tool_call(*call, reply, cut=reason == "length") for call in calls],
        parsed=parsed_as(request, answer, reason, reply),
        request_id=reply.request_id,
        headers=reply.headers,
        raw=response,
    )


def _reason(response: Any, *, refused: bool, called: bool) -> FinishReason:
    if refused:
        return "content_filter"
    status = text(response, "status")
    if status == "incomplete":
        match text(getattr(response, "incomplete_details", None), "reason"):
            case "max_output_tokens":
                return "length"
            case "content_filter":
                return "content_filter"
        return "other"
    if status not in ("completed", ""):
        return "other"  # it goes on in the background
    return "tool_calls" if called else "stop"
