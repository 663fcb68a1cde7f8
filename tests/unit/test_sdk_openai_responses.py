"""What the responses API of OpenAI answers, with the types of the SDK and without a socket."""

from typing import Any

import pytest
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseErrorEvent,
    ResponseFailedEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseIncompleteEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseRefusalDeltaEvent,
    ResponseTextDeltaEvent,
)

from pynector._messages.sdk import ToolCall
from pynector._messages.usage import Usage
from pynector._sdk import openai_responses as responses
from pynector._sdk.events import EndEvent, TextEvent, ToolCallEvent, UsageEvent
from pynector.errors import IncompleteStreamError, RateLimitError, SdkTransportError
from unit.openai_replies import City, asked, fed, reply


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


def test_a_streamed_call_of_a_tool_that_takes_no_json() -> None:
    reader = responses.ResponsesStream(reply(), asked())
    item = {"type": "custom_tool_call", "call_id": "c1", "name": "run", "input": "ls"}
    final = response([item])
    events = [
        ResponseOutputItemDoneEvent.construct(type="response.output_item.done", output_index=0, item=item),
        ResponseCompletedEvent.construct(type="response.completed", response=final),
    ]
    told = [ToolCallEvent(0, "c1", "run", ""), ToolCallEvent(0, "c1", "run", '{"input": "ls"}')]
    assert [event for event in fed(reader, events) if isinstance(event, ToolCallEvent)] == told
    assert reader.finish().message.tool_calls == (ToolCall("c1", "run", {"input": "ls"}),)


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
    assert fed(reader, [text, refusal, empty]) == [TextEvent("Hel")]
    odd = ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta=5)
    for other in (None, 3, odd):
        with pytest.raises(IncompleteStreamError, match=r"an event is not one of|is no text") as caught:
            fed(reader, [other])
        assert caught.value.partial == "Hel"
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
