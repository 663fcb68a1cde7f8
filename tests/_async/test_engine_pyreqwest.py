"""The engine `pyreqwest`: what it does on its own, and what it can't do."""

import logging
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.scopes import move_on_after
from pynector.testing import LocalServer
from servers.scripted import Connection, ScriptedServer
from servers.scripts import good

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("pyreqwest")]


def client_of(url: str, **options: Any) -> AsyncPynector:
    return AsyncPynector(base_url=url, engine="pyreqwest", **{"retry": None, **options})


# What is on the wire


async def test_the_headers_of_a_request_are_ours_and_nobody_elses(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        async with client_of(server.url, headers={"X-Multi": "one"}) as client:
            await client.get("/a?q=1", headers={"X-Own": "two"})
            await client.post("/b", json={"x": 1})
            await client.post("/c")
    heads = [request.partition(b"\r\n\r\n")[0].decode().split("\r\n") for request in server.requests]
    assert [head[0] for head in heads] == ["GET /a?q=1 HTTP/1.1", "POST /b HTTP/1.1", "POST /c HTTP/1.1"]
    for head in heads:
        names = [line.partition(":")[0].lower() for line in head[1:]]
        assert sorted(set(names)) == sorted(names)
        assert {"host", "accept", "accept-encoding", "user-agent", "connection", "x-multi"} <= set(names)
        assert not {"referer", "cookie"} & set(names)
    agents = [line for head in heads for line in head if line.lower().startswith("user-agent:")]
    assert all("pynector/" in agent for agent in agents)
    assert "Content-Length: 0" in heads[2]
    assert server.requests[1].endswith(b'\r\n\r\n{"x":1}') or server.requests[1].endswith(b'\r\n\r\n{"x": 1}')


async def test_headers_of_answers_are_kept_as_they_are(no_leaks: None) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Name: Jos\xe9 \xff\r\nX-Both: plain\r\nSet-Cookie: b=2\r\n"
        b"X-Both: caf\xc3\xa9\r\nContent-Length: 2\r\n\r\nok"
    )

    def twice(conn: Connection) -> None:
        for _ in range(2):
            conn.read_request()
            conn.send(head)
        conn.wait()

    with ScriptedServer(twice) as server:
        async with client_of(server.url) as client:
            whole = await client.get("/")
            async with client.stream({"path": "/"}) as streamed:
                headers = streamed.headers
        for found in (whole.headers, headers):
            assert sorted(found.raw) == sorted(
                [
                    (b"set-cookie", b"a=1"),
                    (b"set-cookie", b"b=2"),
                    (b"x-name", b"Jos\xe9 \xff"),
                    (b"x-both", b"plain"),
                    (b"x-both", b"caf\xc3\xa9"),
                    (b"content-length", b"2"),
                ]
            )
            assert found["x-name"] == "José ÿ"


async def test_a_header_value_that_cannot_be_sent_is_refused(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.HTTPProtocolError, match="engine='httpx'") as caught:
                await client.get("/", headers={"X-Name": "José"})
            assert "José" not in str(caught.value)
            assert caught.value.sent is False
        assert server.requests == []


