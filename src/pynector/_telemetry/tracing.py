"""Spans, made through the API of OpenTelemetry, if it is there: whatever it raises is kept from the callers."""

import atexit
import os
import time
from collections import deque
from types import TracebackType
from typing import Any

from .._mutex import ProcessMutex
from .._version import __version__
from ..errors import TransportError
from . import semconv
from .guard import report_failure
from .metrics import Instruments, instruments
from .otel import OpenTelemetry, opentelemetry
from .redactor import redact_text
from .settings import settings

RawHeaders = list[tuple[bytes, bytes]]
Attributes = dict[str, Any]

_LONGEST = 500
"""Characters of an error's text that a span has at most."""


class Tracing:
    """What spans are made with. There is one for the process, and only if the API is installed.

    Args:
        api: The API.
    """

    __slots__ = ("_get_context", "_known", "_metrics", "_mutex", "_seen", "_trace", "api")

    def __init__(self, api: OpenTelemetry) -> None:
        self.api = api
        self._known: tuple[object, Any] | None = None
        self._seen: tuple[object, Any] | None = None
        self._mutex = ProcessMutex()
        self._trace: Any = api.trace
        self._metrics: Any = getattr(api.metrics, "_internal", None)
        self._get_context: Any = api.context.get_current
        # Providers that the environment names are loaded, and set, when one is asked for.
        self.tracer()
        instruments()

    def is_idle(self) -> bool:
        """Whether there is nothing to do at all, as is nearly always so where nobody has asked for telemetry.

        That is to say: nothing records spans or measurements, and nothing is current that a server is to be told of.
        It is on the way of every request, where to ask for a provider takes longer than all the rest while there is
        none, as the environment is searched. The two names are private ones: without them this is slower, and no more.
        """
        return (
            getattr(self._trace, "_TRACER_PROVIDER", self) is None
            and getattr(self._metrics, "_METER_PROVIDER", self) is None
            and not self._get_context()
        )

    def tracer(self) -> Any:
        """The tracer; None if no span would be recorded, so that nothing has to be put together for one."""
        if not settings().trace_enabled:
            return None
        # The application may set its provider at any moment, so that it is looked for each time, as in `is_idle`.
        current, seen = getattr(self.api.trace, "_TRACER_PROVIDER", self), self._seen
        if seen is not None and seen[0] is current:
            return seen[1]
        try:
            provider = self.api.trace.get_tracer_provider()
            known = self._known
            tracer = known[1] if known is not None and known[0] is provider else self._adopt(provider)
        except Exception as exc:  # noqa: BLE001 - of the application's own provider
            report_failure("tracer", exc)
            return None
        if current is not self:
            self._seen = current, tracer
        return tracer

    def _adopt(self, provider: Any) -> Any:
        trace = self.api.trace
        tracer = None
        if not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
            tracer = provider.get_tracer(semconv.SCOPE, __version__, schema_url=semconv.SCHEMA_URL)
            if isinstance(tracer, trace.NoOpTracer):  # OTEL_SDK_DISABLED
                tracer = None
        if tracer is not None:
            # The SDK has its own shutdown in that list: what is entered later is called before it.
            atexit.unregister(end_dropped)
            atexit.register(end_dropped)
        with self._mutex:
            self._known = provider, tracer
        return tracer

    def start(
        self, tracer: Any, name: str, kind: str, attributes: Attributes | None, start_time: int, context: Any = None
    ) -> Any:
        """Start a span, which is not made current.

        Args:
            tracer: As `tracer` returned it.
            name: Of the span.
            kind: Of the span, as `SpanKind` names it.
            attributes: What the sampler may look at.
            start_time: Nanoseconds since the epoch.
            context: What its parent is in; None for what is current.

        Returns:
            The span; None if that failed.
        """
        try:
            kind = getattr(self.api.trace.SpanKind, kind)
            return tracer.start_span(name, context=context, kind=kind, attributes=attributes, start_time=start_time)
        except Exception as exc:  # noqa: BLE001 - a sampler or a span processor of the application's
            report_failure("span start", exc)
            return None

    def finish(self, span: Any, attributes: Attributes, error: tuple[str, str] | None, end_time: int) -> None:
        """End a span.

        Args:
            span: The span.
            attributes: What is known of it at its end.
            error: The type of the error it ended in, and its text, which may be empty. Without one the status stays
                unset: also that of what was cancelled, which is no failure.
            end_time: Nanoseconds since the epoch.
        """
        try:
            if span.is_recording():
                if error is not None:
                    attributes[semconv.ERROR_TYPE] = error[0]
                    trace = self.api.trace
                    span.set_status(trace.Status(trace.StatusCode.ERROR, error[1] or None))
                span.set_attributes(attributes)
        except Exception as exc:  # noqa: BLE001
            report_failure("span attributes", exc)
        try:
            span.end(end_time)
        except Exception as exc:  # noqa: BLE001 - an exporter or a span processor of the application's
            report_failure("span end", exc)

    def in_context(self, span: Any) -> Any:
        """The current context, with `span` as what is current in it; None if that failed."""
        try:
            return self.api.trace.set_span_in_context(span)
        except Exception as exc:  # noqa: BLE001
            report_failure("context", exc)
            return None

    def inject(self, headers: RawHeaders, context: Any) -> RawHeaders:
        """Write a context into the headers of a request, in the place of what stands there.

        Args:
            headers: Those of the request; they stay as they are.
            context: What is to be written; None for what is current.

        Returns:
            The headers to send: the same list if there is nothing to write.
        """
        propagate = self.api.propagate
        if propagate is None or not settings().trace_enabled:
            return headers
        try:
            if context is None and not self.api.context.get_current():
                return headers  # nothing is current, and so there is nothing to tell
            carrier: dict[str, str] = {}
            propagate.inject(carrier, context)
            if not carrier:
                return headers
            written = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in carrier.items()]
        except Exception as exc:  # noqa: BLE001 - a propagator of the application's
            report_failure("context propagation", exc)
            return headers
        # Of every value that is sent: an application's propagator may have written anything.
        if any(b"\r" in value or b"\n" in value or b"\0" in value for _, value in written):
            return headers
        names = {name for name, _ in written}
        return [*(item for item in headers if item[0].lower() not in names), *written]


