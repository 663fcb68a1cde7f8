"""Log lines: a constant event, and fields. They go to `logging`, or to structlog where the application wants that."""

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from .current import current_ids
from .guard import report_failure
from .redactor import redact_field, redact_text
from .settings import TelemetrySettings, settings

ROOT: Final = "pynector"

# A library prints nothing on its own account: without a handler `logging` would print warnings.
logging.getLogger(ROOT).addHandler(logging.NullHandler())

_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_ARGUMENTS: Final = ("exc_info", "stack_info", "stacklevel")
_NAMES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}
_HERE: Final = 3  # frames of this module between the caller of `info` and `logging`

# Makes a logger of our own from a name; set by `configure_telemetry`, where structlog is installed.
_own_structlog: list[Callable[[str, TelemetrySettings], Any] | None] = [None]


def use_own_structlog(make: Callable[[str, TelemetrySettings], Any]) -> None:
    """Have lines rendered by structlog from now on, unless the application has configured that itself.

    Args:
        make: Makes a logger from its name and the settings.
    """
    _own_structlog[0] = make


class EventLogger:
    """Writes log lines that are an event and fields, the same to `logging` and to structlog.

    Nothing done with it ever raises. The ids of the trace and of the span that are current stand on each line as
    `trace_id` and `span_id`, and credentials are taken out of its fields. Get one with `get_telemetry`.

    In `logging` the event is the message, and each field an attribute of the record, with an underscore behind its name
    if records have another attribute of that name.

    Args:
        name: The name of the logger in `logging`, or in structlog.
        fields: Stand on each line.
    """

    __slots__ = ("_fields", "_made", "_standard")

    def __init__(self, name: str, **fields: object) -> None:
        self._standard = logging.getLogger(name)
        self._fields = fields
        # The settings and the logger of structlog that was made by them, in one value.
        self._made: tuple[TelemetrySettings | None, Any] = (None, None)

    @property
    def name(self) -> str:
        """The name of the logger."""
        return self._standard.name

    def bind(self, **fields: object) -> "EventLogger":
        """Make a logger that has more to say.

        Args:
            fields: Stand on each of its lines.

        Returns:
            Another logger; this one stays as it is.
        """
        return EventLogger(self.name, **{**self._fields, **fields})

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether a line of this level may be shown to anybody: if not, its fields need not be made.

        Args:
            level: A level of `logging`.
        """
        structlog = self._configured_structlog()
        if structlog is not None:
            return self._structlog_shows(structlog, level)
        current = settings()
        if current.configured and _own_structlog[0] is not None:
            return level >= current.log_level
        return self._standard.isEnabledFor(level)

    def debug(self, event: str, /, *args: object, **fields: object) -> None:
        """Write a line for whoever looks for a fault.

        Args:
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it. `exc_info`, `stack_info` and `stacklevel` mean what they do in `logging`.
        """
        self._write(logging.DEBUG, event, args, fields)

    def info(self, event: str, /, *args: object, **fields: object) -> None:
        """Write a line on the ordinary course of things.

        Args:
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it.

        Example:
            ```python
            logger.info("Operation started", operation="process_data")
            ```
        """
        self._write(logging.INFO, event, args, fields)

    def warning(self, event: str, /, *args: object, **fields: object) -> None:
        """Write a line on what somebody should look at.

        Args:
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it.
        """
        self._write(logging.WARNING, event, args, fields)

    def error(self, event: str, /, *args: object, **fields: object) -> None:
        """Write a line on what has failed.

        Args:
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it.
        """
        self._write(logging.ERROR, event, args, fields)

    def critical(self, event: str, /, *args: object, **fields: object) -> None:
        """Write a line on what ends everything.

        Args:
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it.
        """
        self._write(logging.CRITICAL, event, args, fields)

    def exception(self, event: str, /, *args: object, **fields: object) -> None:
        """Write a line on what has failed, with the exception that is being handled.

        Args:
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it.
        """
        self._write(logging.ERROR, event, args, {"exc_info": True, **fields})

    def log(self, level: int, event: str, /, *args: object, **fields: object) -> None:
        """Write a line of any level.

        Args:
            level: A level of `logging`.
            event: What happened: the same text each time.
            args: For the placeholders of `event`, if it has any; fields are better.
            fields: What is known of it.
        """
        self._write(level, event, args, fields)

    def _write(self, level: int, event: str, args: tuple[object, ...], fields: dict[str, object]) -> None:
        try:
            if not self.is_enabled_for(level):
                return
            structlog = self._structlog()
            if args:
                event = str(event) % args
            event = redact_text(str(event))
            shown = {name: redact_field(name, value) for name, value in {**self._fields, **fields}.items()}
            for name in _ARGUMENTS:
                if name in fields:
                    shown[name] = fields[name]
            ids = current_ids()
            if ids is not None:
                shown.setdefault("trace_id", ids[0])
                shown.setdefault("span_id", ids[1])
            if structlog is not None:
                self._to_structlog(structlog, level, event, shown)
            else:
                self._to_logging(level, event, shown)
        except Exception as exc:  # noqa: BLE001 - a handler, a filter or a processor of the user's
            report_failure("log", exc)

    def _to_logging(self, level: int, event: str, fields: dict[str, Any]) -> None:
        arguments = {name: fields.pop(name) for name in _ARGUMENTS if name in fields}
        arguments["stacklevel"] = arguments.get("stacklevel", 1) + _HERE
        extra = {name + "_" if name in _RECORD else name: value for name, value in fields.items()}
        self._standard.log(level, event, extra=extra, **arguments)

    def _to_structlog(self, logger: Any, level: int, event: str, fields: dict[str, Any]) -> None:
        fields.pop("stacklevel", None)
        if "event" in fields:
            fields["event_"] = fields.pop("event")
        name = _NAMES.get(level)
        if name is None:
            logger.log(level, event, **fields)
        else:
            getattr(logger, name)(event, **fields)

    def _configured_structlog(self) -> Any:
        """The module of structlog, if the application has configured it: then that has been imported."""
        structlog = sys.modules.get("structlog")
        if structlog is None:
            return None
        is_configured = getattr(structlog, "is_configured", None)  # not there yet while it is being imported
        return structlog if is_configured is not None and is_configured() else None

    def _structlog_shows(self, structlog: Any, level: int) -> bool:
        """Whether a line of this level gets past what the configuration of the application leaves out at once."""
        config = structlog.get_config()
        if isinstance(config["logger_factory"], structlog.stdlib.LoggerFactory) and not self._standard.isEnabledFor(
            level
        ):
            return False
        try:
            # A class from `make_filtering_bound_logger` says the same of all its loggers. Others decide line by line.
            return bool(level >= config["wrapper_class"].get_effective_level(None))
        except Exception:  # noqa: BLE001
            return True

    def _structlog(self) -> Any:
        structlog = self._configured_structlog()
        if structlog is not None:
            # Not kept: its configuration may be changed, and whether it caches is part of that.
            return structlog.get_logger(self.name).bind(logger=self.name)
        make, current = _own_structlog[0], settings()
        if make is None or not current.configured:
            return None
        made_by, logger = self._made
        if made_by is not current:
            logger = make(self.name, current)
            self._made = (current, logger)
        return logger

    def __repr__(self) -> str:
        return f"EventLogger({self.name!r})"


def event_logger(name: str) -> EventLogger:
    """The logger of a part of an application, or of the library.

    Args:
        name: The name of the part; it stands below `pynector` in the tree of loggers.

    Returns:
        The logger.
    """
    return EventLogger(name if name == ROOT or name.startswith(f"{ROOT}.") else f"{ROOT}.{name}")
