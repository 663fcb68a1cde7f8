"""Log lines: an event and fields, to `logging` or to structlog; the ids of the span; what users add to their own."""

import contextlib
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from pynector._telemetry.loggers import EventLogger, event_logger
from pynector.telemetry import (
    EventFormatter,
    TraceContextFilter,
    add_redactor,
    add_trace_context,
    configure_telemetry,
    get_telemetry,
    remove_redactor,
)
from servers.spans import Spans, recorded, untouched

tracer, logger = get_telemetry("unit")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    with untouched():
        yield
    structlog.reset_defaults()


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recorded() as found:
        yield found


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed to stderr."""
    return lambda: capsys.readouterr().err


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A process without pytest's own handlers; it adds them between fixtures and tests."""
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], []
    yield
    root.handlers[:] = before


def fields(record: logging.LogRecord) -> dict[str, Any]:
    ordinary = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    return {name: value for name, value in vars(record).items() if name not in ordinary}


# The standard library


def test_a_line_is_an_event_with_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        logger.info("Operation started", operation="x", items=3)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("pynector.unit", "INFO", "Operation started")
    assert fields(record) == {"operation": "x", "items": 3}
    assert (record.funcName, record.filename) == ("test_a_line_is_an_event_with_fields", "test_telemetry_logs.py")


