"""Servers that fail, byte for byte: the error, what went over the wire, and that the client serves on."""

import gzip
import time
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.transport.http import AsyncHTTPTransport
from servers.scripted import Connection, Script, ScriptedServer, http_response
from servers.scripts import OK, answer, cut, failing, good, silent

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
        b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ],
    ids=[
        *["two lengths", "length and chunked", "bad length", "bad chunk", "garbage", "0.9", "9.9", "1.2", "2.0"],
        *["gzip, chunked", "status", "header"],
    ],
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
