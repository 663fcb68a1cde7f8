"""The engine `pyreqwest`: what it does on its own, and what it can't do."""

import gc
import logging
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.proxy import ProxyServer
from servers.scripted import Connection, Script, ScriptedServer, http_response

OK = http_response(b"good")


pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("pyreqwest")]


def client_of(url: str, **options: Any) -> AsyncPynector:
    return AsyncPynector(base_url=url, engine="pyreqwest", **{"retry": None, **options})


def good(conn: Connection) -> None:
    try:
        while True:
            conn.read_request()
            conn.send(OK)
    except EOFError:
        pass


def answer(data: bytes) -> Script:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(data)
        conn.wait()

    return script


def silent(conn: Connection) -> None:
    conn.read_request()
    conn.wait()


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


# Connections that fail


async def test_what_was_not_sent_is_known(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        url = server.url
    async with client_of(url) as client:
        with pytest.raises(errors.ConnectionRefusedError) as caught:
            await client.post("/x", json=1)
        assert caught.value.sent is False
        assert caught.value.url == f"{url}/x"
        outcome = (await client.batch_request([{"path": "/x", "method": "POST"}])).outcomes[0]
        assert outcome.state == "failed"


async def test_a_reset_after_the_request_leaves_it_unknown(no_leaks: None) -> None:
    def reset(conn: Connection) -> None:
        conn.read_request()
        conn.reset()

    with ScriptedServer(reset, reset) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.ConnectionError) as caught:
                await client.post("/x", json=1)
            assert caught.value.sent
            outcome = (await client.batch_request([{"path": "/x", "method": "POST"}])).outcomes[0]
            assert outcome.state == "unknown"


async def test_a_hung_connect_is_no_silent_server(no_leaks: None) -> None:
    def stall(conn: Connection) -> None:
        conn.wait()

    with ScriptedServer(stall, scheme="https") as server:
        async with AsyncHTTPTransport(server.url, timeout=0.3, engine="pyreqwest", max_retries=0) as transport:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await transport.request(HttpMessage(url="/x"))
    assert caught.value.phase == "connect"
    assert caught.value.sent is False
    with ScriptedServer(silent) as server:
        async with AsyncHTTPTransport(server.url, timeout=0.3, engine="pyreqwest", max_retries=0) as transport:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await transport.request(HttpMessage(url="/x"))
    assert caught.value.phase == "read"
    assert caught.value.sent


# TLS and proxies


async def test_whom_to_trust(tls_server: LocalServer, ca: Path, tmp_path: Path, no_leaks: None) -> None:
    async with client_of(tls_server.url) as client:
        with pytest.raises(errors.TLSError, match="UnknownIssuer") as caught:
            await client.get("/items/1")
        assert caught.value.sent is False
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(ca.read_bytes())
    for verify in (ca, str(ca), folder, False):
        async with client_of(tls_server.url, verify_ssl=verify) as client:
            assert (await client.get("/items/1")).json()["id"] == 1


async def test_the_environment_names_whom_to_trust(
    tls_server: LocalServer, ca: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    async with client_of(tls_server.url) as client:
        assert (await client.get("/items/1")).json()["id"] == 1
    async with client_of(tls_server.url, trust_env=False) as client:
        with pytest.raises(errors.ConfigurationError, match=r"SSL_CERT_FILE.*engine='httpx'"):
            await client.get("/items/1")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.parent / "missing.pem"))
    with pytest.raises(errors.ConfigurationError, match=r"SSL_CERT_FILE=.*missing\.pem"):
        async with client_of(tls_server.url):
            pass


