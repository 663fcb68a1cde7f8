"""What a chat of OpenAI answers, with the types of the SDK and without a socket."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from pynector._messages.sdk import ToolCall
from pynector._messages.usage import Usage
from pynector._sdk import openai_chat as chat
from pynector._sdk.events import TextEvent, ToolCallEvent, UsageEvent
from pynector.errors import (
    DeserializationError,
    IncompleteStreamError,
    InvalidRequestError,
    RateLimitError,
    SdkTransportError,
)
from unit.openai_replies import City, asked, fed, reply

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
    assert (message.model, message.request_id) == ("gpt-5-2026", "req_1")
    whole = ChatCompletion.construct(**reader.document())
    assert chat.message_of(reply(whole), asked()) == message
    assert (whole.id, whole.object, whole.usage) == ("1", "chat.completion", last.usage)


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
    whole = ChatCompletion.construct(**reader.document())
    assert whole.choices[0].message.refusal == "I won't."
    assert chat.message_of(reply(whole), asked(response_format=City)) == message


def test_a_streamed_call_of_a_tool_that_takes_no_json() -> None:
    reader = chat.ChatStream(reply(), asked())
    first = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    rest = {"index": 0, "custom": {"input": ' "-l"'}}
    events = fed(reader, [*(chunk({"tool_calls": [each]}) for each in (first, rest)), *[chunk({}, "tool_calls")] * 2])
    assert events == [ToolCallEvent(0, "c1", "run", ""), ToolCallEvent(0, "c1", "run", '{"input": "ls \\"-l\\""}')]
    message = reader.finish().message
    assert message.tool_calls == (ToolCall("c1", "run", {"input": 'ls "-l"'}),)
    assert chat.message_of(reply(ChatCompletion.construct(**reader.document())), asked()) == message


def test_thoughts_beside_the_text_are_in_the_whole() -> None:
    reader = chat.ChatStream(reply(), asked())
    fed(
        reader,
        [chunk({"reasoning_content": "Hm"}), chunk({"reasoning_content": "m."}), chunk({"content": "4"}, "stop")],
    )
    assert reader.document()["choices"][0]["message"]["reasoning_content"] == "Hmm."


PARTS = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]


def test_a_text_in_parts() -> None:
    """As servers send it that let a model think."""
    assert chat.message_of(reply(completion({"content": PARTS})), asked()).text == "Hello"
    assert fed(chat.ChatStream(reply(), asked()), [chunk({"content": PARTS})]) == [TextEvent("Hello")]


@pytest.mark.parametrize("content", [5, {"text": "x"}, ["x"], [{"text": 5}]])
def test_a_text_that_is_none_is_not_passed_over(content: object) -> None:
    with pytest.raises(SdkTransportError, match="is not a chat completion"):
        chat.message_of(reply(completion({"content": content}), b"{}"), asked())
    with pytest.raises(IncompleteStreamError, match="a piece of the answer is no text") as caught:
        fed(chat.ChatStream(reply(), asked()), [chunk({"content": "Hel"}), chunk({"content": content})])
    assert caught.value.partial == "Hel"


def test_a_stream_that_is_not_whole() -> None:
    reader = chat.ChatStream(reply(), asked())
    odd = [ChatCompletionChunk.construct(), ChatCompletionChunk.construct(choices=[None, {"delta": None}])]
    assert fed(reader, [chunk({"content": "Hel"}), *odd]) == [TextEvent("Hel")]
    with pytest.raises(IncompleteStreamError, match="finish_reason") as caught:
        reader.finish()
    assert (caught.value.partial, caught.value.provider, caught.value.request_id) == ("Hel", "openai", "req_1")
