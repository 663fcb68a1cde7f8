"""What Anthropic's messages API answers, in words that mean the same for every provider."""

import json
from collections.abc import Mapping
from typing import Any, Final

from .._messages.sdk import FinishReason, SdkMessage, ToolCall
from .._messages.usage import Usage
from ..errors import DeserializationError, IncompleteStreamError, PynectorError, SdkTransportError, TransportError
from .events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from .reading import PLAIN, count, items, text, words
from .request import SdkRequest

PROVIDER: Final = "anthropic"

_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_INPUTS: Final = frozenset({"tool_use", "server_tool_use"})


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id of a request, from the headers of its answer."""
    return headers.get("request-id")


def is_message(answer: object) -> bool:
    """Whether what the SDK has made of an answer is a message: it makes one of any JSON object."""
    return isinstance(getattr(answer, "content", None), list) and getattr(answer, "type", None) in ("message", None)


def is_error(body: object) -> bool:
    """Whether a JSON document is an error of the provider: gateways send those with the status 200 as well."""
    return isinstance(body, dict) and body.get("type") == "error" and isinstance(body.get("error"), dict)


def is_document(headers: Mapping[str, str]) -> bool:
    """Whether an answer says that it is JSON, or does not say what it is."""
    kind = _media_type(headers)
    return not kind or kind.endswith("json")


def is_stream(headers: Mapping[str, str]) -> bool:
    """Whether an answer may be a stream of events; what has another name, or none, is given a try."""
    return not _media_type(headers).endswith(("json", "html"))


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def message_of(message: Any, request: SdkRequest, headers: Mapping[str, str]) -> SdkMessage:
    """Read an answer.

    Args:
        message: The `Message` of the SDK.
        request: What was asked.
        headers: Of the answer.

    Raises:
        SdkTransportError: A part of it is not what it should be.
        DeserializationError: The text is not what the `response_format` of the request asked for.
    """
    request_id = request_id_of(headers)
    texts: list[str] = []
    calls: list[ToolCall] = []
    for block in message.content:
        match getattr(block, "type", None):
            case "text":
                said = words(block, "text")
                if said is None:
                    raise _odd("a text that is none", request_id)
                texts.append(said)
            case "tool_use":
                calls.append(ToolCall(text(block, "id"), text(block, "name"), _input(block, message, request_id)))
            case None:
                raise _odd("a part of no kind", request_id)
    answer = "".join(texts)
    reason: FinishReason = _REASONS.get(text(message, "stop_reason"), "other")
    return SdkMessage(
        text=answer,
        model=text(message, "model") or request.model or "",
        finish_reason=reason,
        usage=usage_of(getattr(message, "usage", None)),
        tool_calls=calls,
        # What was cut, or withheld, is not in the form that was asked for.
        parsed=_parsed(answer, request, request_id) if reason == "stop" else None,
        request_id=request_id,
        headers=headers,
        raw=message,
    )


def usage_of(usage: Any) -> Usage | None:
    """The tokens of an answer. What came from the cache, or went into it, is not in Anthropic's own `input_tokens`."""
    if usage is None:
        return None
    cached = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count(usage, "input_tokens") + cached + written,
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=count(getattr(usage, "output_tokens_details", None), "thinking_tokens"),
    )


def _parsed(answer: str, request: SdkRequest, request_id: str | None) -> Any:
    if request.response_format is None:
        return None
    try:
        return request.response_format.parse(answer)
    except DeserializationError as error:
        raise DeserializationError(f"{PROVIDER}: {error} (request {request_id})") from error.__cause__


def _input(block: Any, message: Any, request_id: str | None) -> dict[str, Any]:
    """What a tool is to be called with; of a stream it is a text."""
    found = getattr(block, "input", None)
    if isinstance(found, str):
        try:
            found = json.loads(found) if found.strip() else {}
        except (ValueError, RecursionError) as error:
            raise _no_arguments(block, message, request_id) from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _no_arguments(block, message, request_id)
    return found


