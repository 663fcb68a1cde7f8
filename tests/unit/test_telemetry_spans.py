"""Spans and tracers: what they say, where they are current, and that nothing they do ever raises."""

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from pynector._telemetry.spans import NO_SPAN, Span, error_type
from pynector.errors import HTTPServerError
from pynector.telemetry import add_redactor, get_telemetry, remove_redactor
from servers.spans import Spans, recorded, unconfigured

tracer, logger = get_telemetry("unit")


@pytest.fixture
def spans() -> Iterator[Spans]:
    with unconfigured(), recorded() as found:
        yield found


def current() -> object:
    return trace.get_current_span()


def test_a_span_says_what_it_was_told(spans: Spans) -> None:
    with tracer.start_as_current_span("work", kind="client", attributes={"a": 1}) as span:
        assert span.is_recording()
        span.set_attribute("b", "two")
        span.set_attributes({"c": 3.5, "d": [True, False]})
        span.add_event("tick", {"n": 1}, timestamp=17)
        span.update_name("work done")
        span.set_status("error", "went wrong: password=hunter22")
    found = spans.named("work done")
    assert found.kind is SpanKind.CLIENT
    assert found.attributes == {"a": 1, "b": "two", "c": 3.5, "d": (True, False)}
    assert [(event.name, event.attributes, event.timestamp) for event in found.events] == [("tick", {"n": 1}, 17)]
    assert found.status.status_code is StatusCode.ERROR
    assert found.status.description == "went wrong: password=REDACTED"
    assert (span.trace_id, span.span_id) == (f"{found.context.trace_id:032x}", f"{found.context.span_id:016x}")
    assert not span.is_recording()
    assert repr(span) == f"<Span {span.span_id}>"


@pytest.mark.parametrize("status", ["ok", StatusCode.OK, trace.Status(StatusCode.OK)])
def test_a_status_in_any_form(spans: Spans, status: Any) -> None:
    with tracer.start_as_current_span("work") as span:
        span.set_status(status)
    assert spans.named("work").status.status_code is StatusCode.OK


def test_success_leaves_the_status_unset(spans: Spans) -> None:
    with tracer.start_as_current_span("work"):
        pass
    assert spans.named("work").status.status_code is StatusCode.UNSET


def test_an_exception_is_recorded_once_and_without_credentials(spans: Spans) -> None:
    error = ValueError("cannot reach https://me:pw@h/x?api_key=abc with token=hunter22")
    with pytest.raises(ValueError, match="cannot reach"):
        with tracer.start_as_current_span("outer"):
            with tracer.start_as_current_span("inner") as span:
                span.record_exception(error, {"extra": 1})
                raise error
    (event,) = spans.named("inner").events
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["extra"] == 1
    for span in spans.ended():
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "ValueError"
        text = span.to_json()
        assert not any(secret in text for secret in ("me:pw", "abc", "hunter22"))
    assert spans.named("outer").events == ()


def test_the_same_exception_in_another_trace_is_recorded_again(spans: Spans) -> None:
    error = ValueError("again")
    for _ in range(2):
        with contextlib.suppress(ValueError), tracer.start_as_current_span("work"):
            raise error
    assert [len(span.events) for span in spans.ended()] == [1, 1]
    assert str(spans.ended()[0].events[0].attributes["exception.stacktrace"]).startswith("Traceback")


def test_the_type_of_an_error_that_was_set_by_hand_stays(spans: Spans) -> None:
    with contextlib.suppress(ValueError), tracer.start_as_current_span("work") as span:
        span.set_attribute("error.type", "503")
        raise ValueError
    assert spans.named("work").attributes["error.type"] == "503"


