"""What an application says about telemetry, once."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, Literal

from .._config import UNSET, UnsetType, check_flag
from .._mutex import ProcessMutex
from ..errors import ConfigurationError
from .guard import report_unusable
from .loggers import EventLogger, event_logger
from .providers import check_exporters, need_sdk, sdk_disabled, set_up_metrics, set_up_traces
from .rendering import show_logs
from .settings import INFO, AttributeValue, LogFormat, replace_settings, settings
from .tracers import Tracer

_LEVELS: Final[Mapping[str, int]] = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}

# Held for as long as the SDK takes to be imported, so nothing but this function may ask for it.
_mutex = ProcessMutex()


def get_telemetry(name: str) -> tuple[Tracer, EventLogger]:
    """Make a tracer and a logger for a part of an application.

    They work whatever is installed, and cost next to nothing where nothing is. It does not matter whether this is
    called before or after `configure_telemetry`.

    Args:
        name: The name of the part, such as `"my_component"`. Its spans have it as their instrumentation scope, and its
            log lines go to the logger `pynector.my_component`.

    Returns:
        The tracer and the logger.

    Raises:
        ConfigurationError: The name is empty, or no text.

    Example:
        ```python
        tracer, logger = get_telemetry("my_component")
        with tracer.start_as_current_span("process_data") as span:
            span.set_attribute("data.size", 100)
            logger.info("Processing data", items=100)
        ```
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(
            f"argument `name`: {name!r} is not accepted; give the name of a part of the application"
        )
    return Tracer(name), event_logger(name)


def configure_telemetry(
    service_name: str | None = None,
    *,
    resource_attributes: Mapping[str, AttributeValue] | None = None,
    trace_enabled: bool | UnsetType = UNSET,
    metrics_enabled: bool | UnsetType = UNSET,
    log_level: str | int | UnsetType = UNSET,
    log_format: LogFormat | UnsetType = UNSET,
    trace_exporters: Literal["otlp", "console", "none"]
    | Callable[[], object]
    | Iterable[object]
    | object
    | None = None,
) -> None:
    """Say how traces, metrics and logs leave the application. All of it is optional, and so is the call itself.

    An application that has set up OpenTelemetry or structlog for itself keeps what it has: nothing is ever replaced.
    Where it has not, this sets up the SDK of OpenTelemetry, if that is installed, and shows the log lines of the logger
    `pynector` on stderr: with structlog if that is installed. The environment variables of OpenTelemetry hold:
    `OTEL_SDK_DISABLED`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_EXPORTER`,
    `OTEL_METRICS_EXPORTER`, `OTEL_TRACES_SAMPLER`, `OTEL_PROPAGATORS`, `OTEL_LOG_LEVEL`, `OTEL_EXPORTER_OTLP_*`,
    `OTEL_BSP_*` and the rest. May be called again, from any thread: what is not given stays as it was.

    Args:
        service_name: The name of the application; wins over `OTEL_SERVICE_NAME`.
        resource_attributes: What else is known of it, such as `{"deployment.environment.name": "prod"}`; wins over
            `OTEL_RESOURCE_ATTRIBUTES`.
        trace_enabled: Whether spans are made; true by default.
        metrics_enabled: Whether measurements are taken; true by default.
        log_level: The lowest level of the log lines shown: a name such as `"INFO"`, or a number of `logging`. By
            default what `OTEL_LOG_LEVEL` says, else `"INFO"`.
        log_format: `"console"` for people, which is the default, or `"json"`.
        trace_exporters: Where spans go: `"otlp"`, `"console"`, exporters or span processors of OpenTelemetry, functions
            that make them, or several of these in a list. By default what `OTEL_TRACES_EXPORTER` says, else OTLP if
            `OTEL_EXPORTER_OTLP_ENDPOINT` is set, else nowhere.

    Raises:
        ConfigurationError: A value is not accepted, or an exporter was asked for and the SDK is not installed.

    Example:
        ```python
        configure_telemetry(service_name="my-service", trace_exporters=["otlp"])
        ```
    """
    given: dict[str, Any] = {"configured": True}
    if service_name is not None:
        given["service_name"] = _checked_name(service_name)
    if resource_attributes is not None:
        given["resource_attributes"] = _checked_attributes(resource_attributes)
    if trace_enabled is not UNSET:
        given["trace_enabled"] = check_flag(trace_enabled, "trace_enabled")
    if metrics_enabled is not UNSET:
        given["metrics_enabled"] = check_flag(metrics_enabled, "metrics_enabled")
    if log_format is not UNSET:
        if log_format not in ("console", "json"):
            raise ConfigurationError(f"argument `log_format`: {log_format!r} is not accepted; give 'console' or 'json'")
        given["log_format"] = log_format
    if log_level is not UNSET:
        given["log_level"] = _checked_level(log_level)
    exporters = check_exporters(trace_exporters)
    with _mutex:
        if "log_level" not in given and not settings().configured:
            given["log_level"] = _level_of_environment()
        wanted = replace(settings(), **given)
        if exporters and wanted.trace_enabled and not sdk_disabled():
            need_sdk(exporters)
        show_logs(wanted)  # first, so that what goes wrong below is seen
        if not sdk_disabled():
            if wanted.trace_enabled:
                set_up_traces(wanted, exporters)
            if wanted.metrics_enabled:
                set_up_metrics(wanted)
        replace_settings(wanted)


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"argument `service_name`: {name!r} is not accepted; give a text that is not empty")
    return name


def _checked_attributes(attributes: object) -> Mapping[str, AttributeValue]:
    if not isinstance(attributes, Mapping):
        raise ConfigurationError(f"argument `resource_attributes`: expected a mapping, got {type(attributes).__name__}")
    for name, value in attributes.items():
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"argument `resource_attributes`: the name {name!r} is not accepted; give a text")
        if not isinstance(value, str | bool | int | float):
            raise ConfigurationError(
                f"argument `resource_attributes`: {name!r} is {type(value).__name__}; give text, a number or a flag"
            )
    return MappingProxyType(dict(attributes))


def _checked_level(level: object) -> int:
    if isinstance(level, str) and level.strip().upper() in _LEVELS:
        return _LEVELS[level.strip().upper()]
    if isinstance(level, int) and not isinstance(level, bool) and level in _LEVELS.values():
        return level
    raise ConfigurationError(
        f"argument `log_level`: {level!r} is not accepted; give one of DEBUG, INFO, WARNING, ERROR, CRITICAL"
    )


def _level_of_environment() -> int:
    text = os.environ.get("OTEL_LOG_LEVEL", "").strip().upper()
    if text and text not in _LEVELS:
        # OpenTelemetry's rule for a value that nobody knows: say so, and go on as if it was not there.
        report_unusable("OTEL_LOG_LEVEL", f"{text!r} is no level")
    return _LEVELS.get(text, INFO)
