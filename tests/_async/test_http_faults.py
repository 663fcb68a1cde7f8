"""Servers that fail, byte for byte: the error, what went over the wire, and that the client serves on."""

import gzip
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import brotli
import pytest
import zstandard

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport
from servers.scripted import Connection, Script, ScriptedServer, http_response

pytestmark = pytest.mark.usefixtures("engine")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)
OK = http_response(b"good")


def answer(data: bytes) -> Script:
    """Answers one request with these bytes, and waits for the client to hang up."""

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(data)
        conn.wait()

    return script


def cut(data: bytes = b"", *, reset: bool = False) -> Script:
    """Answers one request with these bytes, and hangs up."""

    def script(conn: Connection) -> None:
        conn.read_request()
        if data:
            conn.send(data)
            conn.wait(0.05)  # the client reads them before the end of the connection
        conn.reset() if reset else conn.close()

    return script


def good(conn: Connection) -> None:
    """Answers every request well."""
    try:
        while True:
            conn.read_request()
            conn.send(OK)
    except EOFError:
        pass


def silent(conn: Connection) -> None:
    """Reads a request and says nothing."""
    conn.read_request()
    conn.wait()


def client_of(server: ScriptedServer, *, retry: Any = None, timeout: float = 3.0, **options: Any) -> AsyncPynector:
    transport = AsyncHTTPTransport(server.url, timeout=timeout, **options)
    return AsyncPynector(transport, retry=retry)


async def failure(server: ScriptedServer, kind: type[errors.TransportError], **request: Any) -> Any:
    """Send a request that fails, and one after it that does not; return the error of the first."""
    options = {name: request.pop(name) for name in ("retry", "timeout") if name in request}
    async with client_of(server, **options) as client:
        started = time.monotonic()
        with pytest.raises(errors.TransportError) as caught:
            await client.request({"path": "/x", **request})
        assert time.monotonic() - started < 3
        assert type(caught.value) is kind
        assert (await client.get("/next", retry=None)).content == b"good"
    error = caught.value
    assert error.method == request.get("method", "GET")
    assert error.url == f"{server.url}/x"
    assert error.attempts >= 1
    assert error.elapsed is not None
    return error


