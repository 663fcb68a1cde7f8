"""Telemetry never spoils a call: what a tracer, an exporter or a sampler raises ends here."""

import contextlib
import logging

from .._mutex import ProcessMutex

_logger = logging.getLogger("pynector.telemetry")
_mutex = ProcessMutex()
_told: set[tuple[str, type[Exception]]] = set()


def report_failure(what: str, error: Exception) -> None:
    """Log that a piece of telemetry has failed: once for each kind of failure, as it may happen with every request.

    Args:
        what: What was being done.
        error: What was raised. Of its text nothing is logged: nobody knows what is in it.
    """
    kind = what, type(error)
    with _mutex:
        if kind in _told:
            return
        _told.add(kind)
    _warn("telemetry.failed", what, type(error).__name__)


def report_unusable(what: str, reason: str) -> None:
    """Log that something was asked for, by the environment or by the application, and can't be had.

    Args:
        what: What it is.
        reason: Why; a text of our own.
    """
    _warn("telemetry.unusable", what, reason)


def _warn(event: str, what: str, reason: str) -> None:
    """Write a line to `logging` in any case: structlog may be what has failed."""
    from .current import current_ids  # which stands on this module

    extra = {"operation": what, "reason": reason}
    with contextlib.suppress(Exception):
        if (ids := current_ids()) is not None:
            extra |= {"trace_id": ids[0], "span_id": ids[1]}
    with contextlib.suppress(Exception):  # a handler of the user's
        _logger.warning(event, extra=extra)
