"""Errors in a checkpoint: what is written for one, and the error that is made of it again."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from .. import errors
from .._messages.redact import redact_text
from ..errors import DeserializationError, PynectorError, SerializationError, TransportError
from .plain import dump_plain, load_plain
from .values import ValueCodec

_CLASSES: Final[Mapping[str, type[PynectorError]]] = {name: getattr(errors, name) for name in errors.__all__}

# Of other fields, which a class of the user's may have, nobody knows whether they hold a credential.
_FIELDS: Final = (
    "attempts",
    "code",
    "elapsed",
    "foreign",
    "method",
    "partial",
    "phase",
    "provider",
    "request_id",
    "retry_after",
    "sent",
    "stale",
    "status_code",
    "transient",
    "url",
)


def dump_error(error: BaseException, codec: ValueCodec) -> dict[str, Any]:
    """Turn an error into what JSON can hold: its class, text, main fields and notes. Its cause is left out.

    What can't be written is left out as well: an error is never the reason for which another one is raised.
    """
    kind = type(error)
    name = next((cls.__name__ for cls in kind.__mro__ if _CLASSES.get(cls.__name__) is cls), None)
    message = _text_of(error)
    if name is None:
        # Ours have redacted texts; of others that is not known.
        name, message = "TransportError", redact_text(f"{kind.__qualname__}: {message}")
    stored: dict[str, Any] = {"type": name, "message": dump_plain(message)}
    fields = {}
    for field in _FIELDS:
        if field in vars(error):
            with suppress(SerializationError):
                fields[field] = dump_plain(vars(error)[field])
    if fields:
        stored["fields"] = fields
    response = getattr(error, "response", None)
    if response is not None:
        with suppress(SerializationError):
            stored["response"] = codec.dump_message(response)
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    if notes:
        stored["notes"] = dump_plain(notes)
    return stored


def load_error(stored: Any, codec: ValueCodec, request: Any) -> PynectorError:
    """Make the error again: one of the same class, or of the nearest of ours, else a `TransportError`.

    Args:
        stored: What `dump_error` returned.
        codec: What its response was written with.
        request: The item, for the request of its response.

    Raises:
        DeserializationError: It is something else.
    """
    if not isinstance(stored, dict) or not isinstance(stored.get("type"), str):
        raise DeserializationError("not a stored error")
    # A name that is unknown here may be known to a newer version.
    error = _CLASSES.get(stored["type"], TransportError)(load_plain(stored.get("message", "")))
    fields = load_plain(stored.get("fields", {}))
    if not isinstance(fields, dict):
        raise DeserializationError("not a stored error: its fields are no object")
    vars(error).update({name: value for name, value in fields.items() if name in _FIELDS})
    if "response" in stored:
        vars(error)["response"] = codec.load(stored["response"], request)
    for note in load_plain(stored.get("notes", [])):
        error.add_note(str(note))
    return error


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a class of the user's may do anything
        return ""
