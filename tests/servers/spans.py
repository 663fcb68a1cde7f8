"""A provider of traces for one test, in the place of that of the process, and settings that end with the test."""

import contextlib
import logging
from collections.abc import Iterator

import structlog
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once

from pynector._telemetry import guard, loggers, providers, rendering
from pynector._telemetry.settings import TelemetrySettings, replace_settings, settings


class Spans:
    """What was traced."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def ended(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        (found,) = (span for span in self.ended() if span.name == name)
        return found

    def parents(self) -> dict[str, str | None]:
        """The name of the parent of each span, by its own."""
        names = {span.context.span_id: span.name for span in self.ended()}
        return {span.name: names.get(span.parent.span_id) if span.parent else None for span in self.ended()}


@contextlib.contextmanager
def recorded() -> Iterator[Spans]:
    """Record spans in memory."""
    spans = Spans()
    before, trace._TRACER_PROVIDER = trace._TRACER_PROVIDER, spans.provider
    try:
        yield spans
    finally:
        trace._TRACER_PROVIDER = before
        spans.provider.shutdown()


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """A process in which nobody has set up anything: no provider, no structlog, no telemetry of ours."""
    modules = ((trace, "_TRACER_PROVIDER"), (metrics_internal, "_METER_PROVIDER"))
    before = [(module, name, getattr(module, name)) for module, name in modules]
    once = [(module, f"{name}_SET_ONCE", getattr(module, f"{name}_SET_ONCE")) for module, name in modules]
    for module, name in modules:
        setattr(module, name, None)
        setattr(module, f"{name}_SET_ONCE", Once())
    try:
        with unconfigured():
            yield
    finally:
        for module, name in modules:
            provider = getattr(module, name)
            if isinstance(provider, TracerProvider | MeterProvider):
                provider.shutdown()
        for module, name, value in (*before, *once):
            setattr(module, name, value)
        structlog.reset_defaults()


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """A process in which nobody has called `configure_telemetry`, until the end of the block."""
    root = logging.getLogger(loggers.ROOT)
    before = settings(), loggers._own_structlog[:], rendering._levels_set[:], root.level, root.handlers[:]
    replace_settings(TelemetrySettings())
    loggers._own_structlog[:] = [None]
    rendering._levels_set[:] = [logging.NOTSET]
    root.setLevel(logging.NOTSET)
    guard._told.clear()
    providers._own.clear()
    providers._exporters.clear()
    try:
        yield
    finally:
        replace_settings(before[0])
        loggers._own_structlog[:], rendering._levels_set[:] = before[1], before[2]
        root.setLevel(before[3])
        root.handlers[:] = before[4]
