"""Turns values into bodies and query strings, and names the place of what cannot be turned."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlencode

from ..errors import SerializationError

Scalar: TypeAlias = str | int | float | bool | None
"""One value of a query or a form; as in httpx, `True` is sent as `true` and `None` as an empty text."""

FieldTypes: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]] | Sequence[tuple[str, Scalar]]
"""The fields of a query or a form: a mapping (a list is sent as a repeated field) or pairs."""


class JsonCodec(Protocol):
    """A JSON library: an object, or a module such as `orjson`."""

    def dumps(self, obj: Any, /) -> bytes | str:
        """Encode a value."""
        ...

    def loads(self, data: bytes, /) -> Any:
        """Parse a body."""
        ...


class RequestBody(Protocol):
    """What `encode_body` reads; `HttpMessage` has it."""

    @property
    def json_data(self) -> Any: ...
    @property
    def form_data(self) -> FieldTypes | None: ...
    @property
    def files(self) -> object: ...
    @property
    def content_data(self) -> object: ...


# `json.dumps` with arguments builds an encoder for every call.
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode_body(request: RequestBody, codec: JsonCodec | None = None) -> tuple[bytes | None, str | None]:
    """Encode the body of a request as far as it is in memory.

    Args:
        request: The request.
        codec: What JSON is encoded with; the standard library by default.

    Returns:
        The bytes, or `None` where there is no body or the transport must stream it (files, file objects,
        iterables); and the content type that goes with them, or `None`.

    Raises:
        SerializationError: A value cannot be serialised; the text names it, as in `json.items[3].when`.
    """
    if request.json_data is not None:
        if codec is not None:
            return encode_json_with(codec, request.json_data), "application/json"
        return encode_json(request.json_data), "application/json"
    if request.files is not None:
        return None, None
    if request.form_data is not None:
        return encode_fields(request.form_data, "form").encode(), "application/x-www-form-urlencoded"
    content = request.content_data
    if isinstance(content, bytes):
        return content, None
    if isinstance(content, str):
        try:
            return content.encode(), None
        except UnicodeEncodeError:
            raise SerializationError("content: the text holds a lone surrogate, which UTF-8 cannot encode") from None
    return None, None


def encode_json(value: Any, where: str = "json") -> bytes:
    """Encode a value as compact JSON.

    Args:
        value: What `json.dumps` accepts; NaN and infinities are refused, since they are not JSON.
        where: How the text of an error calls the value.

    Raises:
        SerializationError: Something in it is not JSON serialisable; the text names the path to it:
            "json.items[3].when: datetime is not JSON serialisable".
    """
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = _find_problem(value, where)
        raise SerializationError(problem or f"{where}: it cannot be encoded: {error}") from error


def encode_json_with(codec: JsonCodec, value: Any, where: str = "json") -> bytes:
    """Encode a value as JSON with a library of the user's.

    Args:
        codec: The library.
        value: What it accepts.
        where: How the text of an error calls the value.

    Raises:
        SerializationError: The library raised, or gave neither bytes nor text.
    """
    try:
        encoded = codec.dumps(value)
        if isinstance(encoded, str):
            return encoded.encode()
    except Exception as error:  # each library has errors of its own
        raise SerializationError(f"{where}: it cannot be encoded: {error}") from error
    if isinstance(encoded, bytes):
        return encoded
    raise SerializationError(f"{where}: json_codec.dumps gave {type(encoded).__name__}, neither bytes nor text")


def encode_fields(fields: FieldTypes, where: str) -> str:
    """Encode the fields of a query or a form as `application/x-www-form-urlencoded` text.

    Args:
        fields: A mapping, whose lists become repeated fields, or pairs.
        where: How the text of an error calls it: `params` or `form`.

    Raises:
        SerializationError: A value is no text, number, bool or `None`; the text names it.
    """
    pairs: list[tuple[str, str]] = []
    items: Iterable[Any] = fields.items() if isinstance(fields, Mapping) else fields
    for item in items:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise SerializationError(f"{where}: expected pairs (name, value), got {type(item).__name__} among them")
        name, value = item
        path = _member(where, name)
        if isinstance(value, list | tuple):
            pairs.extend((str(name), _scalar(each, f"{path}[{index}]")) for index, each in enumerate(value))
        else:
            pairs.append((str(name), _scalar(value, path)))
    try:
        return urlencode(pairs)
    except UnicodeEncodeError:
        raise SerializationError(f"{where}: a text in it cannot be encoded as UTF-8") from None


def _scalar(value: object, path: str) -> str:
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    raise SerializationError(f"{path}: {type(value).__name__} cannot be sent; give text, a number, a bool or None")


def _member(path: str, key: object) -> str:
    return f"{path}.{key}" if isinstance(key, str) and key.isidentifier() else f"{path}[{key!r}]"


def _find_problem(root: Any, where: str) -> str | None:
    """Walk a value in document order, without recursion, to the first thing that is not JSON."""
    stack: list[tuple[Any, str, frozenset[int]]] = [(root, where, frozenset())]
    while stack:
        value, path, parents = stack.pop()
        if value is None or isinstance(value, bool | int):
            continue
        if isinstance(value, str):
            if not _is_utf8(value):
                return f"{path}: the text holds a lone surrogate, which UTF-8 cannot encode"
        elif isinstance(value, float):
            if not math.isfinite(value):
                return f"{path}: {value!r} is not JSON serialisable"
        elif isinstance(value, dict | list | tuple):
            if id(value) in parents:
                return f"{path}: the value contains itself"
            if len(parents) > 500:
                return f"{path[:80]}...: nested too deeply"
            inside = parents | {id(value)}
            children: list[tuple[Any, str, frozenset[int]]] = []
            if isinstance(value, dict):
                for key, each in value.items():
                    if not (key is None or isinstance(key, str | int | float)):
                        return f"{path}: a key is {type(key).__name__}, not text"
                    if isinstance(key, str) and not _is_utf8(key):
                        return f"{path}: a key holds a lone surrogate, which UTF-8 cannot encode"
                    if isinstance(key, float) and not math.isfinite(key):
                        return f"{path}: the key {key!r} is not JSON serialisable"
                    children.append((each, _member(path, key), inside))
            else:
                children.extend((each, f"{path}[{index}]", inside) for index, each in enumerate(value))
            stack.extend(reversed(children))
        else:
            return f"{path}: {type(value).__name__} is not JSON serialisable"
    return None


_is_surrogate: Final = re.compile("[\ud800-\udfff]").search


def _is_utf8(text: str) -> bool:
    return _is_surrogate(text) is None
