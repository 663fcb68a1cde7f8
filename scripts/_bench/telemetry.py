"""What telemetry costs above an engine that answers at once: how much dearer a request is than with it switched off.

"Nothing installed" and "API only" are what most users have who ask for no telemetry: of these there is a limit. With an
SDK, spans are recorded and thrown away by an exporter that does nothing.
"""

import contextlib
from collections.abc import Callable, Iterator

from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.util._once import Once

from pynector._telemetry import otel, tracing

from . import null_engine, overhead
from .measure import Plan, Row, Run, compare
from .report import RowReport

COUNT = 3000
NOTHING_INSTALLED, API_ONLY = 1e-6, 8e-6


class Nowhere(SpanExporter):
    """Where spans are sent."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@contextlib.contextmanager
def nothing_installed() -> Iterator[None]:
    """As if there were no OpenTelemetry."""
    before = otel._found[:], tracing._made[:]
    otel._found[:], tracing._made[:] = [None], []
    try:
        yield
    finally:
        otel._found[:], tracing._made[:] = before


@contextlib.contextmanager
def with_an_sdk() -> Iterator[None]:
    """With providers that record everything."""
    before = trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE
    before_metrics = metrics_internal._METER_PROVIDER, metrics_internal._METER_PROVIDER_SET_ONCE
    provider, meters = (
        TracerProvider(shutdown_on_exit=False),
        MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
    )
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace._TRACER_PROVIDER_SET_ONCE = metrics_internal._METER_PROVIDER_SET_ONCE = Once()
    try:
        trace._TRACER_PROVIDER, metrics_internal._METER_PROVIDER = provider, meters
        yield
    finally:
        trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = before
        metrics_internal._METER_PROVIDER, metrics_internal._METER_PROVIDER_SET_ONCE = before_metrics
        provider.shutdown()
        meters.shutdown()


def inside(around: Callable[[], contextlib.AbstractContextManager[None]], run: Run) -> Run:
    """The same, with `around` around it."""

    def inner(count: int) -> float:
        with around():
            return run(count)

    return inner


def contestants(run: Callable[[bool], Run]) -> dict[str, Run]:
    return {
        "off": run(False),
        "nothing installed": inside(nothing_installed, run(True)),
        "API only": run(True),
        "SDK": inside(with_an_sdk, run(True)),
    }


def rows(plan: Plan) -> Iterator[Row]:
    kinds: list[tuple[str, Callable[[bool], Run]]] = [
        ("async: request", lambda on: overhead.of_async(overhead.one_by_one, telemetry=on)),
        ("async: item of a batch, C=64", lambda on: overhead.of_async(overhead.in_a_batch, telemetry=on)),
        ("blocking: request", lambda on: overhead.of_blocking(overhead.one_by_one_blocking, telemetry=on)),
        (
            "blocking: item of a batch, C=32",
            lambda on: overhead.of_blocking(overhead.in_a_batch_blocking, telemetry=on),
        ),
    ]
    limits = {"nothing installed": NOTHING_INSTALLED, "API only": API_ONLY, "SDK": None}
    with null_engine.installed():
        for name, run in kinds:
            if not plan.wants(name):
                continue
            plan.say(name)
            found = compare(plan, name, plan.requests or COUNT, contestants(run)).values
            for who, limit in limits.items():
                yield Row(f"{name}, {who}", {"more": found[who] - found["off"], "off": found["off"]}, limit=limit)


def measure(plan: Plan) -> RowReport:
    """Both colours, one request after the other and in a batch."""
    return RowReport("Telemetry: how much more CPU time one request takes than with it switched off", [*rows(plan)])
