"""Sets up the SDK of OpenTelemetry for applications that have not done so: the only module that imports the SDK."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

from ..errors import ConfigurationError
from .guard import report_unusable
from .otel import OpenTelemetry, opentelemetry
from .settings import TelemetrySettings

Exporter = str | object | Callable[[], object]

_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OTLP: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("TRACES", "http/protobuf"): ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    ("TRACES", "grpc"): ("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "OTLPSpanExporter"),
    ("METRICS", "http/protobuf"): ("opentelemetry.exporter.otlp.proto.http.metric_exporter", "OTLPMetricExporter"),
    ("METRICS", "grpc"): ("opentelemetry.exporter.otlp.proto.grpc.metric_exporter", "OTLPMetricExporter"),
}
_CONSOLE: Final = {
    "TRACES": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
    "METRICS": ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
}
_PACKAGES: Final = {"http/protobuf": "pynector[otlp]", "grpc": "opentelemetry-exporter-otlp-proto-grpc"}

# The provider of traces that was set up here, and the exporters that it has.
_own: dict[str, Any] = {}
_exporters: list[object] = []


def sdk_disabled() -> bool:
    """Tell whether the environment has switched the SDK off: `OTEL_SDK_DISABLED=true`."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def check_exporters(exporters: object) -> list[Exporter] | None:
    """Return the exporters that were asked for, checked as far as that needs no SDK.

    Args:
        exporters: A name, an exporter, a function that makes one, several of them, or None.

    Raises:
        ConfigurationError: It is something else.
    """
    if exporters is None:
        return None
    if isinstance(exporters, str) or not isinstance(exporters, Iterable):
        exporters = [exporters]
    found: list[Exporter] = []
    for exporter in exporters:
        if isinstance(exporter, str):
            if exporter not in ("otlp", "console", "none"):
                raise ConfigurationError(
                    f"argument `trace_exporters`: {exporter!r} is not accepted; give 'otlp', 'console', an exporter "
                    "or a span processor of OpenTelemetry, or a function that makes one"
                )
            if exporter != "none":
                found.append(exporter)
        elif _is_exporter(exporter) or _is_processor(exporter) or callable(exporter):
            found.append(exporter)
        else:
            raise ConfigurationError(
                f"argument `trace_exporters`: {type(exporter).__name__} is neither an exporter nor a span processor of "
                "OpenTelemetry, nor a function that makes one"
            )
    return found


def need_sdk(exporters: Sequence[Exporter]) -> None:
    """Refuse exporters where there is no SDK to use them.

    Args:
        exporters: Those that were asked for.

    Raises:
        ConfigurationError: The SDK is not installed.
    """
    try:
        import_module("opentelemetry.sdk.trace")
    except ImportError:
        extras = "observability,otlp" if "otlp" in exporters else "observability"
        raise ConfigurationError(
            "argument `trace_exporters`: exporting traces needs the SDK of OpenTelemetry: "
            f"pip install 'pynector[{extras}]'"
        ) from None


def set_up_traces(wanted: TelemetrySettings, exporters: Sequence[Exporter] | None) -> None:
    """Give the process a provider of traces, if it has none yet.

    Args:
        wanted: The settings.
        exporters: Those that were asked for; None to go by the environment.

    Raises:
        ConfigurationError: What was asked for is not installed, or did not come into being.
    """
    otel = opentelemetry()
    if otel is None:
        return
    provider = otel.trace.get_tracer_provider()
    if provider is _own.get("traces", _own):
        _add_exporters(provider, exporters or ())
        return
    if not isinstance(provider, otel.trace.ProxyTracerProvider):
        if exporters:
            report_unusable("trace_exporters", "the application has set up a provider of its own, which is kept")
        return
    try:
        sdk = import_module("opentelemetry.sdk.trace")
    except ImportError:
        return
    provider = sdk.TracerProvider(resource=_resource(wanted))
    try:
        if exporters is None:
            _add_exporters_of_environment(provider)
        else:
            _add_exporters(provider, exporters)
        otel.trace.set_tracer_provider(provider)
    finally:
        if otel.trace.get_tracer_provider() is provider:
            _own["traces"] = provider
        else:  # an exporter is missing, or the application has set a provider in the meantime
            _exporters.clear()
            provider.shutdown()


