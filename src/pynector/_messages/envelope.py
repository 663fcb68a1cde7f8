"""The JSON form of an `HttpMessage`: all its fields, so that what is read back equals what was written."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from ..errors import ConfigurationError, DeserializationError, SerializationError
from .headers import Headers
from .http import HttpMessage

_M = TypeVar("_M", bound=HttpMessage)

_BASE64: Final = "base64"


def dump(message: HttpMessage) -> dict[str, Any]:
    """Turn a message into JSON-ready values.

    Raises:
        SerializationError: The message uploads a file or an iterable.
    """
    if not message.in_memory:
        raise SerializationError("a request that uploads a file or an iterable cannot be serialised")
    head = {"method": message.method, "url": message.url, "headers": _dump_headers(message.headers)}
    if not message.status_code:
        fields: dict[str, Any] = {
            "params": message.params,
            "json": message.json_data,
            "form": message.form_data,
            "files": message.files and _dump_files(message.files),
            "content": _dump_content(message.content_data),
        }
        return {
            "type": "request",
            **head,
            **{key: value for key, value in fields.items() if value is not None},
        }
    return {
        "type": "response",
        "status_code": message.status_code,
        "reason_phrase": message.reason_phrase,
        **head,
        "content": _dump_content(message.content),
        "elapsed": message.elapsed,
        "http_version": message.http_version,
        "request": message.request and dump(message.request.without_uploads()),
        "history": [dump(each) for each in message.history],
    }


def load(cls: type[_M], data: bytes) -> _M:
    """Make a message from the bytes of a dumped one.

    Raises:
        DeserializationError: The bytes are no such message; the text says where.
    """
    try:
        fields = json.loads(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise DeserializationError(f"message: not JSON: {error}") from error
    return _load(cls, fields, "message")


def _load(cls: type[_M], fields: Any, where: str) -> _M:
    if not isinstance(fields, dict):
        raise DeserializationError(f"{where}: expected an object, got {type(fields).__name__}")
    kind = fields.get("type")
    if kind not in ("request", "response"):
        raise DeserializationError(f"{where}.type: expected 'request' or 'response', got {kind!r:.80}")
    try:
        if kind == "request":
            return cls(
                _get(fields, "method", str, where),
                _get(fields, "url", str, where),
                fields.get("params"),
                _load_headers(fields, where),
                fields.get("json"),
                fields.get("form"),
                _optional(fields, "files", _load_files, where),
                _optional(fields, "content", _load_content, where),
            )
        content = _load_content(fields.get("content"), f"{where}.content")
        if not isinstance(content, bytes):
            raise DeserializationError(f"{where}.content: expected base64 in an object")
        request = fields.get("request")
        history = _get(fields, "history", list, where)
        message = cls.response(
            status_code=_get(fields, "status_code", int, where),
            headers=_load_headers(fields, where),
            content=content,
            request=None if request is None else _load(HttpMessage, request, f"{where}.request"),
            elapsed=float(_get(fields, "elapsed", (int, float), where)),
            http_version=_get(fields, "http_version", str, where),
            history=tuple(_load(cls, each, f"{where}.history[{n}]") for n, each in enumerate(history)),
            reason_phrase=_get(fields, "reason_phrase", str, where),
        )
        # As they were, and not as they follow from the request.
        message.method = _get(fields, "method", str, where)
        message.url = _get(fields, "url", str, where)
    except ConfigurationError as error:
        raise DeserializationError(f"{where}: {error}") from error
    return message


def _get(fields: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = fields.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(each.__name__ for each in kinds)
        raise DeserializationError(f"{where}.{name}: expected {expected}, got {type(value).__name__}")
    return value


def _optional(fields: Mapping[str, Any], name: str, read: Callable[[Any, str], Any], where: str) -> Any:
    value = fields.get(name)
    return None if value is None else read(value, f"{where}.{name}")


# Latin-1 maps every byte to one character and back, so nothing of a header is lost.
def _dump_headers(headers: Headers) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers.raw]


def _load_headers(fields: Mapping[str, Any], where: str) -> Headers:
    return Headers(_get(fields, "headers", list, where))


# Text stays text; bytes become an object, so that the two can be told apart.
def _dump_content(content: Any) -> Any:
    return {_BASE64: base64.b64encode(content).decode()} if isinstance(content, bytes) else content


def _load_content(value: Any, where: str) -> bytes | str:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or not isinstance(value.get(_BASE64), str):
        raise DeserializationError(f"{where}: expected text, or an object with base64, got {type(value).__name__}")
    try:
        return base64.b64decode(value[_BASE64], validate=True)
    except (binascii.Error, ValueError) as error:
        raise DeserializationError(f"{where}.{_BASE64}: {error}") from error


def _dump_files(files: Any) -> Any:
    def upload(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [value[0], _dump_content(value[1]), *value[2:]]
        return _dump_content(value)

    if isinstance(files, Mapping):
        return {name: upload(value) for name, value in files.items()}
    return [[name, upload(value)] for name, value in files]


def _load_files(value: Any, where: str) -> Any:
    def upload(value: Any, where: str) -> Any:
        if isinstance(value, list) and len(value) in (2, 3):
            return (value[0], _load_content(value[1], f"{where}[1]"), *value[2:])
        return _load_content(value, where)

    if isinstance(value, dict):
        return {name: upload(each, f"{where}.{name}") for name, each in value.items()}
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise DeserializationError(f"{where}: expected an object or a list of pairs")
    return [(name, upload(each, f"{where}[{index}][1]")) for index, (name, each) in enumerate(value)]
