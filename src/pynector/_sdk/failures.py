"""What an SDK raises, told in Pynector's errors.

No SDK is imported: the errors of all of them are built alike, and of those that leak through from below (httpx, json)
the classes are known by their names.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from .. import errors
from .._http.failures import told
from .._messages.redact import REDACTED, is_sensitive_header, redact_text
from .._policies.fatal import is_hard_quota
from .._policies.retry import Failure, parse_retry_after

_CLASSES: Final[Mapping[int, type[errors.SdkTransportError]]] = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionError,
    404: errors.ResourceNotFoundError,
    413: errors.RequestTooLargeError,
    422: errors.InvalidRequestError,
    429: errors.RateLimitError,
}

_STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status that an error event would have had as an answer: it comes in the middle of a 200. Those of Anthropic are
from its documentation (Errors), those of OpenAI from its error codes."""

_TOO_LARGE: Final = frozenset({"context_length_exceeded", "request_too_large", "string_above_max_length"})
_MESSAGE_LIMIT: Final = 500


def translate(error: Exception, provider: str) -> Exception:
    """Make what an SDK raised one of Pynector's errors.

    Args:
        error: What was raised. As the cause of the new one it is kept, without the credentials in its request.
        provider: Whom it is of.

    Returns:
        An `SdkTransportError`, or one of the connection (`ConnectionError`, `ConnectionTimeoutError`, `TLSError`), not
        raised. What is of Pynector already, and what nobody here knows, is returned as it is.
    """
    if isinstance(error, errors.PynectorError) and not isinstance(error, errors.HTTPTransportError):
        return error
    ours = _of_connection(error)
    if isinstance(ours, errors.HTTPTransportError):
        ours = _of_http(ours, provider)
    if ours is None:
        ours = _of_answer(error, provider)
    if ours is None or ours is error:
        return error
    _scrub(error)
    ours.__cause__ = error
    return ours


def failure_of(error: Exception) -> Failure | None:
    """What the retry policy needs to know of an error; None for one that is never tried again.

    Asking a model is repeated whenever that may help: nothing is changed by it.
    """
    if not isinstance(error, errors.TransportError):
        return None
    status = getattr(error, "status_code", None)
    headers = _headers(error.__cause__)
    said = headers.get("x-should-retry", "").strip().lower()
    return Failure(
        status=status if isinstance(status, int) else None,
        transient=error.transient,
        sent=error.sent,
        idempotent=True,
        retry_after=getattr(error, "retry_after", None),
        should_retry={"true": True, "false": False}.get(said),
        immediate=error.stale,
    )


def _of_connection(error: BaseException | None) -> errors.TransportError | None:
    """For what went wrong below the SDK, which may have wrapped it."""
    if error is None:
        return None
    if isinstance(error, errors.TransportError):
        return error
    ours = told(error)
    if ours is None and type(error).__name__ in ("APIConnectionError", "APITimeoutError"):
        ours = _of_connection(error.__cause__)
        if ours is None:
            timed_out = type(error).__name__ == "APITimeoutError"
            ours = errors.ConnectionTimeoutError(str(error)) if timed_out else errors.ConnectionError(str(error))
    return ours


def _of_http(error: errors.HTTPTransportError, provider: str) -> errors.TransportError:
    """An error of the HTTP below, in the words of the house above: whoever asks a model need not know them."""
    text = str(error)
    ours: errors.TransportError
    if isinstance(error, errors.HTTPIncompleteError):
        ours = errors.IncompleteStreamError(text, provider=provider)
    elif error.transient or not error.sent:
        ours = errors.ConnectionError(text)
    else:
        ours = errors.SdkTransportError(text, provider=provider)
    ours.method, ours.url, ours.sent = error.method, error.url, error.sent
    ours.transient, ours.stale, ours.foreign = error.transient, error.stale, error.foreign
    return ours


def _of_answer(error: Exception, provider: str) -> errors.SdkTransportError | None:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return errors.SdkTransportError(f"{provider}: what came is not JSON", provider=provider)
    if not hasattr(error, "body") and not hasattr(error, "status_code"):
        return None
    details = _details(getattr(error, "body", None))
    code, kind = _name(error, details, "code", "error_code"), _name(error, details, "type")
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or status < 300:
        status = _named(code) or _named(kind)
    headers = _headers(error)
    cls = _CLASSES.get(status or 0, errors.SdkTransportError)
    if code in _TOO_LARGE or kind in _TOO_LARGE:
        cls = errors.RequestTooLargeError
    said = details.get("message") or _sentence(error) or getattr(error, "message", None) or error
    text = redact_text(str(said))[:_MESSAGE_LIMIT]
    ours = cls(
        f"{provider}: {status or 'an error'}: {text}",
        provider=provider,
        status_code=status,
        code=code or kind,
        request_id=_request_id(error, headers),
        retry_after=parse_retry_after(headers, time.time()),
    )
    ours.transient = status is not None and status in errors.TRANSIENT_STATUSES
    if ours.transient and is_hard_quota(error):
        ours.transient = False
    return ours


def _named(code: str | None) -> int | None:
    """The status that a code stands for. Some gateways have the status of whom they asked for a code."""
    if code is not None and len(code) == 3 and code.isdecimal() and code.isascii() and int(code) >= 400:
        return int(code) if int(code) < 600 else None
    return _STATUSES.get(code or "")


def _sentence(error: Exception) -> str | None:
    """What an event says that has a sentence for its error: of that the SDK of OpenAI says nothing."""
    body = getattr(error, "body", None)
    return body if isinstance(body, str) and getattr(error, "response", None) is None else None


def _details(body: object) -> Mapping[str, Any]:
    """The error in a body: some SDKs have taken it out already."""
    if not isinstance(body, Mapping):
        return {}
    inner = body.get("error")
    return inner if isinstance(inner, Mapping) else body


def _name(error: Exception, details: Mapping[str, Any], *names: str) -> str | None:
    # Anthropic has its finer code one level below; of its SDKs only the newer ones look there.
    finer = details.get("details")
    below = finer if isinstance(finer, Mapping) else {}
    for name in names:
        for found in (getattr(error, name, None), details.get(name), below.get(name)):
            if isinstance(found, str) and found:
                return found[:200]
    return None


def _request_id(error: Exception, headers: Mapping[str, str]) -> str | None:
    found = getattr(error, "request_id", None) or headers.get("x-request-id") or headers.get("request-id")
    return found if isinstance(found, str) else None


def _headers(error: BaseException | None) -> Mapping[str, str]:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return headers if isinstance(headers, Mapping) else {}


def _scrub(error: BaseException | None) -> None:
    """Take the credentials out of the requests that an error, and what it stands on, have with them."""
    for _ in range(8):
        if error is None:
            return
        for holder in (error, getattr(error, "response", None)):
            try:
                headers = getattr(holder, "request", None).headers  # type: ignore[union-attr]  # or it raises
                for name in list(headers):
                    if is_sensitive_header(name):
                        headers[name] = REDACTED
            except Exception:  # noqa: BLE001, S112 - there is no request, or one that can't be changed
                continue
        error = error.__cause__ or error.__context__