def set_up_metrics(wanted: TelemetrySettings) -> None:
    """Give the process a provider of metrics, if it has none yet, and the environment says where they go.

    Args:
        wanted: The settings.
    """
    otel = opentelemetry()
    if otel is None or not _is_unset(otel):
        return
    names = _of_environment("METRICS")
    if not names:
        return  # measuring what nobody is told costs, and gives nothing
    try:
        sdk, export = import_module("opentelemetry.sdk.metrics"), import_module("opentelemetry.sdk.metrics.export")
        readers = [export.PeriodicExportingMetricReader(_named(name, "METRICS")) for name in names]
        otel.metrics.set_meter_provider(sdk.MeterProvider(metric_readers=readers, resource=_resource(wanted)))
    except Exception as exc:  # noqa: BLE001 - nobody asked for it but the environment
        _told_by_environment("METRICS", exc)


def _is_unset(otel: OpenTelemetry) -> bool:
    # That it is a stand-in can't be told by any public name.
    return type(otel.metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"


def _resource(wanted: TelemetrySettings) -> Any:
    attributes = dict(wanted.resource_attributes)
    if wanted.service_name is not None:
        attributes["service.name"] = wanted.service_name
    # It adds what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, as far as nothing is said here.
    return import_module("opentelemetry.sdk.resources").Resource.create(attributes)


def _of_environment(signal: str) -> list[str]:
    """The names of exporters that the environment asks for; without a word on them, OTLP if it names an endpoint."""
    text = os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip()
    if not text:
        named = os.environ.get(_ENDPOINT) or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        text = "otlp" if named else ""
    return [name for each in text.split(",") if (name := each.strip()) and name.lower() != "none"]


def _add_exporters_of_environment(provider: Any) -> None:
    for name in _of_environment("TRACES"):
        try:
            _add_exporters(provider, [name])
        except Exception as exc:  # noqa: BLE001 - whatever an exporter makes of its own variables
            _told_by_environment("TRACES", exc)


def _told_by_environment(signal: str, exc: Exception) -> None:
    # Nobody who could handle an error has asked for it.
    reason = str(exc) if isinstance(exc, ConfigurationError) else type(exc).__name__
    report_unusable(f"OTEL_{signal}_EXPORTER", reason)


def _add_exporters(provider: Any, exporters: Iterable[Exporter]) -> None:
    for exporter in exporters:
        # Asked for twice it is one exporter still.
        if exporter in _exporters:
            continue
        provider.add_span_processor(_processor(exporter))
        _exporters.append(exporter)


def _processor(exporter: Exporter) -> Any:
    made: Any
    if isinstance(exporter, str):
        made = _named(exporter, "TRACES")
    elif _is_exporter(exporter) or _is_processor(exporter):
        made = exporter
    else:
        made = exporter()  # type: ignore[operator] # that it is callable was checked
    if _is_processor(made):
        return made
    if not _is_exporter(made):
        raise ConfigurationError(
            f"argument `trace_exporters`: the function returned {type(made).__name__}, which is no exporter and no "
            "span processor of OpenTelemetry"
        )
    return import_module("opentelemetry.sdk.trace.export").BatchSpanProcessor(made)


def _named(name: str, signal: str) -> Any:
    if name == "console":
        module, attribute = _CONSOLE[signal]
        return getattr(import_module(module), attribute)()
    if name in ("otlp", "otlp_proto_http", "otlp_proto_grpc"):
        protocol = {"otlp_proto_http": "http/protobuf", "otlp_proto_grpc": "grpc"}.get(name) or _protocol(signal)
        module, attribute = _OTLP[signal, protocol]
        try:
            made = import_module(module)
        except ImportError:
            raise ConfigurationError(
                f"exporting by OTLP over {protocol} needs one more package: pip install '{_PACKAGES[protocol]}'"
            ) from None
        return getattr(made, attribute)()
    from importlib.metadata import entry_points

    group = f"opentelemetry_{signal.lower()}_exporter"
    for entry in entry_points(group=group, name=name):
        return entry.load()()
    raise ConfigurationError(f"OTEL_{signal}_EXPORTER: no exporter of the name {name!r} is installed")


def _protocol(signal: str) -> str:
    variables = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    for variable in variables:
        value = os.environ.get(variable, "").strip()
        if value and (signal, value) not in _OTLP:
            raise ConfigurationError(f"{variable}: {value!r} is not accepted; give http/protobuf or grpc")
        if value:
            return value
    return "http/protobuf"


def _is_exporter(thing: object) -> bool:
    return not isinstance(thing, type) and hasattr(thing, "export") and hasattr(thing, "shutdown")


def _is_processor(thing: object) -> bool:
    return not isinstance(thing, type) and hasattr(thing, "on_start") and hasattr(thing, "on_end")
