"""Nothing that was asked gets lost on the way into the words of a provider: it is sent, or it is refused."""

from typing import Any

import anthropic
import pytest
from pydantic import BaseModel, Field

from pynector._sdk import anthropic_messages, openai_chat, openai_responses
from pynector._sdk.request import make_request
from pynector.errors import ConfigurationError


def chat(data: Any = "Hi", **fields: Any) -> dict[str, Any]:
    request = make_request(data, fields, {"model": "gpt-5"})
    return openai_chat.arguments_of(request, completion_tokens=True)


def responses(data: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return openai_responses.arguments_of(make_request(data, fields, {"model": "gpt-5"}))


def messages(data: Any = "Hi", **fields: Any) -> dict[str, Any]:
    return anthropic_messages.arguments_of(make_request(data, fields, {"model": "claude-x"}))


EVERYWHERE = (chat, responses, messages)


# Pictures


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "url": "https://h/a.png", "detail": "low"},
        {"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}},
        {"type": "input_image", "image_url": "https://h/a.png", "detail": "low"},
    ],
)
def test_how_closely_to_look(part: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": [part]}]}
    [sent] = chat(asked)["messages"][0]["content"]
    assert sent == {"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}}
    [sent] = responses(asked)["input"][0]["content"]
    assert sent == {"type": "input_image", "image_url": "https://h/a.png", "detail": "low"}
    with pytest.raises(ConfigurationError, match="anthropic has no `detail`"):
        messages(asked)


def test_a_picture_that_is_wrong() -> None:
    for part in ({"type": "image", "data": "AA", "media_type": 5}, {"type": "image", "url": "h", "detail": 5}):
        with pytest.raises(ConfigurationError, match=r"content\[0\]\.(media_type|detail): expected text, got int"):
            chat({"messages": [{"role": "user", "content": [part]}]})


# Speakers


def test_the_name_of_a_speaker() -> None:
    talk = {"messages": [{"role": "user", "name": "ann", "content": "Hi"}]}
    assert chat(talk)["messages"] == [{"role": "user", "content": "Hi", "name": "ann"}]
    for ask in (responses, messages):
        with pytest.raises(ConfigurationError, match="no `name`"):
            ask(talk)
    with pytest.raises(ConfigurationError, match=r"messages\[0\]\.name: expected text, got int"):
        chat({"messages": [{"role": "user", "name": 5, "content": "Hi"}]})
    answered = {"role": "tool", "name": "weather", "tool_call_id": "c1", "content": "rain"}
    for ask in EVERYWHERE:
        ask({"messages": [answered]})  # the name is that of the tool, which its call has too


def test_a_refusal_that_is_part_of_the_conversation() -> None:
    talk = {"messages": [{"role": "assistant", "content": None, "refusal": "No."}, {"role": "user", "content": "Why?"}]}
    assert chat(talk)["messages"][0] == messages(talk)["messages"][0] == {"role": "assistant", "content": "No."}


# Tools


def test_what_only_one_provider_knows_of_a_tool() -> None:
    cached = {"name": "w", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}
    assert messages(tools=[cached])["tools"] == [cached]
    assert messages(tools=[{"type": "custom", **cached}])["tools"] == [cached]
    nested = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}, "new": 1}}
    assert chat(tools=[nested])["tools"] == [nested]
    for ask in EVERYWHERE:
        with pytest.raises(ConfigurationError, match=r"unknown tools\[0\] key 'paramters': did you mean 'parameters'"):
            ask(tools=[{"name": "w", "paramters": {}}])
        with pytest.raises(ConfigurationError, match=r"tools\[0\]\.strict: 'yes' is not accepted"):
            ask(tools=[{"name": "w", "strict": "yes"}])


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "custom", "custom": {"name": "run", "format": {"type": "text"}}},
        {"type": "custom", "name": "run", "format": {"type": "text"}},
    ],
)
def test_tools_that_take_no_json(tool: dict[str, Any]) -> None:
    sent = chat(tools=[tool], tool_choice="run")
    assert sent["tools"] == [{"type": "custom", "custom": {"name": "run", "format": {"type": "text"}}}]
    assert sent["tool_choice"] == {"type": "custom", "custom": {"name": "run"}}
    sent = responses(tools=[tool], tool_choice="run")
    assert sent["tools"] == [{"type": "custom", "name": "run", "format": {"type": "text"}}]
    assert sent["tool_choice"] == {"type": "custom", "name": "run"}
    with pytest.raises(ConfigurationError, match="'run' takes no JSON, which anthropic does not have"):
        messages(tools=[tool])


