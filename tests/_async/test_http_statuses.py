"""Answers that ask for something: to wait, to try again, to go elsewhere."""

import time
from email.utils import formatdate
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport
from servers.scripted import Connection, Script, ScriptedServer, http_response
from servers.scripts import OK, answer, cut, failing, good

pytestmark = pytest.mark.usefixtures("engine")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)


def client_of(server: ScriptedServer, *, retry: Any = None, timeout: float = 3.0, **options: Any) -> AsyncPynector:
    transport = AsyncHTTPTransport(server.url, timeout=timeout, **options)
    return AsyncPynector(transport, retry=retry)


async def failure(server: ScriptedServer, kind: type[errors.TransportError], **request: Any) -> Any:
    """Send a request that fails, and one after it that does not; return the error of the first."""
    options = {name: request.pop(name) for name in ("retry", "timeout") if name in request}
    async with client_of(server, **options) as client:
        with failing(server, kind, request.get("method", "GET")) as caught:
            await client.request({"path": "/x", **request})
        assert (await client.get("/next", retry=None)).content == b"good"
    return caught.value


# Servers that ask to wait


def status(code: str, *headers: bytes) -> bytes:
    return http_response(b'{"why":"because"}', code, b"Content-Type: application/json", *headers)


def sequence(*answers: bytes) -> Script:
    """Answers the requests of one connection with these, one after the other."""

    def script(conn: Connection) -> None:
        for data in answers:
            conn.read_request()
            conn.send(data)
        conn.wait()

    return script


