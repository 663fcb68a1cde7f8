"""What leaves the process as telemetry passes here: the built-in rules, then those of the application."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

from .._messages import redact
from .._messages.redact import REDACTED, is_sensitive_header
from .._mutex import ProcessMutex
from .guard import report_failure

Redactor = Callable[[str], str]
R = TypeVar("R", bound=Redactor)

_DEPTH: Final = 6
"""How far down mappings and sequences in a field are shown; one that has itself in it has no end."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")

_mutex = ProcessMutex()
_own: list[tuple[Redactor, ...]] = [()]


def add_redactor(function: R) -> R:
    r"""Have a function of yours take out of telemetry what the built-in rules don't know.

    It is given every URL, header value, text of an error and text field of a log line that goes into a span or a log,
    after the built-in rules, and after the functions that were added before it. If it raises, or returns no text, then
    `REDACTED` stands in the place of the whole text: what it failed to look at is not shown.

    Args:
        function: Called with a text; returns it without what nobody may read. It may be called from any thread.

    Returns:
        The function, so that this can be used as a decorator.

    Example:
        ```python
        @add_redactor
        def hide_customers(text: str) -> str:
            return re.sub(r"cust_\w+", "cust_REDACTED", text)
        ```
    """
    with _mutex:
        if function not in _own[0]:
            _own[0] = (*_own[0], function)
    return function


def remove_redactor(function: Redactor) -> None:
    """Take back `add_redactor`; nothing happens if it was not called with this function.

    Args:
        function: The function that is not to be called any more.
    """
    with _mutex:
        _own[0] = tuple(each for each in _own[0] if each != function)


def redact_url(url: str) -> str:
    """Take user names, passwords and sensitive query values out of a URL.

    Args:
        url: Any text that should be a URL.

    Returns:
        The URL, fit to be shown.
    """
    return _by_own_rules(redact.redact_url(url))


def redact_text(text: str) -> str:
    """Take what looks like a credential out of a text: a message, a piece of a body, a traceback.

    Args:
        text: Any text; URLs in it are looked at as well.

    Returns:
        The text, fit to be shown.
    """
    if "://" in text:
        text = _URL.sub(lambda match: redact.redact_url(match[0]), text)
    return _by_own_rules(redact.redact_text(text))


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Take credentials out of headers.

    Args:
        headers: Names and values.

    Returns:
        The same in their order, with `REDACTED` for the values of sensitive names.
    """
    return [(name, REDACTED if is_sensitive_header(name) else redact_text(value)) for name, value in headers]


def redact_field(name: str, value: object) -> object:
    """Take credentials out of one field of a log line.

    Args:
        name: The name of the field.
        value: Its value: text, or mappings and sequences of it, as deep as logs go. What is none of these stays as it
            is.

    Returns:
        The value, fit to be shown.
    """
    return _redact_value(name, value, _DEPTH)


def _redact_value(name: str, value: object, depth: int) -> object:
    if isinstance(value, str):
        return REDACTED if is_sensitive_header(name) else redact_text(value)
    if isinstance(value, bytes):
        return REDACTED if is_sensitive_header(name) else redact_text(value.decode("utf-8", "replace"))
    if isinstance(value, BaseException):
        return redact_text(f"{type(value).__name__}: {value}")
    if isinstance(value, Mapping):
        if not depth:
            return REDACTED
        return {key: _redact_value(_as_name(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        if not depth or is_sensitive_header(name):
            return REDACTED
        found = [_redact_item(name, item, depth - 1) for item in value]
        return tuple(found) if isinstance(value, tuple) else found
    return value


def _redact_item(name: str, item: object, depth: int) -> object:
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str | bytes):
        # As headers and queries are written: a name and its value.
        return item[0], _redact_value(_as_name(item[0]), item[1], depth)
    return _redact_value(name, item, depth)


def _as_name(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _by_own_rules(text: str) -> str:
    for function in _own[0]:
        try:
            changed: object = function(text)
        except Exception as exc:  # noqa: BLE001 - a function of the user's
            report_failure("redactor", exc)
            return REDACTED
        if not isinstance(changed, str):
            report_failure("redactor", TypeError(f"it returned {type(changed).__name__}"))
            return REDACTED
        text = changed
    return text
