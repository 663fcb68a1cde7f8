"""Every error Pynector raises: one tree under `PynectorError`.

`except PynectorError` catches all of it; `TransportError` is what went wrong on the way to a server and back.
Some classes also derive from the built-in exception that means the same (`TimeoutError`, `ConnectionError`,
`ConnectionRefusedError`, `ValueError`), so code written for the standard library keeps working.

Errors can be pickled and copied with all their fields, notes and, where it can be pickled, their cause. Their
text never holds a credential: whoever builds one passes a URL that has been redacted already.

Example:
    ```python
    from pynector import errors

    try:
        response = client.get("/users/1")
    except errors.HTTPNotFoundError:
        response = None
    except errors.TransportError as error:
        print(error, error.attempts, error.transient)
    ```
"""

from __future__ import annotations

import builtins
import copy
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, Self, TypedDict, TypeVar, Unpack

__all__ = [
    "AuthenticationError",
    "CheckpointError",
    "CircuitOpenError",
    "ClosedError",
    "ConfigurationError",
    "ConnectionError",
    "ConnectionRefusedError",
    "ConnectionTimeoutError",
    "DeserializationError",
    "HTTPClientError",
    "HTTPDecodeError",
    "HTTPForbiddenError",
    "HTTPIncompleteError",
    "HTTPNotFoundError",
    "HTTPProtocolError",
    "HTTPProxyError",
    "HTTPRedirectError",
    "HTTPServerError",
    "HTTPStatusError",
    "HTTPTimeoutError",
    "HTTPTooManyRequestsError",
    "HTTPTransportError",
    "HTTPUnauthorizedError",
    "IncompleteStreamError",
    "InvalidRequestError",
    "MessageError",
    "PermissionError",
    "PynectorError",
    "RateLimitError",
    "RequestTooLargeError",
    "ResourceNotFoundError",
    "ResponseTooLargeError",
    "SdkTransportError",
    "SerializationError",
    "SourceError",
    "TLSError",
    "TimeoutError",
    "TransportError",
    "TransportSpecificError",
    "WrongLoopError",
]

TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""The HTTP statuses that another attempt may cure; also the default of `RetryPolicy.retry_statuses`."""


class StatusResponse(Protocol):
    """What an error needs to know of a response; `HttpMessage` has it."""

    @property
    def status_code(self) -> int: ...
    @property
    def reason_phrase(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def safe_url(self) -> str: ...
    @property
    def method(self) -> str: ...
    def json(self) -> Any: ...


class _TransportFields(TypedDict, total=False):
    method: str | None
    url: str | None
    attempts: int
    elapsed: float | None
    sent: bool | None
    transient: bool | None
    outcomes: Sequence[Any]


class PynectorError(Exception):
    """The base of every error of this library.

    Args:
        message: What happened.
        outcomes: The outcomes that were finished when this error cut a batch short, else empty.
    """

    outcomes: Sequence[Any] = ()

    def __init__(self, message: str = "", *, outcomes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        if outcomes:
            self.outcomes = outcomes

    # The default way calls the class with `args` alone, and so loses what came by keyword, and the cause.
    def __reduce__(self) -> tuple[Any, ...]:
        state: dict[str, Any] = dict(self.__dict__)
        cause = None
        if self.__cause__ is not None:
            try:
                # In a pickle of its own, so that a foreign exception that fails, here or when it is read,
                # takes nothing else with it.
                cause = pickle.dumps(self.__cause__)
            except Exception:  # noqa: BLE001
                kind = f"{type(self.__cause__).__module__}.{type(self.__cause__).__qualname__}"
                state["__notes__"] = [*state.get("__notes__", ()), f"the cause, {kind}, could not be pickled"]
        return _unpickle, (type(self), self.args, state, cause, self.__suppress_context__)

    def __copy__(self) -> Self:
        state = dict(self.__dict__)
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        return _rebuild(type(self), self.args, state, self.__cause__, self.__suppress_context__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The cause is an event of the past, not a part of the value: it is shared, not copied.
        args, state = copy.deepcopy((self.args, self.__dict__), memo)
        return _rebuild(type(self), args, state, self.__cause__, self.__suppress_context__)


_E = TypeVar("_E", bound=PynectorError)


def _rebuild(
    cls: type[_E],
    args: tuple[Any, ...],
    state: Mapping[str, Any],
    cause: BaseException | None,
    suppress_context: bool,
) -> _E:
    """Make an error again without its constructor, whose signature a subclass may have changed."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    error.__suppress_context__ = suppress_context
    return error


def _unpickle(
    cls: type[_E],
    args: tuple[Any, ...],
    state: Mapping[str, Any],
    pickled_cause: bytes | None,
    suppress_context: bool,
) -> _E:
    error = _rebuild(cls, args, state, None, suppress_context)
    if pickled_cause is not None:
        try:
            error.__cause__ = pickle.loads(pickled_cause)  # noqa: S301 - a part of the pickle being read
        except Exception:  # noqa: BLE001
            error.add_note("the cause could not be unpickled")
        error.__suppress_context__ = suppress_context
    return error


