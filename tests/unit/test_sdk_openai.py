"""What is said to OpenAI and what its answers mean, with the types of the SDK and without a socket."""

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseErrorEvent,
    ResponseFailedEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseIncompleteEvent,
    ResponseOutputItemAddedEvent,
    ResponseRefusalDeltaEvent,
    ResponseTextDeltaEvent,
)
from pydantic import BaseModel

from pynector._messages.sdk import ToolCall
from pynector._messages.usage import Usage
from pynector._sdk import openai_chat as chat
from pynector._sdk import openai_embeddings as embeddings
from pynector._sdk import openai_responses as responses
from pynector._sdk.events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from pynector._sdk.openai_reply import Reply
from pynector._sdk.request import SdkRequest, make_request
from pynector.errors import (
    ConfigurationError,
    DeserializationError,
    IncompleteStreamError,
    InvalidRequestError,
    RateLimitError,
    SdkTransportError,
)

PIXEL = "iVBORw0KGgo="
LOOK = {"name": "look_up", "description": "Looks it up.", "parameters": {"type": "object", "properties": {}}}
CALLED = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "look_up", "arguments": {"of": "ä"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "A tree."},
]


class City(BaseModel):
    name: str
    people: int


SCHEMA = City.model_json_schema()


def asked(data: Any = "Hello?", **fields: Any) -> SdkRequest:
    return make_request(data, fields, {"model": "gpt-5"})


def reply(parsed: Any = None, content: bytes = b"", **headers: str) -> Reply:
    """An answer whose body the SDK reads as `parsed`."""
    given = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = SimpleNamespace(
        request_id="req_1", headers=httpx2.Headers(given), status_code=200, content=content, parse=lambda: parsed
    )
    return Reply(raw)


def by_chat(data: Any = "Hello?", *, newest: bool = True, **fields: Any) -> dict[str, Any]:
    return chat.arguments_of(asked(data, **fields), completion_tokens=newest)


def by_responses(data: Any = "Hello?", **fields: Any) -> dict[str, Any]:
    return responses.arguments_of(asked(data, **fields))


# What is sent to a chat


def test_a_chat_says_what_was_asked() -> None:
    arguments = by_chat(
        system="Be brief.",
        max_tokens=7,
        temperature=0.0,
        top_p=0.5,
        stop="END",
        extra={"seed": 1},
        headers={"x-trace": "1"},
    )
    assert arguments == {
        "model": "gpt-5",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
        "max_completion_tokens": 7,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": ["END"],
        "extra_body": {"seed": 1},
        "extra_headers": {"x-trace": "1"},
    }
    assert by_chat() == {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello?"}]}
    assert by_chat("")["messages"] == [{"role": "user", "content": ""}]


@pytest.mark.parametrize(
    ("url", "newest"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1/", True),
        ("https://mine.openai.azure.com/openai/", True),
        ("http://127.0.0.1:11434/v1", False),
        ("https://openai.com.example.org/v1", False),
        ("https://notopenai.com/v1", False),
        ("", False),
    ],
)
def test_other_servers_get_max_tokens_by_its_old_name(url: str, newest: bool) -> None:
    assert chat.knows_completion_tokens(url) is newest
    name, other = ("max_completion_tokens", "max_tokens")[:: 1 if newest else -1]
    arguments = by_chat(newest=newest, max_tokens=7)
    assert arguments[name] == 7
    assert other not in arguments


def test_a_chat_with_pictures_and_parts_of_its_own() -> None:
    parts = [
        "What is this?",
        {"type": "image", "data": PIXEL, "media_type": "image/png"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    ]
    [message] = by_chat({"messages": [{"role": "user", "content": parts}]})["messages"]
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        parts[3],
    ]


def test_a_chat_with_tools() -> None:
    search = {"type": "web_search", "user_location": {}}
    arguments = by_chat({"messages": CALLED}, tools=[{**LOOK, "strict": True}, search], tool_choice="look_up")
    assert arguments["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"of": "ä"}'}}
            ],
        },
        {"role": "tool", "content": "A tree.", "tool_call_id": "c1"},
    ]
    assert arguments["tools"] == [{"type": "function", "function": {**LOOK, "strict": True}}, search]
    assert arguments["tool_choice"] == {"type": "function", "function": {"name": "look_up"}}
    assert by_chat(tools=[LOOK], tool_choice="required")["tool_choice"] == "required"
    assert "strict" not in by_chat(tools=[LOOK])["tools"][0]["function"]