@pytest.mark.parametrize("cls", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_error_leaves_no_trace(spans: Spans, cls: type[BaseException]) -> None:
    with pytest.raises(cls):
        with tracer.start_as_current_span("work"):
            raise cls
    found = spans.named("work")
    assert (found.status.status_code, found.attributes, found.events) == (StatusCode.UNSET, {}, ())


def test_exceptions_need_not_be_recorded(spans: Spans) -> None:
    with contextlib.suppress(ValueError), tracer.start_as_current_span("work", record_exception=False):
        raise ValueError
    assert spans.named("work").status.status_code is StatusCode.UNSET


def test_a_span_may_outlive_its_block(spans: Spans) -> None:
    with tracer.start_as_current_span("work", end_on_exit=False) as span:
        pass
    assert spans.ended() == []
    span.end()
    span.end()
    assert len(spans.ended()) == 1


def test_a_span_that_is_not_current(spans: Spans) -> None:
    span = tracer.start_span("work")
    assert current() is trace.INVALID_SPAN
    span.end()
    assert spans.parents() == {"work": None}


def test_error_types() -> None:
    assert error_type(ValueError()) == "ValueError"
    assert error_type(HTTPServerError("x")) == "pynector.errors.HTTPServerError"


# Where a span is current


def no_complaints(caplog: pytest.LogCaptureFixture) -> None:
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_left_in_another_context(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    block = tracer.start_as_current_span("work")
    block.__enter__()
    span = current()
    inside: list[object] = []

    def leave() -> None:
        block.__exit__(None, None, None)
        inside.append(current())

    # In a copy of the context the span is current, and no longer so once it is left.
    contextvars.copy_context().run(leave)
    assert inside == [trace.INVALID_SPAN]
    # Here nothing could be done about it; the next span does not stand below the one that has ended.
    assert current() is span
    with tracer.start_as_current_span("next"):
        pass
    assert spans.parents() == {"work": None, "next": None}
    assert current() is trace.INVALID_SPAN
    no_complaints(caplog)


def test_left_in_a_context_that_never_knew_it(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = contextvars.Context()
    block = tracer.start_as_current_span("work")
    elsewhere.run(block.__enter__)
    with tracer.start_as_current_span("mine"):
        mine = current()
        block.__exit__(None, None, None)
        assert current() is mine
    assert spans.parents() == {"work": None, "mine": None}
    no_complaints(caplog)


def test_left_out_of_order(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    blocks = [tracer.start_as_current_span(name) for name in "abc"]
    entered = [block.__enter__() for block in blocks]
    blocks[0].__exit__(None, None, None)
    blocks[1].__exit__(None, None, None)
    assert trace.get_current_span().get_span_context().span_id == int(entered[2].span_id or "", 16)
    blocks[2].__exit__(None, None, None)
    assert current() is trace.INVALID_SPAN
    assert spans.parents() == {"a": None, "b": "a", "c": "b"}
    no_complaints(caplog)


def test_a_generator_that_is_closed_by_another_task(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    async def numbers() -> Any:
        with tracer.start_as_current_span("numbers"):
            yield 1
            yield 2

    async def main() -> None:
        found = numbers()

        async def read() -> None:
            await anext(found)

        await asyncio.create_task(read())
        await found.aclose()
        assert current() is trace.INVALID_SPAN

    asyncio.run(main())
    assert spans.named("numbers").status.status_code is StatusCode.UNSET
    no_complaints(caplog)


def test_together_with_spans_of_others(spans: Spans) -> None:
    theirs = spans.provider.get_tracer("theirs")
    with theirs.start_as_current_span("a"):
        with tracer.start_as_current_span("b"):
            token = context.attach(context.set_value("key", "left behind"))
            with theirs.start_as_current_span("c"):
                with tracer.start_as_current_span("d"):
                    pass
        assert context.get_value("key") is None
    assert spans.parents() == {"a": None, "b": "a", "c": "b", "d": "c"}
    assert current() is trace.INVALID_SPAN
    del token


async def test_both_kinds_of_block(spans: Spans) -> None:
    async with tracer.start_as_current_async_span("outer") as outer:
        with tracer.start_as_current_span("inner"):
            pass
    assert isinstance(outer, Span)
    assert spans.parents() == {"inner": "outer", "outer": None}


def test_threads_do_not_see_each_other(spans: Spans) -> None:
    seen: list[object] = []
    with tracer.start_as_current_span("work"):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [trace.INVALID_SPAN]


# What fails


class Broken(SpanProcessor, Sampler):
    """Fails in everything."""

    def on_start(self, span: object, parent_context: object = None) -> None:
        raise RuntimeError("on_start")

    def on_end(self, span: object) -> None:
        raise RuntimeError("on_end")

    def should_sample(self, *args: object, **kwargs: object) -> Any:
        raise RuntimeError("sampler")

    def get_description(self) -> str:
        return "broken"


def test_a_processor_that_fails(spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    broken = Broken()
    broken.on_start = lambda span, parent_context=None: None  # type: ignore[method-assign]
    spans.provider.add_span_processor(broken)
    for _ in range(3):
        with tracer.start_as_current_span("work") as span:
            span.set_attribute("a", 1)
    assert len(spans.ended()) == 3
    assert current() is trace.INVALID_SPAN
    # Said once.
    assert [record.message for record in caplog.records if record.name == "pynector.telemetry"] == ["telemetry.failed"]


@pytest.mark.parametrize("what", ["processor", "sampler"])
def test_a_span_that_cannot_be_started_is_nothing(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with unconfigured():
        provider = TracerProvider(sampler=Broken() if what == "sampler" else None, shutdown_on_exit=False)
        provider.add_span_processor(Broken())
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        with tracer.start_as_current_span("work") as span:
            assert span is NO_SPAN
        assert current() is trace.INVALID_SPAN


class Awkward:
    """A span of OpenTelemetry that fails in everything."""

    def __getattr__(self, name: str) -> Any:
        def fail(*args: object, **kwargs: object) -> None:
            raise RuntimeError(name)

        return fail


def test_nothing_done_to_a_span_raises(spans: Spans) -> None:
    from pynector._telemetry.otel import opentelemetry

    span = Span(opentelemetry(), Awkward())
    span.set_attribute("a", 1)
    span.set_attributes({"error.type": "x"})
    span.add_event("a")
    span.record_exception(ValueError())
    span.set_status("ok")
    span.set_status("no such status")  # type: ignore[arg-type]
    span.update_name("b")
    span.fail(ValueError())
    span.end()
    assert (span.is_recording(), span.trace_id, span.span_id) == (False, None, None)


class Mute(Exception):
    """Can't be told as text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_that_cannot_be_told_as_text(spans: Spans) -> None:
    with pytest.raises(Mute):
        with tracer.start_as_current_span("work"):
            raise Mute
    assert spans.named("work").status.description == "Mute"


def test_a_redactor_of_the_user(spans: Spans) -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    hide = add_redactor(lambda text: text.replace("cust_1", "CUSTOMER"))
    try:
        with contextlib.suppress(ValueError), tracer.start_as_current_span("work"):
            raise ValueError("no cust_1 here")
        add_redactor(broken)
        with contextlib.suppress(ValueError), tracer.start_as_current_span("hidden"):
            raise ValueError("no cust_1 here")
    finally:
        remove_redactor(hide)
        remove_redactor(broken)
    assert spans.named("work").status.description == "ValueError: no CUSTOMER here"
    assert "cust_1" not in str(spans.named("work").events[0].attributes["exception.message"])
    assert spans.named("hidden").status.description == "REDACTED"


# Nothing


def test_no_span_keeps_nothing() -> None:
    NO_SPAN.set_attribute("a", 1)
    NO_SPAN.set_attributes({"a": 1})
    NO_SPAN.add_event("a")
    NO_SPAN.record_exception(ValueError())
    NO_SPAN.set_status("error")
    NO_SPAN.update_name("a")
    NO_SPAN.fail(ValueError())
    NO_SPAN.end()
    assert (NO_SPAN.is_recording(), NO_SPAN.trace_id, NO_SPAN.place()) == (False, None, None)
    assert repr(NO_SPAN) == "<Span that is not recorded>"


def test_without_a_provider_spans_are_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    with unconfigured(), tracer.start_as_current_span("work") as span:
        assert span is NO_SPAN


def test_a_span_that_is_not_sampled_passes_its_ids_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False))
    with unconfigured(), tracer.start_as_current_span("outer") as outer:
        with tracer.start_as_current_span("inner") as inner:
            assert not inner.is_recording()
            assert inner.trace_id == outer.trace_id is not None