def _odd(what: str, request_id: str | None) -> SdkTransportError:
    return SdkTransportError(f"{PROVIDER}: the answer has {what}", provider=PROVIDER, request_id=request_id)


def _no_arguments(block: Any, message: Any, request_id: str | None) -> SdkTransportError:
    cut = _REASONS.get(text(message, "stop_reason")) == "length"
    why = ": the answer was cut, give it more max_tokens" if cut else ""
    return SdkTransportError(
        f"{PROVIDER}: the arguments for the tool {text(block, 'name')!r:.80} are not a JSON object{why}",
        provider=PROVIDER,
        request_id=request_id,
    )


class _Block:
    """A part of the content that is coming in.

    Attributes:
        made: The SDK's object for it.
        kind: Its type.
        pieces: Of its text, or of the JSON text of its input.
        call: Which of the calls of tools it is; None if it is none.
    """

    __slots__ = ("call", "kind", "made", "pieces")

    def __init__(self, made: Any, call: int | None) -> None:
        self.made = made
        self.kind = text(made, "type")
        self.call = call
        first = text(made, self.kind) if self.kind in ("text", "thinking") else ""
        self.pieces: list[str] = [first] if first else []

    def complete(self) -> None:
        """Put what has come in pieces into the SDK's object."""
        whole = "".join(self.pieces)
        if self.kind in ("text", "thinking"):
            setattr(self.made, self.kind, whole)
        elif self.kind in _INPUTS and whole:
            self.made.input = whole