# Nothing comes back


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_retried_for_any_method(method: str, no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        url = server.url
    async with AsyncPynector(base_url=url, retry=QUICK) as client:
        with pytest.raises(errors.ConnectionRefusedError) as caught:
            await client.request({"path": "/x", "method": method})
    assert caught.value.attempts == 3
    assert caught.value.sent is False
    assert isinstance(caught.value, ConnectionRefusedError)
    assert caught.value.url == f"{url}/x"


async def test_a_refused_connection_to_a_name_with_several_addresses(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        port = server.port
    async with AsyncPynector(base_url=f"http://localhost:{port}", retry=None) as client:
        with pytest.raises(errors.ConnectionRefusedError):
            await client.get("/x")


async def test_a_server_that_never_answers(engine: str, no_leaks: None) -> None:
    with ScriptedServer(silent, good) as server:
        error = await failure(server, errors.ConnectionTimeoutError, timeout=0.3)
        assert error.phase == "read"
        assert isinstance(error, TimeoutError)
        if engine != "pyreqwest":  # whose class tells no phase
            assert type(error.__cause__).__name__ == "ReadTimeout"
    with ScriptedServer(silent, silent, silent, good) as server:
        error = await failure(server, errors.ConnectionTimeoutError, retry=QUICK, timeout=0.2)
        assert error.attempts == 3
        assert len(server.requests) == 4
    with ScriptedServer(silent, good) as server:
        error = await failure(server, errors.ConnectionTimeoutError, retry=QUICK, method="POST", timeout=0.2)
        assert error.attempts == 1


async def test_a_tls_handshake_that_stalls(no_leaks: None) -> None:
    def stall(conn: Connection) -> None:
        conn.wait()

    with ScriptedServer(stall, scheme="https") as server:
        async with client_of(server, timeout=0.3) as client:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await client.get("/x")
    assert caught.value.phase == "connect"
    assert caught.value.sent is False


async def test_plain_http_where_tls_should_be(no_leaks: None) -> None:
    def plain(conn: Connection) -> None:
        conn.read(5)
        conn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        conn.wait()

    with ScriptedServer(plain, scheme="https") as server:
        async with client_of(server, retry=QUICK) as client:
            with pytest.raises(errors.TLSError) as caught:
                await client.get("/x")
    assert caught.value.attempts == 1


# Dripping: no read takes long, all of them together do


@pytest.mark.parametrize("body", [False, True])
async def test_the_deadline_ends_what_drips_for_ever(body: bool, no_leaks: None) -> None:
    def drip(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 1000\r\n\r\n" if body else b"X: "))
        conn.drip(b"." * 1000, 0.05)

    with ScriptedServer(drip, good) as server:
        async with client_of(server, retry=QUICK) as client:
            started = time.monotonic()
            with pytest.raises(errors.TimeoutError, match=r"0\.4 s: .*GET .*/x.*attempt 1"):
                await client.get("/x", timeout=0.4)
            assert time.monotonic() - started < 1
            assert (await client.get("/next")).content == b"good"
        assert len(server.requests) == 2


# Connections that end too early


@pytest.mark.parametrize("reset", [False, True])
async def test_a_reused_connection_that_was_dead_is_replaced_at_once(reset: bool, no_leaks: None) -> None:
    def dies_on_reuse(conn: Connection) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()
        conn.reset() if reset else conn.close()

    with ScriptedServer(dies_on_reuse, good) as server:
        # There is nothing to wait for: the server is well, only the connection was old.
        async with client_of(server, retry=RetryPolicy(max_retries=1, backoff_factor=1000, jitter="none")) as client:
            assert (await client.get("/first")).content == b"good"
            assert (await client.get("/second")).content == b"good"
        assert [request.split()[1] for request in server.requests] == [b"/first", b"/second", b"/second"]


async def test_a_post_on_a_reused_connection_that_was_dead(no_leaks: None) -> None:
    def dies_on_reuse(conn: Connection) -> None:
        conn.read_request()
        conn.send(OK)
        conn.read_request()
        conn.reset()

    with ScriptedServer(dies_on_reuse, dies_on_reuse, good) as server:
        async with client_of(server, retry=QUICK) as client:
            await client.get("/first")
            with pytest.raises(errors.TransportError) as caught:
                await client.post("/second", json=1)
            assert caught.value.attempts == 1
            await client.get("/first")
            # With a key it is safe to send it again.
            assert (await client.post("/second", json=1, idempotency_key="k")).content == b"good"
        assert len(server.requests) == 5


async def test_a_server_that_closed_an_idle_connection(no_leaks: None) -> None:
    def once(conn: Connection) -> None:
        conn.read_request()
        conn.send(OK)

    with ScriptedServer(once, once, once) as server:
        async with client_of(server) as client:
            for _ in range(3):
                assert (await client.post("/x", json=1)).content == b"good"
                while not server.connections[-1].closed:
                    time.sleep(0.001)
                time.sleep(0.02)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", errors.HTTPProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", errors.HTTPProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", errors.HTTPIncompleteError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n8\r\nha", errors.HTTPIncompleteError),
    ],
    ids=["nothing", "head", "length", "chunked"],
)
async def test_an_answer_that_is_cut(
    engine: str, data: bytes, kind: type[errors.TransportError], no_leaks: None
) -> None:
    with ScriptedServer(cut(data), good) as server:
        error = await failure(server, kind)
        assert error.transient
        if isinstance(error, errors.HTTPIncompleteError) and engine != "pyreqwest":  # which keeps it if streamed
            assert error.partial.startswith(b"half")
    with ScriptedServer(cut(data), good) as server:
        async with client_of(server, retry=QUICK) as client:
            assert (await client.get("/x")).content == b"good"
        assert len(server.requests) == 2
    with ScriptedServer(cut(data), good) as server:
        assert (await failure(server, kind, method="POST", retry=QUICK)).attempts == 1


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_an_answer_that_is_reset(data: bytes, no_leaks: None) -> None:
    with ScriptedServer(cut(data, reset=True), good) as server:
        error = await failure(server, errors.ConnectionError)
        assert error.transient
        assert error.sent


