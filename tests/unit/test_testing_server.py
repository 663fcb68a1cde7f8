"""The local server that `pynector.testing` gives to users."""

import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from pynector.testing import LocalServer, ServerRequest, ServerResponse

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def http(server: LocalServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False, timeout=10) as client:
        yield client


@contextlib.contextmanager
def raw(server: LocalServer) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), timeout=10) as sock:
        yield sock


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = sock.recv(65536)
        if not part:
            break
        data += part
    return data


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 3
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def echo_bodies(data: bytes) -> list[bytes]:
    """The bodies that a row of answers from /echo shows."""
    bodies = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        bodies.append(base64.b64decode(json.loads(rest[:length])["body"]))
        data = rest[length:]
    return bodies


# --- routes


def test_items_and_index(http: httpx.Client) -> None:
    assert http.get("/items/7").json() == {"id": 7, "name": "item 7"}
    assert http.get("/index/9999").json() == {"index": 9999}


def test_equal_requests_get_answers_equal_to_the_byte(server: LocalServer) -> None:
    answers = []
    for _ in range(2):
        with raw(server) as sock:
            sock.sendall(b"GET /items/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answers.append(read_all(sock))
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_echo_shows_what_was_on_the_wire(http: httpx.Client, method: str) -> None:
    answer = http.request(
        method, "/echo/a%20b?x=1&x=&y=%C3%A9", content=b"\xff\x00", headers=[("X-A", "1"), ("x-a", "2")]
    ).json()
    assert answer["method"] == method
    assert answer["path"] == "/echo/a b"
    assert answer["target"] == "/echo/a%20b?x=1&x=&y=%C3%A9"
    assert answer["query"] == [["x", "1"], ["x", ""], ["y", "é"]]
    assert [pair for pair in answer["headers"] if pair[0] == "x-a"] == [["x-a", "1"], ["x-a", "2"]]
    assert base64.b64decode(answer["body"]) == b"\xff\x00"
    assert answer["text"] == "\ufffd\x00"
    assert answer["http_version"] == "1.1"


@pytest.mark.parametrize(
    ("path", "answer"), [("/slow/3?ms=60", {"id": 3, "ms": 60}), ("/delay?s=0.06", {"delay": 0.06})]
)
def test_slow_routes_take_their_time(http: httpx.Client, path: str, answer: object) -> None:
    start = time.monotonic()
    assert http.get(path).json() == answer
    assert time.monotonic() - start >= 0.06


@pytest.mark.parametrize("status", [200, 201, 299, 400, 404, 418, 429, 500, 503, 599, 999])
def test_status(http: httpx.Client, status: int) -> None:
    response = http.get(f"/status/{status}")
    assert response.status_code == status
    assert response.json() == {"status": status}
    assert "retry-after" not in response.headers


def test_status_with_retry_after_and_body(http: httpx.Client) -> None:
    response = http.get("/status/429?retry_after=-1&retry_after_ms=50&body=slow%20down")
    assert response.headers["retry-after"] == "-1"
    assert response.headers["retry-after-ms"] == "50"
    assert response.text == "slow down"


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body_keeps_the_connection_in_step(
    http: httpx.Client, server: LocalServer, status: int
) -> None:
    assert http.get(f"/status/{status}").content == b""
    assert http.get("/index/1").json() == {"index": 1}
    assert server.connections.total == 1


def test_flaky_fails_then_answers_and_reset_forgets(http: httpx.Client, server: LocalServer) -> None:
    path = "/flaky/k?fail=2&status=429&retry_after=0"
    for attempt in (1, 2):
        response = http.get(path)
        assert (response.status_code, response.headers["retry-after"]) == (429, "0")
        assert response.json() == {"key": "k", "attempt": attempt}
    assert http.get("/flaky/other?fail=1").status_code == 503
    response = http.get(path)
    assert (response.status_code, response.json()) == (200, {"key": "k", "attempt": 3})
    server.reset()
    assert http.get(path).json() == {"key": "k", "attempt": 1}


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
def test_big_is_chunked_and_each_byte_tells_its_place(http: httpx.Client, size: int) -> None:
    response = http.get(f"/big?bytes={size}")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.content == (bytes(range(256)) * (size // 256 + 1))[:size]


def test_big_waits_for_a_slow_reader(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(b"GET /big?bytes=50000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.1)
        assert server.in_flight == 1  # 50 MB fit into no socket buffer: it waits
        assert len(read_all(sock)) > 50_000_000


def test_stream_and_drip(http: httpx.Client) -> None:
    with http.stream("GET", "/stream?n=3&ms=1") as response:
        assert [json.loads(line) for line in response.iter_lines()] == [{"index": index} for index in range(3)]
    start = time.monotonic()
    with http.stream("GET", "/drip?n=4&ms=20") as response:
        assert response.headers["content-length"] == "4"
        assert time.monotonic() - start < 0.06  # the head does not wait for the body
        assert response.read() == b"****"
    assert time.monotonic() - start >= 0.06
    response = http.get("/drip?n=4&ms=1&length=0")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.content == b"****"


def test_redirects(http: httpx.Client) -> None:
    response = http.get("/redirect/3", follow_redirects=True)
    assert len(response.history) == 3
    assert response.json() == {"redirected": True}
    response = http.get("/redirect-to", params={"url": "http://example.invalid/x?y", "status": 307})
    assert (response.status_code, response.headers["location"]) == (307, "http://example.invalid/x?y")


def test_cookies(http: httpx.Client) -> None:
    response = http.get("/cookies/set?a=1&b=two", follow_redirects=True)
    assert response.json() == {"cookies": {"a": "1", "b": "two"}}


def test_credentials(http: httpx.Client) -> None:
    assert http.get("/basic-auth/me/secret", auth=("me", "secret")).json() == {
        "authenticated": True,
        "user": "me",
    }
    response = http.get("/basic-auth/me/secret", auth=("me", "wrong"))
    assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Basic realm="test"')
    answer = http.get("/bearer", headers={"authorization": "Bearer abc"}).json()
    assert answer == {"authenticated": True, "token": "abc"}
    assert http.get("/bearer").status_code == 401


def test_compressed(http: httpx.Client) -> None:
    for encoding, answer in (("gzip", {"gzipped": True}), ("deflate", {"deflated": True})):
        response = http.get(f"/{encoding}")
        assert response.headers["content-encoding"] == encoding
        assert response.json() == answer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nope", 404),
        ("/items/1/2", 404),
        ("/cookies/eat", 404),
        ("/items/x", 400),
        ("/status/100", 400),
        ("/status/1000", 400),
        ("/delay?s=nan", 400),
        ("/delay?s=-1", 400),
        ("/status/503?retry_after=a%0d%0ab:c", 400),
        ("/redirect-to?url=%E2%82%AC", 400),
    ],
)
def test_bad_arguments_are_told(http: httpx.Client, path: str, status: int) -> None:
    response = http.get(path)
    assert response.status_code == status
    assert response.json()["error"]


# --- the protocol


@pytest.mark.parametrize("path", ["/items/1", "/drip?n=5", "/stream?n=5", "/big?bytes=9"])
def test_head_has_no_body(http: httpx.Client, server: LocalServer, path: str) -> None:
    assert http.head(path).content == b""
    assert http.get("/index/1").json() == {"index": 1}
    assert server.connections.total == 1


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIPELINE = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst"
    + CHUNKED
    + chunked(b"sec", b"ond")
    + b"\r\n"  # a stray empty line between requests is allowed
    + CHUNKED
    + b"5;name=value\r\nthird\r\n0\r\nTrailer: x\r\n\r\n"
    + b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


def test_pipelined_requests_are_answered_in_order(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(PIPELINE)
        assert echo_bodies(read_all(sock)) == [b"first", b"second", b"third", b""]
    assert server.connections.total == 1


@pytest.mark.parametrize("seed", range(5))
def test_requests_may_be_split_anywhere(server: LocalServer, seed: int) -> None:
    chance = random.Random(seed)
    with raw(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = PIPELINE
        while rest:
            size = chance.choice((1, 2, 3, 40))
            sock.sendall(rest[:size])
            rest = rest[size:]
            time.sleep(0.0002)
        assert echo_bodies(read_all(sock)) == [b"first", b"second", b"third", b""]


def test_a_slow_answer_holds_up_the_ones_behind_it(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(
            b"GET /slow/1?ms=50 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /stream?n=2&ms=1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /index/3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        data = read_all(sock)
    assert 0 < data.index(b'{"id":1') < data.index(b'{"index": 0}') < data.index(b'{"index":3}')


def test_a_flood_behind_a_slow_answer_is_held_back_and_then_served(server: LocalServer) -> None:
    count = 12_000
    flood = b"GET /slow/1?ms=50 HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /items/1 HTTP/1.1\r\nHost: x\r\n\r\n" * count
    with raw(server) as sock:
        sender = threading.Thread(target=sock.sendall, args=(flood,))
        sender.start()
        answers, tail = 0, b""
        while answers < count + 1:
            data = tail + sock.recv(65536)
            answers += data.count(b"HTTP/1.1 200 OK")
            tail = data[-14:]
        sender.join()
    assert answers == count + 1
    assert server.requests.count == count + 1


def test_expect_continue(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"body")
        assert echo_bodies(read_all(sock)) == [b"body"]


def test_no_continue_when_the_body_came_along(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(
            b"POST /echo HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nbody"
        )
        assert echo_bodies(read_all(sock)) == [b"body"]


@pytest.mark.parametrize(
    ("version", "header", "closes"),
    [
        ("1.1", b"", False),
        ("1.1", b"Connection: x, Close\r\n", True),
        ("1.0", b"", True),
        ("1.0", b"Connection: keep-alive\r\n", False),
    ],
)
def test_connection_header(server: LocalServer, version: str, header: bytes, closes: bool) -> None:
    with raw(server) as sock:
        sock.sendall(b"GET /index/1 HTTP/" + version.encode() + b"\r\nHost: x\r\n" + header + b"\r\n")
        head = read_until(sock, b"}").lower()
        assert (b"connection: close" in head) is closes
        if closes:
            assert sock.recv(1) == b""
        else:
            sock.sendall(b"GET /index/2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_until(sock, b"}").endswith(b'{"index":2}')


def test_http_1_0_gets_a_stream_without_chunks(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(b"GET /big?bytes=3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"\x00\x01\x02"


def test_absolute_target(server: LocalServer) -> None:
    with raw(server) as sock:
        sock.sendall(b"GET http://example.org/index/5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b'{"index":5}')


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nname : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (CHUNKED + b"zz\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"\r\n", 400),
        (CHUNKED + b"2\r\nabcd\r\n", 400),
        (CHUNKED + b"1" * 300_000, 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000, 431),
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(server: LocalServer, data: bytes, status: int) -> None:
    with raw(server) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(data)
        answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer
    assert server.requests.count == 0


# --- the log and the counts


def test_log_keeps_what_came(http: httpx.Client, server: LocalServer) -> None:
    http.post("/echo?a=1", content=b"hello", headers={"authorization": "Bearer s3cret"})
    http.get("/index/1")
    first, second = server.requests.recent
    assert (first.method, first.path, first.query, first.body) == ("POST", "/echo", [("a", "1")], b"hello")
    assert first.header("Authorization") == "Bearer s3cret"
    assert first.header("nope", "none") == "none"
    assert first.connection == second.connection
    assert "s3cret" not in repr(first)


def test_log_is_bounded_and_reset_empties_it() -> None:
    with LocalServer(log_size=3) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        for index in range(5):
            client.get(f"/index/{index}")
        assert server.requests.count == 5
        assert [request.path for request in server.requests.recent] == ["/index/2", "/index/3", "/index/4"]
        client.post("/echo", content=b"x" * 1_000_000)
        assert len(server.requests.recent[-1].body) == 64 * 1024
        assert (server.connections.open, server.connections.total) == (1, 1)
        server.reset()
        assert (server.requests.count, server.requests.recent, server.peak_in_flight) == (0, (), 0)
        assert (server.connections.open, server.connections.total) == (1, 0)


def test_peak_in_flight(http: httpx.Client, server: LocalServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: http.get("/delay?s=0.2"), range(8)))
    assert server.peak_in_flight == 8
    assert server.in_flight == 0


def test_a_client_that_goes_away_ends_its_request(server: LocalServer) -> None:
    for path in (b"/delay?s=60", b"/drip?n=100000&ms=10", b"/big?bytes=100000000000"):
        with raw(server) as sock:
            sock.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually(lambda: server.in_flight == 1)
        assert eventually(lambda: server.in_flight == 0 and server.connections.open == 0), path


# --- an app of the user


def plain_app(request: ServerRequest) -> ServerResponse | None:
    if request.path == "/made":
        return ServerResponse(201, [("x-made", "yes")], request.body[::-1])
    if request.path == "/broken":
        raise RuntimeError("broken on purpose")
    if request.path == "/bad-status":
        return ServerResponse(42)
    if request.path == "/bad-header":
        return ServerResponse(headers=[("x", "a\r\nb: c")])
    return None


async def async_app(request: ServerRequest) -> ServerResponse | None:
    await asyncio.sleep(0.001)
    if request.path == "/cut":
        return ServerResponse(body=cut_body(), length=100)
    if request.path == "/slow-route":
        return ServerResponse(headers=[("bad", "\n")], body=cut_body())
    return plain_app(request)


async def gappy_body() -> AsyncIterator[bytes]:
    for part in (b"", b"one", b"", b"two"):
        yield part


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_empty_parts_of_a_body_do_not_end_it(version: str) -> None:
    with LocalServer(lambda request: ServerResponse(body=gappy_body())) as server, raw(server) as sock:
        sock.sendall(b"GET / HTTP/" + version.encode() + b"\r\nConnection: close\r\n\r\n")
        body = read_all(sock).partition(b"\r\n\r\n")[2]
    assert body == (b"onetwo" if version == "1.0" else chunked(b"one", b"two"))


async def cut_body() -> AsyncIterator[bytes]:
    yield b"part"
    raise RuntimeError("cut on purpose")


@pytest.mark.parametrize("app", [plain_app, async_app])
def test_app_is_asked_first(app: Callable[[ServerRequest], ServerResponse | None]) -> None:
    with LocalServer(app) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        response = client.post("/made", content=b"abc")
        assert (response.status_code, response.headers["x-made"], response.content) == (201, "yes", b"cba")
        assert client.get("/index/1").json() == {"index": 1}
        assert client.get("/slow/1?ms=1").json() == {"id": 1, "ms": 1}
        assert client.get("/big?bytes=5").content == bytes(range(5))
        response = client.get("/broken")
        assert (response.status_code, response.json()) == (500, {"error": "RuntimeError: broken on purpose"})
        response = client.get("/bad-header")
        assert (response.status_code, response.text) == (500, "a header must not hold a line break")
        assert "b" not in response.headers
        assert client.get("/bad-status").status_code == 500


def test_a_stream_that_fails_is_cut() -> None:
    with LocalServer(async_app) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        for path in ("/cut", "/slow-route"):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                client.get(path)
        assert client.get("/index/1").json() == {"index": 1}


# --- TLS


def test_tls(tls_server: LocalServer, client_ssl_context: ssl.SSLContext, ca: object) -> None:
    assert tls_server.url.startswith("https://127.0.0.1:")
    for context in (client_ssl_context, ssl.create_default_context(cafile=str(ca))):
        with httpx.Client(base_url=tls_server.url, verify=context, trust_env=False) as client:
            assert client.get("/index/4").json() == {"index": 4}
            assert len(client.get("/big?bytes=1000000").content) == 1_000_000
    with httpx.Client(base_url=tls_server.url, trust_env=False) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get("/index/4")
    with raw(tls_server) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            read_all(sock)
    assert eventually(lambda: tls_server.connections.open == 0)


def test_tls_stop_within_a_handshake(server_ssl_context: ssl.SSLContext) -> None:
    server = LocalServer(ssl_context=server_ssl_context).start()
    with raw(server):
        time.sleep(0.05)
        server.stop()


# --- life


async def test_from_an_event_loop(server: LocalServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/index/2")).json() == {"index": 2}


def test_stop_closes_everything_and_start_works_again() -> None:
    threads = threading.active_count()
    server = LocalServer()
    assert repr(server) == "<LocalServer not started (stopped)>"
    with pytest.raises(RuntimeError, match="never started"):
        _ = server.url
    for _ in range(2):
        server.start()
        with raw(server) as idle, raw(server) as busy, raw(server) as streaming:
            busy.sendall(b"GET /delay?s=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            streaming.sendall(b"GET /big?bytes=100000000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            idle.sendall(b"GET /index/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            read_until(idle, b"}")
            assert eventually(lambda: server.in_flight == 2)
            start = time.monotonic()
            server.stop()
            assert time.monotonic() - start < 1
            for sock in (idle, busy):
                with contextlib.suppress(ConnectionError):
                    assert sock.recv(1) == b""
        assert threading.active_count() <= threads
        assert (server.in_flight, server.connections.open) == (0, 0)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port))
        server.stop()


def test_start_twice_and_taken_port() -> None:
    with LocalServer() as server:
        with pytest.raises(RuntimeError, match="is running"):
            server.start()
        with pytest.raises(OSError, match="in use"):
            LocalServer(port=server.port).start()


def test_a_loop_that_cannot_be_made_fails_in_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> asyncio.AbstractEventLoop:
        raise OSError("no descriptors left")

    server = LocalServer()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "SelectorEventLoop", fail)
        with pytest.raises(OSError, match="no descriptors left"):
            server.start()
    with server, raw(server) as sock:
        sock.sendall(b"GET /index/1 HTTP/1.1\r\n\r\n")
        assert read_until(sock, b"}").endswith(b'{"index":1}')


def test_running_out_of_descriptors_only_delays(server: LocalServer) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    with socket.socket() as sock:
        sock.settimeout(10)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(sock.fileno()))
            sock.connect((server.host, server.port))
            sock.sendall(b"GET /index/1 HTTP/1.1\r\n\r\n")
            time.sleep(0.05)
            assert server.connections.total == 0
        finally:
            for filler in fillers:
                os.close(filler)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert read_until(sock, b"}").endswith(b'{"index":1}')


def test_ten_thousand_requests(server: LocalServer) -> None:
    request = b"GET /index/%d HTTP/1.1\r\nHost: x\r\n\r\n"

    def client(start: int) -> None:
        with raw(server) as sock:
            for index in range(start, 10_000, 4):
                sock.sendall(request % index)
                assert sock.recv(65536).endswith(b'\r\n\r\n{"index":%d}' % index)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    assert server.requests.count == 10_000
    assert len(server.requests.recent) == 1000
