"""The servers that speak as the model providers do, asked by the SDKs of these providers."""

import base64
import datetime as dt
import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import anthropic
import anyio
import httpx2
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from pynector.testing import LocalServer
from servers.anthropic_wire import AnthropicApp
from servers.openai_wire import OpenAIApp, embedding
from servers.provider import FAULTS, ProviderApp, Received, fitting

pytestmark = pytest.mark.usefixtures("no_leaks")

# What older SDKs make of some faults is another thing; what our adapters make of it is the same, and tested with all.
of_newer_sdks = pytest.mark.skipif(
    not hasattr(anthropic.types.shared, "ContractSpendLimitReachedError"), reason="these SDKs are older"
)

KEY = "sk-of-the-tests-0123456789"
GPT, CLAUDE = "gpt-5-mini", "claude-haiku-4-5"
BRIEF = 0.25
"""Seconds of silence that a client bears: the stalls of the server last longer than any test."""


Servers: TypeAlias = tuple[OpenAIApp, str, AnthropicApp, str]
Apps: TypeAlias = tuple[OpenAIApp, AnthropicApp]


class Person(BaseModel):
    name: str
    age: int
    friends: list["Person"] | None = None


TOOL: Any = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
CLAUDE_TOOL: Any = {"name": "weather", "input_schema": TOOL["parameters"]}


@pytest.fixture(scope="module")
def _servers() -> Iterator[Servers]:
    first, second = OpenAIApp(), AnthropicApp()
    with LocalServer(first) as one, LocalServer(second) as two:
        yield first, one.url, second, two.url


@pytest.fixture
def apps(_servers: Servers) -> Iterator[Apps]:
    yield _servers[0], _servers[2]
    _servers[0].forget()
    _servers[2].forget()


@pytest.fixture
def gpt(_servers: Servers, apps: object) -> Iterator[openai.OpenAI]:
    # Nothing here speaks TLS, and to read all certificates anew takes longer than most of these tests.
    http = httpx2.Client(verify=False, trust_env=False)
    url = f"{_servers[1]}/v1"
    with openai.OpenAI(api_key=KEY, base_url=url, max_retries=0, timeout=BRIEF * 20, http_client=http) as client:
        yield client


@pytest.fixture
def claude(_servers: Servers, apps: object) -> Iterator[anthropic.Anthropic]:
    http = httpx2.Client(verify=False, trust_env=False)
    url = _servers[3]
    with anthropic.Anthropic(api_key=KEY, base_url=url, max_retries=0, timeout=BRIEF * 20, http_client=http) as client:
        yield client


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


# A stream if `stream=True`, else an answer: so they say that it is anything.


def chat(client: openai.OpenAI, text: str, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": GPT, "messages": user(text), **more})


def respond(client: openai.OpenAI, text: str, **more: Any) -> Any:
    return client.responses.create(**{"model": GPT, "input": text, **more})


def message(client: anthropic.Anthropic, text: str, **more: Any) -> Any:
    return client.messages.create(**{"model": CLAUDE, "max_tokens": 100, "messages": user(text), **more})


# Plain answers.


def test_a_chat_completion_is_whole_and_has_its_own_answer(gpt: openai.OpenAI, apps: Apps) -> None:
    answer = chat(gpt, "one two three four five six seven")
    ChatCompletion.model_validate(answer.to_dict())
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("echo: one two three four five six seven", "stop")
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 8, 15)
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    number = apps[0].requests[-1].number
    assert (answer.id, answer._request_id) == (f"chatcmpl-{number:024d}", f"req_{number:032x}")


def test_a_response_is_whole_and_has_its_own_answer(gpt: openai.OpenAI) -> None:
    answer = respond(gpt, "one two three", instructions="be brief")
    Response.model_validate(answer.to_dict())
    assert (answer.output_text, answer.status) == ("echo: one two three", "completed")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (5, 4, 9)
    assert (answer.usage.input_tokens_details.cached_tokens, answer.usage.output_tokens_details.reasoning_tokens) == (
        2,
        1,
    )


