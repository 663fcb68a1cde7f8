"""One request to a language model, in words that mean the same for every provider."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .._config import check_names
from ..errors import ConfigurationError
from .schema import ResponseFormat
from .turns import Turn, checked_turns

REQUEST_FIELDS: Final = frozenset(
    {
        "prompt",
        "messages",
        "system",
        "input",
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "stop",
        "tools",
        "tool_choice",
        "response_format",
        "extra",
        "headers",
    }
)
"""What a request may have: the keys of a mapping, and the options of a call for them."""

_ASKING: Final = ("prompt", "messages", "input")
_CHOICES: Final = ("auto", "none", "required")
_OF_TOOLS: Final = frozenset({"type", "name", "description", "parameters", "input_schema", "strict", "function"})


class Tool:
    """A tool that the model may call.

    Args:
        name: Its name.
        description: What it is for.
        parameters: The JSON schema of its arguments.
        strict: Whether the provider must keep to that in every detail; None to leave it to the provider.
        raw: A tool of the provider's own, which is sent as it is; of the rest there is the name alone then.
        extra: What only the provider knows of it, sent beside the rest as it is.

    Attributes:
        name: As given.
        description: As given.
        parameters: As given.
        strict: As given.
        raw: As given.
        extra: As given.
    """

    __slots__ = ("description", "extra", "name", "parameters", "raw", "strict")

    def __init__(
        self,
        name: str,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        strict: bool | None = None,
        raw: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.description = description
        self.parameters: dict[str, Any] = dict(parameters or {"type": "object", "properties": {}})
        self.strict = strict
        self.raw = raw
        self.extra: dict[str, Any] = dict(extra or {})

    @property
    def is_custom(self) -> bool:
        """Whether it is one of those of OpenAI that are given a text, and no JSON."""
        return self.raw is not None and self.raw.get("type") == "custom"


class SdkRequest:
    """A request, checked, in which the names are the same for every provider.

    Attributes:
        data: What the user has given.
        turns: The conversation, without what stood in it as `system`.
        system: What the model is told before it; None for nothing.
        input: The texts to be embedded, if that is what is asked for; then there are no turns.
        model: The model.
        max_tokens: The most tokens of the answer; None for what the provider says.
        temperature: How free the answer is; None for what the provider says.
        top_p: How many of the likely words are looked at, from 0 to 1; None likewise.
        stop: Texts that end the answer.
        tools: What the model may call.
        tool_choice: `auto`, `none`, `required`, or the name of the one tool that it must call; None for the provider's,
            and where there are no tools.
        response_format: What the answer must look like.
        extra: What only this provider knows: put into the request as it is, over all else.
        headers: Headers for this request.
        arguments: For the adapter, to keep what it has made of all this from one attempt to the next.
    """

    __slots__ = (
        "arguments",
        "data",
        "extra",
        "headers",
        "input",
        "max_tokens",
        "model",
        "response_format",
        "stop",
        "system",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "turns",
    )

    def __init__(self, data: object, fields: Mapping[str, Any]) -> None:
        self.data = data
        self.arguments: Any = None
        self.model = _text("model", fields.get("model"))
        self.max_tokens = _count("max_tokens", fields.get("max_tokens"))
        self.temperature = _number("temperature", fields.get("temperature"))
        self.top_p = _number("top_p", fields.get("top_p"))
        self.stop = _stop(fields.get("stop"))
        self.tools = _tools(fields.get("tools"))
        self.extra = _mapping("extra", fields.get("extra"))
        self.tool_choice = _choice(fields.get("tool_choice"), self.tools)
        if self.tool_choice is not None and not (self.tools or "tools" in self.extra or fields.get("input")):
            # Without tools it is an error for the providers, also where it says nothing.
            if self.tool_choice == "required":
                raise ConfigurationError("tool_choice='required' needs tools: give tools=")
            self.tool_choice = None
        self.response_format = ResponseFormat.of(fields.get("response_format"))
        self.headers = _headers(fields.get("headers"))
        self.input: tuple[str, ...] | None = None
        self.turns: tuple[Turn, ...] = ()
        self.system: str | None = None
        if fields.get("input") is not None:
            self.input = _input(fields["input"])
        else:
            self.turns, self.system = _conversation(fields)

    def __repr__(self) -> str:
        what = f"{len(self.input)} texts" if self.input is not None else f"{len(self.turns)} messages"
        return f"<{type(self).__name__} {self.model or 'no model'}, {what}>"

    # The text of errors: what was asked is the user's own affair.
    __str__ = __repr__


def make_request(data: object, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> SdkRequest:
    """Make a request of what the user has given.

    Args:
        data: A prompt (`str`, or `bytes` in UTF-8), or a mapping with `prompt`, `messages` or `input`, and any other of
            `REQUEST_FIELDS`.
        options: The same fields for this call; those of the mapping win over them.
        defaults: Of the transport.

    Raises:
        ConfigurationError: A field is unknown or wrong, or nothing is asked; the text says which, and what is right.
    """
    if isinstance(data, SdkRequest):
        return data
    if isinstance(data, str | bytes):
        own: Mapping[str, Any] = {"prompt": data}
    elif isinstance(data, Mapping):
        own = data
        if not own.keys() <= REQUEST_FIELDS:
            check_names("request key", own, REQUEST_FIELDS)
    else:
        raise ConfigurationError(
            f"a request: expected a prompt (text), or a mapping with `prompt` or `messages`, got {type(data).__name__}"
        )
    if options and not options.keys() <= REQUEST_FIELDS:
        check_names("option", options, REQUEST_FIELDS)
    fields = {**defaults, **options, **own}
    given = [name for name in _ASKING if fields.get(name) is not None]
    if len(given) != 1:
        what = " and ".join(given) + " were given" if given else "nothing is asked"
        raise ConfigurationError(f"{what}: a request has one of `prompt`, `messages` and `input` (texts to embed)")
    return SdkRequest(data, fields)


def _conversation(fields: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str | None]:
    prompt = fields.get("prompt")
    if prompt is None:
        turns, system = checked_turns(fields["messages"])
    else:
        turns, system = (Turn.of_text("user", _prompt(prompt)),), None
    own = fields.get("system")
    if own is None:
        return turns, system
    if system is not None:
        raise ConfigurationError("system was given, and a message with the role `system` as well: give one of them")
    return turns, _text("system", own)


def _prompt(prompt: object) -> str:
    if isinstance(prompt, bytes):
        try:
            prompt = prompt.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"prompt: the bytes are not UTF-8 (at {error.start})") from None
    if not isinstance(prompt, str):
        raise ConfigurationError(f"prompt: expected text, got {type(prompt).__name__}; a conversation goes to messages")
    return prompt


def _input(given: object) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(each, str) for each in texts):
        raise ConfigurationError(
            "input: expected a text, or a list of texts, to embed; a conversation goes to `messages`"
        )
    return tuple(texts)


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ConfigurationError(f"{name}: expected text, got {type(value).__name__}")


def _count(name: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigurationError(f"{name}: {value!r:.80} is not accepted; give an integer of 1 or more")


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return value
    raise ConfigurationError(f"{name}: {value!r:.80} is not accepted; give a number of 0 or more")


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(each, str) and each for each in texts):
        raise ConfigurationError("stop: expected a text that is not empty, or a list of them")
    return tuple(texts)


def _mapping(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name}: expected a mapping, got {type(value).__name__}")
    return dict(value)


def _headers(value: object) -> dict[str, str]:
    headers = _mapping("headers", value)
    if not all(isinstance(each, str) for pair in headers.items() for each in pair):
        raise ConfigurationError("headers: names and values are texts")  # never show one: it may be a credential
    return headers


def _tools(given: object) -> tuple[Tool, ...]:
    if given is None:
        return ()
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise ConfigurationError(f"tools: expected a list of mappings, got {type(given).__name__}")
    return tuple(_tool(each, number) for number, each in enumerate(given))


def _tool(given: object, number: int) -> Tool:
    """A tool in our words, or in those of OpenAI or Anthropic: they are easy to tell apart."""
    where = f"tools[{number}]"
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: expected a mapping, got {type(given).__name__}")
    kind = given.get("type", "function")
    # Anthropic calls those `custom` that OpenAI calls functions, and OpenAI those that take no JSON.
    if kind != "function" and not (kind == "custom" and "input_schema" in given):
        inner = given.get("custom")
        name = inner.get("name") if isinstance(inner, Mapping) else given.get("name")
        return Tool(name if isinstance(name, str) else "", raw=given)
    nested = given.get("function")
    body: Mapping[str, Any] = nested if isinstance(nested, Mapping) else given
    parameters = body.get("parameters", body.get("input_schema"))
    name, strict = body.get("name"), body.get("strict")
    if not isinstance(name, str) or not name or not isinstance(parameters, Mapping | None):
        raise ConfigurationError(f'{where}: give {{"name": ..., "description": ..., "parameters": a JSON schema}}')
    if not isinstance(strict, bool | None):
        raise ConfigurationError(f"{where}.strict: {strict!r:.80} is not accepted; give True or False")
    more = {key: value for each in (given, body) for key, value in each.items() if key not in _OF_TOOLS}
    if more and body is given and "input_schema" not in given and "type" not in given:
        check_names(f"{where} key", more, _OF_TOOLS - {"function", "input_schema", "type"})
    return Tool(name, _text(f"{where}.description", body.get("description")), parameters, strict, extra=more)


def _choice(given: object, tools: Sequence[Tool]) -> str | None:
    if given is None:
        return None
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in ("type", "name", "function")]
        if unknown:
            raise ConfigurationError(
                f"tool_choice: {unknown[0]!r:.80} is only for one provider: give the whole tool_choice in `extra`"
            )
        function = given.get("function")
        given = function.get("name") if isinstance(function, Mapping) else given.get("name", given.get("type"))
        given = {"any": "required"}.get(str(given), given)
    names = [tool.name for tool in tools if tool.name]
    if isinstance(given, str) and (given in _CHOICES or given in names):
        return given
    raise ConfigurationError(
        f"tool_choice: {given!r:.80} is not accepted; give {', '.join(map(repr, _CHOICES))} or the name of a tool"
    )
