"""What is said to Anthropic and what it answers, with the types of its SDK and without a socket."""

import copy
from typing import Any

import pytest
from anthropic import APIStatusError
from anthropic.types import Message, RawMessageStreamEvent
from httpx2 import Headers, RemoteProtocolError, Request, Response
from pydantic import BaseModel, TypeAdapter

from pynector._messages.sdk import ToolCall
from pynector._messages.usage import Usage
from pynector._sdk.anthropic_answers import StreamedMessage, is_document, is_error, is_message, is_stream, message_of
from pynector._sdk.anthropic_messages import DEFAULT_MAX_TOKENS, arguments_of
from pynector._sdk.events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from pynector._sdk.request import SdkRequest, make_request
from pynector._sdk.unexpected import unexpected
from pynector.errors import (
    ClosedError,
    ConfigurationError,
    ConnectionError,
    DeserializationError,
    IncompleteStreamError,
    SdkTransportError,
)

HEADERS = Headers({"request-id": "req_1"})
WEATHER = {"name": "weather", "description": "The weather", "parameters": {"type": "object", "properties": {}}}
CALL = {"id": "t1", "name": "weather", "arguments": {"city": "Oslo"}}
USAGE = {"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 100}
STREAM_EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


class City(BaseModel):
    name: str


def ask(data: Any = "Hi", **fields: Any) -> SdkRequest:
    return make_request(data, {"model": "claude-x", **fields}, {})


def asked(data: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return arguments_of(ask(data, **fields))


def said(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return asked({"messages": list(messages)})["messages"]


# What is asked


def test_a_prompt_is_a_message_of_the_user_with_a_limit() -> None:
    assert asked("Hi") == {
        "model": "claude-x",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": DEFAULT_MAX_TOKENS,
    }


def test_all_that_has_a_name_of_its_own() -> None:
    arguments = asked(
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
        max_tokens=9,
        temperature=0.0,
        top_p=0.5,
        stop="END",
        headers={"anthropic-beta": "new"},
        extra={"thinking": {"type": "adaptive"}, "top_p": 0.9},
    )
    assert arguments == {
        "model": "claude-x",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "system": "Be brief.",
        "stop_sequences": ["END"],
        "extra_headers": {"anthropic-beta": "new"},
        "extra_body": {"temperature": 0.0, "top_p": 0.9, "thinking": {"type": "adaptive"}},
    }


def test_pictures_and_parts_of_the_provider() -> None:
    document = {"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}}
    assert said(
        {
            "role": "user",
            "content": [
                "Look:",
                {"type": "image", "data": b"abc", "media_type": "image/jpeg"},
                {"type": "image_url", "image_url": {"url": "https://h/a.png"}},
                document,
            ],
        }
    ) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "YWJj"}},
                {"type": "image", "source": {"type": "url", "url": "https://h/a.png"}},
                document,
            ],
        }
    ]


def test_what_is_to_be_cached_says_so() -> None:
    part = {"type": "text", "text": "A long one.", "cache_control": {"type": "ephemeral"}}
    assert said({"role": "user", "content": [part, "Well?"]}) == [
        {"role": "user", "content": [part, {"type": "text", "text": "Well?"}]}
    ]


def test_results_of_tools_are_one_message_together_with_what_the_user_says_then() -> None:
    second = {**CALL, "id": "t2"}
    assert said(
        {"role": "user", "content": "The weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {"role": "tool", "tool_call_id": "t2", "content": "sun"},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t1", "content": "fog"},
    ) == [
        {"role": "user", "content": "The weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "sun"},
                {"type": "text", "text": "Well?"},
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "fog"}]},
    ]


def test_the_arguments_stay_as_they_are_for_the_next_attempt() -> None:
    request = ask(
        {"messages": [{"role": "tool", "tool_call_id": "t1", "content": "a"}, {"role": "user", "content": "b"}]}
    )
    first = copy.deepcopy(arguments_of(request))
    assert arguments_of(request) == first