def test_the_form_of_an_answer() -> None:
    assert by_chat(response_format=City)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "City", "schema": SCHEMA},
    }
    assert by_responses(response_format=City)["text"] == {
        "format": {"type": "json_schema", "name": "City", "schema": SCHEMA}
    }
    strict = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    closed = {**SCHEMA, "additionalProperties": False}
    named = {"name": "city", "schema": closed, "strict": True}
    assert by_chat(response_format=strict)["response_format"] == {"type": "json_schema", "json_schema": named}
    assert by_responses(response_format=strict)["text"] == {"format": {"type": "json_schema", **named}}
    free = {"type": "json_object"}
    assert by_chat(response_format=free)["response_format"] == free
    assert by_responses(response_format=free)["text"] == {"format": free}


# What is sent to the responses API


def test_responses_say_what_was_asked() -> None:
    arguments = by_responses(
        system="Be brief.", max_tokens=7, temperature=0.0, top_p=0.5, extra={"store": False}, headers={"x-trace": "1"}
    )
    assert arguments == {
        "model": "gpt-5",
        "input": [{"role": "user", "content": "Hello?"}],
        "instructions": "Be brief.",
        "max_output_tokens": 7,
        "temperature": 0.0,
        "top_p": 0.5,
        "extra_body": {"store": False},
        "extra_headers": {"x-trace": "1"},
    }


def test_responses_with_tools_and_pictures() -> None:
    parts = ["What?", {"type": "image", "data": PIXEL}, {"type": "input_file", "file_id": "f1"}]
    search = {"type": "web_search"}
    arguments = by_responses(
        {"messages": [{"role": "user", "content": parts}, *CALLED]}, tools=[LOOK, search], tool_choice="look_up"
    )
    assert arguments["input"] == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                parts[2],
            ],
        },
        {"role": "user", "content": "What is it?"},
        {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"of": "ä"}'},
        {"type": "function_call_output", "call_id": "c1", "output": "A tree."},
    ]
    assert arguments["tools"] == [{"type": "function", **LOOK}, search]
    assert arguments["tool_choice"] == {"type": "function", "name": "look_up"}


def test_what_can_not_be_done_is_refused() -> None:
    picture = {"type": "image", "data": PIXEL}
    shown = [{"role": "user", "content": "?"}, {"role": "assistant", "content": [picture]}]
    answered = [*CALLED[:2], {"role": "tool", "tool_call_id": "c1", "content": [picture]}]
    with pytest.raises(ConfigurationError, match='use api="chat"'):
        by_responses(stop="END")
    for messages in (shown, answered):
        with pytest.raises(ConfigurationError, match="a picture is the user's"):
            by_chat({"messages": messages})
    with pytest.raises(ConfigurationError, match="a picture is the user's"):
        by_responses({"messages": shown})
    # There a tool may answer with a picture.
    assert by_responses({"messages": answered})["input"][-1]["output"][0]["type"] == "input_image"
    for extra in ({"stream": True}, {"stream": False}):
        with pytest.raises(ConfigurationError, match=r"call stream\(\)"):
            by_chat(extra=extra)
    for make in (
        lambda request: chat.arguments_of(request, completion_tokens=True),
        responses.arguments_of,
        embeddings.arguments_of,
    ):
        with pytest.raises(ConfigurationError, match='give model="'):
            make(make_request("Hello?", {}, {}))
    assert by_chat(extra={"model": "another"})["model"] == "another"


# What a chat answers


def completion(message: dict[str, Any] | None = None, reason: str | None = "stop", **fields: Any) -> ChatCompletion:
    said = {"role": "assistant", "content": "Hello!", **(message or {})}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5-2026",
        "choices": [{"index": 0, "message": said, "finish_reason": reason}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 4,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
        **fields,
    }
    return ChatCompletion.construct(**whole)


def test_a_completion_becomes_a_message() -> None:
    answer = completion()
    message = chat.message_of(reply(answer, x_trace="1"), asked())
    assert (message.text, message.model, message.finish_reason) == ("Hello!", "gpt-5-2026", "stop")
    assert message.usage == Usage(10, 4, 3, 2, 1)
    assert (message.request_id, message.headers["x-trace"]) == ("req_1", "1")
    assert message.raw is answer
    assert (message.tool_calls, message.parsed, message.embeddings) == ((), None, None)


