"""What is wanted of telemetry: one immutable value for the whole process, replaced as one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

LogFormat = Literal["console", "json"]
AttributeValue = str | bool | int | float

INFO: Final = 20  # that of `logging`


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """The settings of telemetry.

    Whoever keeps something that was made by them compares `settings()` with what it was then, by `is`.

    Attributes:
        trace_enabled: Whether spans are made, as far as OpenTelemetry is there.
        metrics_enabled: Whether measurements are taken, as far as OpenTelemetry is there.
        log_level: The lowest level that our own log lines have; it counts once `configured`.
        log_format: How our own log lines look.
        service_name: The name of the application; None if it has not given one here.
        resource_attributes: What else is known of it.
        configured: Whether the application has called `configure_telemetry`.
    """

    trace_enabled: bool = True
    metrics_enabled: bool = True
    log_level: int = INFO
    log_format: LogFormat = "console"
    service_name: str | None = None
    resource_attributes: Mapping[str, AttributeValue] = field(default_factory=lambda: MappingProxyType({}))
    configured: bool = False


# In a list, so that reading it is one look-up, and replacing it one store.
_current: list[TelemetrySettings] = [TelemetrySettings()]


def settings() -> TelemetrySettings:
    """The settings that hold now."""
    return _current[0]


def replace_settings(new: TelemetrySettings) -> None:
    """Put others in their place.

    Args:
        new: What `settings()` returns from now on.
    """
    _current[0] = new