async def test_a_stream_that_is_cut(no_leaks: None) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    with ScriptedServer(cut(data), good) as server:
        async with client_of(server, retry=QUICK) as client:
            received = []
            with pytest.raises(errors.HTTPIncompleteError):
                async with client.stream({"path": "/x"}) as response:
                    async for chunk in response:
                        received.append(chunk)
            assert received == [b"half"]
            assert (await client.get("/next")).content == b"good"
        assert len(server.requests) == 2


# What is no HTTP


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnumber\r\nabc\r\n0\r\n\r\n",
        b"hello\r\n\r\n",
        b"<html>no status line</html>\r\n\r\n",
        b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ],
    ids=["two lengths", "length and chunked", "bad length", "bad chunk", "garbage", "0.9", "9.9", "status", "header"],
)
async def test_an_answer_that_is_no_http(data: bytes, no_leaks: None) -> None:
    with ScriptedServer(answer(data), good) as server:
        error = await failure(server, errors.HTTPProtocolError, retry=QUICK)
        assert error.attempts == 1
        assert not error.transient
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 200\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\nContent-Encoding: gzip\r\n\r\n"),
        ("GET", OK),
    ],
    ids=["204", "304", "HEAD", "200"],
)
async def test_bytes_behind_an_answer_are_not_the_next_answer(method: str, head: bytes, no_leaks: None) -> None:
    def generous(conn: Connection) -> None:
        conn.read_request()
        conn.send(head + http_response(b"evil"))
        conn.wait()

    with ScriptedServer(generous, generous, good) as server:
        async with client_of(server) as client:
            response = await client.request({"path": "/x", "method": method})
            assert response.content == (b"good" if head == OK else b"")
            async with client.stream({"path": "/x", "method": method}) as stream:
                assert await stream.read() == response.content
            assert (await client.get("/next")).content == b"good"


# Bodies that cannot be decoded

TEXT = b"hello world, " * 1000


def encoded(coding: str, body: bytes) -> Script:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(body, "200 OK", b"Content-Encoding: " + coding.encode()))
        good(conn)  # a body that arrived and makes no sense does not cost the connection

    return script


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_compressed_bodies(coding: str, no_leaks: None) -> None:
    body = CODINGS[coding](TEXT)
    with ScriptedServer(encoded(coding, body), encoded(coding, body)) as server:
        async with client_of(server) as client:
            assert (await client.get("/x")).content == TEXT
        async with client_of(server) as client, client.stream({"path": "/x"}) as response:
            assert await response.read() == TEXT


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("broken", ["corrupt", "truncated"])
async def test_compressed_bodies_that_are_broken(coding: str, broken: str, no_leaks: None) -> None:
    body = CODINGS[coding](TEXT)
    body = body[: len(body) // 2] if broken == "truncated" else b"\x00nonsense" + body
    with ScriptedServer(encoded(coding, body), good) as server:
        error = await failure(server, errors.HTTPDecodeError, retry=QUICK)
        assert error.attempts == 1
        assert len(server.requests) == 2
    with ScriptedServer(encoded(coding, body), good) as server:
        async with client_of(server, retry=QUICK) as client:
            with pytest.raises(errors.HTTPDecodeError):
                async with client.stream({"path": "/x"}) as response:
                    await response.read()
            assert (await client.get("/next")).content == b"good"


async def test_a_body_that_is_not_what_it_says(no_leaks: None) -> None:
    bad = [b'{"token": "s3cr3t", ', b"<html>", b"", b'"\xff"']
    answers = [answer(http_response(body, "200 OK", b"Content-Type: application/json")) for body in bad]
    with ScriptedServer(*answers) as server:
        for body in bad:
            async with client_of(server) as client:
                response = await client.get("/x")
                with pytest.raises(errors.DeserializationError, match=r"not JSON in 200 GET http.*/x") as caught:
                    response.json()
                assert "s3cr3t" not in str(caught.value)
                assert response.get_payload()["data"] == body.decode(errors="replace")


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