@pytest.mark.parametrize(
    ("message", "reason", "normal"),
    [
        ({}, "stop", "stop"),
        ({}, "length", "length"),
        ({}, "content_filter", "content_filter"),
        ({}, "function_call", "tool_calls"),
        ({}, "eos", "other"),
        ({}, None, "other"),
        ({"content": None, "refusal": "I won't."}, "stop", "content_filter"),
        ({"tool_calls": [{"id": "c", "type": "function", "function": {"name": "a", "arguments": ""}}]}, "stop", None),
    ],
)
def test_why_a_completion_ended(message: dict[str, Any], reason: str | None, normal: str | None) -> None:
    made = chat.message_of(reply(completion(message, reason)), asked())
    assert made.finish_reason == (normal or "tool_calls")
    assert made.text == ("" if "refusal" in message else "Hello!")


def called(arguments: str, kind: str = "function") -> dict[str, Any]:
    inner = {"name": "look_up", "arguments": arguments} if kind == "function" else {"name": "run", "input": arguments}
    return {"content": None, "tool_calls": [{"id": "c1", "type": kind, kind: inner}]}


def test_calls_of_tools() -> None:
    def calls(message: dict[str, Any], reason: str = "tool_calls") -> tuple[ToolCall, ...]:
        return chat.message_of(reply(completion(message, reason)), asked()).tool_calls

    assert calls(called('{"of": "a tree"}')) == (ToolCall("c1", "look_up", {"of": "a tree"}),)
    assert calls(called("")) == (ToolCall("c1", "look_up", {}),)
    assert calls(called("ls -l", "custom")) == (ToolCall("c1", "run", {"input": "ls -l"}),)
    for wrong in ('{"of": ', "[1]", "null", "[" * 100_000):
        with pytest.raises(SdkTransportError, match=r"the tool 'look_up' are no JSON object$") as caught:
            calls(called(wrong))
        assert (caught.value.provider, caught.value.request_id, caught.value.transient) == ("openai", "req_1", False)
    with pytest.raises(SdkTransportError, match="allow more max_tokens"):
        calls(called('{"of": '), "length")


def test_an_answer_in_the_form_that_was_asked_for() -> None:
    request = asked(response_format=City)
    good = {"content": '{"name": "Ulm", "people": 126000}'}
    assert chat.message_of(reply(completion(good)), request).parsed == City(name="Ulm", people=126000)
    assert chat.message_of(reply(completion({"content": '{"na'}, "length")), request).parsed is None
    assert chat.message_of(reply(completion({"content": None, "refusal": "No."})), request).parsed is None
    with pytest.raises(DeserializationError, match=r"openai: the answer is not a City.*req_1"):
        chat.message_of(reply(completion({"content": '{"name": "Ulm"}'})), request)


@pytest.mark.parametrize(
    ("parsed", "content"),
    [
        (ChatCompletion.construct(), b"{}"),
        (ChatCompletion.construct(choices="none"), b'{"choices":"none"}'),
        (ChatCompletion.construct(choices=[]), b'{"choices":[]}'),
        (ChatCompletion.construct(choices=[{"index": 0}]), b'{"choices":[{"index":0}]}'),
        ([1], b"[1]"),
        (None, b"null"),
    ],
)
def test_what_is_no_completion(parsed: object, content: bytes) -> None:
    with pytest.raises(SdkTransportError, match="a chat completion") as caught:
        chat.message_of(reply(parsed, content), asked())
    assert (caught.value.status_code, caught.value.request_id) == (200, "req_1")
    assert repr(content.decode()) in str(caught.value)


def test_a_page_is_shown_without_credentials() -> None:
    page = b"<p>Bearer abcdefghijklmnop</p>" + b"x" * 5_000
    with pytest.raises(SdkTransportError, match="text/html") as caught:
        chat.message_of(reply(None, page, content_type="text/html; charset=utf-8"), asked())
    assert "abcdefgh" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("error", "cls", "transient", "code"),
    [
        ({"message": "Overloaded", "type": "server_error", "code": None}, SdkTransportError, True, "server_error"),
        ({"message": "Slow down", "code": "rate_limit_exceeded"}, RateLimitError, True, "rate_limit_exceeded"),
        ({"message": "No money", "code": "insufficient_quota"}, RateLimitError, False, "insufficient_quota"),
        ({"message": "Upstream", "code": 502}, SdkTransportError, True, None),
        ({"message": "What?", "code": 400}, InvalidRequestError, False, None),
        ("model not found", SdkTransportError, False, None),
        ({"code": ["odd"]}, SdkTransportError, False, None),
    ],
)
def test_an_error_with_the_status_200(error: Any, cls: type[Exception], transient: bool, code: str | None) -> None:
    with pytest.raises(SdkTransportError) as caught:
        chat.message_of(reply(ChatCompletion.construct(error=error), json.dumps({"error": error}).encode()), asked())
    assert type(caught.value) is cls
    assert (caught.value.transient, caught.value.code, caught.value.request_id) == (transient, code, "req_1")
    assert caught.value.provider == "openai"


