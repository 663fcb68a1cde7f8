"""`configure_telemetry`: what it accepts, what it sets up, and that it replaces nothing."""

import inspect
import logging
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import pynector.telemetry
import pynector.telemetry.sync
from pynector import telemetry
from pynector._telemetry.settings import settings
from pynector.errors import ConfigurationError
from pynector.telemetry import configure_telemetry, get_telemetry
from servers.spans import untouched

COLLECTOR = "http://127.0.0.1:9"  # nobody is there


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has set up anything."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    with untouched():
        yield


def processors() -> tuple[Any, ...]:
    return trace.get_tracer_provider()._active_span_processor._span_processors  # type: ignore[attr-defined, no-any-return]


def resource() -> Any:
    return trace.get_tracer_provider().resource.attributes  # type: ignore[attr-defined]


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.reason for record in caplog.records if record.name == "pynector.telemetry"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"service_name": " "}, "argument `service_name`: ' ' is not accepted"),
        ({"service_name": 7}, "argument `service_name`: 7 is not accepted"),
        ({"resource_attributes": [1]}, "argument `resource_attributes`: expected a mapping, got list"),
        ({"resource_attributes": {1: "a"}}, "argument `resource_attributes`: the name 1 is not accepted"),
        ({"resource_attributes": {"a": [1]}}, "argument `resource_attributes`: 'a' is list"),
        ({"trace_enabled": "yes"}, "argument `trace_enabled`: 'yes' is not accepted; give True or False"),
        ({"metrics_enabled": 1}, "argument `metrics_enabled`: 1 is not accepted; give True or False"),
        ({"log_level": "LOUD"}, "argument `log_level`: 'LOUD' is not accepted; give one of DEBUG, INFO,"),
        ({"log_level": 17}, "argument `log_level`: 17 is not accepted"),
        ({"log_level": True}, "argument `log_level`: True is not accepted"),
        ({"log_format": "xml"}, "argument `log_format`: 'xml' is not accepted; give 'console' or 'json'"),
        ({"trace_exporters": "jaeger"}, "argument `trace_exporters`: 'jaeger' is not accepted; give 'otlp', 'console'"),
        ({"trace_exporters": ["otlp", 7]}, "argument `trace_exporters`: int is neither an exporter nor"),
        ({"trace_exporters": lambda: 7}, "argument `trace_exporters`: the function returned int, which is no exporter"),
    ],
)
def test_what_is_not_accepted(arguments: dict[str, Any], message: str) -> None:
    before = settings()
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        configure_telemetry(**arguments)
    assert settings() is before
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@pytest.mark.parametrize("name", ["", " ", None, 7])
def test_a_part_needs_a_name(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="argument `name`"):
        get_telemetry(name)


def test_what_is_not_given_stays() -> None:
    configure_telemetry(service_name="a", trace_enabled=False, log_level="warn", log_format="json")
    configure_telemetry(resource_attributes={"team": "blue"}, metrics_enabled=False)
    now = settings()
    assert (now.service_name, now.trace_enabled, now.metrics_enabled) == ("a", False, False)
    assert (now.log_level, now.log_format, now.configured) == (logging.WARNING, "json", True)
    assert now.resource_attributes == {"team": "blue"}
    with pytest.raises(TypeError):
        now.resource_attributes["team"] = "red"  # type: ignore[index]


def test_a_provider_without_exporters() -> None:
    configure_telemetry(service_name="a", resource_attributes={"team": "blue"})
    assert isinstance(trace.get_tracer_provider(), TracerProvider)
    assert processors() == ()
    assert (resource()["service.name"], resource()["team"]) == ("a", "blue")
    # Nobody would be told of measurements.
    assert not isinstance(metrics.get_meter_provider(), MeterProvider)


def test_every_form_of_an_exporter() -> None:
    memory, processor = InMemorySpanExporter(), SimpleSpanProcessor(InMemorySpanExporter())
    made: list[InMemorySpanExporter] = []

    def make() -> InMemorySpanExporter:
        made.append(InMemorySpanExporter())
        return made[0]

    for _ in range(2):  # asked for twice they are there once
        configure_telemetry(trace_exporters=[memory, processor, make, "console", "none"])
    assert [type(each) for each in processors()] == [BatchSpanProcessor, SimpleSpanProcessor, *[BatchSpanProcessor] * 2]
    assert isinstance(processors()[3].span_exporter, ConsoleSpanExporter)
    assert len(made) == 1
    tracer, _ = get_telemetry("part")
    with tracer.start_as_current_span("work"):
        pass
    trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    assert [len(each.get_finished_spans()) for each in (memory, made[0])] == [1, 1]


