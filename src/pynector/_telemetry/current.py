"""Which span is current, kept so that it can be left anywhere: in another task, in another thread, out of order.

The tokens of `contextvars`, on which OpenTelemetry's own `attach` and `detach` stand, work in the context alone in
which they were made, and in the order of a stack. An async generator is closed in whatever context its caller, or the
garbage collector, has. So nothing is taken back by a token here: leaving makes current what was so before, where the
place that is left is still the current one.
"""

import sys
from contextvars import ContextVar
from typing import Any

from .guard import report_failure


class Place:
    """A place in which a context of OpenTelemetry is current, from `enter` to `leave`.

    Args:
        context: The module `opentelemetry.context`.
        current: The context to make current.
    """

    __slots__ = ("_before", "_context", "_current", "_left", "_outer")

    def __init__(self, context: Any, current: Any) -> None:
        self._context = context
        self._current = current
        self._before: Any = None
        self._outer: Place | None = None
        self._left = False

    def enter(self) -> None:
        """Make it current in this task or thread."""
        leave_what_ended()
        self._outer = _top.get()
        self._before = self._context.get_current()
        self._context.attach(self._current)
        _top.set(self)

    def leave(self) -> None:
        """Make current what was so before, if this is called where it is still in force."""
        self._left = True
        if _top.get() is self:
            self._go_back()

    def _go_back(self) -> None:
        place = self
        # Places further out may have been left before this one.
        while place._outer is not None and place._outer._left:
            place = place._outer
        self._context.attach(place._before)
        _top.set(place._outer)


_top: ContextVar[Place | None] = ContextVar("pynector_telemetry_place", default=None)


def leave_what_ended() -> None:
    """Go back to where this task or thread was before a place that was left elsewhere: it is current here still."""
    top = _top.get()
    if top is not None and top._left:
        top._go_back()


def current_ids() -> tuple[str, str] | None:
    """The ids of the trace and the span that are current, as they are written; None outside of any span."""
    # As long as nobody has imported it there can be no span.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
    except Exception as exc:  # noqa: BLE001 - another one's span, or half an import
        report_failure("context", exc)
        return None
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context.is_valid else None
