"""An outcome as a flat row of a table."""

from __future__ import annotations

from typing import Any, Protocol

from .http import HttpMessage
from .media import readable_body
from .tally import Finished, as_usage


class Described(Finished, Protocol):
    """What a row tells of an item; `Outcome` has it."""

    @property
    def index(self) -> int: ...
    @property
    def key(self) -> str | None: ...
    @property
    def request_id(self) -> str | None: ...


def row(outcome: Described, value: bool) -> dict[str, Any]:
    """The row of an outcome: see `Outcome.to_dict`."""
    error = outcome.error
    status = getattr(outcome.value if error is None else error, "status_code", None)
    fields: dict[str, Any] = {
        "index": outcome.index,
        "key": outcome.key,
        "state": outcome.state,
        "ok": error is None,
        "status_code": status if status and isinstance(status, int) else None,
        "error_type": None if error is None else type(error).__name__,
        "error": None if error is None else str(error),
        "attempts": outcome.attempts,
        "elapsed": outcome.elapsed,
        "request_id": outcome.request_id,
        "source": outcome.source,
    }
    if outcome.usage is not None:
        usage = as_usage(outcome.usage)
        fields |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    if value:
        fields["value"] = _plain(outcome.value)
    return fields


def _plain(value: Any) -> Any:
    """What an answer says, without its envelope."""
    if isinstance(value, HttpMessage):
        return readable_body(value)
    text = getattr(value, "text", None)
    if isinstance(text, str):
        return text
    get_payload = getattr(value, "get_payload", None)
    return get_payload() if callable(get_payload) else value
