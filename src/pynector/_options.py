"""What a call may be given, typed for editors and checked at run time."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypedDict

from ._config import check_names
from ._messages.fields import ContentTypes, FilesTypes
from ._policies.adaptive import AdaptiveConcurrency
from ._policies.retry import RetryPolicy
from .errors import ConfigurationError

Concurrency = int | AdaptiveConcurrency | Literal["auto"]
"""What `max_concurrency` of a batch may be: a number, or how to find it out."""


class BatchOptions(TypedDict, total=False):
    """Options for every item of a batch."""

    retry: RetryPolicy | int | None
    raise_for_status: bool
    idempotency_key: bool


class RetryingOptions(TypedDict, total=False):
    """Options of a call that makes its own retry policy."""

    timeout: float | None
    raise_for_status: bool
    idempotency_key: str | None


class RequestOptions(RetryingOptions, total=False):
    """Options of a single call, whatever the transport."""

    retry: RetryPolicy | int | None


class HTTPFields(RequestOptions, total=False):
    """The parts of an HTTP request besides method and path, and the options of the call."""

    params: Any
    headers: Mapping[str, str] | None
    json: Any
    form: Mapping[str, Any] | None
    files: FilesTypes | None
    content: ContentTypes | None
    json_data: Any
    form_data: Mapping[str, Any] | None


REQUEST_OPTIONS: Final = frozenset({"timeout", "retry", "raise_for_status", "idempotency_key"})
HTTP_FIELDS: Final = frozenset({"params", "headers", "json", "form", "files", "content", "json_data", "form_data"})
BATCH_OPTIONS: Final = frozenset(
    {"max_concurrency", "timeout", "raise_on_error", "progress", "retry", "raise_for_status", "idempotency_key"}
)
"""What a batch can be given."""
RUN_OPTIONS: Final = frozenset(
    {
        "max_concurrency",
        "ordered",
        "buffer",
        "timeout",
        "item_timeout",
        "on_error",
        "max_errors",
        "checkpoint",
        "key",
        "dedupe",
        "progress",
        "retry",
        "raise_for_status",
        "idempotency_key",
    }
)
"""What a run of `stream_batch` can be given."""
NO_OPTIONS: Final[Mapping[str, Any]] = {}

Plan = tuple[float | None, RetryPolicy, bool, str | None, dict[str, Any]]
"""The options of a call, resolved: timeout, policy, whether to raise for a status, idempotency key, and the rest."""


def split_fields(method: str, path: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts of an HTTP request, and the options of the call.

    Raises:
        ConfigurationError: A field is neither; the text names the nearest one.
    """
    request: dict[str, Any] = {"method": method, "path": path}
    options: dict[str, Any] = {}
    for name, value in fields.items():
        (request if name in HTTP_FIELDS else options)[name] = value
    if options:
        check_names("option", options, HTTP_FIELDS | REQUEST_OPTIONS)
    return request, options


def check_errors(on_error: object, max_errors: object) -> tuple[int | None, bool]:
    """`on_error` and `max_errors` of a run: after how many failures it ends, and whether at once.

    Raises:
        ConfigurationError: One of them is not what it may be.
    """
    if on_error not in ("continue", "drain", "cancel"):
        raise ConfigurationError(
            f'argument `on_error`: {on_error!r:.80} is not accepted; give "continue", "drain" or "cancel"'
        )
    if max_errors is None:
        return None if on_error == "continue" else 1, on_error == "cancel"
    if isinstance(max_errors, bool) or not isinstance(max_errors, int) or max_errors < 1:
        raise ConfigurationError(
            f"argument `max_errors`: {max_errors!r:.80} is not accepted; give an integer of 1 or more, or None"
        )
    return max_errors, on_error == "cancel"


def check_policy(name: str, value: Any, kind: type[Any], example: str) -> None:
    """A policy given to a client, or None.

    Raises:
        ConfigurationError: It is something else.
    """
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"argument `{name}`: {value!r:.80} is not accepted; give {example}, or None")


def check_buffer(buffer: object) -> int:
    """The `buffer` of a run, in items.

    Raises:
        ConfigurationError: It is no integer of 0 or more.
    """
    if isinstance(buffer, bool) or not isinstance(buffer, int) or buffer < 0:
        raise ConfigurationError(f"argument `buffer`: {buffer!r:.80} is not accepted; give an integer of 0 or more")
    return buffer