def test_the_choice_of_a_tool() -> None:
    bash = {"type": "bash_20250124", "name": "bash"}
    assert messages(tools=[bash], tool_choice="bash")["tool_choice"] == {"type": "tool", "name": "bash"}
    for ask in EVERYWHERE:
        for choice in ("auto", "none"):
            assert "tool_choice" not in ask(tool_choice=choice)  # an error without tools, for all of them
        with pytest.raises(ConfigurationError, match="tool_choice='required' needs tools"):
            ask(tool_choice="required")
        with pytest.raises(ConfigurationError, match="'disable_parallel_tool_use' is only for one provider"):
            ask(tools=[{"name": "w"}], tool_choice={"type": "auto", "disable_parallel_tool_use": True})


# The form of an answer


class Deed(BaseModel):
    """What was done."""

    count: int = Field(ge=0, le=9, description="How often.")
    names: list[str] = Field(min_length=1, max_length=3)
    when: str = Field(default="now", pattern="^n", json_schema_extra={"format": "date"})
    more: "Deed | None" = None


def unknown_to_anthropic(schema: Any) -> list[str]:
    """What stands in a schema that the SDK of Anthropic would not let stand there."""
    known = {"$ref", "$defs", "type", "enum", "const", "anyOf", "allOf", "title", "description", "default"}
    known |= {"properties", "required", "additionalProperties", "items"}
    if not isinstance(schema, dict):
        return []
    found = [name for name in schema if name not in known]
    found = [name for name in found if not (name == "format" or (name == "minItems" and schema[name] in (0, 1)))]
    for name in ("$defs", "properties"):
        found += [each for inner in schema.get(name, {}).values() for each in unknown_to_anthropic(inner)]
    for inner in [*schema.get("anyOf", []), *schema.get("allOf", []), schema.get("items")]:
        found += unknown_to_anthropic(inner)
    return found


def test_what_anthropic_takes_of_a_schema() -> None:
    sent = messages(response_format=Deed)["extra_body"]["output_config"]["format"]["schema"]
    deed = sent["$defs"]["Deed"]
    assert unknown_to_anthropic(sent) == []
    assert deed["additionalProperties"] is False
    assert deed["properties"]["count"] == {
        "type": "integer",
        "title": "Count",
        "description": 'How often.\n\n{"maximum": 9, "minimum": 0}',
    }
    assert deed["properties"]["names"]["minItems"] == 1
    assert deed["properties"]["names"]["description"] == '{"maxItems": 3}'
    assert (deed["properties"]["when"]["format"], deed["properties"]["when"]["default"]) == ("date", "now")
    # OpenAI and its like take them.
    assert "maximum" in str(chat(response_format=Deed))


@pytest.mark.skipif(
    not hasattr(anthropic.types.shared, "ContractSpendLimitReachedError"), reason="older ones want a type everywhere"
)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "string"}, {"type": "null"}]}}},
        {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"type": {"type": "array", "items": {"$ref": "#/$defs/T"}}}, "$defs": {"T": {
            "type": "string", "minLength": 2, "format": "email"}}},
    ],
)  # fmt: skip
def test_it_is_what_the_sdk_of_anthropic_makes_of_it(schema: dict[str, Any]) -> None:
    """But for the words in which the model is told the rest."""

    def without_words(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_words(each) for key, each in value.items() if key != "description"}
        return [without_words(each) for each in value] if isinstance(value, list) else value

    sent = messages(response_format=schema)["extra_body"]["output_config"]["format"]["schema"]
    assert without_words(sent) == without_words(anthropic.transform_schema(schema))
