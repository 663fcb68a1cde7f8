"""Whatever an application's own telemetry raises, and whatever is missing of it, a call ends as it would without."""

import gc
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from pynector import AsyncPynector, RetryPolicy
from pynector._telemetry import guard, otel, tracing
from pynector._telemetry.settings import replace_settings, settings
from pynector.testing import LocalServer
from servers.recorded import recording

pytestmark = pytest.mark.usefixtures("no_proxies_around")


class Broken(Exception):
    """What is raised."""


class BrokenExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise Broken


class BrokenStart(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        raise Broken


class BrokenEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise Broken


class BrokenSampler(Sampler):
    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        raise Broken

    def get_description(self) -> str:
        return "broken"


class Choosy(Sampler):
    """Drops what goes to one path, by what it is told at the start."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        *_: Any,
    ) -> SamplingResult:
        self.seen.append({"name": name, **(attributes or {})})
        dropped = "/items/2" in str(self.seen[-1].get("url.full"))
        return SamplingResult(Decision.DROP if dropped else Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "choosy"


class BrokenPropagator(TextMapPropagator):
    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:
        raise Broken

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = None) -> None:
        raise Broken

    @property
    def fields(self) -> set[str]:
        return set()


@pytest.fixture(autouse=True)
def _nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_told", set())


async def everything(server: LocalServer) -> None:
    """One of each kind of call."""
    retry = RetryPolicy(max_retries=2, backoff_factor=0.001)
    async with AsyncPynector(base_url=server.url, retry=retry) as client:
        assert (await client.get("/flaky/guarded?fail=1")).json()["attempt"] == 2
        assert (await client.get("/items/1")).json()["id"] == 1
        results = await client.batch_request([{"path": f"/items/{n}"} for n in range(5)])
        assert [result.json()["id"] for result in results] == list(range(5))
        async with client.stream_batch([{"path": "/items/1"}] * 3) as run:
            assert [outcome.ok async for outcome in run] == [True] * 3
        async with client.stream({"path": "/stream?n=2&ms=0"}) as response:
            assert len(await response.read()) == 26


@pytest.mark.parametrize(
    "processor",
    [BrokenStart(), BrokenEnd(), SimpleSpanProcessor(BrokenExporter())],
    ids=lambda each: type(each).__name__,
)
async def test_a_processor_that_raises(
    server: LocalServer, processor: SpanProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    with recording(processors=[processor]):
        await everything(server)
    told = [record for record in caplog.records if record.message == "telemetry.failed"]
    # Once for each kind of failure; what exporters raise the SDK has dealt with.
    assert len(told) == (0 if isinstance(processor, SimpleSpanProcessor) else 1)


async def test_a_sampler_that_raises(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    with recording(sampler=BrokenSampler()) as recorded:
        await everything(server)
        assert not recorded.spans
        assert recorded.metric("http.client.request.duration")
    assert [record.message for record in caplog.records].count("telemetry.failed") == 1


async def test_a_propagator_that_raises(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(BrokenPropagator())
    try:
        with recording() as recorded:
            await everything(server)
            assert recorded.attempts
    finally:
        propagate.set_global_textmap(before)
    assert not any(name.lower() == "traceparent" for each in server.requests.recent for name, _ in each.headers)


async def test_nothing_installed(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "_found", [None])
    monkeypatch.setattr(tracing, "_made", [])
    with recording() as recorded:
        await everything(server)
        assert not recorded.spans
    assert not any(name.lower() == "traceparent" for each in server.requests.recent for name, _ in each.headers)


async def test_switched_off_for_all(server: LocalServer) -> None:
    before = settings()
    replace_settings(replace(before, trace_enabled=False))
    try:
        with recording() as recorded:
            await everything(server)
            assert not recorded.spans
            assert recorded.metric("http.client.request.duration")
            replace_settings(replace(before, trace_enabled=False, metrics_enabled=False))
            count = sum(point.count for point in recorded.metric("http.client.request.duration"))
            server.reset()
            await everything(server)
            assert sum(point.count for point in recorded.metric("http.client.request.duration")) == count
    finally:
        replace_settings(before)
    assert not any(name.lower() == "traceparent" for each in server.requests.recent for name, _ in each.headers)


async def test_no_provider(server: LocalServer) -> None:
    await everything(server)
    assert not any(name.lower() == "traceparent" for each in server.requests.recent for name, _ in each.headers)


async def test_the_sampler_sees_what_it_needs(server: LocalServer) -> None:
    sampler = Choosy()
    with recording(sampler=sampler) as recorded:
        async with AsyncPynector(base_url=server.url) as client:
            await client.get("/items/1")
            await client.get("/items/2")
        assert len(recorded.attempts) == 1
        # Measured is every one.
        assert sum(point.count for point in recorded.metric("http.client.request.duration")) == 2
    seen = [each for each in sampler.seen if each["name"] == "GET"]
    assert [set(each) for each in seen] == [
        {"name", "http.request.method", "server.address", "server.port", "url.full"}
    ] * 2


async def test_what_is_not_sampled_says_so_on_the_wire(server: LocalServer) -> None:
    with recording(sampler=ALWAYS_OFF) as recorded:
        async with AsyncPynector(base_url=server.url) as client:
            await client.get("/items/1")
        assert not recorded.spans
    (context,) = [value for name, value in server.requests.recent[0].headers if name == "traceparent"]
    assert int(context.split("-")[3], 16) & 1 == 0


async def test_a_context_is_handed_on_without_a_provider(server: LocalServer) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xA, 0xB, is_remote=True, trace_flags=trace.TraceFlags(1)))
    token = context.attach(trace.set_span_in_context(span))
    try:
        async with AsyncPynector(base_url=server.url) as client:
            await client.get("/items/1")
            await client.batch_request([{"path": "/items/1"}] * 2)
    finally:
        context.detach(token)
    found = [value for each in server.requests.recent for name, value in each.headers if name == "traceparent"]
    assert found == [f"00-{0xA:032x}-{0xB:016x}-01"] * 3


class Locked(SpanProcessor):
    """An exporter with a lock that can't be taken twice, as those of the SDK are."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.deadlocks = 0
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        if not self.lock.acquire(timeout=0.5):
            self.deadlocks += 1
            return
        self.ended.append(span.name)
        self.lock.release()


async def test_the_garbage_collector_takes_no_lock_of_the_sdk(server: LocalServer) -> None:
    """It may run a finaliser at any moment, also while the SDK holds a lock in the very same thread."""
    locked = Locked()
    with recording(processors=[locked]) as recorded:
        async with AsyncPynector(base_url=server.url) as client:
            stream: Any = client.stream({"path": "/stream?n=1000&ms=5"})
            response = await stream.__aenter__()
            below = response._head.exchange._exchange
            with locked.lock:
                del response, stream
                gc.collect()
            assert (locked.ended, locked.deadlocks) == ([], 0)
            await client.get("/items/1")
            assert sorted(locked.ended) == ["GET", "GET", "pynector.request", "pynector.stream"]
            await below.aclose()
        # What was measured of it is there as well.
        assert sum(point.count for point in recorded.metric("http.client.request.duration")) == 2


async def test_what_was_dropped_last_is_told_at_the_end_of_the_process(server: LocalServer) -> None:
    with recording() as recorded:
        async with AsyncPynector(base_url=server.url) as client:
            stream: Any = client.stream({"path": "/stream?n=1000&ms=5"})
            response = await stream.__aenter__()
            below = response._head.exchange._exchange
            del response, stream
            gc.collect()
            await below.aclose()
            assert not recorded.spans
            tracing.end_dropped()  # which `atexit` calls
            assert {span.name for span in recorded.spans} == {"GET", "pynector.stream"}
