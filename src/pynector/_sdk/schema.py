"""The form that an answer is asked to have, and how its text is read by it."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import ConfigurationError, DeserializationError

_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")

# What Anthropic takes, as its own SDK has it (`anthropic.transform_schema`), and from its documentation of structured
# outputs; anything else in a schema is refused there.
_TAKEN: Final = frozenset(
    {
        "$ref",
        "type",
        "enum",
        "const",
        "title",
        "description",
        "default",
        "required",
        "additionalProperties",
    }
)
_NAMED: Final = ("$defs", "definitions", "properties")
_CHOICES: Final = ("anyOf", "oneOf", "allOf")
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


class ResponseFormat:
    """A JSON schema for the answer.

    Args:
        name: What the schema is called.
        schema: The JSON schema; None for any JSON object.
        model: The pydantic model that it is of, if it is of one.
        strict: Whether the provider must keep to it in every detail; None to leave that to the provider.

    Attributes:
        name: As given.
        schema: As given.
        strict: As given.
    """

    __slots__ = ("_model", "name", "schema", "strict")

    def __init__(self, name: str, schema: dict[str, Any] | None, model: Any = None, strict: bool | None = None) -> None:
        self.name = name
        self.schema = schema
        self.strict = strict
        self._model = model

    @classmethod
    def of(cls, given: object) -> "ResponseFormat | None":
        """What the user gave as `response_format`.

        Args:
            given: A JSON schema; a pydantic model; `{"type": "json_object"}`; or the form of OpenAI,
                `{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}`. None and `{"type": "text"}`
                are no format.

        Raises:
            ConfigurationError: It is something else.
        """
        if given is None or isinstance(given, ResponseFormat):
            return given
        if isinstance(given, type) and callable(getattr(given, "model_json_schema", None)):
            schema: dict[str, Any] = given.model_json_schema()  # type: ignore[attr-defined]  # it was just looked for
            return cls(_name(given.__name__), schema, given)
        if not isinstance(given, Mapping):
            raise ConfigurationError(
                f"response_format: {type(given).__name__} is not accepted; give a JSON schema (a mapping) or a "
                "pydantic model"
            )
        match given.get("type"):
            case "text":
                return None
            case "json_object":
                return cls("answer", None)
            case "json_schema":
                return cls._nested(given.get("json_schema", given))
        return cls(_name(str(given.get("title", "answer"))), dict(given))

    @classmethod
    def _nested(cls, given: object) -> "ResponseFormat":
        schema = given.get("schema") if isinstance(given, Mapping) else None
        if not isinstance(given, Mapping) or not isinstance(schema, Mapping):
            raise ConfigurationError('response_format: {"type": "json_schema"} needs {"json_schema": {"schema": ...}}')
        return cls(_name(str(given.get("name", "answer"))), dict(schema), strict=given.get("strict"))

    def parse(self, text: str) -> Any:
        """Read the text of an answer.

        Returns:
            An instance of the model if there is one, else a JSON value.

        Raises:
            DeserializationError: It is not JSON, or not what the model wants; the cause says where.
        """
        try:
            return json.loads(text) if self._model is None else self._model.model_validate_json(text)
        except (ValueError, RecursionError) as error:  # pydantic's own is a ValueError
            what = "JSON" if self._model is None else f"a {self.name}"
            raise DeserializationError(f"the answer is not {what}: {type(error).__name__}") from error

    def closed_schema(self) -> dict[str, Any]:
        """The schema with `additionalProperties: false` in every object that does not say: providers ask for it."""
        return {} if self.schema is None else _closed(self.schema)

    def bare_schema(self) -> dict[str, Any]:
        """The schema as Anthropic takes it: closed, and what it does not take is told to the model in words."""
        return {} if self.schema is None else _bare(self.schema)


def _name(text: str) -> str:
    """A name as OpenAI takes it: letters, digits, underscores and dashes, at most 64."""
    return _NOT_IN_A_NAME.sub("_", text)[:64] or "answer"


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


def _bare(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    bare: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _NAMED:
            bare[name] = {key: _bare(each) for key, each in value.items()} if isinstance(value, dict) else value
        elif name in _CHOICES and isinstance(value, list):
            bare["anyOf" if name == "oneOf" else name] = [_bare(each) for each in value]
        elif name == "items":
            bare[name] = _bare(value)
        elif name == "additionalProperties" and value is not False:
            told[name] = value
        elif name in _TAKEN or (name == "format" and value in _FORMATS) or (name == "minItems" and value in (0, 1)):
            bare[name] = value
        elif not name.startswith("$"):
            told[name] = value
    if schema.get("type") == "object":
        bare["additionalProperties"] = False
    if told:
        words = json.dumps(told, ensure_ascii=False, default=str)
        bare["description"] = f"{bare['description']}\n\n{words}" if "description" in bare else words
    return bare