_mutex = ProcessMutex()
_made: list[Tracing] = []


def tracing() -> Tracing | None:
    """What spans are made with; None if OpenTelemetry is not installed."""
    if _made:
        return _made[0]
    api = opentelemetry()
    if api is None:
        return None
    with _mutex:
        if not _made:
            _made.append(Tracing(api))
        return _made[0]


def error_of(error: BaseException) -> tuple[str, str] | None:
    """What a span says of an exception: its type, and its text, redacted; None if it is a cancellation."""
    if not isinstance(error, Exception):
        return None
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        # The text of our own errors is fit to be shown; what others write may have anything in it.
        text = redact_text(str(error)) if isinstance(error, TransportError | TimeoutError) else ""
    except Exception as exc:  # noqa: BLE001 - it is the application's own type
        report_failure("error text", exc)
        text = ""
    return name, text[:_LONGEST]


class Current:
    """A context manager that makes a context the current one. Nothing is ever yielded from inside its block.

    Args:
        tracing: What spans are made with.
        context: The context; None to change nothing.
    """

    __slots__ = ("_api", "_context", "_token")

    def __init__(self, tracing: Tracing, context: Any) -> None:
        self._api = tracing.api
        self._context = context
        self._token: Any = None

    def __enter__(self) -> None:
        if self._context is not None:
            try:
                self._token = self._api.context.attach(self._context)
            except Exception as exc:  # noqa: BLE001
                report_failure("context", exc)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A coroutine that nobody has awaited to its end is closed by the garbage collector, in a context of its own.
        if self._token is not None and exc_type is not GeneratorExit:
            try:
                self._api.context.detach(self._token)
            except Exception as error:  # noqa: BLE001
                report_failure("context", error)