def test_tools() -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    assert asked(tools=[{**WEATHER, "strict": True}, {"name": "stop"}, own])["tools"] == [
        {
            "name": "weather",
            "description": "The weather",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
        },
        {"name": "stop", "input_schema": {"type": "object", "properties": {}}},
        own,
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_the_choice_of_a_tool(choice: str, sent: dict[str, str]) -> None:
    assert asked(tools=[WEATHER], tool_choice=choice)["tool_choice"] == sent


def test_a_choice_without_tools() -> None:
    assert "tool_choice" not in asked(tool_choice="none")
    assert asked(tool_choice="required", extra={"tools": []})["tool_choice"] == {"type": "any"}
    with pytest.raises(ConfigurationError, match="needs tools"):
        asked(tool_choice="required")


def test_the_form_of_the_answer() -> None:
    body = asked(response_format=City, extra={"output_config": {"effort": "low"}})["extra_body"]
    assert body["output_config"]["effort"] == "low"
    form = body["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"]["additionalProperties"] is False
    assert form["schema"]["required"] == ["name"]


@pytest.mark.parametrize(
    ("data", "fields", "text"),
    [
        ({"input": ["a"]}, {}, "no embeddings"),
        ("Hi", {"model": None}, "no model was given"),
        ("Hi", {"response_format": {"type": "json_object"}}, "give a JSON schema"),
        ("Hi", {"extra": {"stream": True}}, r"client\.stream"),
    ],
)
def test_what_anthropic_does_not_have(data: Any, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        asked(data, **fields)


# What it answers


def message(*content: dict[str, Any], stop_reason: str | None = "end_turn", **fields: Any) -> Message:
    document = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x-1",
        "content": content,
        "stop_reason": stop_reason,
        "usage": {**USAGE, "output_tokens_details": {"thinking_tokens": 1}},
        **fields,
    }
    return Message.model_validate(document)


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def tool_block(input: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": "t1", "name": "weather", "input": input}


def test_an_answer_in_our_words() -> None:
    raw = message(
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        text_block("Hello"),
        text_block(", you"),
        tool_block({}),
    )
    answer = message_of(raw, ask(), HEADERS)
    assert answer.text == "Hello, you"
    assert answer.tool_calls == (ToolCall("t1", "weather", {}),)
    assert answer.model == "claude-x-1"
    assert answer.request_id == "req_1"
    assert answer.headers["request-id"] == "req_1"
    assert answer.raw is raw
    assert answer.usage == Usage(127, 2, cached_tokens=20, cache_write_tokens=100, reasoning_tokens=1)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        (None, "other"),
    ],
)
def test_why_it_ended(theirs: str | None, ours: str) -> None:
    assert message_of(message(stop_reason=theirs), ask(), HEADERS).finish_reason == ours


def test_the_answer_in_the_form_that_was_asked_for() -> None:
    request = ask(response_format=City)
    assert message_of(message(text_block('{"name": "Oslo"}')), request, HEADERS).parsed == City(name="Oslo")
    cut = message_of(message(text_block('{"name": "Os'), stop_reason="max_tokens"), request, HEADERS)
    assert (cut.parsed, cut.text) == (None, '{"name": "Os')
    with pytest.raises(DeserializationError, match=r"anthropic: .* not a City.* \(request req_1\)"):
        message_of(message(text_block("Oslo")), request, HEADERS)


def test_what_leaves_out_all_it_can() -> None:
    bare = Message.construct(content=[{"type": "new"}])
    answer = message_of(bare, ask(), Headers())
    assert (answer.text, answer.model, answer.usage, answer.request_id) == ("", "claude-x", None, None)
    assert is_message(bare)


@pytest.mark.parametrize("part", [1, "Oslo", None, {"type": "text", "text": 5}, {"type": "text", "text": ["Oslo"]}])
def test_a_part_that_is_none_is_not_passed_over(part: object) -> None:
    with pytest.raises(SdkTransportError, match="anthropic: the answer has a") as caught:
        message_of(Message.construct(content=[text_block("Oslo"), part]), ask(), HEADERS)
    assert caught.value.request_id == "req_1"


def test_what_is_no_message() -> None:
    assert not any(map(is_message, (None, "text", [1], Message.construct(foo=1), Message.construct(type="error"))))
    assert is_error({"type": "error", "error": {"type": "overloaded_error"}})
    assert not any(map(is_error, (None, [], {"type": "error"}, {"error": {}})))


