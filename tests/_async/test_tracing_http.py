"""Spans of requests: what is on them, and that they end whatever happens."""

import gc
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import context
from opentelemetry.trace import StatusCode

from pynector import AsyncPynector, RetryPolicy
from pynector._telemetry.attempt import known_methods
from pynector.concurrency import create_task_group, move_on_after, sleep
from pynector.errors import ConnectionRefusedError, HTTPNotFoundError, HTTPServerError, TimeoutError
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport
from servers.proxy import ProxyServer
from servers.recorded import Recorded, attributes, id_of, is_client, is_unset, recording, trace_of
from servers.scripted import ScriptedServer, http_response
from servers.scripts import cut, silent

pytestmark = pytest.mark.usefixtures("no_proxies_around")

QUICK = RetryPolicy(max_retries=3, backoff_factor=0.001)


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recording() as recorded:
        yield recorded


def sent_context(server: LocalServer) -> list[tuple[int, int]]:
    """Trace and span of what went over the wire, for each request."""
    found = []
    for request in server.requests.recent:
        (value,) = [value for name, value in request.headers if name.lower() == "traceparent"]
        _, trace, span, _ = value.split("-")
        found.append((int(trace, 16), int(span, 16)))
    return found


async def test_a_request(server: LocalServer, spans: Recorded, engine: str) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.get("/items/1?api_key=canary")
    operation, attempt = spans.one("pynector.request"), spans.one("GET")
    assert not is_client(operation)
    assert is_client(attempt)
    assert attempt.parent is not None
    assert attempt.parent.span_id == id_of(operation)
    assert is_unset(operation)
    assert is_unset(attempt)
    assert attributes(operation) == {"pynector.request.attempts": 1}
    assert attributes(attempt) == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.full": f"{server.url}/items/1?api_key=REDACTED",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        # pyreqwest does not say which connection it has used.
        **({} if engine == "pyreqwest" else {"network.peer.address": "127.0.0.1", "network.peer.port": server.port}),
    }
    assert sent_context(server) == [(trace_of(attempt), id_of(attempt))]
    scope = attempt.instrumentation_scope
    assert scope is not None
    assert scope.name == "pynector"
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"


