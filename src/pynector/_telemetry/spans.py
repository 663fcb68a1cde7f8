"""Spans, as the library and its users see them: around one of OpenTelemetry, or around nothing."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self

from .current import Place
from .guard import report_failure
from .otel import OpenTelemetry
from .redactor import redact_text

Scalar = str | bool | int | float
Attribute = Scalar | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
Attributes = Mapping[str, Attribute]
StatusName = Literal["unset", "ok", "error"]

_ERROR_TYPE: Final = "error.type"
# Where an exception has been recorded stands on it: the spans around, in the same trace, need not say it again.
_MARK: Final = "_pynector_recorded_in"


class Span:
    """One operation, with what is said of it. Nothing done to it ever raises; without OpenTelemetry nothing happens.

    Get one from `Tracer.start_as_current_span` or `Tracer.start_span`.
    """

    __slots__ = ("_ended", "_otel", "_span", "_typed")

    def __init__(self, otel: OpenTelemetry | None = None, span: Any = None) -> None:
        self._otel = otel
        self._span = span
        self._ended = False
        self._typed = False

    @property
    def trace_id(self) -> str | None:
        """The id of its trace, 32 hexadecimal digits; None if it has none."""
        number = self._id("trace_id")
        return f"{number:032x}" if number else None

    @property
    def span_id(self) -> str | None:
        """Its own id, 16 hexadecimal digits; None if it has none."""
        number = self._id("span_id")
        return f"{number:016x}" if number else None

    def is_recording(self) -> bool:
        """Tell whether anything said of it is kept: if not, what is costly to find out need not be.

        Returns:
            False without OpenTelemetry, if the sampler has left it out, and once it has ended.
        """
        if self._span is None:
            return False
        try:
            return bool(self._span.is_recording())
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)
            return False

    def set_attribute(self, key: str, value: Attribute) -> None:
        """Say something of it.

        Args:
            key: The name, such as `data.size`; a value it has already is replaced.
            value: Text, a number, a truth value, or a sequence of one of them.
        """
        if self._span is None:
            return
        if key == _ERROR_TYPE:
            self._typed = True
        try:
            self._span.set_attribute(key, value)
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)

    def set_attributes(self, attributes: Attributes) -> None:
        """Say several things of it.

        Args:
            attributes: Names and values, as in `set_attribute`.
        """
        if self._span is None:
            return
        if _ERROR_TYPE in attributes:
            self._typed = True
        try:
            self._span.set_attributes(attributes)
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)

    def add_event(self, name: str, attributes: Attributes | None = None, timestamp: int | None = None) -> None:
        """Note that something has happened.

        Args:
            name: What happened.
            attributes: What is known of it.
            timestamp: When, in nanoseconds since 1970; now, if not given.
        """
        if self._span is None:
            return
        try:
            self._span.add_event(name, attributes=attributes, timestamp=timestamp)
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)

    def record_exception(self, exception: BaseException, attributes: Attributes | None = None) -> None:
        """Note an exception, with its traceback, as an event; credentials are taken out of its text.

        The status stays as it is: an error that was dealt with is no failure.

        Args:
            exception: The exception.
            attributes: What else is known of it.
        """
        if self._span is None or not self.is_recording():
            return
        try:
            found: dict[str, Attribute] = {
                "exception.message": redact_text(str(exception)),
                "exception.stacktrace": redact_text("".join(traceback.format_exception(exception))),
            }
            self._span.record_exception(exception, attributes={**found, **(attributes or {})})
            setattr(exception, _MARK, self._id("trace_id"))
        except Exception as exc:  # noqa: BLE001 - see guard; also an exception that can't be told as text
            report_failure("span", exc)

    def set_status(self, status: StatusName, description: str | None = None) -> None:
        """Say how it ended. Leave it unset if it went well: that is what "no error" looks like.

        Args:
            status: `"error"`, `"ok"` (only if nobody may call it an error any more) or `"unset"`; a `StatusCode` or a
                `Status` of OpenTelemetry are taken as well.
            description: What went wrong; credentials are taken out of it.
        """
        if self._span is None or self._otel is None:
            return
        try:
            if isinstance(status, str):
                status = self._otel.trace.StatusCode[status.upper()]
            self._span.set_status(status, redact_text(description) if description else None)
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)

    def update_name(self, name: str) -> None:
        """Give it another name.

        Args:
            name: The name.
        """
        if self._span is None:
            return
        try:
            self._span.update_name(name)
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)

    def fail(self, exception: BaseException) -> None:
        """Say that it ended with an exception, as the conventions want it.

        Status `error`, `error.type` unless that was set by hand, and the exception, unless a span below this one has
        recorded it. A cancellation, an interrupt and the end of a generator are no errors: they change nothing.

        Args:
            exception: What left the operation.
        """
        if self._span is None or not isinstance(exception, Exception) or not self.is_recording():
            return
        if getattr(exception, _MARK, None) != self._id("trace_id"):
            self.record_exception(exception)
        if not self._typed:
            self.set_attribute(_ERROR_TYPE, error_type(exception))
        self.set_status("error", _text(exception))

    def end(self) -> None:
        """End it; only the first call counts."""
        if self._span is None or self._ended:
            return
        self._ended = True
        try:
            self._span.end()
        except Exception as exc:  # noqa: BLE001 - a processor or an exporter of the user's
            report_failure("exporter", exc)

    def place(self) -> Place | None:
        """Where it is current, to be entered and left; None if it is nothing, so that there is nothing to enter."""
        if self._span is None or self._otel is None:
            return None
        return Place(self._otel.context, self._otel.trace.set_span_in_context(self._span))

    def _id(self, name: Literal["trace_id", "span_id"]) -> int:
        if self._span is None:
            return 0
        try:
            return int(getattr(self._span.get_span_context(), name))
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("span", exc)
            return 0

    def __repr__(self) -> str:
        return f"<Span {self.span_id}>" if self.span_id else "<Span that is not recorded>"


NO_SPAN: Final = Span()
"""Stands for every span that is not made: it keeps nothing, so one is enough."""


class CurrentSpan:
    """A span that is current inside of a `with` or an `async with` block, and ends with it.

    What is started in the block, by this task or thread or by tasks of a group, is a child of it. The block may be left
    in another task, thread or context than it was entered in.
    """

    __slots__ = ("_end_on_exit", "_place", "_record_exception", "_span", "_start")

    def __init__(self, start: Callable[[], Span], *, record_exception: bool = True, end_on_exit: bool = True) -> None:
        self._start = start
        self._span = NO_SPAN
        self._place: Place | None = None
        self._record_exception = record_exception
        self._end_on_exit = end_on_exit

    def __enter__(self) -> Span:
        self._span = self._start()
        try:
            self._place = self._span.place()
            if self._place is not None:
                self._place.enter()
        except Exception as exc:  # noqa: BLE001 - see guard
            report_failure("context", exc)
        return self._span

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        place, self._place = self._place, None
        try:
            if place is not None:
                place.leave()
        except Exception as error:  # noqa: BLE001 - see guard
            report_failure("context", error)
        if exc is not None and self._record_exception:
            self._span.fail(exc)
        if self._end_on_exit:
            self._span.end()

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


class NoSpan:
    """The block of a span that is not made."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return NO_SPAN

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def __aenter__(self) -> Span:
        return NO_SPAN

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def __copy__(self) -> Self:
        return self


def error_type(exception: BaseException) -> str:
    """The value of `error.type` for an exception: its full name, without that of the built-in module.

    Args:
        exception: The exception.
    """
    cls = type(exception)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _text(exception: BaseException) -> str:
    try:
        return f"{type(exception).__name__}: {exception}"
    except Exception:  # noqa: BLE001 - an exception of the user's that can't be told as text
        return type(exception).__name__