class ConfigurationError(PynectorError, ValueError):
    """A name, argument, option or environment variable is wrong; the text says what is accepted."""


class ClosedError(PynectorError):
    """The client, transport or stream was used after it was closed."""


class WrongLoopError(PynectorError):
    """An async client was used in another event loop than the one it belongs to."""


class SourceError(PynectorError):
    """The input of a batch raised: its error is the cause, what was finished is in `outcomes`."""


class CheckpointError(PynectorError):
    """A checkpoint file cannot be read or written, or belongs to another run."""


class TimeoutError(PynectorError, builtins.TimeoutError):
    """A deadline set by the caller has passed: the total `timeout` of a request or of a batch."""


class TransportError(PynectorError):
    """Something went wrong on the way to a server and back.

    Args:
        message: What happened.
        method: The method of the request.
        url: Its URL, already redacted.
        attempts: How often the request was tried.
        elapsed: Seconds since the first attempt began.
        sent: `False` only where nothing can have reached the server, so that anything may be repeated.
        transient: Whether another attempt may succeed; each class has its own default.
        outcomes: The outcomes that were finished when this error cut a batch short.
    """

    sent: bool = True
    transient: bool = False
    stale: bool = False
    """Whether it went out on a connection that had been idle and, it seems, was closed by the server meanwhile."""
    foreign: bool = False
    """Whether a callable of the user's raised it (a hook, `auth=`): then the request is not tried again."""

    def __init__(
        self,
        message: str = "",
        *,
        method: str | None = None,
        url: str | None = None,
        attempts: int = 0,
        elapsed: float | None = None,
        sent: bool | None = None,
        transient: bool | None = None,
        outcomes: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, outcomes=outcomes)
        self.method = method
        self.url = url
        self.attempts = attempts
        self.elapsed = elapsed
        if sent is not None:
            self.sent = sent
        if transient is not None:
            self.transient = transient


class ConnectionError(TransportError, builtins.ConnectionError):
    """No connection could be made, or it broke before an answer began."""

    transient = True


class ConnectionTimeoutError(ConnectionError, builtins.TimeoutError):
    """The network was silent for longer than the transport's `timeout`.

    Args:
        message: What happened.
        phase: Where the time went: `connect`, `read`, `write`, or `pool` (waiting for a free connection).
        **fields: As in `TransportError`. In the phases `connect` and `pool`, `sent` is `False` by default.
    """

    def __init__(
        self,
        message: str = "",
        *,
        phase: Literal["connect", "read", "write", "pool"] = "read",
        **fields: Unpack[_TransportFields],
    ) -> None:
        super().__init__(message, **fields)
        self.phase = phase
        if phase in ("connect", "pool") and fields.get("sent") is None:
            self.sent = False


class ConnectionRefusedError(ConnectionError, builtins.ConnectionRefusedError):
    """Nothing listens at the address; nothing was sent."""

    sent = False


class TLSError(ConnectionError):
    """The TLS handshake failed: a certificate that is untrusted, expired or for another host.

    Never retried.
    """

    transient = False


class MessageError(TransportError):
    """A message cannot be turned into bytes, or bytes into a message."""


class SerializationError(MessageError):
    """A value cannot be serialised; the text names where in the message it stands."""

    sent = False


class DeserializationError(MessageError):
    """Bytes are not what they should be; the text says what is wrong and where."""


class TransportSpecificError(TransportError):
    """The base of what only one kind of transport raises."""


class HTTPTransportError(TransportSpecificError):
    """The base of what only HTTP raises."""


class HTTPStatusError(HTTPTransportError):
    """The server answered with an error status.

    Args:
        message: For example `404 Not Found for GET https://api.example.com/users/1`.
        status_code: The HTTP status; the classes for one status know theirs.
        response: The whole response, its body read.
        retry_after: Seconds the server asked to wait, if it did.
        **fields: As in `TransportError`. `transient` follows from the status.
    """

    status_code: int = 0

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        response: StatusResponse | None = None,
        retry_after: float | None = None,
        **fields: Unpack[_TransportFields],
    ) -> None:
        super().__init__(message, **fields)
        if status_code is not None:
            self.status_code = status_code
        self.response = response
        self.retry_after = retry_after
        if fields.get("transient") is None:
            self.transient = self.status_code in TRANSIENT_STATUSES


class HTTPClientError(HTTPStatusError):
    """A 4xx status: the request is wrong, or the server will not answer it."""


class HTTPUnauthorizedError(HTTPClientError):
    """401: credentials are missing or wrong."""

    status_code = 401


class HTTPForbiddenError(HTTPClientError):
    """403: the credentials do not allow this."""

    status_code = 403


class HTTPNotFoundError(HTTPClientError):
    """404: there is no such resource."""

    status_code = 404