def test_exporters_may_come_later() -> None:
    configure_telemetry()
    memory = InMemorySpanExporter()
    configure_telemetry(trace_exporters=memory)
    assert len(processors()) == 1


def test_otlp() -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    configure_telemetry(trace_exporters="otlp")
    assert isinstance(processors()[0].span_exporter, OTLPSpanExporter)


def test_an_endpoint_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    configure_telemetry()
    assert len(processors()) == 1
    assert isinstance(metrics.get_meter_provider(), MeterProvider)


@pytest.mark.parametrize("names", ["none", "", " , "])
def test_no_exporter_in_the_environment(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", names)
    configure_telemetry()
    assert processors() == ()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("OTEL_TRACES_EXPORTER", "nobody", "no exporter of the name 'nobody' is installed"),
        ("OTEL_METRICS_EXPORTER", "nobody", "no exporter of the name 'nobody' is installed"),
        ("OTEL_LOG_LEVEL", "loud", "'LOUD' is no level"),
    ],
)
def test_a_wrong_environment_stops_nobody(
    variable: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, value)
    configure_telemetry()
    assert len(complaints(caplog)) == 1
    assert reason in complaints(caplog)[0]
    assert settings().log_level == logging.INFO


def test_a_wrong_protocol_for_an_exporter_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL: 'carrier-pigeon' is not accepted"):
        configure_telemetry(trace_exporters="otlp")
    # The next try starts from nothing.
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    configure_telemetry(trace_exporters="otlp")
    assert len(processors()) == 1


def test_the_providers_of_the_application_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    traces, meters = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(meters)
    configure_telemetry(service_name="a")
    assert complaints(caplog) == []
    configure_telemetry(trace_exporters="console")
    assert trace.get_tracer_provider() is traces
    assert metrics.get_meter_provider() is meters
    assert processors() == ()
    assert complaints(caplog) == ["the application has set up a provider of its own, which is kept"]


def test_disabled_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", " TRUE ")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
    configure_telemetry(trace_exporters="console")
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert not isinstance(metrics.get_meter_provider(), MeterProvider)


def test_switched_off_it_sets_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
    configure_telemetry(trace_enabled=False, metrics_enabled=False)
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert not isinstance(metrics.get_meter_provider(), MeterProvider)
    tracer, _ = get_telemetry("part")
    with tracer.start_as_current_span("work") as span:
        assert span.trace_id is None


def test_many_threads_at_once() -> None:
    memory = InMemorySpanExporter()
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        start.wait()
        try:
            configure_telemetry(f"service-{number}", trace_exporters=[memory])
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(processors()) == 1
    assert logging.getLogger("pynector").handlers.count(logging.getLogger("pynector").handlers[-1]) == 1


def test_a_tracer_made_before_uses_what_is_set_up_later() -> None:
    tracer, _ = get_telemetry("part")
    with tracer.start_as_current_span("work") as span:
        assert span.trace_id is None
    configure_telemetry()
    with tracer.start_as_current_span("work") as span:
        assert span.trace_id is not None
    assert (tracer.name, repr(tracer)) == ("part", "Tracer('part')")


# The public modules


def test_both_modules_have_the_same_names() -> None:
    names = {name.replace("traced_async_operation", "traced_operation") for name in telemetry.__all__}
    assert names == set(pynector.telemetry.sync.__all__)
    assert dir(telemetry) == sorted(telemetry.__all__)
    for module in (telemetry, pynector.telemetry.sync):
        assert all(inspect.getdoc(getattr(module, name)) for name in module.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        telemetry.Nonsense  # noqa: B018


def test_blocks_of_the_wrong_colour() -> None:
    tracer, _ = get_telemetry("part")
    with pytest.raises(TypeError, match="for async code: use `async with"):
        with telemetry.traced_async_operation(tracer, "work"):
            pass
    with pytest.raises(TypeError, match="for async code: use `async with"):
        with telemetry.traced_task_group(tracer, "work"):
            pass


async def test_blocking_blocks_in_async_code() -> None:
    tracer, _ = get_telemetry("part")
    with pytest.raises(TypeError, match="for blocking code: use `with"):
        async with pynector.telemetry.sync.traced_operation(tracer, "work"):
            pass
    with pytest.raises(TypeError, match="for blocking code: use `with"):
        async with pynector.telemetry.sync.traced_task_group(tracer, "work"):
            pass


async def test_calls_that_were_not_begun_are_closed() -> None:
    tracer, _ = get_telemetry("part")

    async def call() -> int:
        return 1

    with pytest.raises(ConfigurationError):
        await telemetry.traced_gather(tracer, [call(), 7])
    assert await telemetry.traced_gather(tracer, [call(), call]) == [1, 1]