def test_a_message_is_whole_and_has_its_own_answer(claude: anthropic.Anthropic) -> None:
    answer = message(claude, "one two three four five six", system="be brief")
    Message.model_validate(answer.to_dict())
    assert [block.to_dict() for block in answer.content] == [
        {"type": "text", "text": "echo: one two three four five six"}
    ]
    used = answer.usage
    assert answer.stop_reason == "end_turn"
    assert (used.input_tokens, used.cache_read_input_tokens, used.cache_creation_input_tokens) == (2, 4, 2)
    assert used.output_tokens == 7 and used.output_tokens_details is not None
    assert used.output_tokens_details.thinking_tokens == 1


def test_the_text_is_found_in_parts_and_past_other_messages(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "what is "}, image, {"type": "text", "text": "this"}]
    messages = [{"role": "system", "content": "x"}, *user("no"), {"role": "assistant", "content": "y"}]
    said = chat(gpt, "", messages=[*messages, {"role": "user", "content": content}])
    assert said.choices[0].message.content == "echo: what is this"
    items = [{"role": "user", "content": [{"type": "input_text", "text": "and this"}]}]
    assert respond(gpt, "", input=items).output_text == "echo: and this"
    parts = [{"type": "text", "text": "and "}, {"type": "text", "text": "that"}]
    heard = message(claude, "", messages=[{"role": "user", "content": parts}])
    assert heard.content[0].text == "echo: and that"


def test_what_is_too_long_is_cut(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    said = chat(gpt, "one two three", max_completion_tokens=2)
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("echo: one", "length")
    assert said.usage is not None and said.usage.completion_tokens == 2
    answered = respond(gpt, "one two three", max_output_tokens=2)
    assert (answered.output_text, answered.status) == ("echo: one", "incomplete")
    assert answered.incomplete_details is not None and answered.incomplete_details.reason == "max_output_tokens"
    heard = message(claude, "one two three", max_tokens=2)
    assert (heard.content[0].text, heard.stop_reason) == ("echo: one", "max_tokens")
    assert message(claude, "one two three", max_tokens=4).stop_reason == "end_turn"


def test_a_stop_sequence_ends_an_answer(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert chat(gpt, "one two three", stop="two").choices[0].message.content == "echo: one "
    heard = message(claude, "one two three", stop_sequences=["three", "two"])
    assert (heard.stop_reason, heard.stop_sequence) == ("stop_sequence", "two")


def test_embeddings(gpt: openai.OpenAI, apps: Apps) -> None:
    answer = gpt.embeddings.create(model="text-embedding-3-small", input=["one two", "three"])
    assert [each.embedding for each in answer.data] == [embedding("one two", 16), embedding("three", 16)]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)
    # The SDK asks for base64 and hides it; on the wire it is 32 bit numbers, the low byte first.
    assert apps[0].requests[-1].body["encoding_format"] == "base64"
    body = {"model": "text-embedding-3-small", "input": "x", "dimensions": 4, "encoding_format": "base64"}
    raw = gpt.post("/embeddings", body=body, cast_to=object)
    assert isinstance(raw, dict)
    packed = base64.b64decode(raw["data"][0]["embedding"])
    assert list(struct.unpack("<4f", packed)) == embedding("x", 4)


# Tools and structured output.


def test_a_chat_calls_tools(gpt: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": TOOL}]
    said = chat(gpt, "call weather Lyon; call weather Rome", tools=tools)
    ChatCompletion.model_validate(said.to_dict())
    assert (said.choices[0].finish_reason, said.choices[0].message.content) == ("tool_calls", None)
    calls = [each.to_dict() for each in said.choices[0].message.tool_calls or ()]
    assert [json.loads(each["function"]["arguments"]) for each in calls] == [
        {"city": "Lyon", "days": 4},
        {"city": "Rome", "days": 4},
    ]
    assert len({each["id"] for each in calls}) == 2
    assert chat(gpt, "do not call", tools=tools).choices[0].message.tool_calls is None
    assert chat(gpt, "call weather Lyon", tools=tools, tool_choice="none").choices[0].message.tool_calls is None
    assert chat(gpt, "Lyon", tools=tools, tool_choice="required").choices[0].message.tool_calls
    result = [*user("call weather Lyon"), {"role": "tool", "tool_call_id": "1", "content": "sunny"}]
    last = chat(gpt, "", messages=result, tools=tools)
    assert last.choices[0].message.content == "echo: sunny"


def test_a_response_calls_a_tool(gpt: openai.OpenAI) -> None:
    answer = respond(gpt, 'call weather {"city": "Nice"}', tools=[{"type": "function", "strict": False, **TOOL}])
    Response.model_validate(answer.to_dict())
    assert [(item.type, item.name, json.loads(item.arguments)) for item in answer.output] == [
        ("function_call", "weather", {"city": "Nice"})
    ]


def test_a_message_calls_a_tool(claude: anthropic.Anthropic) -> None:
    heard = message(claude, "call weather Lyon", tools=[CLAUDE_TOOL])
    Message.model_validate(heard.to_dict())
    assert heard.stop_reason == "tool_use"
    assert [(block.name, block.input) for block in heard.content] == [("weather", {"city": "Lyon", "days": 4})]
    forced = message(claude, "Lyon", tools=[CLAUDE_TOOL], tool_choice={"type": "tool", "name": "weather"})
    assert forced.stop_reason == "tool_use"
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "sunny"}]}
    last = message(claude, "", tools=[CLAUDE_TOOL], messages=[result])
    assert last.content[0].text == "echo: sunny"