class StreamedMessage:
    """Puts a message together from the events of a stream.

    Args:
        request: What was asked.
        headers: Of the answer.

    Attributes:
        ended: Whether the end marker has come.
    """

    __slots__ = ("_begun", "_blocks", "_calls", "_headers", "_message", "_request", "ended")

    def __init__(self, request: SdkRequest, headers: Mapping[str, str]) -> None:
        self._request = request
        self._headers = headers
        self._message: Any = None
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._begun = False
        self.ended = False

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(piece for block in self._blocks.values() if block.kind == "text" for piece in block.pieces)

    def feed(self, event: Any) -> tuple[StreamEvent, ...]:
        """Take an event of the SDK.

        Args:
            event: What the SDK has made of an event. Kinds that are not known are passed over: the API says that
                there will be new ones.

        Returns:
            What it means, in our words; often nothing.

        Raises:
            SdkTransportError: It does not fit to those before it.
        """
        told = self._take(event)
        self._begun = self._begun or bool(told)
        return told

    def finish(self) -> EndEvent:
        """The end, once the SDK has no more events.

        Raises:
            IncompleteStreamError: The end marker is missing.
            SdkTransportError: As in `message_of`.
            DeserializationError: Likewise.
        """
        message = self._message
        if message is None or not self.ended:
            raise self._incomplete("the stream ended without its end marker")
        for block in self._blocks.values():
            block.complete()
        message.content = [block.made for block in self._blocks.values()]
        made = message_of(message, self._request, self._headers)
        for block in self._blocks.values():
            if block.kind in _INPUTS:
                block.made.input = _input(block.made, message, made.request_id)  # as in an answer in one piece
        return EndEvent(made)

    def broken(self, error: Exception) -> IncompleteStreamError | None:
        """What an error amounts to that ends the stream.

        Returns:
            The error to raise in its place; None if it is to be raised as it is: nothing has come yet, the provider has
            said it itself, or it is about the use of this library.
        """
        if isinstance(error, PynectorError):
            as_it_is = not isinstance(error, TransportError)
        else:
            as_it_is = hasattr(error, "status_code")
        return self._incomplete("the stream broke off") if self._begun and not as_it_is else None

    def unbegun(self, error: SdkTransportError) -> IncompleteStreamError:
        """The error for an answer that is something else than a stream.

        Args:
            error: What says that.
        """
        return IncompleteStreamError(
            str(error), provider=PROVIDER, status_code=error.status_code, request_id=error.request_id
        )

    def _take(self, event: Any) -> tuple[StreamEvent, ...]:
        if isinstance(event, PLAIN):
            raise self._odd("an event that is none")
        match getattr(event, "type", None):
            case "content_block_delta":
                return self._delta(self._block(event), getattr(event, "delta", None))
            case "content_block_start":
                return self._start(event)
            case "message_start":
                made = getattr(event, "message", None)
                self._message = None if isinstance(made, PLAIN) else made
                return self._usage(None)
            case "message_delta":
                return self._close(event)
            case "message_stop":
                self.ended = True
        return ()

    def _start(self, event: Any) -> tuple[StreamEvent, ...]:
        made, index = getattr(event, "content_block", None), getattr(event, "index", None)
        if isinstance(made, PLAIN) or not isinstance(index, int):
            raise self._odd("a content block without content")
        is_call = getattr(made, "type", None) == "tool_use"
        block = self._blocks[index] = _Block(made, self._calls if is_call else None)
        if block.call is not None:
            self._calls += 1
            return (ToolCallEvent(block.call, text(made, "id"), text(made, "name"), ""),)
        return tuple(map(TextEvent, block.pieces)) if block.kind == "text" else ()

    def _delta(self, block: _Block, delta: Any) -> tuple[StreamEvent, ...]:
        match getattr(delta, "type", None):
            case "text_delta":
                if piece := self._piece(delta, "text"):
                    block.pieces.append(piece)
                    return (TextEvent(piece),)
            case "input_json_delta":
                if piece := self._piece(delta, "partial_json"):
                    block.pieces.append(piece)
                    if block.call is not None:
                        made = block.made
                        return (ToolCallEvent(block.call, text(made, "id"), text(made, "name"), piece),)
            case "thinking_delta":
                block.pieces.append(self._piece(delta, "thinking"))
            case "signature_delta":
                block.made.signature = getattr(delta, "signature", None)
            case "citations_delta":
                block.made.citations = [*items(block.made, "citations"), getattr(delta, "citation", None)]
            case None:
                raise self._odd("a piece of no kind")
        return ()

    def _piece(self, delta: Any, name: str) -> str:
        found = getattr(delta, name, None)
        if found is not None and not isinstance(found, str):
            raise self._odd("a piece that is no text")
        return found or ""

    def _close(self, event: Any) -> tuple[StreamEvent, ...]:
        message = self._message
        if message is None:
            raise self._odd("an end without a beginning")
        for name, value in _given(getattr(event, "delta", None)):
            setattr(message, name, value)
        return self._usage(getattr(event, "usage", None))

    def _usage(self, usage: Any) -> tuple[StreamEvent, ...]:
        """The tokens so far: each number that an event has replaces the one before it, as they are totals."""
        message = self._message
        if message is None:
            raise self._odd("a beginning without a message")
        before = getattr(message, "usage", None)
        if isinstance(before, PLAIN):
            message.usage = usage
        else:
            for name, value in _given(usage):
                setattr(before, name, value)
        total = usage_of(message.usage)
        return () if total is None else (UsageEvent(total),)

    def _block(self, event: Any) -> _Block:
        index = getattr(event, "index", None)
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None:
            raise self._odd("a piece of a content block that has not begun")
        return block

    def _odd(self, what: str) -> SdkTransportError:
        return SdkTransportError(
            f"{PROVIDER}: {what} in the stream", provider=PROVIDER, request_id=request_id_of(self._headers)
        )

    def _incomplete(self, what: str) -> IncompleteStreamError:
        partial = self.text
        return IncompleteStreamError(
            f"{PROVIDER}: {what}, after {len(partial)} characters",
            partial=partial,
            provider=PROVIDER,
            request_id=request_id_of(self._headers),
        )


def _given(fields: Any) -> list[tuple[str, Any]]:
    """The fields of an object of the SDK that have a value."""
    if isinstance(fields, PLAIN):
        return []
    return [(name, value) for name, value in dict(fields).items() if value is not None]