@pytest.mark.parametrize(
    ("header", "least"),
    [
        (b"Retry-After: 0.3", 0.3),
        (b"retry-after-ms: 250", 0.25),
        (b"Retry-After: 0", 0.0),
        (b"Retry-After: -5", 0.0),
        (b"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        (b"Retry-After: NaN", 0.0),
        (b"Retry-After: soon", 0.0),
        (b"X-Nothing: 1", 0.0),
    ],
)
@pytest.mark.full_beyond("httpx")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_429_is_waited_for_as_told(method: str, header: bytes, least: float, no_leaks: None) -> None:
    with ScriptedServer(sequence(status("429 Too Many Requests", header), OK)) as server:
        async with client_of(server, retry=RetryPolicy(max_retries=1, backoff_factor=0.02)) as client:
            started = time.monotonic()
            assert (await client.request({"path": "/x", "method": method})).content == b"good"
            assert least <= time.monotonic() - started < least + 2
        assert len(server.requests) == 2


@pytest.mark.full_beyond("httpx")
async def test_429_with_a_date(no_leaks: None) -> None:
    date = formatdate(time.time() + 2, usegmt=True).encode()  # whole seconds: between 1 and 2 from now
    with ScriptedServer(sequence(status("429 Too Many Requests", b"Retry-After: " + date), OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            started = time.monotonic()
            assert (await client.get("/x")).content == b"good"
            assert 0.9 < time.monotonic() - started < 2.3


@pytest.mark.parametrize(
    ("value", "retry_after"),
    [(b"1000000000", 1e9), (b"inf", float("inf")), (b"Fri, 31 Dec 99999 23:59:59 GMT", None)],
)
async def test_a_wait_that_is_too_long_is_not_begun(value: bytes, retry_after: float | None, no_leaks: None) -> None:
    data = status("429 Too Many Requests", b"Retry-After: " + value)
    with ScriptedServer(sequence(data, OK)) as server:
        error = await failure(server, errors.HTTPTooManyRequestsError, retry=QUICK)
        assert error.attempts == 1
        if retry_after is not None:
            assert error.retry_after == retry_after
        else:
            assert error.retry_after > 1e9


async def test_a_wait_beyond_the_deadline_is_not_begun(no_leaks: None) -> None:
    data = status("503 Service Unavailable", b"Retry-After: 5")
    with ScriptedServer(sequence(data), cut(), good) as server:
        async with client_of(server, retry=RetryPolicy(max_retries=2, backoff_factor=9, jitter="none")) as client:
            started = time.monotonic()
            with pytest.raises(errors.HTTPServerError) as caught:
                await client.get("/x", timeout=2)
            assert caught.value.retry_after == 5
        # The same for an error of the network, which then says so.
        async with client_of(server, retry=RetryPolicy(max_retries=2, backoff_factor=9, jitter="none")) as client:
            with pytest.raises(errors.HTTPProtocolError) as cut_short:
                await client.get("/x", timeout=2)
            assert "would overrun the deadline" in cut_short.value.__notes__[0]
            assert (await client.get("/next")).content == b"good"
        assert time.monotonic() - started < 1


async def test_429_for_ever(no_leaks: None) -> None:
    data = status("429 Too Many Requests")
    with ScriptedServer(sequence(data, data, data, OK)) as server:
        error = await failure(server, errors.HTTPTooManyRequestsError, retry=QUICK)
        assert error.attempts == 3
        assert error.response.json() == {"why": "because"}
        assert error.retry_after is None


@pytest.mark.parametrize("code", [408, 409, 425, 500, 502, 503, 504, 529])
async def test_statuses_that_are_tried_again(code: int, no_leaks: None) -> None:
    data = status(f"{code} Whatever")
    with ScriptedServer(sequence(data, data, OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            assert (await client.get("/x")).content == b"good"
        assert len(server.requests) == 3
    with ScriptedServer(sequence(data, OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            with pytest.raises(errors.HTTPStatusError) as caught:
                await client.post("/x", json={})
            assert caught.value.attempts == 1
            assert caught.value.response is not None
            assert caught.value.response.content == b'{"why":"because"}'
            assert (await client.get("/next")).content == b"good"


async def test_503_with_retry_after_is_tried_again_for_any_method(no_leaks: None) -> None:
    with ScriptedServer(sequence(status("503 Busy", b"Retry-After: 0"), OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            assert (await client.post("/x", json={})).content == b"good"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_statuses_that_are_not_tried_again(code: int, no_leaks: None) -> None:
    with ScriptedServer(sequence(status(f"{code} Whatever"), OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            with pytest.raises(errors.HTTPClientError) as caught:
                await client.get("/x")
            assert caught.value.attempts == 1
            assert (await client.get("/next")).content == b"good"
        assert len(server.requests) == 2


async def test_the_server_has_the_last_word_on_retries(no_leaks: None) -> None:
    no, yes = status("503 Busy", b"X-Should-Retry: false"), status("404 Not Yet", b"X-Should-Retry: True")
    with ScriptedServer(sequence(no, yes, OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            with pytest.raises(errors.HTTPServerError) as caught:
                await client.get("/x")
            assert caught.value.attempts == 1
            assert (await client.get("/x")).content == b"good"
        assert len(server.requests) == 3


async def test_flapping(no_leaks: None) -> None:
    error = status("500 Oops", b"Connection: close")
    with ScriptedServer(cut(), answer(error), cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1"), good) as server:
        async with client_of(server, retry=RetryPolicy(max_retries=3, backoff_factor=0.01)) as client:
            results = await client.batch_request([{"path": "/x"}], max_concurrency=1, timeout=5)
            assert results[0].content == b"good"
            assert results.outcomes[0].attempts == 4
            assert results.summary().retries == 3
        assert len(server.requests) == 4


# Redirects


async def test_a_redirect_loop(no_leaks: None) -> None:
    loop = http_response(b"", "302 Found", b"Location: x")
    with ScriptedServer(sequence(*[loop] * 21, OK), good) as server:
        error = await failure(server, errors.HTTPRedirectError, retry=QUICK)
        assert "more than 20" in str(error)
        assert error.attempts == 1


@pytest.mark.parametrize("same_origin", [True, False])
async def test_credentials_stay_at_their_origin(server: LocalServer, same_origin: bool, no_leaks: None) -> None:
    headers = {"X-Api-Key": "k", "Traceparent": "t", "X-Plain": "p", "Cookie": "own=1"}
    with LocalServer() as other:
        target = f"{server.url}/echo" if same_origin else f"http://localhost:{other.port}/echo"
        async with AsyncPynector(base_url=server.url, auth="tok", cookies={"given": "1"}) as client:
            response = await client.get("/redirect-to", params={"url": target}, headers=headers)
    assert response.url == target
    received = dict(response.json()["headers"])
    assert received["x-plain"] == "p"
    assert received["host"] == target.split("/")[2]
    secret = {"authorization", "x-api-key", "cookie", "traceparent"}
    assert secret & received.keys() == (secret if same_origin else set())


@pytest.mark.parametrize(
    ("location", "why"),
    [
        (b"ftp://127.0.0.1/", "neither http nor https"),
        (b"http://user:s3cr3t@127.0.0.1/", "credentials"),
        (b"http://[::1/", "not a URL"),
        (b"http://127.0.0.1:99999/", "not a URL"),
        (b"http://a..b/", "not a valid URL"),
    ],
)
async def test_redirects_that_are_refused(location: bytes, why: str, no_leaks: None) -> None:
    data = http_response(b"", "302 Found", b"Location: " + location)
    with ScriptedServer(sequence(data, OK)) as server:
        async with client_of(server, retry=QUICK) as client:
            with pytest.raises(errors.HTTPRedirectError, match=why) as caught:
                await client.get("/x")
            assert "s3cr3t" not in str(caught.value)
            assert caught.value.attempts == 1
            assert (await client.get("/next")).content == b"good"


async def test_no_redirect_down_to_plain_http(server: LocalServer, tls_server: LocalServer, no_leaks: None) -> None:
    transport = AsyncHTTPTransport(tls_server.url, verify_ssl=False)
    async with AsyncPynector(transport) as client:
        with pytest.raises(errors.HTTPRedirectError, match="down to"):
            await client.get("/redirect-to", params={"url": f"{server.url}/echo"})
    assert server.requests.count == 0


async def test_a_redirect_without_a_location(no_leaks: None) -> None:
    with ScriptedServer(answer(http_response(b"which?", "300 Multiple Choices")), good) as server:
        async with client_of(server) as client:
            response = await client.get("/x")
    assert response.status_code == 300
    assert response.content == b"which?"


async def test_a_redirect_whose_body_never_ends(no_leaks: None) -> None:
    data = b"HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 5\r\n\r\nab"
    with ScriptedServer(answer(data), good) as server:
        assert (await failure(server, errors.ConnectionTimeoutError, timeout=0.3)).phase == "read"