class HTTPTimeoutError(HTTPClientError):
    """408: the server did not get the whole request in time."""

    status_code = 408


class HTTPTooManyRequestsError(HTTPClientError):
    """429: a rate limit; `retry_after` says how long to wait, if the server told."""

    status_code = 429


class HTTPServerError(HTTPStatusError):
    """A 5xx status: the server failed."""


class HTTPProtocolError(HTTPTransportError):
    """What the server sent is not HTTP, or breaks its rules."""


class HTTPIncompleteError(HTTPTransportError):
    """The body ended before its announced end.

    Args:
        message: What happened.
        partial: The bytes that did arrive.
        **fields: As in `TransportError`.
    """

    transient = True

    def __init__(self, message: str = "", *, partial: bytes = b"", **fields: Unpack[_TransportFields]) -> None:
        super().__init__(message, **fields)
        self.partial = partial


class HTTPDecodeError(HTTPTransportError):
    """The body cannot be decompressed, or is not of the type that it was to be read as."""


class HTTPProxyError(HTTPTransportError):
    """The proxy refused, failed or asked for credentials."""


class HTTPRedirectError(HTTPTransportError):
    """A redirect that must not be followed, or too many of them."""


class ResponseTooLargeError(HTTPTransportError):
    """The body, or one line or event of it, is larger than the limit."""


class CircuitOpenError(HTTPTransportError):
    """The circuit breaker of this server is open; nothing was sent.

    Args:
        message: What happened.
        retry_after: Seconds until it is worth trying again, as far as can be told.
        **fields: As in `TransportError`.
    """

    sent = False

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, **fields: Unpack[_TransportFields]
    ) -> None:
        super().__init__(message, **fields)
        self.retry_after = retry_after


class SdkTransportError(TransportSpecificError):
    """A provider or its SDK failed.

    Args:
        message: What happened.
        provider: `openai`, `anthropic`, ...
        status_code: The HTTP status, if there was one.
        code: The provider's own error code.
        request_id: The provider's id of the request, for its support.
        retry_after: Seconds the provider asked to wait, if it did.
        **fields: As in `TransportError`.
    """

    def __init__(
        self,
        message: str = "",
        *,
        provider: str | None = None,
        status_code: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        **fields: Unpack[_TransportFields],
    ) -> None:
        super().__init__(message, **fields)
        self.provider = provider
        self.status_code = status_code
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after


class _SdkFields(_TransportFields, total=False):
    provider: str | None
    status_code: int | None
    code: str | None
    request_id: str | None
    retry_after: float | None


class AuthenticationError(SdkTransportError):
    """The API key is missing or wrong."""


class RateLimitError(SdkTransportError):
    """A limit in requests or tokens was hit."""

    transient = True


class InvalidRequestError(SdkTransportError):
    """The provider refused the request as wrong."""


class ResourceNotFoundError(SdkTransportError):
    """There is no such model, file or other resource."""


class PermissionError(SdkTransportError):
    """The API key does not allow this."""


class RequestTooLargeError(SdkTransportError):
    """The request is larger than the provider or the model accepts."""


class IncompleteStreamError(SdkTransportError):
    """The stream ended without its end marker.

    Args:
        message: What happened.
        partial: The text that did arrive.
        **fields: As in `SdkTransportError`.
    """

    def __init__(self, message: str = "", *, partial: str = "", **fields: Unpack[_SdkFields]) -> None:
        super().__init__(message, **fields)
        self.partial = partial


_NAMED_STATUSES: Final[Mapping[int, type[HTTPStatusError]]] = {
    401: HTTPUnauthorizedError,
    403: HTTPForbiddenError,
    404: HTTPNotFoundError,
    408: HTTPTimeoutError,
    429: HTTPTooManyRequestsError,
}


def status_error(
    response: StatusResponse,
    *,
    retry_after: float | None = None,
    attempts: int = 0,
    elapsed: float | None = None,
) -> HTTPStatusError:
    """Build the error that fits the status of a response.

    Args:
        response: An `HttpMessage`, or what looks like one.
        retry_after: Seconds the server asked to wait, if it did.
        attempts: How often the request was tried.
        elapsed: Seconds since the first attempt began.

    Returns:
        The error, not raised: the class for that status, else `HTTPClientError` for other 4xx,
        `HTTPServerError` for 5xx and `HTTPStatusError` for anything else.
    """
    status = response.status_code
    cls = _NAMED_STATUSES.get(status)
    if cls is None:
        cls = {4: HTTPClientError, 5: HTTPServerError}.get(status // 100, HTTPStatusError)
    method, url = response.method, response.safe_url
    return cls(
        f"{status} {response.reason_phrase}".rstrip() + f" for {method} {url}",
        status_code=status,
        response=response,
        retry_after=retry_after,
        method=method,
        url=url,
        attempts=attempts,
        elapsed=elapsed,
    )
