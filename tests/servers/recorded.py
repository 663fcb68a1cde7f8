"""The SDK of OpenTelemetry, which keeps what it is told in memory, for one test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util._once import Once

Tree = tuple[str, str, str, tuple[tuple[str, object], ...], list[Any]]
"""Name, kind, status, attributes, children: of a span, without what differs from one run to the next."""

_CHANGES = {"server.port", "network.peer.port", "url.full", "gen_ai.response.time_to_first_chunk"}


class Recorded:
    """What was told to it."""

    def __init__(self, exporter: InMemorySpanExporter, reader: InMemoryMetricReader, provider: TracerProvider) -> None:
        self.exporter = exporter
        self.reader = reader
        self.provider = provider
        self.tracer = provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        """All spans that have ended, in the order in which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time, span.end_time))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    @property
    def attempts(self) -> list[ReadableSpan]:
        """Those of requests on the wire."""
        return [span for span in self.spans if "http.request.method" in attributes(span)]

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        return [span for span in self.spans if span.parent is not None and span.parent.span_id == id_of(parent)]

    def tree(self) -> list[Tree]:
        """All spans as trees; of those that began at the same time, in any order, sorted."""
        ids = {id_of(span) for span in self.spans}
        return self._level([span for span in self.spans if span.parent is None or span.parent.span_id not in ids])

    def _level(self, spans: Sequence[ReadableSpan]) -> list[Tree]:
        return sorted((self._tree(span) for span in spans), key=repr)

    def _tree(self, span: ReadableSpan) -> Tree:
        kept = sorted((name, value) for name, value in attributes(span).items() if name not in _CHANGES)
        return span.name, span.kind.name, span.status.status_code.name, tuple(kept), self._level(self.children(span))

    def metric(self, name: str) -> list[Any]:
        """The points of a metric."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def is_unset(span: ReadableSpan) -> bool:
    """Whether nothing is said to have gone wrong."""
    return span.status.status_code is StatusCode.UNSET and "error.type" not in attributes(span)


def is_client(span: ReadableSpan) -> bool:
    return span.kind is SpanKind.CLIENT


@contextmanager
def recording(
    *, sampler: Sampler | None = None, processors: Sequence[SpanProcessor] = (), with_metrics: bool = True
) -> Iterator[Recorded]:
    """Make it what the process tells, and put everything back afterwards: it can be set but once otherwise."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider(sampler=sampler, resource=Resource({}), shutdown_on_exit=False)
    for processor in (*processors, SimpleSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    meters = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    before = (
        trace._TRACER_PROVIDER,
        trace._TRACER_PROVIDER_SET_ONCE,
        metrics_internal._METER_PROVIDER,
        metrics_internal._METER_PROVIDER_SET_ONCE,
    )
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
    metrics_internal._METER_PROVIDER, metrics_internal._METER_PROVIDER_SET_ONCE = None, Once()
    try:
        trace.set_tracer_provider(provider)
        if with_metrics:
            metrics.set_meter_provider(meters)
        yield Recorded(exporter, reader, provider)
    finally:
        (
            trace._TRACER_PROVIDER,
            trace._TRACER_PROVIDER_SET_ONCE,
            metrics_internal._METER_PROVIDER,
            metrics_internal._METER_PROVIDER_SET_ONCE,
        ) = before
        provider.shutdown()
        meters.shutdown()