@pytest.mark.parametrize(
    ("method", "level"),
    [("debug", 10), ("info", 20), ("warning", 30), ("error", 40), ("critical", 50)],
)
def test_each_level(method: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        getattr(logger, method)("event")
        logger.log(level, "event")
    assert [record.levelno for record in caplog.records] == [level, level]
    assert {record.funcName for record in caplog.records} == {"test_each_level"}


def test_names_that_records_have_already(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        logger.info("event", name="n", args=(1,), message="m", event="e", level="l")
    assert fields(caplog.records[0]) == {"name_": "n", "args_": (1,), "message_": "m", "event": "e", "level": "l"}


def test_placeholders_and_percent_signs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        logger.info("%d of %s", 3, "four")
        logger.info("100% done")
        logger.info("%d", "no number")
    assert [r.message for r in caplog.records if r.name == "pynector.unit"] == ["3 of four", "100% done"]


def test_bound_fields(caplog: pytest.LogCaptureFixture) -> None:
    bound = logger.bind(batch=7, part="a")
    with caplog.at_level("DEBUG"):
        bound.info("one", part="b")
        logger.info("two")
    assert [fields(record) for record in caplog.records] == [{"batch": 7, "part": "b"}, {}]
    assert repr(bound) == "EventLogger('pynector.unit')"


def test_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("boom")
    except ValueError:
        logger.exception("failed", job=1)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError
    assert record.levelno == logging.ERROR


def test_nothing_is_printed_by_itself(shown: Callable[[], str]) -> None:
    with alone():
        logger.error("event")
    assert shown() == ""


def test_levels_are_those_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        assert not logger.is_enabled_for(logging.INFO)
        assert logger.is_enabled_for(logging.WARNING)
        logger.info("event")
    assert caplog.records == []


def test_credentials_stay_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        logger.info(
            "sent to https://me:pw@h/?api_key=abcdef",
            url="https://me:pw@h/?api_key=abcdef",
            authorization="Bearer abcdef",
            raw=b"password=abcdef",
            error=ValueError("token=abcdef"),
            count=3,
            max_tokens=5,
        )
    (record,) = caplog.records
    text = record.getMessage() + repr(fields(record))
    assert "abcdef" not in text
    assert "me:pw" not in text
    assert (record.count, record.max_tokens) == (3, 5)  # type: ignore[attr-defined]


def test_a_redactor_of_the_user_sees_every_text(caplog: pytest.LogCaptureFixture) -> None:
    @add_redactor
    def hide(text: str) -> str:
        return text.replace("Ada", "somebody")

    try:
        with caplog.at_level("DEBUG"):
            logger.info("hello Ada", name="Ada")
    finally:
        remove_redactor(hide)
        remove_redactor(hide)
    assert caplog.records[0].getMessage() == "hello somebody"
    assert fields(caplog.records[0]) == {"name_": "somebody"}


@pytest.mark.parametrize("answer", [None, 7, RuntimeError("broken")])
def test_a_redactor_that_fails_hides_everything(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    def broken(text: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    add_redactor(broken)
    try:
        logger.warning("hello Ada")
    finally:
        remove_redactor(broken)
    assert [r.message for r in caplog.records if r.name == "pynector.unit"] == ["REDACTED"]


class BrokenHandler(logging.Handler):
    """Raises instead of writing."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("broken")


def test_a_handler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = BrokenHandler()
    logging.getLogger("pynector").addHandler(handler)
    try:
        logger.warning("event")
    finally:
        logging.getLogger("pynector").removeHandler(handler)


# The ids of the span


def test_the_ids_stand_on_each_line(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        logger.info("outside")
        with tracer.start_as_current_span("work") as span:
            logger.info("inside")
            logger.info("given", trace_id="mine")
    outside, inside, given = map(fields, caplog.records)
    assert outside == {}
    assert inside == {"trace_id": span.trace_id, "span_id": span.span_id}
    assert given["trace_id"] == "mine"


def test_the_filter(spans: Spans) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(TraceContextFilter())
    handler.setFormatter(logging.Formatter("%(message)s %(trace_id)s/%(span_id)s"))
    theirs = logging.getLogger("theirs")
    theirs.addHandler(handler)
    try:
        theirs.warning("outside")
        with tracer.start_as_current_span("work") as span:
            theirs.warning("inside")
            theirs.warning("given", extra={"trace_id": "t", "span_id": "s"})
    finally:
        theirs.removeHandler(handler)
    assert stream.getvalue().splitlines() == ["outside /", f"inside {span.trace_id}/{span.span_id}", "given t/s"]


def test_the_processor(spans: Spans) -> None:
    assert add_trace_context(None, "info", {"event": "a"}) == {"event": "a"}
    with tracer.start_as_current_span("work") as span:
        ids = {"trace_id": span.trace_id, "span_id": span.span_id}
        assert add_trace_context(None, "info", {"event": "a"}) == {"event": "a", **ids}
        assert add_trace_context(None, "info", {"trace_id": "t"})["trace_id"] == "t"


# structlog, configured by the application


def test_structlog_of_the_application(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    lines: list[dict[str, Any]] = []

    def keep(_: object, method: str, event_dict: Any) -> Any:
        lines.append({**event_dict, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    with tracer.start_as_current_span("work") as span, structlog.contextvars.bound_contextvars(request=1):
        logger.info("Operation started", operation="x", event="e", token="abcdef", stacklevel=2)
    assert lines == [
        {
            "event": "Operation started",
            "operation": "x",
            "event_": "e",
            "token": "REDACTED",
            "request": 1,
            "logger": "pynector.unit",
            "level": "info",
            "trace_id": span.trace_id,
            "span_id": span.span_id,
        }
    ]
    assert caplog.records == []
    assert logger.is_enabled_for(logging.DEBUG)


def test_structlog_on_top_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    structlog.configure(
        processors=[structlog.stdlib.add_logger_name, structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    with caplog.at_level("DEBUG"):
        logger.warning("event", items=3)
    assert [(record.name, record.message) for record in caplog.records] == [("pynector.unit", "event")]
    assert caplog.records[0].items == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("lowest", [logging.DEBUG, logging.WARNING])
def test_lines_that_structlog_leaves_out_need_not_be_made(lowest: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(lowest))
    assert logger.is_enabled_for(logging.INFO) is (lowest == logging.DEBUG)
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.stdlib.BoundLogger)
    before = logging.getLogger(logger.name).level
    logging.getLogger(logger.name).setLevel(lowest)
    try:
        assert logger.is_enabled_for(logging.INFO) is (lowest == logging.DEBUG)
    finally:
        logging.getLogger(logger.name).setLevel(before)
    # Of a wrapper that nobody here knows nothing can be told: it gets every line.
    structlog.configure(wrapper_class=structlog.BoundLogger, logger_factory=structlog.PrintLoggerFactory())
    assert logger.is_enabled_for(logging.DEBUG)


def test_the_application_wins_over_what_was_configured_here(shown: Callable[[], str]) -> None:
    configure_telemetry()
    lines: list[Any] = []

    def keep(*args: Any) -> Any:
        lines.append(args[2]["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    logger.info("event")
    assert lines == ["event"]
    assert shown() == ""


def test_a_processor_that_fails(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*args: object) -> Any:
        raise RuntimeError("broken")

    structlog.configure(processors=[broken])
    with spans.provider.get_tracer("application").start_as_current_span("work") as span:
        logger.info("event")
    assert [record.message for record in caplog.records] == ["telemetry.failed"]
    assert caplog.records[0].trace_id == f"{span.get_span_context().trace_id:032x}"  # type: ignore[attr-defined]
    assert caplog.records[0].span_id == f"{span.get_span_context().span_id:016x}"  # type: ignore[attr-defined]


# Lines of our own, once configure_telemetry was called


@pytest.fixture(params=["structlog", "logging"])
def renderer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "logging":
        monkeypatch.setitem(sys.modules, "structlog", None)
    return str(request.param)


def test_lines_for_people(renderer: str, shown: Callable[[], str], spans: Spans) -> None:
    configure_telemetry()
    with alone(), tracer.start_as_current_span("work") as span:
        logger.debug("too low")
        logger.info("Operation started", operation="x", text="two words")
    (line,) = shown().splitlines()
    assert "[info" in line
    assert "Operation started" in line
    assert "operation=x" in line
    assert "text='two words'" in line
    assert "[pynector.unit]" in line
    assert f"trace_id={span.trace_id}" in line


def test_lines_for_programs(renderer: str, shown: Callable[[], str]) -> None:
    configure_telemetry(log_format="json", log_level="DEBUG")
    with alone():
        logger.debug("käse", items=3, odd=object)
    line = json.loads(shown())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "käse", "items": 3, "odd": str(object), "logger": "pynector.unit", "level": "debug"}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_show_no_credentials_and_no_variables(
    renderer: str, shown: Callable[[], str], log_format: Any
) -> None:
    configure_telemetry(log_format=log_format)
    try:
        secret = f"s{3}cret"
        raise ValueError(f"api_key={secret}")
    except ValueError:
        with alone():
            logger.exception("failed")
    text = shown()
    assert "Traceback" in text
    assert "s3cret" not in text
    assert "api_key=REDACTED" in text


def test_the_level_can_be_changed(renderer: str, shown: Callable[[], str]) -> None:
    with alone():
        configure_telemetry(log_level="ERROR")
        logger.warning("no")
        configure_telemetry(log_level=logging.DEBUG)
        logger.debug("yes")
        configure_telemetry()
        logger.debug("yes")
    assert re.findall("yes|no ", shown()) == ["yes", "yes"]


def test_a_closed_stderr(renderer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_telemetry()
    for stream in (None, io.StringIO()):
        if stream is not None:
            stream.close()
        monkeypatch.setattr(sys, "stderr", stream)
        with alone():
            logger.info("event")


def test_an_application_with_handlers_prints_for_itself(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]
) -> None:
    monkeypatch.setitem(sys.modules, "structlog", None)
    configure_telemetry()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EventFormatter("json"))
    logging.getLogger("pynector").addHandler(handler)
    with alone():
        logger.info("event", items=3)
    assert shown() == ""
    assert json.loads(stream.getvalue())["items"] == 3


def test_a_level_set_by_hand_stays() -> None:
    logging.getLogger("pynector").setLevel("ERROR")
    configure_telemetry(log_level="DEBUG")
    assert logging.getLogger("pynector").level == logging.ERROR


def test_structlog_is_not_configured_for_others() -> None:
    configure_telemetry()
    logger.debug("event")
    assert not structlog.is_configured()


def test_names() -> None:
    assert event_logger("pynector").name == "pynector"
    assert event_logger("pynector.attempts").name == "pynector.attempts"
    assert event_logger("attempts").name == "pynector.attempts"
    assert event_logger("pynectors").name == "pynector.pynectors"
    assert isinstance(logger, EventLogger)
