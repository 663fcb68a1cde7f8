"""Spans and measurements of batches."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from pynector import AdaptiveConcurrency, AsyncPynector, RateLimit, RetryPolicy
from pynector.errors import HTTPServerError, SourceError
from pynector.testing import LocalServer
from servers.recorded import Recorded, attributes, id_of, is_unset, recording, trace_of

pytestmark = pytest.mark.usefixtures("no_proxies_around")

QUICK = RetryPolicy(max_retries=3, backoff_factor=0.001)


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recording() as recorded:
        yield recorded


def items(count: int) -> list[dict[str, str]]:
    return [{"path": f"/items/{number}"} for number in range(count)]


async def handed(count: int) -> AsyncIterator[dict[str, str]]:
    for number in range(count):
        yield {"path": f"/items/{number}"}


async def test_every_span_is_below_the_callers(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with spans.tracer.start_as_current_span("caller") as caller:
            await client.batch_request(items(50), max_concurrency=8)
    batch = spans.one("pynector.batch")
    assert batch.parent is not None
    assert batch.parent.span_id == caller.get_span_context().span_id
    assert {trace_of(span) for span in spans.spans} == {trace_of(batch)}
    operations = spans.children(batch)
    assert sorted(attributes(span)["pynector.batch.index"] for span in operations) == list(range(50))
    for operation in operations:
        assert [span.name for span in spans.children(operation)] == ["GET"]
    assert attributes(batch) == {
        "pynector.batch.size": 50,
        "pynector.batch.max_concurrency": 8,
        "pynector.batch.ok": 50,
        "pynector.batch.failed": 0,
        "pynector.batch.not_sent": 0,
        "pynector.batch.unknown": 0,
        "pynector.batch.retries": 0,
    }


async def test_a_run(server: LocalServer, spans: Recorded) -> None:
    requests = [*items(5), {"path": "/status/404"}, {"path": "/flaky/run?fail=2&status=503"}]
    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        with spans.tracer.start_as_current_span("caller"):
            async with client.stream_batch(requests, max_concurrency=3) as run:
                async for _ in run:
                    # It is current for its workers only, and never for the consumer.
                    with spans.tracer.start_as_current_span("consumer"):
                        pass
    batch = spans.one("pynector.batch")
    found = attributes(batch)
    assert (found["pynector.batch.ok"], found["pynector.batch.failed"], found["pynector.batch.retries"]) == (6, 1, 2)
    assert is_unset(batch)
    assert {trace_of(span) for span in spans.spans} == {trace_of(batch)}
    (caller,) = spans.named("caller")
    assert {span.parent.span_id for span in spans.named("consumer") if span.parent is not None} == {id_of(caller)}
    assert len(spans.attempts) == 9


async def test_what_one_task_reads(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(handed(20), max_concurrency=4) as run:
            outcomes = [outcome async for outcome in run]
        assert await client.batch_request(handed(20), max_concurrency=4)
    assert len(outcomes) == 20
    first, second = spans.named("pynector.batch")
    assert len(spans.children(first)) == len(spans.children(second)) == 20
    assert "pynector.batch.size" not in attributes(first)
    (waits,) = spans.metric("pynector.batch.queue.wait")
    assert waits.count == 40


@pytest.mark.parametrize("setting", ["environment", "config"])
async def test_large_batches_have_fewer_spans(
    server: LocalServer, spans: Recorded, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    config: dict[str, Any] = {}
    if setting == "config":
        config = {"batch_item_spans": 2, "batch_attempt_spans": 5}
    else:
        monkeypatch.setenv("PYNECTOR_BATCH_ITEM_SPANS", "2")
        monkeypatch.setenv("PYNECTOR_BATCH_ATTEMPT_SPANS", "5")
    async with AsyncPynector(base_url=server.url, config=config) as client:
        await client.batch_request(items(10), max_concurrency=3)
    batch = spans.one("pynector.batch")
    assert len(spans.named("pynector.request")) == 2
    assert len(spans.attempts) == 5
    assert sorted(span.name for span in spans.children(batch)) == ["GET"] * 3 + ["pynector.request"] * 2
    # Those without a span of their own are of the trace all the same, and are measured.
    contexts = [value for each in server.requests.recent for name, value in each.headers if name == "traceparent"]
    assert len(contexts) == 10
    assert {int(context.split("-")[1], 16) for context in contexts} == {trace_of(batch)}
    assert [context.split("-")[2] for context in contexts].count(f"{id_of(batch):016x}") == 5
    assert sum(point.count for point in spans.metric("http.client.request.duration")) == 10


async def test_a_batch_that_fails(server: LocalServer, spans: Recorded) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield {"path": "/items/1"}
        raise ValueError

    async with AsyncPynector(base_url=server.url, retry=None) as client:
        with pytest.raises(SourceError):
            await client.batch_request(broken())
        with pytest.raises(HTTPServerError):
            await client.batch_request([{"path": "/status/500"}], raise_on_error=True)
        with pytest.raises(SourceError):
            async with client.stream_batch(broken()) as run:
                async for _ in run:
                    pass
    batches = spans.named("pynector.batch")
    assert [span.status.status_code for span in batches] == [StatusCode.ERROR] * 3
    assert [attributes(span)["error.type"] for span in batches] == [
        "pynector.errors.SourceError",
        "pynector.errors.HTTPServerError",
        "pynector.errors.SourceError",
    ]


async def test_a_run_that_is_left(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(({"path": f"/slow/{n}?ms=5"} for n in range(1000)), max_concurrency=4) as run:
            async for _ in run:
                break
    assert is_unset(spans.one("pynector.batch"))
    assert all(is_unset(span) for span in spans.spans)


async def test_how_a_batch_stands(server: LocalServer, spans: Recorded) -> None:
    def value(name: str) -> int:
        (point,) = spans.metric(name)
        return int(point.value)

    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(items(30), max_concurrency=4, buffer=2) as run:
            async for _ in run:
                assert value("pynector.batch.concurrency_limit") == 4
                assert 0 <= value("pynector.batch.in_flight") <= 4
                assert value("pynector.batch.held") == 0
        assert value("pynector.batch.in_flight") == value("pynector.batch.concurrency_limit") == 0


async def test_what_holds_requests_back_is_measured(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url, rate_limit=RateLimit(requests_per_minute=60_000)) as client:
        await client.batch_request(items(10), max_concurrency=AdaptiveConcurrency(initial=2))
        await client.get("/items/1")
    (waits,) = spans.metric("pynector.client.limiter.wait")
    assert waits.count == 11


async def test_put_off_requests_are_counted(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.batch_request([{"path": "/flaky/busy?fail=1&status=429&retry_after_ms=1"}])
    operation = spans.one("pynector.request")
    assert attributes(operation)["pynector.request.refusals"] == 1
    assert attributes(operation)["pynector.request.attempts"] == 1
    assert attributes(spans.one("pynector.batch"))["pynector.batch.retries"] == 1
    (retries,) = spans.metric("pynector.client.retries")
    assert dict(retries.attributes) == {"pynector.retry.reason": "429"}
