"""A batch with retries, exported over HTTP to a collector that others have written, and read back from there."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from pynector import AsyncPynector, Pynector, RetryPolicy
from pynector.testing import LocalServer
from servers.collector import Collector, command
from servers.recorded import recording

pytestmark = pytest.mark.usefixtures("no_proxies_around")

QUICK = RetryPolicy(max_retries=3, backoff_factor=0.001, budget=None)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    program = command()
    if program is None:
        pytest.skip("no ddapm-test-agent that takes OTLP: PYNECTOR_TEST_COLLECTOR is the path of its command")
    with Collector(program) as running:
        yield running


@pytest.mark.parametrize("colour", ["async", "blocking"])
def test_the_tree_is_read_back(server: LocalServer, collector: Collector, colour: str) -> None:
    requests = [{"path": f"/items/{number}"} for number in range(18)]
    requests += [{"path": f"/flaky/{colour}?fail=2"}, {"path": "/status/404"}]

    async def send() -> None:
        async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
            await client.batch_request(requests, max_concurrency=5)

    processor = BatchSpanProcessor(OTLPSpanExporter(collector.endpoint))
    with recording(processors=[processor]) as recorded:
        with recorded.tracer.start_as_current_span(f"export in {colour}"):
            if colour == "async":
                asyncio.run(send())
            else:
                with Pynector(base_url=server.url, retry=QUICK) as client:
                    client.batch_request(requests, max_concurrency=5)
        assert processor.force_flush()
        expected = len(recorded.spans)

    everything = collector.spans()
    (root,) = [span for span in everything if span.name == f"export in {colour}"]
    spans = [span for span in everything if span.trace == root.trace]
    assert len(spans) == expected == 1 + 1 + 20 + 22
    (batch,) = [span for span in spans if span.parent == root.id]
    assert (batch.name, batch.scope) == ("pynector.batch", "pynector")
    assert batch.attributes == {
        "pynector.batch.size": 20,
        "pynector.batch.max_concurrency": 5,
        "pynector.batch.ok": 19,
        "pynector.batch.failed": 1,
        "pynector.batch.not_sent": 0,
        "pynector.batch.unknown": 0,
        "pynector.batch.retries": 2,
    }
    operations = [span for span in spans if span.parent == batch.id]
    assert sorted(span.attributes["pynector.batch.index"] for span in operations) == list(range(20))
    attempts = {
        operation.attributes["pynector.batch.index"]: [span for span in spans if span.parent == operation.id]
        for operation in operations
    }
    assert [len(attempts[number]) for number in range(20)] == [1] * 18 + [3, 1]
    retried = sorted(attempts[18], key=lambda span: int(span.attributes.get("http.request.resend_count", 0)))
    assert [(span.failed, span.attributes["http.response.status_code"]) for span in retried] == [
        (True, 503),
        (True, 503),
        (False, 200),
    ]
    assert not any(operation.failed for operation in operations if operation.attributes["pynector.batch.index"] == 18)
    processor.shutdown()