def test_json_fits_the_schema(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    said = gpt.chat.completions.parse(model=GPT, messages=user("Ada"), response_format=Person)
    answered = gpt.responses.parse(model=GPT, input="Ada", text_format=Person)
    heard = claude.messages.parse(model=CLAUDE, max_tokens=100, messages=user("Ada"), output_format=Person)
    for person in (said.choices[0].message.parsed, answered.output_parsed, heard.parsed_output):
        assert person is not None and (person.name, person.age) == ("Ada", 3)
        assert person.friends is not None and person.friends[0].name == "Ada"
    free = chat(gpt, "Ada", response_format={"type": "json_object"})
    assert json.loads(free.choices[0].message.content or "") == {"echo": "Ada"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "maxLength": 2}, "ab"),
        ({"type": "integer"}, 3),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "number", "maximum": 1}, 1),
        ({"type": "number"}, 1.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "string"]}, "abc"),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 3),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["abc", "abc"]),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "boolean"}}}, {"a": True}),
    ],
)
def test_values_that_fit(schema: dict[str, object], value: object) -> None:
    assert fitting(schema, "abc") == value


# Every field of every answer.


def unknown(thing: object, path: str = "") -> Iterator[str]:
    """Fields that the types of an SDK do not have."""
    if isinstance(thing, list):
        for each in thing:
            yield from unknown(each, path)
    elif isinstance(thing, BaseModel):
        yield from (f"{path}.{name}" for name in thing.model_extra or ())
        for name in type(thing).model_fields:
            yield from unknown(getattr(thing, name), f"{path}.{name}")


def checked(kind: Any, document: object) -> set[str]:
    """Check a document against a type of an SDK, strictly, as the SDK itself does not; return what it does not have."""
    return set(unknown(TypeAdapter(kind).validate_python(document, strict=False)))


def sent(events: list[bytes]) -> list[Any]:
    return [json.loads(each.partition(b"data: ")[2]) for each in events if b"[DONE]" not in each]