@pytest.mark.parametrize("length", [1, 3, 100])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_body_is_as_long_as_its_header_says(length: int, streamed: bool, no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        async with client_of(server.url, timeout=3) as client:
            with pytest.raises(errors.HTTPProtocolError, match="Content-Length"):
                await client.post(
                    "/",
                    content=iter([b"a", b"b"]) if streamed else b"ab",
                    headers={"Content-Length": str(length)},
                )


# Answers


async def test_the_first_byte_of_a_stream_comes_at_once(no_leaks: None) -> None:
    def drip(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        conn.drip(b"." * 1000, 0.2)

    with ScriptedServer(drip, good) as server:
        async with client_of(server.url) as client:
            started = time.monotonic()
            async with client.stream({"path": "/"}) as response:
                async for chunk in response:
                    assert chunk == b"."
                    break
            # Leaving early closes the connection.
            assert time.monotonic() - started < 1.5
            assert (await client.get("/")).content == b"good"


async def test_a_limit_of_the_size_holds_for_whole_answers(no_leaks: None) -> None:
    def endless(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                conn.send(b"1000\r\n" + b"." * 0x1000 + b"\r\n")
        except OSError:
            pass

    with ScriptedServer(endless, good) as server:
        async with client_of(server.url, max_response_size=100_000) as client:
            with pytest.raises(errors.ResponseTooLargeError):
                await client.get("/")
            assert (await client.get("/")).content == b"good"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", errors.HTTPProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", errors.HTTPProtocolError),
        (b"garbage\r\n\r\n", errors.HTTPProtocolError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", errors.HTTPIncompleteError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n8\r\nha", errors.HTTPIncompleteError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", errors.HTTPProtocolError),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            errors.HTTPProtocolError,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf", errors.HTTPDecodeError),
    ],
    ids=["nothing", "half a head", "garbage", "length", "chunked", "chunk", "both", "gzip"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_that_are_wrong(
    data: bytes, kind: type[errors.TransportError], stream: bool, no_leaks: None
) -> None:
    def script(conn: Connection) -> None:
        conn.read_request()
        if data:
            conn.send(data)
            conn.wait(0.05)
        conn.close()

    with ScriptedServer(script, good) as server:
        async with client_of(server.url, timeout=3) as client:
            with pytest.raises(kind) as caught:
                if stream:
                    async with client.stream({"path": "/x?token=hidden"}) as response:
                        await response.read()
                else:
                    await client.get("/x?token=hidden")
            assert type(caught.value) is kind
            assert caught.value.sent
            assert "hidden" not in f"{caught.value}{caught.value.__dict__}"
            if stream and isinstance(caught.value, errors.HTTPIncompleteError):
                assert caught.value.partial.startswith(b"half")
            # The connection may have been kept, and the server has closed it.
            assert (await client.get("/next", retry=RetryPolicy(max_retries=2))).content == b"good"


# Uploads


async def test_the_source_of_an_upload_runs_where_the_caller_is(server: LocalServer, no_leaks: None) -> None:
    import threading

    threads = set()

    def source() -> Iterator[bytes]:
        for n in range(5):
            threads.add(threading.get_ident())
            yield b"%d" % n

    async with client_of(server.url) as client:
        response = await client.post("/echo", content=source())
        assert b"01234" in response.content
    assert threads == {threading.get_ident()}


async def test_an_error_of_the_source_comes_out_as_itself(no_leaks: None) -> None:
    class MineError(Exception):
        pass

    def source() -> Iterator[bytes]:
        yield b"x" * 1000
        raise MineError("mine")

    def cut(conn: Connection) -> None:
        with pytest.raises(EOFError):
            conn.read_request()

    with ScriptedServer(cut, good) as server:
        async with client_of(server.url) as client:
            with pytest.raises(MineError, match="mine"):
                await client.post("/x", content=source())
            assert (await client.get("/y")).content == b"good"


async def test_an_upload_goes_no_faster_than_it_is_read(no_leaks: None) -> None:
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield b"x" * 100_000

    def lazy(conn: Connection) -> None:
        conn.read_head()
        time.sleep(1)

    with ScriptedServer(lazy) as server:
        async with client_of(server.url) as client:
            with move_on_after(0.5):
                await client.post("/x", content=source())
        assert 0 < taken < 300


@pytest.mark.parametrize("size", [300_000, 3_000_000])
async def test_large_bodies_of_bytes(server: LocalServer, size: int, no_leaks: None) -> None:
    async with client_of(server.url) as client:
        response = await client.post("/echo", content=b"x" * size)
        assert response.status_code == 200
        assert response.content.count(b"x") >= size


# What it can't do, and what it tells


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"verify_ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "ssl.SSLContext"),
        ({"uds": "/tmp/x.sock"}, "Unix"),
    ],
)
async def test_what_it_cannot_do_names_the_engine_that_can(options: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"{text}.*engine='httpx'"):
        async with client_of("http://127.0.0.1", **options):
            pass


async def test_a_key_with_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "both.pem"
    path.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(errors.ConfigurationError, match=r"password.*engine='httpx'"):
        async with client_of("http://127.0.0.1", cert=(str(path), None, "secret")):
            pass


async def test_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyreqwest" else find_spec(name, *rest)
    )
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'pynector\[fast\]'"):
        async with client_of("http://127.0.0.1"):
            pass


async def test_a_log_line_without_secrets(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pynector.http"):
        async with client_of(server.url) as client:
            await client.get("/items/1?api_key=hidden")
    (line,) = (vars(record) for record in caplog.records if record.name == "pynector.http")
    assert (line["msg"], line["method"], line["url"]) == ("http.response", "GET", f"{server.url}/items/1")
    assert "hidden" not in repr(line)