def test_what_an_answer_says_it_is() -> None:
    kinds = [
        "application/json",
        "application/problem+JSON; charset=utf-8",
        "text/html",
        "text/event-stream",
        "text/plain",
    ]
    headers = [Headers({"content-type": kind}) for kind in kinds] + [Headers()]
    assert [is_document(each) for each in headers] == [True, True, False, False, False, True]
    assert [is_stream(each) for each in headers] == [False, False, False, True, True, True]


def test_something_else_is_shown_without_credentials() -> None:
    error = unexpected(
        "anthropic",
        "a message",
        status_code=200,
        headers={"content-type": "text/plain"},
        content=b"\xff token=abcdef0123\n sk-ant-0123456789 " + b"x" * 5000,
        request_id="req_1",
    )
    assert str(error).startswith(
        "anthropic: 200, but the body (text/plain) is not a message: it begins with '\ufffd token"
    )
    assert "0123" not in str(error)
    assert len(str(error)) < 160
    assert (error.provider, error.status_code, error.request_id) == ("anthropic", 200, "req_1")
    empty = unexpected("anthropic", "a message", status_code=200, headers={}, content=b"")
    assert str(empty) == "anthropic: 200, but the body (without a content type) is not a message: it is empty"


# What it streams


def chunks(*documents: dict[str, Any]) -> list[Any]:
    return [STREAM_EVENTS.validate_python(each) for each in documents]


def start(**usage: Any) -> dict[str, Any]:
    whole = message(stop_reason=None).model_dump()
    return {"type": "message_start", "message": {**whole, "usage": {**whole["usage"], **usage}}}


