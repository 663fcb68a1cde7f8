"""One form for all the ways in which the same request can be written, so that it can be recognised."""

import json
from collections.abc import Mapping
from typing import Any, Final

from .._messages.fields import REQUEST_KEYS
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from ..errors import SerializationError

# A form that cannot be confused with another: scalars stand for themselves, and whatever else there is becomes an array
# that begins with the letter of its kind.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Integers beyond this many bits are written in hexadecimal: Python refuses to write very long ones in decimal.
_LONG: Final = 8192


def canonical(data: Any, *, http: bool = True) -> bytes:
    """Return a form of a request that is the same for equal requests, and different for different ones.

    A mapping is the same in any order of its keys, and a tuple the same as a list. HTTP requests are also the same
    if they differ in the case of the method or of header names, in the order of headers of different names, in
    which of two names of a field is used (`path` or `url`, `json` or `json_data`, `form` or `form_data`), in
    whether the method GET is named, and in whether they are a mapping or an `HttpMessage`.

    Args:
        data: The request: a mapping, an `HttpMessage` or another message, text, bytes, or lists, numbers, bools and
            None, at any depth.
        http: Whether mappings are HTTP requests; otherwise all of their entries count as they are.

    Returns:
        Bytes, of use for comparing and hashing only. They hold the request, credentials included: hash them.

    Raises:
        SerializationError: There is something in it that can't be compared, such as a file, an iterator or a
            callable; the text says where.
        ConfigurationError: It looks like an HTTP request and is not a valid one.

    Example:
        >>> canonical({"path": "/a", "method": "get"}) == canonical({"url": "/a"})
        True
    """
    try:
        return _encode(_form_of(data, http)).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise SerializationError("a request that is nested too deeply, or contains itself, has no key") from None
    except _UnfitError as error:
        raise _refusal(data, error.value) from None


class _UnfitError(Exception):
    """A value that is not fixed, or not known to be."""

    def __init__(self, value: object) -> None:
        self.value = value


def _form_of(data: Any, http: bool) -> Any:
    if isinstance(data, HttpMessage):
        return _http_form(data)
    if http and isinstance(data, Mapping) and data.keys() <= REQUEST_KEYS:
        headers = data.get("headers")
        if headers is not None and not isinstance(headers, Mapping | list | tuple):
            raise _UnfitError(headers)  # before it is read, which can be done once only
        return _http_form(HttpMessage.from_mapping(data))
    return _form(data)


def _http_form(message: HttpMessage) -> Any:
    content = message.content_data
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return [
        "http",
        message.method,
        message.url,
        _form(message.params),
        _header_form(message.headers),
        _form(message.json_data),
        _form(message.form_data),
        _form(message.files),
        _form(content),
        # A message that is an answer is nothing to be sent; it shall at least not pass for its request.
        message.status_code,
    ]


def _header_form(headers: Headers) -> Any:
    # Fields of one name keep their order, in which they have a meaning; `sorted` is stable.
    return sorted(headers.multi_items(), key=_name_of)


def _name_of(field: tuple[str, str]) -> str:
    return field[0]


def _form(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _LONG else ["i", hex(value)]
    if isinstance(value, Mapping):
        # By keys as text, since those of several types can't be compared with each other.
        return ["m", *sorted([[_key_form(key), _form(each)] for key, each in value.items()], key=_first)]
    if isinstance(value, list | tuple):
        return ["l", *map(_form, value)]
    if isinstance(value, bytes | bytearray | memoryview):
        return ["b", bytes(value).hex()]
    if isinstance(value, HttpMessage):
        return _http_form(value)
    serialize = getattr(value, "serialize", None)
    if callable(serialize) and not isinstance(value, type):
        data = serialize()
        if isinstance(data, bytes):
            return ["s", f"{type(value).__module__}.{type(value).__qualname__}", data.hex()]
    raise _UnfitError(value)


def _key_form(key: Any) -> str:
    return "s" + key if isinstance(key, str) else "o" + _encode(_form(key))


def _first(pair: list[Any]) -> Any:
    return pair[0]


def _refusal(data: Any, culprit: object) -> SerializationError:
    kind = type(culprit).__name__
    if hasattr(culprit, "read"):
        what = f"a file ({kind}) has no key: what is in it may change"
    elif hasattr(culprit, "__next__") or hasattr(culprit, "__anext__"):
        what = f"an iterator ({kind}) has no key: it can be read only once"
    elif callable(culprit):
        what = f"a callable ({kind}) has no key"
    else:
        what = f"a value of type {kind} has no key"
    try:
        where = _path_to(data, culprit)
    except RecursionError:
        where = None
    return SerializationError(
        f"{f'{where}: ' if where else ''}{what}; give key=, or give the item a `key` or `custom_id` of its own"
    )


def _path_to(value: Any, culprit: object) -> str | None:
    """Where in a value the culprit is, such as `json.items[3]`."""
    if value is culprit:
        return ""
    if isinstance(value, HttpMessage):
        value = value.get_payload()
    if isinstance(value, Mapping):
        children = [(str(key)[:80], each) for key, each in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"[{index}]", each) for index, each in enumerate(value)]
    else:
        return None
    for name, each in children:
        path = _path_to(each, culprit)
        if path is not None:
            return f"{name}{'.' if path and not path.startswith('[') else ''}{path}"
    return None