# A chat that is streamed


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **fields: Any) -> ChatCompletionChunk:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return ChatCompletionChunk.construct(**{"id": "1", "model": "gpt-5-2026", "choices": choices, **fields})


def fed(reader: chat.ChatStream | responses.ResponsesStream, chunks: Iterable[Any]) -> list[StreamEvent]:
    return [event for each in chunks for event in reader.feed(each)]


def piece(index: int | None, id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}


def test_a_streamed_chat() -> None:
    reader = chat.ChatStream(reply(), asked())
    usage = {"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": None}
    last = chunk(usage=usage)
    events = fed(
        reader,
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hel"}),
            chunk({"content": "lo"}),
            chunk({}, "stop", usage=None),
            last,
        ],
    )
    assert events == [TextEvent("Hel"), TextEvent("lo"), UsageEvent(Usage(2, 3))]
    assert (reader.text, reader.ended) == ("Hello", True)
    message = reader.finish().message
    assert (message.text, message.finish_reason, message.usage) == ("Hello", "stop", Usage(2, 3))
    assert (message.model, message.request_id, message.raw) == ("gpt-5-2026", "req_1", last)


def test_streamed_calls_of_tools() -> None:
    reader = chat.ChatStream(reply(), asked())
    events = fed(
        reader,
        [
            chunk(piece(0, "c1", "look_up", "")),
            chunk(piece(0, None, None, '{"of":')),
            chunk(piece(0, "c1", None, "1}")),  # some servers repeat the id
            chunk(piece(1, "c2", "count", "{}")),
            chunk({}, "tool_calls"),
        ],
    )
    assert events == [
        ToolCallEvent(0, "c1", "look_up", ""),
        ToolCallEvent(0, "c1", "look_up", '{"of":'),
        ToolCallEvent(0, "c1", "look_up", "1}"),
        ToolCallEvent(1, "c2", "count", ""),
        ToolCallEvent(1, "c2", "count", "{}"),
    ]
    assert reader.finish().message.tool_calls == (ToolCall("c1", "look_up", {"of": 1}), ToolCall("c2", "count", {}))


@pytest.mark.parametrize("index", [0, None])
def test_streamed_calls_that_a_server_does_not_number(index: int | None) -> None:
    reader = chat.ChatStream(reply(), asked())
    pieces = [piece(index, "c1", "a", '{"n": 1}'), piece(index, "c2", "a", '{"n":'), piece(index, None, None, "2}")]
    fed(reader, [*(chunk(each) for each in pieces), chunk({}, "stop")])
    message = reader.finish().message
    assert message.tool_calls == (ToolCall("c1", "a", {"n": 1}), ToolCall("c2", "a", {"n": 2}))
    assert message.finish_reason == "tool_calls"


def test_of_several_streamed_choices_the_first_one_counts() -> None:
    reader = chat.ChatStream(reply(), asked())
    other = ChatCompletionChunk.construct(choices=[{"index": 1, "delta": {"content": "No"}, "finish_reason": "stop"}])
    assert fed(reader, [other, chunk({"content": "Yes"}), other]) == [TextEvent("Yes")]
    assert not reader.ended
    first = {"message": {"content": "Yes"}, "finish_reason": "stop"}
    both = completion(choices=[first, {"message": {"content": "No"}, "finish_reason": "length"}])
    assert chat.message_of(reply(both), asked()).text == "Yes"


def test_a_streamed_refusal() -> None:
    reader = chat.ChatStream(reply(), asked(response_format=City))
    assert fed(reader, [chunk({"refusal": "I "}), chunk({"refusal": "won't."}), chunk({}, "stop")]) == []
    message = reader.finish().message
    assert (message.text, message.finish_reason, message.parsed) == ("", "content_filter", None)


