"""Traces and logs, the same whatever is installed; `pynector.telemetry.sync` is its twin for blocking code."""

from typing import TYPE_CHECKING, Any

from .._telemetry.configure import configure_telemetry, get_telemetry
from .._telemetry.loggers import EventLogger
from .._telemetry.redactor import add_redactor, remove_redactor
from .._telemetry.rendering import EventFormatter, TraceContextFilter, add_trace_context
from .._telemetry.spans import Span
from .._telemetry.tracers import Tracer

if TYPE_CHECKING:
    from .._async.telemetry import traced_async_operation as traced_async_operation
    from .._async.telemetry import traced_gather as traced_gather
    from .._async.telemetry import traced_task_group as traced_task_group

__all__ = [
    "EventFormatter",
    "EventLogger",
    "Span",
    "TraceContextFilter",
    "Tracer",
    "add_redactor",
    "add_trace_context",
    "configure_telemetry",
    "get_telemetry",
    "remove_redactor",
    "traced_async_operation",
    "traced_gather",
    "traced_task_group",
]

# Imported when asked for: the blocking twin below this package must not load an event loop.
_LAZY = ("traced_async_operation", "traced_gather", "traced_task_group")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .._async import telemetry

    value = getattr(telemetry, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
