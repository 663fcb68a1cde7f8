"""What makes spans."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from .._version import __version__
from .current import leave_what_ended
from .guard import report_failure
from .otel import OpenTelemetry, opentelemetry
from .settings import settings
from .spans import NO_SPAN, Attribute, CurrentSpan, NoSpan, Span

SpanKindName = Literal["internal", "client", "server", "producer", "consumer"]

_no_block = NoSpan()


class Tracer:
    """Makes spans for one part of an application. Get one with `get_telemetry`.

    Without OpenTelemetry, and while tracing is off, its spans are nothing, and cost next to nothing. Which provider it
    makes them with is looked up for each, so it does not matter whether that was set up before this was made.

    Args:
        name: The name of the part, such as that of its module: the instrumentation scope of its spans.
    """

    __slots__ = ("_made", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        # The provider and what it has made, in one value, so that threads see both or none.
        self._made: tuple[Any, Any] = (None, None)

    @property
    def name(self) -> str:
        """The name of the part of the application."""
        return self._name

    def start_span(
        self, name: str, *, kind: SpanKindName = "internal", attributes: Mapping[str, Attribute] | None = None
    ) -> Span:
        """Start a span, without making it current: the way for what begins in one place and ends in another.

        Args:
            name: What is done, the same for all of its kind: `process_data`, not `process_data 17`.
            kind: On which side of a call this is.
            attributes: What is known of it already; samplers see these.

        Returns:
            The span; call its `end()`.

        Example:
            ```python
            span = tracer.start_span("download")
            try:
                fetch(span)
            finally:
                span.end()
            ```
        """
        if not settings().trace_enabled:
            return NO_SPAN
        otel = opentelemetry()
        if otel is None:
            return NO_SPAN
        try:
            leave_what_ended()
            kind_ = otel.trace.SpanKind[kind.upper()] if isinstance(kind, str) else kind
            span = self._tracer(otel).start_span(name, kind=kind_, attributes=attributes)
            # Without an SDK there is nothing that it could be a parent of.
            return Span(otel, span) if span.get_span_context().is_valid else NO_SPAN
        except Exception as exc:  # noqa: BLE001 - a sampler or a processor of the user's
            report_failure("tracer", exc)
            return NO_SPAN

    def start_as_current_span(
        self,
        name: str,
        *,
        kind: SpanKindName = "internal",
        attributes: Mapping[str, Attribute] | None = None,
        record_exception: bool = True,
        end_on_exit: bool = True,
    ) -> CurrentSpan | NoSpan:
        """Start a span that is current inside of a `with` block, and ends with it.

        An exception that leaves the block is recorded, and makes the status `error`; a cancellation does not. Don't
        `yield` inside of the block: whoever reads your generator would be inside of the span as well. For that there is
        `start_span`.

        Args:
            name: What is done, the same for all of its kind.
            kind: On which side of a call this is.
            attributes: What is known of it already; samplers see these.
            record_exception: Whether an exception that leaves the block is noted at all.
            end_on_exit: Whether the span ends with the block; if not, call its `end()`.

        Returns:
            The block; it gives the span.

        Example:
            ```python
            with tracer.start_as_current_span("process_data") as span:
                span.set_attribute("data.size", 100)
            ```
        """
        if not settings().trace_enabled or opentelemetry() is None:
            return _no_block
        start = partial(self.start_span, name, kind=kind, attributes=attributes)
        return CurrentSpan(start, record_exception=record_exception, end_on_exit=end_on_exit)

    def start_as_current_async_span(
        self,
        name: str,
        *,
        kind: SpanKindName = "internal",
        attributes: Mapping[str, Attribute] | None = None,
        record_exception: bool = True,
        end_on_exit: bool = True,
    ) -> CurrentSpan | NoSpan:
        """Start a span that is current inside of an `async with` block, and ends with it.

        The same as `start_as_current_span`, which works in async code as well: entering and leaving a span waits for
        nothing. This one is for `async with` statements that have other things to enter, too.

        Args:
            name: What is done, the same for all of its kind.
            kind: On which side of a call this is.
            attributes: What is known of it already; samplers see these.
            record_exception: Whether an exception that leaves the block is noted at all.
            end_on_exit: Whether the span ends with the block; if not, call its `end()`.

        Returns:
            The block; it gives the span.

        Example:
            ```python
            async with tracer.start_as_current_async_span("process_data") as span:
                span.set_attribute("data.size", 100)
            ```
        """
        return self.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=record_exception, end_on_exit=end_on_exit
        )

    def _tracer(self, otel: OpenTelemetry) -> Any:
        provider = otel.trace.get_tracer_provider()
        made_by, tracer = self._made
        if made_by is not provider:
            tracer = provider.get_tracer(self._name, __version__ if self._name.startswith("pynector") else None)
            self._made = (provider, tracer)
        return tracer

    def __repr__(self) -> str:
        return f"Tracer({self._name!r})"