@of_newer_sdks
@pytest.mark.parametrize("text", ["one two three", "call weather Lyon; call weather Rome"])
@pytest.mark.parametrize("limit", [{}, {"max_tokens": 2}], ids=["whole", "cut"])
def test_all_fields_are_those_of_the_sdks(apps: Apps, text: str, limit: dict[str, Any]) -> None:
    gpt, claude = apps

    def received(app: ProviderApp, path: str, tool: Any, **more: Any) -> Received:
        body = {"model": "any", "messages": user(text), "tools": [tool], **limit, **more}
        return Received(1, path, {}, body, app.text_of(path, body), 0.0)

    chatted = received(gpt, "/chat/completions", {"type": "function", "function": TOOL})
    assert not checked(ChatCompletion, gpt.document(chatted))
    counted = received(gpt, "/chat/completions", CLAUDE_TOOL, stream_options={"include_usage": True})
    chunks = [*sent(gpt.events(chatted)), *sent(gpt.events(counted))]
    assert not set().union(*(checked(ChatCompletionChunk, each) for each in chunks))
    answered = received(gpt, "/responses", {"type": "function", "strict": False, **TOOL}, input=text)
    # These are in the API reference, and not in the types.
    assert checked(Response, gpt.document(answered)) == {".store"}
    events = set().union(*(checked(ResponseStreamEvent, each) for each in sent(gpt.events(answered))))
    assert events == {".response.store", ".obfuscation"}
    told = received(claude, "/messages", CLAUDE_TOOL)
    assert not checked(Message, claude.document(told))
    parts = [each for each in sent(claude.events(told)) if each != {"type": "ping"}]
    assert not set().union(*(checked(RawMessageStreamEvent, each) for each in parts))


def test_padding_can_be_switched_off(gpt: openai.OpenAI) -> None:
    options = {"stream": True, "stream_options": {"include_obfuscation": False}}
    assert all("obfuscation" in chunk.to_dict() for chunk in chat(gpt, "hello", stream=True))
    for ask in (chat, respond):
        assert not any("obfuscation" in chunk.to_dict() for chunk in ask(gpt, "hello", **options))


# Streams.


