"""How our own log lines look, for as long as the application has set up nothing of its own."""

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from .current import current_ids
from .guard import report_failure
from .loggers import ROOT, use_own_structlog
from .redactor import redact_text
from .settings import LogFormat, TelemetrySettings

Line = MutableMapping[str, Any]

_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def add_trace_context(logger: object, method_name: str, event_dict: Line) -> Line:
    """A processor for structlog that puts the ids of the current span on each line.

    Args:
        logger: What structlog passes; not looked at.
        method_name: What structlog passes; not looked at.
        event_dict: The line. `trace_id` and `span_id` are added if a span is current, and the line has none.

    Returns:
        The line.

    Example:
        ```python
        structlog.configure(processors=[add_trace_context, structlog.processors.JSONRenderer()])
        ```
    """
    ids = current_ids()
    if ids is not None:
        event_dict.setdefault("trace_id", ids[0])
        event_dict.setdefault("span_id", ids[1])
    return event_dict


class TraceContextFilter(logging.Filter):
    """A filter for `logging` that puts the ids of the current span on each record, as `trace_id` and `span_id`.

    Both are empty outside of any span, so that a format may name them. Add it to a handler: the filters of a logger do
    not see the records of the loggers below it.

    Example:
        ```python
        handler.addFilter(TraceContextFilter())
        handler.setFormatter(logging.Formatter("%(message)s trace=%(trace_id)s"))
        ```
    """

    def filter(self, record: logging.LogRecord) -> Literal[True]:
        """Put the ids on a record.

        Args:
            record: The record; ids that it has already stay.

        Returns:
            True: each record goes on.
        """
        ids = current_ids() or ("", "")
        for name, value in zip(("trace_id", "span_id"), ids, strict=True):
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class EventFormatter(logging.Formatter):
    """A formatter for `logging` that shows the fields of a line: after the event, or as JSON.

    Args:
        log_format: `"console"` for people, `"json"` for programs, one object on each line.
    """

    def __init__(self, log_format: LogFormat = "console") -> None:
        super().__init__()
        self._json = log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Make the line of a record.

        Args:
            record: The record.

        Returns:
            The line, without the end of it.
        """
        event = record.getMessage()
        fields = {name: value for name, value in vars(record).items() if name not in _RECORD}
        text = ""
        if record.exc_info and record.exc_info[0] is not None:
            text = redact_text(self.formatException(record.exc_info))
        if record.stack_info:
            text = f"{text}\n{record.stack_info}".strip("\n")
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        level = record.levelname.lower()
        if self._json:
            line = {"event": event, **fields, "logger": record.name, "level": level, "timestamp": time}
            if text:
                line["exception"] = text
            return json.dumps(line, default=str, ensure_ascii=False)
        shown = "".join(f" {name}={_shown(value)}" for name, value in sorted(fields.items()))
        return f"{time} [{level:<8}] {event:<30} [{record.name}]{shown}" + (f"\n{text}" if text else "")


def _shown(value: object) -> str:
    text = str(value)
    return text if text and not any(sign in text for sign in " =\"'\n") else repr(text)


class _Fallback(logging.Handler):
    """Prints to stderr what no handler of the application's has seen."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr
        if stream is None or _has_handler(record.name):
            return
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception as exc:  # noqa: BLE001 - what can't be printed; a stream that was closed
            report_failure("log", exc)


def _has_handler(name: str) -> bool:
    """Whether the application has a handler for the records of a logger."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(each, logging.NullHandler | _Fallback) for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


_fallback: Final = _Fallback()
_levels_set: list[int] = [logging.NOTSET]


def show_logs(wanted: TelemetrySettings) -> None:
    """Show the log lines of the tree, as the settings want it.

    By structlog, if that is installed, else by a handler of the standard library that holds back as soon as the
    application has one. Neither changes anything outside of our own tree of loggers.

    Args:
        wanted: The settings.
    """
    root = logging.getLogger(ROOT)
    _fallback.setFormatter(EventFormatter(wanted.log_format))
    if _fallback not in root.handlers:
        root.addHandler(_fallback)
    # A level that the application has set by hand is its own affair.
    if root.level in (logging.NOTSET, _levels_set[0]):
        root.setLevel(wanted.log_level)
        _levels_set[0] = wanted.log_level
    try:
        import structlog  # noqa: F401
    except ImportError:
        return
    use_own_structlog(_structlog_logger)


class _Stderr:
    """What a logger of structlog writes to: stderr, whatever that is by then."""

    __slots__ = ()

    def msg(self, message: str) -> None:
        stream: TextIO | None = sys.stderr
        if stream is not None:
            stream.write(message + "\n")
            stream.flush()

    debug = info = warning = error = critical = log = msg


def _structlog_logger(name: str, wanted: TelemetrySettings) -> Any:
    import structlog

    renderer: Any
    if wanted.log_format == "json":
        renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    else:
        # The tracebacks of structlog's own choice show the values of local variables.
        renderer = structlog.dev.ConsoleRenderer(
            colors=bool(getattr(sys.stderr, "isatty", bool)()), exception_formatter=structlog.dev.plain_traceback
        )
    processors = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_exception,
        renderer,
    ]
    return structlog.wrap_logger(
        _Stderr(),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(wanted.log_level),
        context_class=dict,
        cache_logger_on_first_use=False,
    ).bind(logger=name)


def _redact_exception(logger: object, method_name: str, event_dict: Line) -> Line:
    if isinstance(text := event_dict.get("exception"), str):
        event_dict["exception"] = redact_text(text)
    return event_dict
