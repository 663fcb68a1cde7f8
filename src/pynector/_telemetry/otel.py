"""The API of OpenTelemetry, if it is installed: the only module that imports it; its SDK is imported in `providers`."""

import logging
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from .._messages.redact import redact_text
from .._mutex import ProcessMutex

_logger = logging.getLogger("pynector.telemetry")


class OpenTelemetry(NamedTuple):
    """The modules of `opentelemetry-api` that are used here.

    Attributes:
        trace: Spans.
        metrics: Instruments.
        context: What is current.
        propagate: How a span goes over the wire; None if it can't be imported: it raises if the environment names a
            propagator that is not installed, which must not keep anybody from sending requests.
    """

    trace: Any
    metrics: Any
    context: Any
    propagate: Any


_mutex = ProcessMutex()
_found: list[OpenTelemetry | None] = []


def opentelemetry() -> OpenTelemetry | None:
    """The API, imported when it is first asked for; None if it is not installed, or broken."""
    if _found:
        return _found[0]
    found = _load()
    with _mutex:
        if not _found:
            _found.append(found)
        return _found[0]


def _load() -> OpenTelemetry | None:
    trace, metrics, context = (_module(f"opentelemetry.{name}") for name in ("trace", "metrics", "context"))
    if trace is None or metrics is None or context is None:
        return None
    return OpenTelemetry(trace, metrics, context, _module("opentelemetry.propagate"))


def _module(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None
    except Exception as exc:  # noqa: BLE001 - half an installation, or a setting of the environment
        # Without the ids of a span: there is nothing yet to ask for them.
        reason = redact_text(f"{type(exc).__name__}: {exc}")
        _logger.warning("telemetry.unusable", extra={"module_name": name, "reason": reason})
        return None