def block(index: int, made: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": made},
        *({"type": "content_block_delta", "index": index, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_deltas(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "text_delta", "text": piece} for piece in pieces]


def json_deltas(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def end(stop_reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 9, **usage}}


STOP = {"type": "message_stop"}


def feed(stream: StreamedMessage, *documents: dict[str, Any]) -> list[StreamEvent]:
    return [event for chunk in chunks(*documents) for event in stream.feed(chunk)]


def test_a_stream_gives_what_the_answer_in_one_piece_gives() -> None:
    stream = StreamedMessage(ask(), HEADERS)
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    events = feed(
        stream,
        start(output_tokens=1, output_tokens_details=None),
        *block(
            0, thinking, {"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "s"}
        ),
        *block(1, text_block(""), *text_deltas("Hel", "", "lo")),
        *block(2, tool_block({}), *json_deltas("", '{"city": ', '"Oslo"}')),
        *block(3, {**tool_block({}), "id": "t2"}, *json_deltas("")),
        end("tool_use", output_tokens_details={"thinking_tokens": 4}),
        STOP,
    )
    before = Usage(127, 1, cached_tokens=20, cache_write_tokens=100)
    after = Usage(127, 9, cached_tokens=20, cache_write_tokens=100, reasoning_tokens=4)
    assert events == [
        UsageEvent(before),
        TextEvent("Hel"),
        TextEvent("lo"),
        ToolCallEvent(0, "t1", "weather", ""),
        ToolCallEvent(0, "t1", "weather", '{"city": '),
        ToolCallEvent(0, "t1", "weather", '"Oslo"}'),
        ToolCallEvent(1, "t2", "weather", ""),
        UsageEvent(after),
    ]
    answer = stream.finish().message
    assert answer.text == "Hello"
    assert answer.tool_calls == (ToolCall("t1", "weather", {"city": "Oslo"}), ToolCall("t2", "weather", {}))
    assert (answer.finish_reason, answer.usage, answer.request_id) == ("tool_calls", after, "req_1")
    # What the SDK would have made of it itself.
    assert Message.model_validate(answer.raw.model_dump()) == message(
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        text_block("Hello"),
        tool_block({"city": "Oslo"}),
        {**tool_block({}), "id": "t2"},
        stop_reason="tool_use",
        usage={**USAGE, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}},
    )


def test_citations_and_texts_that_are_there_from_the_start() -> None:
    stream = StreamedMessage(ask(), HEADERS)
    citation = {
        "type": "char_location",
        "cited_text": "c",
        "document_index": 0,
        "start_char_index": 0,
        "end_char_index": 1,
    }
    events = feed(
        stream,
        start(),
        *block(0, text_block("A"), *text_deltas("B"), {"type": "citations_delta", "citation": citation}),
        end(),
        STOP,
    )
    assert [event.text for event in events if isinstance(event, TextEvent)] == ["A", "B"]
    raw = stream.finish().message.raw
    assert [each.cited_text for each in raw.content[0].citations] == ["c"]


def test_the_form_of_a_streamed_answer() -> None:
    stream = StreamedMessage(ask(response_format=City), HEADERS)
    feed(stream, start(), *block(0, text_block(""), *text_deltas('{"name": ', '"Oslo"}')), end(), STOP)
    assert stream.finish().message.parsed == City(name="Oslo")


def test_a_stream_without_its_end_marker() -> None:
    stream = StreamedMessage(ask(), HEADERS)
    with pytest.raises(IncompleteStreamError, match="after 0 characters"):
        stream.finish()
    feed(stream, start(), *block(0, text_block(""), *text_deltas("Hel", "lo")), end())
    with pytest.raises(IncompleteStreamError, match="without its end marker, after 5 characters") as caught:
        stream.finish()
    assert caught.value.partial == "Hello"
    assert (caught.value.provider, caught.value.request_id) == ("anthropic", "req_1")


@pytest.mark.parametrize(
    ("reason", "rest"), [("tool_use", "$"), ("max_tokens", ": the answer was cut, give it more max_tokens$")]
)
def test_arguments_that_are_no_json(reason: str, rest: str) -> None:
    for broken in ('{"city": "Os', "[1]"):
        stream = StreamedMessage(ask(), HEADERS)
        feed(stream, start(), *block(0, tool_block({}), *json_deltas(broken)), end(reason), STOP)
        with pytest.raises(SdkTransportError, match=f"the tool 'weather' are not a JSON object{rest}") as caught:
            stream.finish()
        assert type(caught.value) is SdkTransportError
        assert caught.value.request_id == "req_1"


def test_kinds_of_events_that_nobody_knows_yet() -> None:
    stream = StreamedMessage(ask(), HEADERS)
    for odd in (None, [1], "x", 7):
        with pytest.raises(SdkTransportError, match="an event that is none"):
            stream.feed(odd)
    [known] = chunks(STOP)
    known.type = "message_new"
    assert list(stream.feed(known)) == []
    feed(stream, start(), *block(0, text_block("")))
    [delta] = chunks({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}})
    delta.delta.type = "new_delta"
    assert list(stream.feed(delta)) == []
    feed(stream, end(), STOP)
    assert isinstance(stream.finish(), EndEvent)


@pytest.mark.parametrize("document", [end(), block(0, text_block(""), *text_deltas("x"))[1]])
def test_an_event_that_does_not_fit(document: dict[str, Any]) -> None:
    with pytest.raises(SdkTransportError, match="in the stream") as caught:
        feed(StreamedMessage(ask(), HEADERS), document)
    assert caught.value.request_id == "req_1"


def test_events_with_nothing_in_them() -> None:
    for document in (start(), *block(0, text_block(""))[:1]):
        [chunk] = chunks(document)
        chunk.message = chunk.content_block = None
        with pytest.raises(SdkTransportError, match="in the stream"):
            list(StreamedMessage(ask(), HEADERS).feed(chunk))


def status_error() -> APIStatusError:
    request = Request("POST", "http://h/v1/messages")
    return APIStatusError("Overloaded", response=Response(200, request=request), body={"type": "error"})


def test_what_breaks_off_a_stream() -> None:
    stream = StreamedMessage(ask(), HEADERS)
    breaks = [ConnectionError("reset"), RemoteProtocolError("closed"), ValueError("no JSON"), SdkTransportError("odd")]
    assert [stream.broken(each) for each in breaks] == [None] * 4
    feed(stream, start(), *block(0, text_block(""), *text_deltas("Hel")))
    for error in breaks:
        broken = stream.broken(error)
        assert broken is not None
        assert (broken.partial, broken.request_id) == ("Hel", "req_1")
    # The provider's own word, and ours on how the library is used, stay what they are.
    assert stream.broken(status_error()) is None
    assert stream.broken(ClosedError("closed")) is None
