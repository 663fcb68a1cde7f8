"""What applications trace themselves: operations, calls at the same time, task groups."""

import contextvars
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from pynector._concurrency.aio.clock import checkpoint, sleep
from pynector._concurrency.aio.scopes import move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.errors import ConfigurationError
from pynector.telemetry import (
    configure_telemetry,
    get_telemetry,
    traced_async_operation,
    traced_gather,
    traced_task_group,
)
from servers.spans import Spans, recorded, unconfigured

tracer, logger = get_telemetry("facade")


@pytest.fixture
def spans() -> Iterator[Spans]:
    with unconfigured(), recorded() as found:
        yield found


async def step(name: str) -> str:
    with tracer.start_as_current_span(name):
        await checkpoint()
    return name


async def fail() -> str:
    raise ValueError("no such user")


def nothing_is_current() -> bool:
    return trace.get_current_span() is trace.INVALID_SPAN


async def test_an_operation(spans: Spans) -> None:
    async with traced_async_operation(tracer, "load", {"user.id": 7}) as span:
        span.set_attribute("user.found", True)
        await step("inner")
    assert spans.parents() == {"inner": "load", "load": None}
    load = spans.named("load")
    assert load.attributes == {"user.id": 7, "user.found": True}
    assert load.status.status_code is StatusCode.UNSET
    assert load.instrumentation_scope.name == "facade"
    assert nothing_is_current()


async def test_an_operation_that_fails(spans: Spans) -> None:
    with pytest.raises(ValueError, match="no such user"):
        async with traced_async_operation(tracer, "outer"):
            async with traced_async_operation(tracer, "inner"):
                await fail()
    for name in ("outer", "inner"):
        assert spans.named(name).status.status_code is StatusCode.ERROR
        assert spans.named(name).attributes == {"error.type": "ValueError"}
    # Once is enough: where it happened.
    assert [event.name for event in spans.named("inner").events] == ["exception"]
    assert spans.named("outer").events == ()


async def test_an_operation_that_is_cancelled(spans: Spans) -> None:
    with move_on_after(0.01):
        async with traced_async_operation(tracer, "slow"):
            await sleep(30)
    assert spans.named("slow").status.status_code is StatusCode.UNSET
    assert spans.named("slow").attributes == {}
    assert spans.named("slow").events == ()
    assert nothing_is_current()


async def test_calls_at_the_same_time(spans: Spans) -> None:
    async def first() -> str:
        return await step("first")

    async def second() -> str:
        return await step("second")

    with tracer.start_as_current_span("caller"):
        assert await traced_gather(tracer, [first, second], name="both", attributes={"a": 1}) == ["first", "second"]
    assert spans.parents() == {"first": "both", "second": "both", "both": "caller", "caller": None}
    assert spans.named("both").attributes == {"a": 1, "pynector.gather.calls": 2}
    assert await traced_gather(tracer, []) == []


async def test_each_call_has_a_context_of_its_own() -> None:
    mine: contextvars.ContextVar[int] = contextvars.ContextVar("mine", default=0)

    async def count() -> int:
        mine.set(mine.get() + 1)
        await checkpoint()
        return mine.get()

    assert await traced_gather(tracer, [count] * 5) == [1] * 5
    assert mine.get() == 0


async def test_the_first_call_that_fails_ends_the_others(spans: Spans) -> None:
    async def slow() -> str:
        with tracer.start_as_current_span("slow"):
            await sleep(30)
        return "never"

    with pytest.raises(ValueError, match="no such user"):
        await traced_gather(tracer, [slow, fail], name="both")
    assert spans.named("both").status.status_code is StatusCode.ERROR
    assert [event.name for event in spans.named("both").events] == ["exception"]
    assert all(span.status.status_code is StatusCode.UNSET for span in spans.ended() if span.name == "slow")


async def test_failures_among_the_results(spans: Spans) -> None:
    async def good() -> str:
        return "good"

    failed, value = await traced_gather(tracer, [fail, good], name="both", return_exceptions=True)
    assert isinstance(failed, ValueError)
    assert value == "good"
    assert spans.named("both").status.status_code is StatusCode.UNSET


async def test_what_is_no_call_is_refused_before_any_is_made(spans: Spans) -> None:
    made = []

    async def call() -> None:
        made.append(1)

    with pytest.raises(ConfigurationError, match="argument `calls`: number 1 is int"):
        await traced_gather(tracer, [call, 7])
    assert made == []
    assert spans.ended() == []


async def test_a_task_group(spans: Spans) -> None:
    async with traced_task_group(tracer, "refresh", {"a": 1}) as tg:
        await tg.start_soon(step, "users")
        await tg.start_soon(step, "orders")
    assert spans.parents() == {"users": "refresh", "orders": "refresh", "refresh": None}
    assert spans.named("refresh").attributes == {"a": 1}
    assert nothing_is_current()


async def test_a_task_group_that_fails(spans: Spans) -> None:
    with pytest.raises(ExceptionGroup):
        async with traced_task_group(tracer, "refresh") as tg:
            await tg.start_soon(fail)
    assert spans.named("refresh").status.status_code is StatusCode.ERROR
    assert spans.named("refresh").attributes == {"error.type": "ExceptionGroup"}
    assert nothing_is_current()


async def test_a_task_group_that_is_cancelled(spans: Spans) -> None:
    async with traced_task_group(tracer, "refresh") as tg:
        await tg.start_soon(sleep, 30)
        tg.cancel_scope.cancel()
    assert spans.named("refresh").status.status_code is StatusCode.UNSET


async def test_tasks_of_a_plain_group_are_below_the_current_span(spans: Spans) -> None:
    with tracer.start_as_current_span("caller"):
        async with create_task_group() as tg:
            for number in range(3):
                await tg.start_soon(step, f"task {number}")
    assert spans.parents() == {"task 0": "caller", "task 1": "caller", "task 2": "caller", "caller": None}


async def test_with_tracing_off_everything_works(spans: Spans) -> None:
    configure_telemetry(trace_enabled=False, metrics_enabled=False)
    async with traced_async_operation(tracer, "load") as span:
        span.set_attribute("a", 1)
    async with traced_task_group(tracer, "refresh") as tg:
        await tg.start_soon(step, "users")
    assert await traced_gather(tracer, [lambda: step("a")]) == ["a"]
    assert spans.ended() == []
    assert not span.is_recording()
