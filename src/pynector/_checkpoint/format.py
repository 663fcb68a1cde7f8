"""The lines of a checkpoint file: a header, then one record for each finished item."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from .._messages.outcome import Outcome
from ..errors import CheckpointError, DeserializationError, SerializationError
from .failures import dump_error, load_error
from .plain import dump_plain, load_plain
from .values import ValueCodec

VERSION: Final = 1
MARK: Final = b'{"pynector_checkpoint":'
"""What every checkpoint file begins with."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode: Final = json.JSONDecoder().decode

_STATES: Final = ("ok", "failed", "unknown")


class Header(NamedTuple):
    """The first line of a file.

    Attributes:
        fingerprint: That of the job.
        run: A random text that was made with the file, and stays the same however often the job is resumed.
    """

    fingerprint: str
    run: str


class NotACheckpointError(CheckpointError):
    """A line is no header."""


def header_line(header: Header) -> bytes:
    """The first line of a new file."""
    fields = {
        "pynector_checkpoint": VERSION,
        "fingerprint": header.fingerprint,
        "run": header.run,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return _encode(fields).encode() + b"\n"


def read_header(line: bytes) -> Header:
    """Read the first line of a file.

    Raises:
        CheckpointError: It is of a version that is not known here.
        NotACheckpointError: It is something else.
    """
    fields = _parsed(line)
    version = fields.get("pynector_checkpoint") if fields is not None else None
    if fields is None or type(version) is not int:
        raise NotACheckpointError("its first line is not the header of one")
    if version != VERSION:
        raise CheckpointError(
            f"it has format {version}, and this version of Pynector reads format {VERSION}: use the version that wrote "
            "it or a newer one, or give another path"
        )
    fingerprint, run = fields.get("fingerprint"), fields.get("run")
    if not isinstance(fingerprint, str) or not isinstance(run, str):
        raise NotACheckpointError("its header is incomplete")
    return Header(fingerprint, run)


def record_line(outcome: Outcome[Any], key: str, codec: ValueCodec) -> bytes:
    """The line of an item that has finished.

    Raises:
        SerializationError: Its answer can't be kept in a file; the text says what in it.
    """
    record: dict[str, Any] = {"key": dump_plain(key), "index": outcome.index, "state": outcome.state}
    if outcome.error is None:
        record["value"] = codec.dump(outcome.value)
    else:
        record["error"] = dump_error(outcome.error, codec)
    record["attempts"] = outcome.attempts
    record["elapsed"] = outcome.elapsed
    record["usage"] = dump_usage(outcome.usage)
    record["request_id"] = outcome.request_id
    try:
        return _encode(record).encode() + b"\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise SerializationError(f"it cannot be kept in a checkpoint: {error}") from error


def read_record(line: bytes) -> dict[str, Any] | None:
    """Read a line that is not the first; None if it is no record, or not all of one."""
    fields = _parsed(line)
    if fields is None or type(fields.get("index")) is not int:
        return None
    if fields.get("state") not in _STATES:
        return None
    if ("value" if fields["state"] == "ok" else "error") not in fields:
        return None
    try:
        fields["key"] = load_plain(fields.get("key"))
    except (DeserializationError, RecursionError):
        return None
    return fields if isinstance(fields["key"], str) else None


def restore(
    record: Mapping[str, Any],
    index: int,
    request: Any,
    codec: ValueCodec,
    usage_type: Callable[..., Any] | None = None,
) -> Outcome[Any]:
    """Make the outcome of a record again.

    Args:
        record: What `read_record` returned.
        index: The place of the item in the input of this run.
        request: The item.
        codec: What its answer was written with.
        usage_type: Makes the usage of its fields, given by name; by default it is a dict.

    Raises:
        DeserializationError: The answer or the error can't be made again; the text says why.
    """
    ok = record["state"] == "ok"
    usage = load_plain(record.get("usage"))
    if usage_type is not None and isinstance(usage, dict):
        usage = usage_type(**usage)
    return Outcome(
        index=index,
        key=record["key"],
        request=request,
        value=codec.load(record["value"], request) if ok else None,
        error=None if ok else load_error(record["error"], codec, request),
        state=record["state"],
        attempts=int(record.get("attempts", 0)),
        elapsed=float(record.get("elapsed", 0.0)),
        usage=usage,
        request_id=record.get("request_id"),
        source="checkpoint",
    )


def dump_usage(usage: Any) -> Any:
    """Turn the usage of an item into what JSON can hold: the fields of a dataclass or named tuple, or a dict."""
    if usage is None:
        return None
    names = getattr(usage, "__dataclass_fields__", None) or getattr(usage, "_fields", None)
    if names is not None:
        usage = {name: getattr(usage, name) for name in names}
    return dump_plain(usage, "usage")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        fields = _decode(line.decode())
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