def test_a_stream_that_is_not_whole() -> None:
    reader = chat.ChatStream(reply(), asked())
    odd = [ChatCompletionChunk.construct(), ChatCompletionChunk.construct(choices=[None, {"delta": None}]), None, "x"]
    assert fed(reader, [chunk({"content": "Hel"}), *odd]) == [TextEvent("Hel")]
    with pytest.raises(IncompleteStreamError, match="finish_reason") as caught:
        reader.finish()
    assert (caught.value.partial, caught.value.provider, caught.value.request_id) == ("Hel", "openai", "req_1")


# What the responses API answers


def response(output: list[dict[str, Any]] | None = None, status: str = "completed", **fields: Any) -> Response:
    return Response.construct(
        **{
            "id": "resp_1",
            "model": "gpt-5-2026",
            "status": status,
            "output": [said()] if output is None else output,
            "usage": {
                "input_tokens": 10,
                "output_tokens": 4,
                "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            **fields,
        }
    )


def said(text: str = "Hello!") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def test_a_response_becomes_a_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    answer = response([thought, said("Hel"), said("lo!")])
    message = responses.message_of(reply(answer), asked())
    assert (message.text, message.model, message.finish_reason) == ("Hello!", "gpt-5-2026", "stop")
    assert message.usage == Usage(10, 4, 3, 2, 1)
    assert (message.request_id, message.raw) == ("req_1", answer)


@pytest.mark.parametrize(
    ("status", "details", "normal"),
    [
        ("completed", None, "stop"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", {"reason": "steered"}, "other"),
        ("incomplete", None, "other"),
        ("queued", None, "other"),
    ],
)
def test_why_a_response_ended(status: str, details: dict[str, str] | None, normal: str) -> None:
    answer = response(status=status, incomplete_details=details)
    assert responses.message_of(reply(answer), asked()).finish_reason == normal


def test_a_response_with_calls_or_a_refusal() -> None:
    calls = [
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look_up", "arguments": '{"of": 1}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "ls"},
    ]
    message = responses.message_of(reply(response(calls)), asked())
    assert message.tool_calls == (ToolCall("c1", "look_up", {"of": 1}), ToolCall("c2", "run", {"input": "ls"}))
    assert message.finish_reason == "tool_calls"
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "I won't."}]}
    message = responses.message_of(reply(response([refusal])), asked(response_format=City))
    assert (message.text, message.finish_reason, message.parsed) == ("", "content_filter", None)
    city = response([said('{"name": "Ulm", "people": 1}')])
    assert responses.message_of(reply(city), asked(response_format=City)).parsed == City(name="Ulm", people=1)


def test_a_response_that_failed() -> None:
    error = {"code": "server_error", "message": "It broke."}
    with pytest.raises(SdkTransportError, match=r"It broke\.") as caught:
        responses.message_of(reply(response([], "failed", error=error)), asked())
    assert (caught.value.code, caught.value.transient, caught.value.request_id) == ("server_error", True, "req_1")
    with pytest.raises(SdkTransportError, match="the response is cancelled") as caught:
        responses.message_of(reply(response([], "cancelled")), asked())
    assert not caught.value.transient
    with pytest.raises(SdkTransportError, match="a response"):
        responses.message_of(reply(Response.construct(), b"{}"), asked())


def test_a_streamed_response() -> None:
    reader = responses.ResponsesStream(reply(), asked())
    call = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": ""}
    final = response([said("Hello"), {**call, "arguments": '{"of":1}'}])
    events = fed(
        reader,
        [
            ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="Hel", output_index=0),
            ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="lo", output_index=0),
            ResponseOutputItemAddedEvent.construct(type="response.output_item.added", output_index=1, item=call),
            *(
                ResponseFunctionCallArgumentsDeltaEvent.construct(
                    type="response.function_call_arguments.delta", output_index=1, delta=each
                )
                for each in ('{"of"', ":1}")
            ),
            ResponseFunctionCallArgumentsDoneEvent.construct(
                type="response.function_call_arguments.done", output_index=1, arguments='{"of":1}'
            ),
            ResponseCompletedEvent.construct(type="response.completed", response=final),
        ],
    )
    assert events == [
        TextEvent("Hel"),
        TextEvent("lo"),
        ToolCallEvent(0, "c1", "look_up", ""),
        ToolCallEvent(0, "c1", "look_up", '{"of"'),
        ToolCallEvent(0, "c1", "look_up", ":1}"),
        UsageEvent(Usage(10, 4, 3, 2, 1)),
    ]
    end = reader.finish()
    assert isinstance(end, EndEvent)
    assert (end.message.text, end.message.finish_reason, end.message.raw) == ("Hello", "tool_calls", final)
    assert end.message.tool_calls == (ToolCall("c1", "look_up", {"of": 1}),)


