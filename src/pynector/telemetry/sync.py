"""Traces and logs for blocking code: the names of `pynector.telemetry`, without `await`.

Imports neither anyio nor asyncio.
"""

from .._sync.telemetry import traced_gather, traced_operation, traced_task_group
from .._telemetry.configure import configure_telemetry, get_telemetry
from .._telemetry.loggers import EventLogger
from .._telemetry.redactor import add_redactor, remove_redactor
from .._telemetry.rendering import EventFormatter, TraceContextFilter, add_trace_context
from .._telemetry.spans import Span
from .._telemetry.tracers import Tracer

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
    "traced_gather",
    "traced_operation",
    "traced_task_group",
]
