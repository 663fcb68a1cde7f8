"""Keeps what httpcore logs fit to be read: at DEBUG it writes whole response headers."""

import functools
import logging
import re

from .._messages.redact import is_sensitive_header

_HEADER = re.compile(r"""\((b(?P<q>['"])(?P<name>[!-~]+?)(?P=q)), b(?P<v>['"])(?:\\.|(?!(?P=v)).)*(?P=v)\)""")


class _Redactor(logging.Filter):
    """Hides the values of headers that are credentials."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        redacted = _HEADER.sub(_hide, text)
        if redacted != text:
            record.msg, record.args = redacted, None
        return True


def _hide(match: re.Match[str]) -> str:
    return f"({match[1]}, b'REDACTED')" if is_sensitive_header(match["name"].lower()) else match[0]


@functools.cache
def redact_logs_of(library: str) -> None:
    """Make the loggers of `library` hide credentials, once per process."""
    for name in ("http11", "http2", "proxy", "connection"):
        logging.getLogger(f"{library}.{name}").addFilter(_Redactor())


@functools.cache
def silence_header_tables() -> None:
    """Keep hpack from logging, once per process: at DEBUG it writes every header, its table and all."""
    for name in ("hpack.hpack", "hpack.table"):
        logging.getLogger(name).addFilter(_is_not_debug)


def _is_not_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