@pytest.mark.usefixtures("engine")
async def test_retries_are_siblings(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        await client.get("/flaky/traced?fail=2")
    operation, attempts = spans.one("pynector.request"), spans.named("GET")
    assert is_unset(operation)
    assert attributes(operation) == {"pynector.request.attempts": 3}
    assert [span.parent.span_id for span in attempts if span.parent is not None] == [id_of(operation)] * 3
    found = [attributes(span) for span in attempts]
    assert [each["http.response.status_code"] for each in found] == [503, 503, 200]
    assert [each.get("http.request.resend_count") for each in found] == [None, 1, 2]
    assert [each.get("error.type") for each in found] == ["503", "503", None]
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert not any(span.status.description for span in attempts)
    assert sent_context(server) == [(trace_of(span), id_of(span)) for span in attempts]


@pytest.mark.usefixtures("engine")
async def test_redirects_count_as_sent_again(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.get("/redirect/2")
    found = [attributes(span) for span in spans.named("GET")]
    assert [each["http.response.status_code"] for each in found] == [302, 302, 200]
    assert [each.get("http.request.resend_count") for each in found] == [None, 1, 2]
    assert len({trace for trace, _ in sent_context(server)}) == 1


async def test_another_origin_is_not_told_of_the_trace(server: LocalServer, spans: Recorded) -> None:
    with LocalServer() as other:
        async with AsyncPynector(base_url=server.url) as client:
            await client.get("/redirect-to", params={"url": f"{other.url}/items/1"})
        assert sent_context(server)
        assert not [name for name, _ in other.requests.recent[0].headers if name.lower() in ("traceparent", "baggage")]
    assert len(spans.named("GET")) == 2


async def test_a_stale_context_is_replaced(server: LocalServer, spans: Recorded) -> None:
    stale = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with AsyncPynector(base_url=server.url) as client:
        await client.get("/items/1", headers={"TraceParent": stale})
    attempt = spans.one("GET")
    assert sent_context(server) == [(trace_of(attempt), id_of(attempt))]


async def test_the_callers_span_is_the_parent(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with spans.tracer.start_as_current_span("caller") as caller:
            await client.get("/items/1")
    operation = spans.one("pynector.request")
    assert operation.parent is not None
    assert operation.parent.span_id == caller.get_span_context().span_id


@pytest.mark.usefixtures("engine")
async def test_what_has_failed(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url, retry=None) as client:
        with pytest.raises(HTTPNotFoundError):
            await client.get("/status/404")
        with pytest.raises(HTTPServerError):
            await client.get("/status/500")
        await client.get("/status/500", raise_for_status=False)
    assert [span.status.status_code for span in spans.named("GET")] == [StatusCode.ERROR] * 3
    operations = spans.named("pynector.request")
    assert [attributes(span).get("error.type") for span in operations] == [
        "pynector.errors.HTTPNotFoundError",
        "pynector.errors.HTTPServerError",
        None,
    ]
    assert is_unset(operations[2])


async def test_an_unreachable_server(spans: Recorded) -> None:
    async with AsyncPynector(
        base_url="http://127.0.0.1:9", retry=RetryPolicy(max_retries=1, backoff_factor=0)
    ) as client:
        with pytest.raises(ConnectionRefusedError):
            await client.get("/")
    attempts = spans.named("GET")
    assert [attributes(span)["error.type"] for span in attempts] == ["pynector.errors.ConnectionRefusedError"] * 2
    assert [attributes(span).get("http.request.resend_count") for span in attempts] == [None, 1]
    assert not any("http.response.status_code" in attributes(span) for span in attempts)
    (point,) = spans.metric("http.client.request.duration")
    assert point.attributes["error.type"] == "pynector.errors.ConnectionRefusedError"


@pytest.mark.usefixtures("engine")
async def test_a_cancelled_request_has_not_failed(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with create_task_group() as group:
            await group.start_soon(client.get, "/delay?s=5")
            with move_on_after(5):
                while not server.in_flight:
                    await client.get("/items/1")
            group.cancel_scope.cancel()
    (attempt,) = [span for span in spans.named("GET") if "delay" in attributes(span)["url.full"]]
    assert is_unset(attempt)
    assert all(is_unset(span) for span in spans.named("pynector.request"))


async def test_a_request_whose_time_is_over_has_failed(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(TimeoutError):
            await client.get("/delay?s=5", timeout=0.05)
    for name in ("GET", "pynector.request"):
        span = spans.one(name)
        assert span.status.status_code is StatusCode.ERROR
        assert attributes(span)["error.type"] == "pynector.errors.TimeoutError"


async def test_a_method_that_nobody_knows(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url, retry=None) as client:
        await client.request({"method": "BREW", "path": "/echo"})
    found = attributes(spans.one("HTTP"))
    assert (found["http.request.method"], found["http.request.method_original"]) == ("_OTHER", "BREW")


async def test_methods_that_the_environment_names(
    server: LocalServer, spans: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "BREW, GET")
    known_methods.cache_clear()
    try:
        async with AsyncPynector(base_url=server.url, retry=None) as client:
            await client.request({"method": "BREW", "path": "/echo"})
            await client.request({"method": "POST", "path": "/echo"})
    finally:
        known_methods.cache_clear()
    assert attributes(spans.one("BREW"))["http.request.method"] == "BREW"
    assert attributes(spans.one("HTTP"))["http.request.method_original"] == "POST"


async def test_the_peer_is_whom_the_connection_leads_to(
    server: LocalServer, proxy: ProxyServer, spans: Recorded, tmp_path: Path
) -> None:
    """And not whom the URL names: there may be a proxy in between, or no connection at all."""
    async with AsyncPynector(base_url=server.url, proxy=proxy.url) as client:
        await client.get("/items/1")
        async with client.stream({"path": "/items/1"}) as response:
            await response.read()
    for span in spans.named("GET"):
        found = attributes(span)
        assert (found["network.peer.address"], found["network.peer.port"]) == ("127.0.0.1", proxy.port)
        assert found["server.port"] == server.port
    spans.exporter.clear()
    async with AsyncPynector(base_url="http://127.0.0.1:1", retry=None) as client:
        with pytest.raises(ConnectionRefusedError):
            await client.get("/")
    assert "network.peer.address" not in attributes(spans.one("GET"))
    spans.exporter.clear()
    path = str(tmp_path / "socket")
    async with AsyncPynector(base_url=server.url, uds=path, retry=None) as client:
        with pytest.raises(ConnectionError):
            await client.get("/")
    assert "network.peer.address" not in attributes(spans.one("GET"))
    for point in spans.metric("http.client.request.duration"):
        assert not any(name.startswith("network.peer") for name in point.attributes)


async def test_the_measurement_is_that_of_the_span(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url, retry=RetryPolicy(max_retries=1, backoff_factor=0)) as client:
        await client.get("/flaky/measured?fail=1")
    attempts = spans.named("GET")
    points = {
        point.attributes["http.response.status_code"]: point for point in spans.metric("http.client.request.duration")
    }
    assert set(points) == {503, 200}
    for span in attempts:
        found = attributes(span)
        point = points[found["http.response.status_code"]]
        assert span.start_time is not None
        assert span.end_time is not None
        assert point.count == 1
        assert point.sum == (span.end_time - span.start_time) / 1e9
        assert point.explicit_bounds[:3] == (0.005, 0.01, 0.025)
        common = {"http.request.method", "server.address", "server.port", "http.response.status_code", "error.type"}
        assert {name: found[name] for name in common if name in found} == {
            name: value for name, value in point.attributes.items() if name in common
        }
    (retries,) = spans.metric("pynector.client.retries")
    assert (retries.value, dict(retries.attributes)) == (1, {"pynector.retry.reason": "503"})


async def test_a_client_without_telemetry(
    server: LocalServer, spans: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    transport = AsyncHTTPTransport(base_url=server.url)
    with caplog.at_level(logging.DEBUG, "pynector"):
        for given in ({"base_url": server.url}, {"transport": transport}):
            async with AsyncPynector(**given, retry=QUICK, enable_telemetry=False) as client:
                await client.get("/flaky/silent?fail=1")
                await client.batch_request([{"path": "/items/1"}] * 3)
                async with client.stream({"path": "/items/1"}) as response:
                    await response.read()
    assert not spans.spans
    assert not spans.metric("http.client.request.duration")
    assert not [record for record in caplog.records if record.name.startswith("pynector.attempts")]
    assert not any(name.lower() == "traceparent" for each in server.requests.recent for name, _ in each.headers)


async def test_a_deadline_that_ends_a_retry_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with ScriptedServer(cut(http_response(b"", "503 Service Unavailable", b"Connection: close")), silent) as server:
        async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
            with caplog.at_level(logging.WARNING, "pynector.attempts"):
                with pytest.raises(TimeoutError):
                    await client.get("/", timeout=0.5)
    assert [record.message for record in caplog.records] == ["request.given_up"]
    assert (caplog.records[0].attempts, caplog.records[0].reason) == (2, "TimeoutError")  # type: ignore[attr-defined]


async def test_a_bare_transport(server: LocalServer, spans: Recorded) -> None:
    async with AsyncHTTPTransport(base_url=server.url, retry_backoff_factor=0.001) as transport:
        await transport.request({"path": "/flaky/bare?fail=1"})
    assert [span.name for span in spans.spans] == ["GET", "GET"]


async def test_giving_up_is_logged_once(server: LocalServer, spans: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        with caplog.at_level(logging.DEBUG, "pynector.attempts"), pytest.raises(HTTPServerError):
            await client.get("/status/503")
    found = [(record.levelname, record.message) for record in caplog.records if record.name == "pynector.attempts"]
    assert found == [("DEBUG", "request.retry")] * 3 + [("WARNING", "request.given_up")]
    operation = spans.one("pynector.request")
    assert {record.trace_id for record in caplog.records if record.name == "pynector.attempts"} == {  # type: ignore[attr-defined]
        f"{trace_of(operation):032x}"
    }


@pytest.mark.usefixtures("engine")
async def test_what_the_engine_logs_has_the_ids(
    server: LocalServer, spans: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pynector.http")
    async with AsyncPynector(base_url=server.url) as client:
        await client.get("/items/1?page=2")
    (line,) = (vars(record) for record in caplog.records if record.name == "pynector.http")
    assert line["msg"] == "http.response"
    assert {name: line[name] for name in ("method", "url", "status_code", "http_version", "trace_id", "span_id")} == {
        "method": "GET",
        "url": f"{server.url}/items/1",
        "status_code": 200,
        "http_version": "HTTP/1.1",
        "trace_id": f"{trace_of(spans.one('pynector.request')):032x}",
        "span_id": f"{id_of(spans.one('pynector.request')):016x}",
    }


# Answers that are read piece by piece


@pytest.mark.usefixtures("engine")
async def test_a_stream_that_is_read_to_its_end(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=3&ms=1"}) as response:
            assert not spans.spans
            async for _ in response:
                pass
            assert {span.name for span in spans.spans} == {"GET", "pynector.stream"}
    assert all(is_unset(span) for span in spans.spans)
    assert spans.children(spans.one("pynector.stream")) == spans.named("GET")


@pytest.mark.usefixtures("engine")
async def test_a_stream_that_is_left(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=1000&ms=5"}) as response:
            async for _ in response:
                break
        assert {span.name for span in spans.spans} == {"GET", "pynector.stream"}
    assert all(is_unset(span) for span in spans.spans)


async def test_a_consumer_that_raises(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.stream({"path": "/stream?n=1000&ms=5"}) as response:
                async for _ in response:
                    raise ZeroDivisionError
    assert {span.name for span in spans.spans} == {"GET", "pynector.stream"}
    assert all(is_unset(span) for span in spans.spans)


async def test_a_stream_is_not_current_in_its_block(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=2&ms=1"}) as response:
            with spans.tracer.start_as_current_span("inside"):
                pass
            await response.read()
    assert spans.one("inside").parent is None


async def test_a_stream_whose_time_is_over(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(TimeoutError):
            async with client.stream({"path": "/stream?n=1000&ms=20"}, timeout=0.2) as response:
                await response.read()
    assert [attributes(span)["error.type"] for span in spans.spans] == ["pynector.errors.TimeoutError"] * 2


async def test_a_stream_that_is_dropped(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        stream: Any = client.stream({"path": "/stream?n=1000&ms=5"})
        response = await stream.__aenter__()
        below = response._head.exchange._exchange  # else it is the connection that makes itself heard
        assert not spans.spans
        del response, stream
        gc.collect()
        dropped = time.time_ns()
        # A finaliser may interrupt the SDK, with its locks held: so it is told later, by whoever comes next.
        assert not spans.spans
        await sleep(0.05)
        await client.get("/items/1")
        ended = {span.name: span.end_time for span in spans.spans if span.name != "pynector.request"}
        assert set(ended) == {"GET", "pynector.stream"}
        assert spans.one("pynector.stream").end_time < dropped
        await below.aclose()
    assert all(is_unset(span) for span in spans.spans)


async def test_a_stream_that_another_task_closes(server: LocalServer, spans: Recorded) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=1000&ms=5"}) as response:
            pieces = response.iter_bytes()
            await anext(pieces)
            async with create_task_group() as group:
                await group.start_soon(pieces.aclose)
            assert {span.name for span in spans.spans} == {"GET", "pynector.stream"}
    assert len(spans.spans) == 2
    assert all(is_unset(span) for span in spans.spans)


async def test_a_download(server: LocalServer, spans: Recorded, tmp_path: Path) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.download("/items/1", tmp_path / "item")
    assert spans.children(spans.one("pynector.download")) == spans.named("GET")


async def test_an_instrumented_client_of_the_users_own(server: LocalServer, spans: Recorded) -> None:
    """The instrumentations of httpx look at this key, and leave their span out: there would be two for each request."""
    seen: list[object] = []

    async def look(request: httpx.Request) -> None:
        seen.append(context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY))

    async with httpx.AsyncClient(base_url=server.url, event_hooks={"request": [look]}) as own:
        async with AsyncPynector(client=own) as client:
            await client.get("/items/1")
            async with client.stream({"path": "/items/1"}) as response:
                await response.read()
            assert not context.get_current()
    assert seen == [True, True]
    assert len(spans.attempts) == 2
