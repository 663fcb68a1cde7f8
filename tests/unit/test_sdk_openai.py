"""What is said to OpenAI, and what its embeddings mean, with the types of the SDK and without a socket."""

from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from pynector._messages.usage import Usage
from pynector._sdk import openai_chat as chat
from pynector._sdk import openai_embeddings as embeddings
from pynector._sdk import openai_responses as responses
from pynector._sdk.request import make_request
from pynector.errors import ConfigurationError, SdkTransportError
from unit.openai_replies import City, asked, reply

PIXEL = "iVBORw0KGgo="
LOOK = {"name": "look_up", "description": "Looks it up.", "parameters": {"type": "object", "properties": {}}}
CALLED = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "name": "look_up", "arguments": {"of": "ä"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "A tree."},
]
SCHEMA = City.model_json_schema()


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
