"""The instruments, made once for each meter provider; and the batches that run, for those that are observed."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakSet

from .._mutex import ProcessMutex
from .._version import __version__
from . import semconv
from .guard import report_failure
from .otel import OpenTelemetry, opentelemetry
from .settings import settings

Attributes = Mapping[str, Any]


class Gauges(NamedTuple):
    """How a batch stands at this moment."""

    in_flight: int
    held: int
    limit: int


class Running(Protocol):
    """A batch that runs."""

    def gauges(self) -> Gauges:
        """How it stands, asked for from any thread."""
        ...


class Instruments:
    """All instruments of one meter. Whatever they raise is kept from the callers.

    Args:
        api: The API of OpenTelemetry.
        meter: Whose they are.
    """

    __slots__ = ("_api", "_made")

    def __init__(self, api: OpenTelemetry, meter: Any) -> None:
        self._api = api
        self._made: dict[str, Any] = {}
        for metric in semconv.METRICS:
            try:
                self._made[metric.name] = self._make(meter, metric)
            except Exception as exc:  # noqa: BLE001 - of the application's own provider
                report_failure(f"making {metric.name}", exc)

    def _make(self, meter: Any, metric: semconv.Metric) -> Any:
        how = {"unit": metric.unit, "description": metric.description}
        if metric.kind == "counter":
            return meter.create_counter(metric.name, **how)
        if metric.kind == "histogram":
            try:
                return meter.create_histogram(metric.name, explicit_bucket_boundaries_advisory=metric.boundaries, **how)
            except TypeError:  # a meter from before there was such advice
                return meter.create_histogram(metric.name, **how)
        observe = partial(self._observe, _OBSERVED[metric.name])
        return meter.create_observable_up_down_counter(metric.name, callbacks=[observe], **how)

    def record(self, metric: semconv.Metric, value: float, attributes: Attributes | None = None) -> None:
        """Record a value in a histogram."""
        try:
            self._made[metric.name].record(value, attributes)
        except Exception as exc:  # noqa: BLE001
            report_failure(f"recording {metric.name}", exc)

    def count(self, metric: semconv.Metric, attributes: Attributes | None = None) -> None:
        """Add one to a counter."""
        try:
            self._made[metric.name].add(1, attributes)
        except Exception as exc:  # noqa: BLE001
            report_failure(f"counting {metric.name}", exc)

    def _observe(self, field: Callable[[Gauges], int], _options: object) -> Iterable[Any]:
        with _mutex:
            batches = list(_running)
        return [self._api.metrics.Observation(sum(field(batch.gauges()) for batch in batches))]


_OBSERVED: Mapping[str, Callable[[Gauges], int]] = {
    semconv.IN_FLIGHT.name: lambda gauges: gauges.in_flight,
    semconv.HELD.name: lambda gauges: gauges.held,
    semconv.CONCURRENCY.name: lambda gauges: gauges.limit,
}

# Two of them: the SDK asks for observations with locks of its own held, which are wanted for making instruments too.
_making = ProcessMutex()
_mutex = ProcessMutex()
_running: WeakSet[Running] = WeakSet()
_known: tuple[object, Instruments | None] | None = None
_seen: tuple[object, Instruments | None] | None = None
_MISSING: Final = object()


def instruments() -> Instruments | None:
    """The instruments; None if nothing would be measured: not installed, switched off, or without a provider."""
    global _seen  # noqa: PLW0603 - one tuple, so that nobody sees half of it
    api = opentelemetry()
    if api is None or not settings().metrics_enabled:
        return None
    # As with tracers: to ask for a provider takes long while there is none, and this name is a private one as well.
    internal, seen = getattr(api.metrics, "_internal", None), _seen
    current = getattr(internal, "_METER_PROVIDER", _MISSING)
    if seen is not None and seen[0] is current:
        return seen[1]
    try:
        provider = api.metrics.get_meter_provider()
        known = _known
        made = known[1] if known is not None and known[0] is provider else _adopt(api, provider)
    except Exception as exc:  # noqa: BLE001
        report_failure("asking for the meter provider", exc)
        return None
    if current is not _MISSING:
        _seen = current, made
    return made


def _adopt(api: OpenTelemetry, provider: Any) -> Instruments | None:
    """Make the instruments of a provider that was not met before."""
    global _known  # noqa: PLW0603 - one tuple, so that nobody sees half of it
    with _making:
        if _known is None or _known[0] is not provider:
            made = None
            # Whoever stands in for a provider that is to come would make every instrument twice when it does.
            if type(provider).__name__ not in _NOTHING:
                made = Instruments(api, provider.get_meter(semconv.SCOPE, __version__, semconv.SCHEMA_URL))
            _known = provider, made
        return _known[1]


_NOTHING = frozenset({"NoOpMeterProvider", "_ProxyMeterProvider"})


def began(batch: Running) -> None:
    """A batch runs from now on."""
    with _mutex:
        _running.add(batch)


def ended(batch: Running) -> None:
    """It does no more."""
    with _mutex:
        _running.discard(batch)


def retried(reason: object) -> None:
    """A request is sent again.

    Args:
        reason: The status, or the name of an exception.
    """
    if (made := instruments()) is not None:
        made.count(semconv.RETRIES, {semconv.RETRY_REASON: str(reason)})


def waited(metric: semconv.Metric, seconds: float) -> None:
    """Somebody has waited for so long."""
    if (made := instruments()) is not None:
        made.record(metric, seconds)