def test_arguments_that_come_in_one_piece() -> None:
    reader = responses.ResponsesStream(reply(), asked())
    call = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": ""}
    added = ResponseOutputItemAddedEvent.construct(type="response.output_item.added", output_index=0, item=call)
    done = ResponseFunctionCallArgumentsDoneEvent.construct(
        type="response.function_call_arguments.done", output_index=0, arguments="{}"
    )
    assert fed(reader, [added, done, done]) == [
        ToolCallEvent(0, "c1", "look_up", ""),
        ToolCallEvent(0, "c1", "look_up", "{}"),
    ]


def test_a_streamed_response_that_was_cut() -> None:
    reader = responses.ResponsesStream(reply(), asked())
    final = response([said("Hel")], "incomplete", incomplete_details={"reason": "max_output_tokens"})
    fed(reader, [ResponseIncompleteEvent.construct(type="response.incomplete", response=final)])
    assert (reader.ended, reader.finish().message.finish_reason) == (True, "length")


def test_a_streamed_response_without_its_end() -> None:
    reader = responses.ResponsesStream(reply(), asked())
    text = ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="Hel")
    refusal = ResponseRefusalDeltaEvent.construct(type="response.refusal.delta", delta="I")
    empty = ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta=None)
    assert fed(reader, [text, refusal, empty, None, 3]) == [TextEvent("Hel")]
    with pytest.raises(IncompleteStreamError) as caught:
        reader.finish()
    assert (caught.value.partial, caught.value.request_id) == ("Hel", "req_1")


@pytest.mark.parametrize(
    ("code", "cls", "transient"),
    [
        ("server_error", SdkTransportError, True),
        ("rate_limit_exceeded", RateLimitError, True),
        ("insufficient_quota", RateLimitError, False),
        ("invalid_prompt", SdkTransportError, False),
    ],
)
def test_a_streamed_response_that_failed(code: str, cls: type[Exception], transient: bool) -> None:
    failed = response([], "failed", error={"code": code, "message": "It broke."})
    for event in (
        ResponseFailedEvent.construct(type="response.failed", response=failed),
        ResponseErrorEvent.construct(type="error", code=code, message="It broke.", param=None, sequence_number=1),
    ):
        with pytest.raises(SdkTransportError, match=r"It broke\.") as caught:
            fed(responses.ResponsesStream(reply(), asked()), [event])
        assert type(caught.value) is cls
        assert (caught.value.code, caught.value.transient, caught.value.request_id) == (code, transient, "req_1")


# Embeddings


def test_what_is_sent_for_embeddings() -> None:
    request = asked({"input": ["a", "b"]}, temperature=0.0, extra={"dimensions": 2}, headers={"x-trace": "1"})
    assert embeddings.arguments_of(request) == {
        "model": "gpt-5",
        "input": ["a", "b"],
        "encoding_format": "float",
        "extra_body": {"dimensions": 2},
        "extra_headers": {"x-trace": "1"},
    }


@pytest.mark.parametrize(
    "field", [{"tools": [LOOK]}, {"response_format": City}, {"stop": "END"}, {"tool_choice": "auto"}]
)
def test_what_embeddings_do_not_have(field: dict[str, Any]) -> None:
    [name] = field
    with pytest.raises(ConfigurationError, match=f"{name} is for answers in words"):
        embeddings.arguments_of(asked({"input": "a"}, **field))


def test_embeddings_become_a_message() -> None:
    data = [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [1.0, 0.0]}]
    answer = CreateEmbeddingResponse.construct(
        model="text-embedding-3-small", data=data, usage={"prompt_tokens": 2, "total_tokens": 2}
    )
    message = embeddings.message_of(reply(answer), asked({"input": ["a", "b"]}))
    assert message.embeddings == [[1.0, 0.0], [0.0, 1.0]]
    assert (message.usage, message.model, message.request_id) == (Usage(2), "text-embedding-3-small", "req_1")
    with pytest.raises(SdkTransportError, match="3 texts were sent, and 2 vectors came"):
        embeddings.message_of(reply(answer), asked({"input": ["a", "b", "c"]}))
    with pytest.raises(SdkTransportError, match="is not embeddings"):
        embeddings.message_of(reply(CreateEmbeddingResponse.construct(), b"{}"), asked({"input": "a"}))
