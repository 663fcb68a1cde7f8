"""Plain Python values as JSON, and back without loss: JSON itself knows no bytes, tuples, NaN or keys but text."""

import binascii
import math
import re
from typing import Any, Final

from ..errors import DeserializationError, SerializationError

# An object with this entry stands for what JSON lacks; a dict that has such an entry itself is written as one of them.
_KIND: Final = "$"
_VALUE: Final = "value"

# A line is also read from deep inside a program of the user's: where there is less room left on the stack.
_DEEPEST: Final = 100

_is_surrogate: Final = re.compile("[\ud800-\udfff]").search


def dump_plain(value: Any, where: str = "value", depth: int = 0) -> Any:
    """Turn plain Python values into what JSON can hold.

    Args:
        value: None, bool, int, float, text, bytes, and lists, tuples and dicts of them.
        where: How the text of an error calls the value.
        depth: How deep it lies in another one.

    Raises:
        SerializationError: There is something else in it; the text says where.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        if _is_utf8(value):
            return value
        return _tagged("text", to_base64(value.encode("utf-8", "surrogatepass")))
    if isinstance(value, float):
        return value if math.isfinite(value) else _tagged("float", repr(float(value)))
    if isinstance(value, bytes | bytearray):
        return _tagged("bytes", to_base64(value))
    if depth > _DEEPEST:
        raise SerializationError(f"{where[:80]}...: nested too deeply, or it contains itself")
    if isinstance(value, list | tuple):
        items = [dump_plain(each, f"{where}[{index}]", depth + 1) for index, each in enumerate(value)]
        return items if isinstance(value, list) else _tagged("tuple", items)
    if not isinstance(value, dict):
        raise SerializationError(f"{where}: a {type(value).__name__} is no plain value that a checkpoint can keep")
    if _KIND not in value and all(isinstance(key, str) and _is_utf8(key) for key in value):
        return {key: dump_plain(each, f"{where}.{key}", depth + 1) for key, each in value.items()}
    pairs = [
        [dump_plain(key, f"{where}: a key", depth + 1), dump_plain(each, f"{where}[{key!r:.80}]", depth + 1)]
        for key, each in value.items()
    ]
    return _tagged("dict", pairs)


def load_plain(stored: Any) -> Any:
    """Return the value that `dump_plain` was given.

    Raises:
        DeserializationError: It is nothing that `dump_plain` makes.
    """
    if isinstance(stored, list):
        return [load_plain(each) for each in stored]
    if not isinstance(stored, dict):
        return stored
    if _KIND not in stored:
        return {key: load_plain(each) for key, each in stored.items()}
    try:
        match stored[_KIND], stored[_VALUE]:
            case "text", str(value):
                return from_base64(value).decode("utf-8", "surrogatepass")
            case "float", str(value):
                return float(value)
            case "bytes", str(value):
                return from_base64(value)
            case "tuple", list(items):
                return tuple(load_plain(each) for each in items)
            case "dict", list(pairs):
                return {load_plain(key): load_plain(each) for key, each in pairs}
    except (ValueError, TypeError, KeyError) as error:
        raise DeserializationError(f"not a stored value: {error}") from error
    raise DeserializationError(f"not a stored value: it is of the unknown kind {stored[_KIND]!r:.80}")


def to_base64(data: bytes | bytearray) -> str:
    """Write bytes as text."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str) -> bytes:
    """Read what `to_base64` wrote.

    Raises:
        ValueError: It is something else.
    """
    return binascii.a2b_base64(text, strict_mode=True)


def _is_utf8(text: str) -> bool:
    return text.isascii() or _is_surrogate(text) is None


def _tagged(kind: str, value: Any) -> dict[str, Any]:
    return {_KIND: kind, _VALUE: value}
