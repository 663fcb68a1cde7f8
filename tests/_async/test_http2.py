"""HTTP/2: over real servers, and over one that does what a test wants."""

import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h2.errors
import h2.events
import pytest
import trustme

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.colour import MULTIPLEX
from pynector._concurrency.aio.scopes import move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from servers.http2 import Peer, Seen, http2_peer, http2_server, wait_until

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)

# The third engine has an HTTP/2 of its own, and its own test.
pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("httpx", "httpx2")]

shared_only = pytest.mark.skipif(not MULTIPLEX, reason="threads do not share a connection")


@pytest.fixture
def real(authority: trustme.CA, tmp_path: Path, no_leaks: None) -> Iterator[Seen]:
    with http2_server(authority, tmp_path) as seen:
        yield seen


@pytest.fixture
def peer(authority: trustme.CA, no_leaks: None) -> Callable[..., AbstractContextManager[str]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return lambda *scripts, **options: http2_peer(context, *scripts, **options)


def make(url: str, ca: Path, **options: Any) -> AsyncPynector:
    return AsyncPynector(base_url=url, http2=True, verify_ssl=str(ca), **options)


async def test_every_kind_of_request(real: Seen, ca: Path) -> None:
    async with make(real.url, ca) as client:
        response = await client.get("/echo", params={"n": 1}, headers={"X-Own": "1", "Connection": "keep-alive"})
        assert response.http_version == "HTTP/2"
        seen = response.json()
        assert (seen["method"], seen["headers"]["x-own"]) == ("GET", "1")
        assert "connection" not in seen["headers"]
        assert (await client.post("/echo", json={"a": 1})).json()["size"] == 7
        assert (await client.post("/echo", content=b"x" * 3_000_000)).json()["size"] == 3_000_000
        assert (await client.put("/echo", content=iter([b"a" * 70_000, b"b"]))).json()["size"] == 70_001
        assert (await client.head("/echo")).content == b""
        assert len((await client.get("/big?bytes=5000000")).content) == 5_000_000
        with pytest.raises(errors.HTTPNotFoundError):
            await client.get("/status/404")
        assert (await client.get("/echo")).json()["headers"]["cookie"] == "a=1"
        async with client.stream({"path": "/big?bytes=100000"}) as stream:
            assert stream.http_version == "HTTP/2"
            assert sum([len(chunk) async for chunk in stream]) == 100_000
    assert set(real.versions) == {"2"}
    assert len(real.connections) == 1


async def test_many_requests(real: Seen, ca: Path) -> None:
    async with make(real.url, ca, max_connections=300) as client:
        results = await client.batch_request([{"path": f"/slow?ms={i % 7}"} for i in range(200)], max_concurrency=200)
    assert [response.status_code for response in results] == [200] * 200
    if MULTIPLEX:
        # A hundred each: what the server takes at once.
        assert len(real.connections) <= 2


@shared_only
async def test_two_hundred_requests_at_once_over_one_connection(
    authority: trustme.CA, ca: Path, tmp_path: Path, no_leaks: None
) -> None:
    with http2_server(authority, tmp_path, max_streams=200) as real:
        async with make(real.url, ca, max_connections=200) as client:
            results = await client.batch_request([{"path": "/slow?ms=1000"}] * 200, max_concurrency=200)
            assert {response.http_version for response in results} == {"HTTP/2"}
        assert len(real.connections) == 1
        assert real.at_once > 100


async def test_a_server_that_only_speaks_http_1(authority: trustme.CA, ca: Path, tmp_path: Path) -> None:
    with http2_server(authority, tmp_path, protocols=("http/1.1",)) as real:
        async with make(real.url, ca) as client:
            results = await client.batch_request([{"path": "/echo"}] * 20, max_concurrency=5)
            assert {response.http_version for response in results} == {"HTTP/1.1"}
        assert 1 <= len(real.connections) <= 5


async def test_without_http2_nothing_is_offered(real: Seen, ca: Path) -> None:
    async with AsyncPynector(base_url=real.url, verify_ssl=str(ca)) as client:
        assert (await client.get("/echo")).http_version == "HTTP/1.1"


@shared_only
async def test_a_cancelled_request_ends_alone(real: Seen, ca: Path) -> None:
    async with make(real.url, ca) as client:
        statuses: list[int] = []

        async def get(ms: int) -> None:
            statuses.append((await client.get(f"/slow?ms={ms}")).status_code)

        async with create_task_group() as group:
            await group.start_soon(get, 400)
            await group.start_soon(get, 500)
            await sleep(0.1)
            for _ in range(10):
                with move_on_after(0.02):
                    await get(5000)
        assert statuses == [200, 200]
        assert wait_until(lambda: real.cancelled == 10)
        assert (await client.get("/echo")).status_code == 200
    assert len(real.connections) == 1


@shared_only
async def test_cancelling_at_any_moment_harms_nobody(real: Seen, ca: Path) -> None:
    async with make(real.url, ca, max_connections=50) as client:
        await client.get("/echo")

        async def innocent() -> None:
            for _ in range(20):
                assert (await client.post("/echo", content=b"x" * 20_000, retry=None)).json()["size"] == 20_000

        async def impatient(delay: float) -> None:
            for _ in range(20):
                with move_on_after(delay):
                    await client.post("/echo", content=b"y" * 200_000, retry=None)

        async with create_task_group() as group:
            for i in range(8):
                await group.start_soon(innocent)
                await group.start_soon(impatient, i * 0.004)
    assert len(real.connections) == 1


async def test_a_body_that_is_not_read_stops_nobody(real: Seen, ca: Path) -> None:
    async with make(real.url, ca) as client:
        async with client.stream({"path": "/big?bytes=30000000"}) as stream:
            await anext(aiter(stream))
            # More than the window of the whole connection.
            assert len((await client.get("/big?bytes=30000000")).content) >= 30_000_000
        assert (await client.get("/echo")).status_code == 200


@shared_only
async def test_a_connection_that_dies_under_twenty_requests(
    peer: Callable[..., AbstractContextManager[str]], ca: Path
) -> None:
    def dies(server: Peer) -> None:
        streams = server.wait_requests(20)
        for stream in streams[:5]:
            server.answer(stream)
        server.conn.send_headers(streams[5], [(":status", "200"), ("content-length", "100")])
        server.conn.send_data(streams[5], b"half")
        server.flush()

    with peer(dies, Peer.serve) as url:
        async with make(url, ca, retry=QUICK) as client:
            requests = [({"path": f"/{i}", "method": "POST" if i % 2 else "GET"}, {}) for i in range(20)]
            results = await client.batch_request(requests, max_concurrency=20)
    kinds = [getattr(result, "content", None) or type(result) for result in results]
    assert len(kinds) == 20
    assert kinds[::2] == [b"good"] * 10  # those without an answer were sent again
    assert set(kinds[1::2]) <= {b"good", errors.HTTPProtocolError, errors.HTTPIncompleteError}
    at_once = [
        outcome.index for outcome in results.outcomes if outcome.attempts == 1 and kinds[outcome.index] == b"good"
    ]
    assert len(at_once) == 5


async def test_goodbye_in_good_order(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def leaves(server: Peer) -> None:
        count = 4 if MULTIPLEX else 1
        streams = server.wait_requests(count)
        taken = streams[count // 2 - 1] if MULTIPLEX else 0
        goaway = (8).to_bytes(3) + b"\x07\0" + bytes(4) + taken.to_bytes(4) + bytes(4)
        server.send(goaway[:5])
        server.send(goaway[5:])
        for stream in streams:
            if stream <= taken:
                server.answer(stream)
        server.wait_end()

    with peer(leaves, Peer.serve) as url:
        async with make(url, ca, retry=QUICK) as client:
            # Posts: what the server has not taken may be sent again all the same.
            results = await client.batch_request([{"path": "/", "method": "POST"}] * 4, max_concurrency=4)
            assert [result.content for result in results] == [b"good"] * 4
            assert (await client.get("/")).content == b"good"


async def test_a_refused_stream_is_sent_again(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def refuses(server: Peer) -> None:
        (stream,) = server.wait_requests(1)
        server.conn.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        server.flush()
        server.wait_requests(2)
        server.answer(server.requests[1][0])
        server.wait_end()

    with peer(refuses) as url:
        async with make(url, ca, retry=QUICK) as client:
            assert (await client.post("/", json={})).content == b"good"


async def test_a_stream_that_the_server_resets(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def resets(server: Peer) -> None:
        (stream,) = server.wait_requests(1)
        server.conn.send_headers(stream, [(":status", "200")])
        server.conn.send_data(stream, b"half")
        server.conn.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        server.flush()
        server.wait_requests(2)
        server.answer(server.requests[1][0])
        server.wait_end()

    with peer(resets) as url:
        async with make(url, ca, retry=None) as client:
            with pytest.raises(errors.HTTPIncompleteError, match="INTERNAL_ERROR") as caught:
                await client.get("/")
            assert caught.value.partial == b"half"
            assert (await client.get("/")).content == b"good"


async def test_an_idle_connection_that_was_closed(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def once(server: Peer) -> None:
        server.answer(*server.wait_requests(1))
        server.close()

    def pings(server: Peer) -> None:
        server.answer(*server.wait_requests(1))
        server.conn.ping(b"whatever")
        server.flush()
        server.wait_requests(2)
        server.answer(server.requests[1][0])
        server.wait_for(lambda: any(isinstance(event, h2.events.PingAckReceived) for event in server.events))
        server.wait_end()

    with peer(once, pings) as url:
        async with make(url, ca, retry=None) as client:
            assert (await client.post("/")).content == b"good"
            await sleep(0.05)
            assert (await client.post("/")).content == b"good"
            await sleep(0.05)
            assert (await client.post("/")).content == b"good"


async def test_silence_about_one_request(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def silent(server: Peer) -> None:
        server.wait_requests(1)
        server.wait_end()

    with peer(silent) as url:
        async with make(url, ca, retry=None) as client:
            with move_on_after(0.2) as scope:
                await client.get("/")
            assert scope.cancelled_caught
            with pytest.raises(errors.TimeoutError):
                await client.get("/", timeout=0.1)


async def test_what_is_no_http_2(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def babbles(server: Peer) -> None:
        server.wait_requests(1)
        server.send((3).to_bytes(3) + b"\0\0" + bytes(4) + b"abc")  # DATA on stream 0
        server.wait_end()

    with peer(babbles) as url:
        async with make(url, ca, retry=None) as client:
            with pytest.raises(errors.HTTPProtocolError, match="broke the rules"):
                await client.get("/")


async def test_an_answer_before_the_body_is_sent(peer: Callable[..., AbstractContextManager[str]], ca: Path) -> None:
    def early(server: Peer) -> None:
        (stream,) = server.wait_requests(1)
        server.conn.send_headers(stream, [(":status", "413")], end_stream=True)
        server.conn.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)
        server.flush()
        server.wait_requests(2)
        server.answer(server.requests[1][0])
        server.wait_end()

    with peer(early) as url:
        async with make(url, ca, retry=None) as client:
            with pytest.raises(errors.HTTPStatusError, match="413"):
                await client.post("/", content=b"x" * 1_000_000)
            assert (await client.get("/")).content == b"good"


async def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'pynector\[http2\]'"):
        async with AsyncPynector(base_url="https://localhost", http2=True):
            pass
