"""What a call may be given, typed for editors and checked at run time."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from ._messages.fields import ContentTypes, FilesTypes
from ._policies.retry import RetryPolicy


class BatchOptions(TypedDict, total=False):
    """Options for every item of a batch."""

    retry: RetryPolicy | int | None
    raise_for_status: bool


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


REQUEST_OPTIONS: Final = frozenset({"timeout", "retry", "raise_for_status", "idempotency_key"})
HTTP_FIELDS: Final = frozenset({"params", "headers", "json", "form", "files", "content"})