async def test_a_client_certificate(authority: trustme.CA, ca: Path, tmp_path: Path, no_leaks: None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    mine = authority.issue_cert("client@example.com")
    certificate, key, both = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "both.pem"
    mine.cert_chain_pems[0].write_to_path(certificate)
    mine.private_key_pem.write_to_path(key)
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    with LocalServer(ssl_context=context) as server:
        for cert in ((str(certificate), str(key)), str(both)):
            async with client_of(server.url, verify_ssl=ca, cert=cert) as client:
                assert (await client.get("/items/1")).json()["id"] == 1
        async with client_of(server.url, verify_ssl=ca) as client:
            with pytest.raises(errors.TransportError):
                await client.get("/items/1")


@pytest.mark.parametrize("user", [None, "me:se%2Fcret"])
async def test_a_proxy(
    server: LocalServer, tls_server: LocalServer, ca: Path, user: str | None, no_leaks: None
) -> None:
    with ProxyServer(user="me:se/cret" if user else None) as proxy:
        url = proxy.url_for(user) if user else proxy.url
        async with client_of("", proxy=url, verify_ssl=ca) as client:
            assert (await client.get(f"{server.url}/items/1")).json()["id"] == 1
            assert (await client.get(f"{tls_server.url}/items/2")).json()["id"] == 2
        assert [seen.method for seen in proxy.seen] == ["GET", "CONNECT"]


async def test_a_proxy_that_refuses(tls_server: LocalServer, no_leaks: None) -> None:
    with ProxyServer(user="me:secret") as proxy:
        async with client_of(tls_server.url, proxy=proxy.url_for("me:wrong"), verify_ssl=False) as client:
            with pytest.raises(errors.HTTPProxyError) as caught:
                await client.get("/items/1")
        assert caught.value.sent is False
        assert "wrong" not in str(caught.value)


async def test_proxies_of_the_environment(server: LocalServer, monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    with ProxyServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        for options, used in (({}, 1), ({"trust_env": False}, 1)):
            async with client_of(server.url, **options) as client:
                await client.get("/items/1")
            assert len(proxy.seen) == used
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client_of(server.url) as client:
            await client.get("/items/1")
        assert len(proxy.seen) == 1


# Cancellation and deadlines


async def test_a_scope_that_is_cancelled_is_left_at_once(no_leaks: None) -> None:
    with ScriptedServer(silent, good, silent) as server:
        async with client_of(server.url, max_connections=1) as client:
            started = time.monotonic()
            with move_on_after(0.2) as scope:
                await client.get("/x")
            assert scope.cancelled_caught
            assert 0.15 < time.monotonic() - started < 1
            # Its permit is free, although nothing has come back; its exchange ended with the deadline.
            assert (await client.get("/y", headers={"Connection": "close"})).content == b"good"
            with pytest.raises(TimeoutError):
                with fail_after(0.2):
                    await client.get("/silent")


async def test_cancelling_a_group(no_leaks: None) -> None:
    with ScriptedServer(silent, silent, silent) as server:
        async with client_of(server.url, timeout=1) as client:
            started = time.monotonic()
            async with create_task_group() as group:
                for _ in range(3):
                    await group.start_soon(client.get, "/x")
                while len(server.requests) < 3:
                    await sleep(0.01)
                started = time.monotonic()
                group.cancel_scope.cancel()
            assert time.monotonic() - started < 0.5


async def test_the_deadline_of_the_caller_ends_the_exchange(no_leaks: None) -> None:
    with ScriptedServer(silent) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.TimeoutError):
                await client.get("/x", timeout=0.3)
            started = time.monotonic()
            while not server.connections[0].closed and time.monotonic() - started < 3:
                await sleep(0.01)
            assert time.monotonic() - started < 1


async def test_a_cancelled_task_sends_nothing(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        async with client_of(server.url) as client:
            with CancelScope() as scope:
                scope.cancel()
                await client.get("/x")
            assert scope.cancelled_caught
        assert server.requests == []


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


# What it can't do, and its life


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


async def test_a_client_that_is_not_closed_is_collected_silently(server: LocalServer, no_leaks: None) -> None:
    client = client_of(server.url)
    await client.get("/items/1")
    del client
    gc.collect()


async def test_a_log_line_without_secrets(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pynector.http"):
        async with client_of(server.url) as client:
            await client.get("/items/1?api_key=hidden")
    assert "GET" in caplog.text
    assert "hidden" not in caplog.text


async def test_permits_are_given_in_order(no_leaks: None) -> None:
    def slow(conn: Connection) -> None:
        try:
            while True:
                conn.read_request()
                conn.wait(0.03)
                conn.send(OK)
        except EOFError:
            pass

    order: list[int] = []
    with ScriptedServer(slow, slow, slow) as server:
        async with client_of(server.url, max_connections=1) as client:

            async def one(number: int) -> None:
                await client.get("/x")
                order.append(number)

            async with create_task_group() as group:
                for number in range(4):
                    await group.start_soon(one, number)
                    await sleep(0.01)
    assert order == [0, 1, 2, 3]


async def test_idle_connections_are_kept_beside_those_in_use(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        async with client_of("", max_connections=1) as client:
            for _ in range(3):
                for site in (server, other):
                    await client.get(f"{site.url}/items/1")
            assert server.connections.total == other.connections.total == 1
            assert server.connections.open == other.connections.open == 1


async def test_closing_ends_idle_connections_whoever_keeps_a_traceback(no_leaks: None) -> None:
    ended: list[bool] = []
    kept: list[BaseException] = []

    def quick(conn: Connection) -> None:
        conn.read_request()
        conn.send(OK)
        ended.append(conn.wait(5))

    with ScriptedServer(silent, quick) as server:
        async with client_of(server.url, timeout=1, keepalive_expiry=60) as client:

            async def cut_short() -> None:
                try:
                    await client.get("/x")
                except BaseException as error:
                    kept.append(error)
                    raise

            async with create_task_group() as group:
                await group.start_soon(cut_short)
                while not server.requests:
                    await sleep(0.01)
                await client.get("/y")
                group.cancel_scope.cancel()
        with move_on_after(6):
            while not ended:
                await sleep(0.01)
        assert ended == [True]
    assert kept[0].__traceback__ is not None


async def test_interim_answers_without_end_end_with_the_deadline(no_leaks: None) -> None:
    def script(conn: Connection) -> None:
        conn.read_request()
        try:
            while not conn.wait(0.001):
                conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        except OSError:
            pass

    with ScriptedServer(script) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.TimeoutError):
                await client.get("/", timeout=0.4)


async def test_it_does_not_survive_a_fork_and_says_so(server: LocalServer) -> None:
    code = f"""
import os, sys, traceback
from pynector import Pynector, errors

client = Pynector(base_url={server.url!r}, engine="pyreqwest", retry=None)
assert client.get("/items/1").json()["id"] == 1
for attempt in (client.get, Pynector(base_url={server.url!r}, engine="pyreqwest").get):
    if not os.fork():
        try:
            attempt("/items/1")
        except errors.ConfigurationError as error:
            os._exit(0 if "fork" in str(error) and "engine='httpx'" in str(error) else 1)
        except BaseException:
            traceback.print_exc()
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
if not os.fork():
    sys.exit(0)  # the end of the child with all it does
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert client.get("/items/2").json()["id"] == 2
print("well")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "well\n", done.stderr
    assert done.returncode == 0


async def test_the_interpreter_ends_while_an_exchange_goes_on() -> None:
    with ScriptedServer(silent) as server:
        code = f"""
from pynector import Pynector, errors
client = Pynector(base_url={server.url!r}, engine="pyreqwest", retry=None)
try:
    client.get("/x", timeout=0.2)
except errors.TimeoutError:
    print("well")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("well\n", "", 0)