def test_a_chat_is_streamed(gpt: openai.OpenAI) -> None:
    chunks = list(chat(gpt, "one two", stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "echo:", " one", " two", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    with_usage = list(chat(gpt, "one two", stream=True, stream_options={"include_usage": True}))
    assert len(with_usage) == 6 and with_usage[-1].choices == []
    assert with_usage[-1].usage.completion_tokens == 3
    assert with_usage[0].usage is None


@of_newer_sdks
def test_the_helpers_of_the_sdks_put_streams_together(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    tools: Any = [{"type": "function", "function": TOOL}]
    flat: Any = [{"type": "function", "strict": False, **TOOL}]
    for text in ("one two", "call weather Lyon; call weather Rome"):
        with gpt.chat.completions.stream(model=GPT, messages=user(text), tools=tools) as chunks:
            said = chunks.get_final_completion().choices[0]
        plain = chat(gpt, text, tools=tools).choices[0]
        assert (said.message.content, said.finish_reason) == (plain.message.content, plain.finish_reason)
        assert [(each.function.name, each.function.arguments) for each in said.message.tool_calls or ()] == [
            (each.function.name, each.function.arguments) for each in plain.message.tool_calls or ()
        ]
        with gpt.responses.stream(model=GPT, input=text, tools=flat) as events:
            final = events.get_final_response()
        whole = respond(gpt, text, tools=flat)
        assert (final.status, final.usage, len(final.output)) == (whole.status, whole.usage, len(whole.output))
        assert (final.output_text, bool(final.output)) == (whole.output_text, True)
        arguments = {"model": CLAUDE, "max_tokens": 100, "messages": user(text), "tools": [CLAUDE_TOOL]}
        with claude.messages.stream(**arguments) as stream:
            heard = stream.get_final_message()
        original = message(claude, text, tools=[CLAUDE_TOOL])
        assert [block.model_dump(exclude={"id"}) for block in heard.content] == [
            block.model_dump(exclude={"id"}) for block in original.content
        ]
        assert (heard.stop_reason, heard.usage) == (original.stop_reason, original.usage)


def test_the_events_of_a_response_are_the_documented_ones(gpt: openai.OpenAI) -> None:
    events = list(respond(gpt, "hello", stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    for event in events:
        type(event).model_validate(event.to_dict())
    cut = list(respond(gpt, "hello you", stream=True, max_output_tokens=1))
    assert cut[-1].type == "response.incomplete"


def test_what_is_on_the_wire_is_what_is_documented(
    _servers: Servers, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    headers = {"authorization": f"Bearer {KEY}", "x-api-key": KEY, "anthropic-version": "2023-06-01"}
    body = {"model": GPT, "messages": user("é"), "stream": True}
    answer = httpx2.post(f"{_servers[1]}/chat/completions", headers=headers, json=body, trust_env=False)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    lines = answer.content.split(b"\n\n")
    assert lines[-2:] == [b"data: [DONE]", b""]
    assert lines[2].startswith(b'data: {"id":"chatcmpl-') and " é".encode() in lines[2]
    body = {"model": CLAUDE, "messages": user("hi"), "stream": True, "max_tokens": 9}
    answer = httpx2.post(f"{_servers[3]}/v1/messages", headers=headers, json=body, trust_env=False)
    parts = [part.split("\n") for part in answer.text.split("\n\n")[:-1]]
    assert [name.removeprefix("event: ") for name, _ in parts] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    data = [json.loads(line.removeprefix("data: ")) for _, line in parts]
    assert data[0]["message"]["content"] == [] and data[0]["message"]["stop_reason"] is None
    assert data[6]["delta"]["stop_reason"] == "end_turn" and data[6]["usage"]["output_tokens"] == 2
    assert data[7] == {"type": "message_stop"}


def test_events_come_one_by_one() -> None:
    with LocalServer(OpenAIApp(pause=0.05, latency=0.05)) as server:
        with openai.OpenAI(api_key=KEY, base_url=server.url, max_retries=0) as client:
            started = time.monotonic()
            times = [time.monotonic() - started for _ in chat(client, "one two", stream=True)]
    assert times[0] >= 0.05
    assert all(later - earlier > 0.01 for earlier, later in pairwise(times))


# Headers and refusals.


def test_the_limits_are_in_the_headers(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    headers = gpt.chat.completions.with_raw_response.create(model=GPT, messages=user("a b c")).headers
    assert headers["x-ratelimit-limit-requests"] == "10000"
    assert headers["x-ratelimit-remaining-requests"] == "9999"
    assert headers["x-ratelimit-remaining-tokens"] == "1999997"
    assert headers["x-ratelimit-reset-requests"] == "6ms"
    assert headers["openai-processing-ms"].isdigit() and headers["openai-organization"]
    raw = claude.messages.with_raw_response.create(model=CLAUDE, max_tokens=9, messages=user("a b c"))
    assert raw.headers["request-id"] == raw.parse()._request_id
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        limit, left, reset = (
            raw.headers[f"anthropic-ratelimit-{name}-{end}"] for end in ("limit", "remaining", "reset")
        )
        assert 0 < int(left) <= int(limit)
        assert abs(dt.datetime.fromisoformat(reset) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)


def test_keys_are_checked_and_not_shown(_servers: Servers) -> None:
    with openai.OpenAI(api_key="a-bad-key-0123456789", base_url=_servers[1], max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            chat(client, "hi")
    assert refused.value.code == "invalid_api_key" and refused.value.request_id
    assert "bad-key" not in str(refused.value)
    with anthropic.Anthropic(api_key="a-bad-key", base_url=_servers[3], max_retries=0) as other:
        with pytest.raises(anthropic.AuthenticationError) as denied:
            message(other, "hi")
    assert denied.value.type == "authentication_error" and denied.value.request_id
    with LocalServer(OpenAIApp(keys=["only-this"])) as server:
        with openai.OpenAI(api_key="only-this", base_url=server.url, max_retries=0) as client:
            assert chat(client, "hi").choices[0].message.content == "echo: hi"
        bare = httpx2.post(f"{server.url}/chat/completions", json={}, trust_env=False)
    assert bare.status_code == 401 and bare.json()["error"]["code"] is None


def test_requests_are_checked(_servers: Servers, gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        gpt.chat.completions.create(model="no-such-model", messages=user("hi"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as missing:
        gpt.chat.completions.create(model=GPT, messages=[])
    assert (missing.value.code, missing.value.param) == ("missing_required_parameter", "messages")
    with pytest.raises(openai.NotFoundError):
        gpt.post("/no/such/path", cast_to=object)
    with pytest.raises(anthropic.NotFoundError) as other:
        claude.messages.create(model="no-such-model", max_tokens=1, messages=user("hi"))
    assert other.value.type == "not_found_error"
    changes: tuple[dict[str, Any], ...] = ({"max_tokens": None}, {"messages": []}, {"max_tokens": 0}, {"model": None})
    for change in changes:
        body = {"model": CLAUDE, "max_tokens": 9, "messages": user("hi"), **change}
        with pytest.raises(anthropic.BadRequestError) as bad:
            claude.post("/v1/messages", body={k: v for k, v in body.items() if v is not None}, cast_to=object)
        assert bad.value.type == "invalid_request_error" and next(iter(change)) in str(bad.value)
    with pytest.raises(anthropic.BadRequestError, match="top-level `system`"):
        claude.messages.create(model=CLAUDE, max_tokens=9, messages=[{"role": "system", "content": "x"}])
    broken = httpx2.post(
        f"{_servers[3]}/v1/messages", headers={"x-api-key": KEY}, content=b"{}", trust_env=False
    ).json()
    assert "anthropic-version" in broken["error"]["message"]


# Faults: what the SDKs of today make of them.

STATUSES: Mapping[int, tuple[type[Exception], type[Exception]]] = {
    400: (openai.BadRequestError, anthropic.BadRequestError),
    401: (openai.AuthenticationError, anthropic.AuthenticationError),
    402: (openai.APIStatusError, anthropic.APIStatusError),
    403: (openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    404: (openai.NotFoundError, anthropic.NotFoundError),
    408: (openai.APIStatusError, anthropic.APIStatusError),
    409: (openai.ConflictError, anthropic.ConflictError),
    413: (openai.APIStatusError, anthropic.APIStatusError),
    422: (openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
    429: (openai.RateLimitError, anthropic.RateLimitError),
    500: (openai.InternalServerError, anthropic.InternalServerError),
    503: (openai.InternalServerError, anthropic.InternalServerError),
    529: (openai.InternalServerError, anthropic.InternalServerError),
}

_DROPPED, _SILENT, _BROKEN = openai.APIConnectionError, openai.APITimeoutError, json.JSONDecodeError
# The first versions have no class of its own for it.
_SPENT = getattr(anthropic.types.shared, "ContractSpendLimitReachedError", anthropic.RateLimitError)

# Of each fault: what a chat and a response raise, plain and streamed, and what a message does. None: nothing at all.
RAISED: Mapping[str, tuple[type[Exception] | None, ...]] = {
    "drop": (_DROPPED, _DROPPED, anthropic.APIConnectionError, anthropic.APIConnectionError),
    "drop_mid": (_DROPPED, _DROPPED, anthropic.APIConnectionError, httpx2.ReadError),
    "stall": (_SILENT, _SILENT, anthropic.APITimeoutError, httpx2.ReadTimeout),
    "stall_before": (_SILENT, _SILENT, anthropic.APITimeoutError, anthropic.APITimeoutError),
    "truncate": (_DROPPED, None, anthropic.APIConnectionError, None),
    "malformed": (_BROKEN, _BROKEN, _BROKEN, _BROKEN),
    "empty": (_BROKEN, None, _BROKEN, None),
    "html": (None, None, None, None),
    "wrong_type": (None, None, None, None),
    "hard_quota": (openai.RateLimitError, openai.RateLimitError, _SPENT, _SPENT),
}
"""`error_event` and `failed` differ between the APIs of OpenAI and have tests of their own."""


def outcome(ask: Callable[..., Any], client: object, text: str, streamed: bool) -> type[Exception] | None:
    """What it raises, with the whole stream read."""
    try:
        answer = ask(client, text, stream=streamed)
        if streamed:
            list(answer)
    except (openai.OpenAIError, anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
        return type(error)
    return None


@of_newer_sdks
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", RAISED)
def test_what_the_sdks_make_of_a_fault(
    gpt: openai.OpenAI,
    claude: anthropic.Anthropic,
    apps: Apps,
    fault: str,
    streamed: bool,
) -> None:
    text = f"hello scenario={fault}"
    if fault.startswith("stall"):
        gpt, claude = gpt.with_options(timeout=BRIEF), claude.with_options(timeout=BRIEF)
    of_openai, of_anthropic = RAISED[fault][streamed], RAISED[fault][2 + streamed]
    assert outcome(chat, gpt, text, streamed) is of_openai
    assert outcome(respond, gpt, text, streamed) is of_openai
    assert outcome(message, claude, text, streamed) is of_anthropic
    assert (apps[0].count(text), apps[1].count(text)) == (2, 1)


@of_newer_sdks
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_its_error(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, status: int, streamed: bool
) -> None:
    of_openai, of_anthropic = STATUSES[status]
    for ask in (chat, respond):
        with pytest.raises(of_openai) as refused:
            ask(gpt, f"scenario={status}", stream=streamed)
        assert isinstance(refused.value, openai.APIStatusError)
        assert refused.value.status_code == status and refused.value.request_id and refused.value.type
    with pytest.raises(of_anthropic) as denied:
        message(claude, f"scenario={status}", stream=streamed)
    assert isinstance(denied.value, anthropic.APIStatusError)
    assert denied.value.status_code == status and denied.value.request_id and denied.value.type


def test_half_a_stream_ends_in_silence(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    text = "one two three four scenario=truncate"
    deltas = [chunk.choices[0] for chunk in chat(gpt, text, stream=True)]
    assert "".join(each.delta.content or "" for each in deltas).startswith("echo: one")
    assert all(each.finish_reason is None for each in deltas)
    assert "response.completed" not in [event.type for event in respond(gpt, text, stream=True)]
    heard = [event.type for event in message(claude, text, stream=True)]
    assert "content_block_delta" in heard and "message_stop" not in heard


@of_newer_sdks
def test_some_of_a_stream_comes_before_a_fault(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    for fault in ("drop_mid", "stall", "malformed", "error_event"):
        text, got = f"one two three scenario={fault}", ""
        with pytest.raises((openai.APIError, ValueError)):
            for chunk in chat(gpt.with_options(timeout=BRIEF), text, stream=True):
                got += chunk.choices[0].delta.content or ""
        assert got.startswith("echo: one")
        seen: list[str] = []
        with pytest.raises((anthropic.APIError, httpx2.TransportError, ValueError)):
            seen.extend(event.type for event in message(claude.with_options(timeout=BRIEF), text, stream=True))


def test_an_error_inside_a_200(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.APIError):
        next(chat(gpt, "hello scenario=error_first", stream=True))
    assert next(respond(gpt, "hello scenario=error_first", stream=True)).type == "error"
    with pytest.raises(anthropic.APIStatusError):
        next(message(claude, "hello scenario=error_first", stream=True))
    text = "hello scenario=error_event"
    with pytest.raises(openai.APIError) as inside:
        list(chat(gpt, text, stream=True))
    assert inside.value.type == "server_error" and not isinstance(inside.value, openai.APIStatusError)
    assert chat(gpt, text).to_dict()["error"]["type"] == "server_error"
    last = list(respond(gpt, text, stream=True))[-1]
    assert (last.type, last.code) == ("error", "server_error")
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        list(message(claude, text, stream=True))
    assert (overloaded.value.status_code, overloaded.value.type) == (200, "overloaded_error")
    assert message(claude, text).type == "error"


def test_a_response_that_failed(gpt: openai.OpenAI) -> None:
    plain = respond(gpt, "scenario=failed")
    Response.model_validate(plain.to_dict())
    last = list(respond(gpt, "scenario=failed", stream=True))[-1]
    assert last.type == "response.failed"
    for failed in (plain, last.response):
        assert failed.status == "failed" and failed.error is not None and failed.error.code == "server_error"


def test_quotas_that_no_waiting_helps(gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.RateLimitError) as quota:
        chat(gpt, "scenario=hard_quota")
    assert (quota.value.code, quota.value.type) == ("insufficient_quota", "insufficient_quota")
    with pytest.raises(anthropic.RateLimitError) as limit:
        message(claude, "scenario=hard_quota")
    assert type(limit.value) is _SPENT


def test_a_status_says_when_to_come_again(gpt: openai.OpenAI) -> None:
    for name, header, value in (
        ("429_after", "retry-after", "0.05"),
        ("503-after", "retry-after", "0.05"),
        ("429_ms", "retry-after-ms", "50"),
        ("502_html", "content-type", "text/html"),
        ("503_noretry", "x-should-retry", "false"),
        ("400_retry", "x-should-retry", "true"),
        ("429", "retry-after", None),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            chat(gpt, f"scenario={name}")
        assert refused.value.response.headers.get(header) == value
    assert refused.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_fault_that_passes(gpt: openai.OpenAI, apps: Apps) -> None:
    patient = gpt.with_options(max_retries=2)
    text = "item 7 scenario=503_afterx2"
    assert chat(patient, text).choices[0].message.content == f"echo: {text}"
    assert apps[0].count(text) == 3
    with pytest.raises(openai.InternalServerError):
        chat(patient, "scenario=503_afterx3")
    assert apps[0].count("scenario=503_afterx3") == 3
    apps[0].forget()
    assert apps[0].count() == 0 and apps[0].requests == []
    with pytest.raises(openai.InternalServerError):
        chat(gpt, text)


def test_a_fault_by_header_and_one_nobody_knows(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        chat(gpt, "hello", extra_headers={"x-scenario": "500"})
    assert chat(gpt, "hello").choices[0].message.content == "echo: hello"
    with pytest.raises(openai.BadRequestError, match="stall_before"):
        chat(gpt, "scenario=of-no-kind")


def test_every_fault_is_shown_here() -> None:
    assert set(RAISED) | {"error_event", "error_first", "failed"} == FAULTS


# The log.


async def test_many_requests_at_once_are_kept_apart() -> None:
    app: ProviderApp = AnthropicApp(latency=0.01)
    texts = [f"item {number}" for number in range(40)]
    heard: dict[str, str] = {}
    with LocalServer(app) as server:
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=server.url, max_retries=0) as client:

            async def ask(text: str) -> None:
                arguments = {"model": CLAUDE, "max_tokens": 9, "messages": user(text)}
                answer = await client.messages.create(**arguments)
                heard[text] = answer.content[0].text

            async with anyio.create_task_group() as group:
                for text in texts:
                    group.start_soon(ask, text)
    assert heard == {text: f"echo: {text}" for text in texts}
    assert sorted(each.text for each in app.requests) == sorted(texts)
    assert all(app.count(text) == 1 for text in texts)
    first = app.requests[0]
    assert (first.number, first.path, first.body["model"]) == (1, "/messages", CLAUDE)
    assert first.headers["content-type"] == "application/json" and first.at <= time.monotonic()
    assert KEY not in repr(app.requests)