_dropped: deque["Lasting"] = deque()
"""What nobody has ended, in the hands of finalisers: its end is still to be told."""

if hasattr(os, "register_at_fork"):
    # The parent tells it.
    os.register_at_fork(after_in_child=_dropped.clear)


def end_dropped() -> None:
    """Tell the end of what was dropped, which came when it was dropped.

    It is called whenever something else begins or ends, and when the process does.
    """
    while _dropped:
        try:
            lasting = _dropped.popleft()
        except IndexError:  # another thread was faster
            return
        lasting.tell_end()


class Lasting:
    """What lasts for a while and has a span, or is measured, or both. It ends once, whoever says so first.

    Args:
        tracing: What spans are made with.
        measured: The instruments; None for none.

    Attributes:
        span: The span; None if there is none.
        context: What things inside of it have as their parent; None if that is what they have anyway.
    """

    __slots__ = ("_began", "_clock", "_open", "_took", "_tracing", "context", "measured", "span")

    def __init__(self, tracing: Tracing, measured: Instruments | None) -> None:
        if _dropped:
            end_dropped()
        self._tracing = tracing
        self.measured = measured
        self._began = time.time_ns()
        self._clock = time.perf_counter_ns()
        # A list, as taking something out of it happens in one thread only, whoever else tries it at that moment.
        self._open = [True]
        self._took = 0
        self.span: Any = None
        self.context: Any = None

    def start(self, tracer: Any, name: str, kind: str, attributes: Attributes | None) -> None:
        """Start the span."""
        self.span = self._tracing.start(tracer, name, kind, attributes, self._began)
        if self.span is not None:
            self.context = self._tracing.in_context(self.span)

    def lasts(self) -> float:
        """For how many seconds it has gone on."""
        return (time.perf_counter_ns() - self._clock) / 1e9

    def current(self) -> Current:
        """A context manager: what is done in its block has this as its parent."""
        return Current(self._tracing, self.context)

    def end(self, error: BaseException | None = None) -> None:
        """It is over. Called again, nothing happens.

        Args:
            error: What it ended in, if it did not end well.
        """
        if not self._is_last():
            return
        if type(error) is GeneratorExit:
            _dropped.append(self)  # a coroutine is closed, maybe by the garbage collector
            return
        self.tell_end(error)
        if _dropped:
            end_dropped()

    def __del__(self) -> None:
        # Dropped by somebody who has not read its answer to the end, and not closed it either. The garbage collector
        # may have interrupted the SDK in this very thread, with locks held that can't be taken twice.
        if self._is_last():
            _dropped.append(self)

    def _is_last(self) -> bool:
        """Whether it ends with this call."""
        try:
            self._open.pop()
        except IndexError:
            return False
        self._took = time.perf_counter_ns() - self._clock
        return True

    def tell_end(self, error: BaseException | None = None) -> None:
        """Take the measurements and end the span, as of when it was over."""
        try:
            ended_in = self._outcome(error)
            attributes = self._attributes()
            self._measure(self._took / 1e9, ended_in)
        except Exception as exc:  # noqa: BLE001 - what providers answer may be odder than it should be
            report_failure("span attributes", exc)
            ended_in, attributes = None, {}
        if self.span is not None:
            self._tracing.finish(self.span, attributes, ended_in, self._began + self._took)

    def _outcome(self, error: BaseException | None) -> tuple[str, str] | None:
        return None if error is None else error_of(error)

    def _attributes(self) -> Attributes:
        """What is known at the end."""
        return {}

    def _measure(self, seconds: float, error: tuple[str, str] | None) -> None:
        """Take the measurements."""


def suppressed(tracing: Tracing, lasting: Lasting) -> Current:
    """A context manager: in its block instrumentations of HTTP clients make no spans, as far as they can be told so."""
    context = lasting.context
    key = getattr(tracing.api.context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)  # there is no public name for it
    if key is not None and context is not None:
        try:
            context = tracing.api.context.set_value(key, True, context)
        except Exception as exc:  # noqa: BLE001
            report_failure("context", exc)
    return Current(tracing, context)
