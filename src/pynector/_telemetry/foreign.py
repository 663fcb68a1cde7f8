"""The loggers of libraries that requests go through: what they say is fit to be read, and nothing fails by it."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any, Final

from .._messages.redact import REDACTED
from .._mutex import ProcessMutex
from .guard import report_failure
from .redactor import redact_field, redact_text

# What SDKs show of a request at DEBUG that is its body, or a part of it.
_BODIES: Final = frozenset({"json_data", "extra_json", "content", "files", "post_parser"})

_mutex = ProcessMutex()
_guarded: set[str] = set()
_redacted: set[str] = set()


def tame(*libraries: str, redacted: bool = True) -> None:
    """Keep a library's loggers from spoiling requests that go through it, once per process.

    What a handler or a filter of the application's raises there would end the request in its midst. It is reported, and
    the request goes on.

    Args:
        libraries: The names of the topmost loggers. Those below them that do not exist yet are left as they are.
        redacted: Whether credentials and bodies are taken out of the lines as well.
    """
    known = list(logging.root.manager.loggerDict)
    for library in libraries:
        for name in (library, *(name for name in known if name.startswith(f"{library}."))):
            if redacted and _is_first(name, _redacted):
                logging.getLogger(name).addFilter(_redact)
            if _is_first(name, _guarded):
                _guard(logging.getLogger(name))


def _is_first(name: str, done: set[str]) -> bool:
    with _mutex:
        before = len(done)
        done.add(name)
        return len(done) > before


def _guard(logger: logging.Logger) -> None:
    handle = logger.handle

    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception as exc:  # noqa: BLE001 - a handler or a filter of the user's
            report_failure("log", exc)

    # On this one logger: its class is that of others as well, and a filter can't see what handlers raise.
    logger.handle = guarded  # type: ignore[method-assign]


def _redact(record: logging.LogRecord) -> bool:
    if isinstance(record.args, Mapping):
        record.args = _shown(record.args)
    elif record.args:
        record.args = tuple(map(_shown, record.args))
    else:
        record.msg = redact_text(str(record.msg))
    if record.exc_info and record.exc_info[1] is not None:
        # The text of an exception of httpx has the whole URL in it.
        record.exc_text = redact_text("".join(traceback.format_exception(record.exc_info[1]))).rstrip("\n")
        record.exc_info = None
    return True


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: REDACTED if name in _BODIES and item is not None else redact_field(str(name), _shown(item))
            for name, item in value.items()
        }
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_field("", value if isinstance(value, bytes | list | tuple) else str(value))
