"""HTTP/2: what a server can do wrong, and what that may cost: its own answer, never that of another request."""

import functools
import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import h2.events
import h2.settings
import pytest
import trustme

from pynector import AsyncPynector, errors
from pynector._async.engines import http2
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.colour import MULTIPLEX
from pynector._concurrency.aio.scopes import CancelScope, move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.transport.http import AsyncHTTPTransport
from servers.http2 import Peer, http2_peer
from servers.inside import engine_of

# The third engine has an HTTP/2 of its own, and its own test.
pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("httpx", "httpx2")]

shared_only = pytest.mark.skipif(not MULTIPLEX, reason="threads do not share a connection")

Peers = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def peer(authority: trustme.CA, no_leaks: None) -> Peers:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return lambda *scripts, **options: http2_peer(context, *scripts, **options)


def make(url: str, ca: Path, **options: Any) -> AsyncPynector:
    return AsyncPynector(base_url=url, http2=True, verify_ssl=str(ca), retry=None, **options)


def lax(server: Peer) -> Peer:
    """Let the server send what h2 would refuse to."""
    server.conn.config.validate_outbound_headers = False
    server.conn.config.normalize_outbound_headers = False
    return server


def odd(*fields: tuple[str, str], body: bytes | None = b"good") -> Callable[[Peer], None]:
    """Answers the first request with these headers, and all others well."""

    def script(server: Peer) -> None:
        (stream,) = lax(server).wait_requests(1)
        server.conn.send_headers(stream, [(":status", "200"), *fields], end_stream=body is None)
        if body is not None:
            server.conn.send_data(stream, body, end_stream=True)
        server.flush()
        server.requests.clear()
        server.serve()

    return script


LENGTHS = {
    "too short": odd(("content-length", "100")),
    "too long": odd(("content-length", "2")),
    "no body": odd(("content-length", "100"), body=None),
}


@pytest.mark.parametrize("how", LENGTHS)
async def test_a_body_of_another_length_costs_that_answer_only(peer: Peers, ca: Path, how: str) -> None:
    connections: list[int] = []

    def script(server: Peer) -> None:
        connections.append(server.number)
        LENGTHS[how](server)

    with peer(script) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.HTTPIncompleteError if how != "too long" else errors.HTTPProtocolError) as caught:
                await client.get("/")
            if isinstance(caught.value, errors.HTTPIncompleteError):
                assert caught.value.partial == (b"" if how == "no body" else b"good")
            assert (await client.get("/")).content == b"good"
    assert connections == [0]


@pytest.mark.parametrize(
    "fields",
    [
        [("x-a", "b\r\nset-cookie: evil=1")],
        [("x-a", "b\nc")],
        [("x-a", "b\0c")],
        [("x-a\r\nset-cookie", "evil=1")],
        [("x a", "b")],
        [("", "b")],
        [("content-length", "4"), ("content-length", "5")],
        [("content-length", "+4")],
        [("transfer-encoding", "chunked"), ("content-length", "4")],
    ],
)
async def test_headers_that_are_not_valid(peer: Peers, ca: Path, fields: list[tuple[str, str]]) -> None:
    with peer(odd(*fields), Peer.serve) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.HTTPProtocolError):
                await client.get("/")
            assert (await client.get("/")).content == b"good"


@pytest.mark.parametrize("status", ["abc", "20", "2000", ""])
async def test_a_status_that_is_none(peer: Peers, ca: Path, status: str) -> None:
    def script(server: Peer) -> None:
        (stream,) = lax(server).wait_requests(1)
        server.conn.send_headers(stream, [(":status", status)], end_stream=True)
        server.flush()
        server.wait_end()

    with peer(script, Peer.serve) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.HTTPProtocolError, match="status"):
                await client.get("/")


async def test_headers_of_any_size_that_is_announced(peer: Peers, ca: Path) -> None:
    def script(server: Peer) -> None:
        streams = server.wait_requests(1)
        # To pack such a value takes the server's library seconds.
        server.conn.encoder.encode = functools.partial(server.conn.encoder.encode, huffman=False)
        server.conn.send_headers(streams[0], [(":status", "200"), ("x-large", "y" * 90_000)], end_stream=True)
        server.flush()
        server.wait_requests(2)
        server.conn.send_headers(server.requests[1][0], [(":status", "200"), ("x-large", "y" * 200_000)])
        server.flush()
        server.wait_end()

    with peer(script) as url:
        async with make(url, ca) as client:
            assert len((await client.get("/")).headers["x-large"]) == 90_000
            with pytest.raises(errors.HTTPProtocolError, match="broke the rules"):
                await client.get("/")


async def test_a_server_that_answers_in_another_protocol(peer: Peers, ca: Path) -> None:
    with peer(Peer.wait_end, greetings=[b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"]) as url:
        async with make(url, ca, timeout=5.0) as client:
            started = time.monotonic()
            with pytest.raises(errors.HTTPProtocolError, match="broke the rules"):
                await client.get("/")
            assert time.monotonic() - started < 4.0


async def test_a_server_that_never_greets(peer: Peers, ca: Path) -> None:
    with peer(Peer.wait_end, greetings=[b""]) as url:
        transport = AsyncHTTPTransport(url, http2=True, verify_ssl=str(ca), timeout=0.3, max_retries=0)
        async with AsyncPynector(transport) as client:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await client.post("/")
    # Nothing of the request was sent, so it may be repeated whatever it is.
    assert (caught.value.phase, caught.value.sent) == ("connect", False)


@pytest.mark.parametrize("status", ["204", "304", "200"])
async def test_answers_without_a_body(peer: Peers, ca: Path, status: str) -> None:
    """Their Content-Length is that of a body that does not come."""

    def script(server: Peer) -> None:
        for count, ends in enumerate((True, False), start=1):
            stream = server.wait_requests(count)[-1]
            server.conn.send_headers(stream, [(":status", status), ("content-length", "100")], end_stream=ends)
            if not ends:
                server.conn.send_data(stream, b"", end_stream=True)
            server.flush()
        server.wait_end()

    with peer(script) as url:
        async with make(url, ca) as client:
            for _ in range(2):
                request = client.head("/") if status == "200" else client.get("/", raise_for_status=False)
                response = await request
                assert (response.status_code, response.content) == (int(status), b"")


async def test_trailers_and_interim_answers(peer: Peers, ca: Path) -> None:
    def script(server: Peer) -> None:
        (stream,) = server.wait_requests(1)
        for _ in range(3):
            server.conn.send_headers(stream, [(":status", "103"), ("link", "</a>")])
        server.conn.send_headers(stream, [(":status", "200")])
        server.conn.send_data(stream, b"good")
        server.conn.send_headers(stream, [("x-checksum", "1")], end_stream=True)
        server.flush()
        server.requests.clear()
        server.serve()

    with peer(script) as url:
        async with make(url, ca) as client:
            response = await client.get("/")
            assert (response.status_code, response.content) == (200, b"good")
            assert "link" not in response.headers
            assert (await client.get("/")).content == b"good"


async def test_interim_answers_without_end(peer: Peers, ca: Path) -> None:
    def script(server: Peer) -> None:
        (stream,) = server.wait_requests(1)
        for _ in range(200):
            server.conn.send_headers(stream, [(":status", "103"), ("link", "</a>")])
        server.flush()
        server.requests.clear()
        server.serve()

    with peer(script) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.HTTPProtocolError, match="more than 100 interim answers"):
                await client.get("/")
            assert (await client.get("/")).content == b"good"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


FLOODS = {
    "CONTINUATION": frame(1, 0, 1, b"\x88") + frame(9, 0, 1, b"") * 100_000,
    "PUSH_PROMISE": frame(5, 4, 1, (2).to_bytes(4) + b"\x82"),
    "window": frame(8, 0, 0, (2**31 - 1).to_bytes(4)) * 2,
    "DATA": frame(0, 0, 1, b""),
    "length": frame(1, 4, 1, b"\x88") + b"\xff\xff\xff\0\0" + (1).to_bytes(4),
}


@pytest.mark.parametrize("what", FLOODS)
async def test_frames_that_no_server_may_send(peer: Peers, ca: Path, what: str) -> None:
    def script(server: Peer) -> None:
        server.wait_requests(1)
        with suppress(OSError):
            server.send(FLOODS[what])
        with suppress(Exception):
            server.wait_end()

    with peer(script, Peer.serve) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.HTTPProtocolError, match="broke the rules"):
                await client.get("/")
            assert (await client.get("/")).content == b"good"


async def test_a_flood_of_pings_and_resets(peer: Peers, ca: Path) -> None:
    def script(server: Peer) -> None:
        (stream,) = server.wait_requests(1)
        for number in range(1, 11):
            server.send(frame(6, 0, 0, number.to_bytes(8)) * 1000)
            server.wait_for(functools.partial(acknowledged, server, 1000 * number))
        server.send(frame(3, 0, stream, (8).to_bytes(4)) * 1000)
        server.requests.clear()
        server.serve()

    def acknowledged(server: Peer, pings: int) -> bool:
        return sum(isinstance(event, h2.events.PingAckReceived) for event in server.events) == pings

    with peer(script) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.HTTPProtocolError, match="CANCEL"):
                await client.get("/")
            assert (await client.get("/")).content == b"good"


async def test_small_windows(peer: Peers, ca: Path) -> None:
    """An upload goes on in what room there is, and when the settings change in the middle of it."""
    received = bytearray()

    def script(server: Peer) -> None:
        code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
        server.conn.update_settings({code: 10})
        server.flush()
        (stream,) = server.wait_requests(1)
        done = False
        seen = 0
        while not done:
            for event in server.events[seen:]:
                seen += 1
                if isinstance(event, h2.events.DataReceived):
                    received.extend(event.data or b"")
                    server.conn.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                    if len(received) > 2000:
                        server.conn.update_settings({code: 70_000})
                elif isinstance(event, h2.events.StreamEnded):
                    done = True
            server.flush()
            if not done:
                assert server.read()
        server.answer(stream)
        server.wait_end()

    body = bytes(range(256)) * 1200
    with peer(script) as url:
        async with make(url, ca) as client:
            assert (await client.post("/", content=body)).content == b"good"
    assert bytes(received) == body


@shared_only
async def test_the_number_of_streams_changes(peer: Peers, ca: Path) -> None:
    """From many at once to one at a time: what is too much then goes over other connections."""
    most = [0]

    def script(server: Peer) -> None:
        code = h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS
        answered = 0
        if server.number == 0:
            server.wait_requests(4)
            server.conn.update_settings({code: 1})
            server.flush()
        with suppress(EOFError, OSError):
            while True:
                server.wait_requests(answered + 1)
                if server.number == 0 and answered >= 4:
                    most[0] = max(most[0], len(server.requests) - answered)
                server.answer(server.requests[answered][0])
                answered += 1

    with peer(script) as url:
        async with make(url, ca) as client:
            first = await client.batch_request([{"path": f"/{n}"} for n in range(4)], max_concurrency=4)
            assert [response.content for response in first] == [b"good"] * 4
            second = await client.batch_request([{"path": f"/{n}"} for n in range(40)], max_concurrency=10)
            assert [response.content for response in second] == [b"good"] * 40
    assert most[0] <= 1


@shared_only
async def test_who_makes_the_connection_is_cancelled(peer: Peers, ca: Path) -> None:
    """Those who wait for the same connection neither fail with it nor hang."""
    answers: list[bytes] = []
    with peer(Peer.wait_end, Peer.serve, greetings=[b""]) as url:
        async with make(url, ca) as client:
            scopes: list[CancelScope] = []

            async def get(cancelled: bool) -> None:
                scope = CancelScope()
                if cancelled:
                    scopes.append(scope)
                with scope:
                    answers.append((await client.get("/")).content)

            async with create_task_group() as group:
                await group.start_soon(get, True)
                await sleep(0.2)
                for _ in range(5):
                    await group.start_soon(get, False)
                await sleep(0.2)
                scopes[0].cancel()
    assert answers == [b"good"] * 5


@shared_only
async def test_who_makes_the_connection_fails(ca: Path, no_leaks: None) -> None:
    async with make("https://127.0.0.1:1", ca) as client:
        results = await client.batch_request([{"path": "/"}] * 6, max_concurrency=6)
    assert [type(result) for result in results] == [errors.ConnectionRefusedError] * 6
    assert len({id(result) for result in results}) == 6


@shared_only
@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_a_cancelled_write_that_nobody_reads(peer: Peers, ca: Path, size: int) -> None:
    """Cancelled without any deadline, the task is free at once, however small its own write is."""
    released = threading.Event()

    def script(server: Peer) -> None:
        code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
        server.conn.update_settings({code: 2**31 - 1})
        server.conn.increment_flow_control_window(2**31 - 70_000)
        server.flush()
        server.wait_requests(1)
        server.answer(server.requests[0][0])
        released.wait(8)

    with peer(script, Peer.serve) as url:
        try:
            async with make(url, ca, timeout=20.0) as client:
                assert (await client.get("/")).content == b"good"
                await sleep(0.1)

                async def fill() -> None:
                    with suppress(errors.TransportError):
                        await client.post("/fill", content=bytes(60_000_000))

                async def small() -> None:
                    with suppress(errors.TransportError):
                        await client.post("/small", content=bytes(size))

                async with create_task_group() as group:
                    await group.start_soon(fill)
                    await sleep(1.0)
                    await group.start_soon(small)
                    await sleep(0.2)
                    started = time.monotonic()
                    group.cancel_scope.cancel()
                assert time.monotonic() - started < 1.0
                released.set()
                assert (await client.get("/")).content == b"good"
        finally:
            released.set()


async def test_no_log_shows_headers(peer: Peers, ca: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The package below writes every header it sees, and at DEBUG only."""
    with peer(odd(("set-cookie", "id=s3cr3t"), ("x-api-key", "s3cr3t"))) as url, caplog.at_level(logging.DEBUG):
        async with make(url, ca, headers={"X-Api-Key": "s3cr3t"}, cookies={"a": "a-s3cr3t" * 5}) as client:
            assert (await client.get("/")).content == b"good"
    assert caplog.records
    assert "s3cr3t" not in caplog.text


async def test_te_is_for_trailers_only(peer: Peers, ca: Path) -> None:
    seen: list[dict[bytes, bytes]] = []

    def script(server: Peer) -> None:
        with suppress(EOFError, OSError):
            server.serve()
        seen.extend(headers for _, headers in server.requests)

    with peer(script) as url:
        async with make(url, ca) as client:
            for value in ("gzip", "trailers"):
                assert (await client.get("/", headers={"TE": value})).content == b"good"
    assert [headers.get(b"te") for headers in seen] == [None, b"trailers"]


async def test_an_idle_connection_that_is_flooded(peer: Peers, ca: Path) -> None:
    """Looking whether a connection is alive takes no longer because its server talks without end."""

    def script(server: Peer) -> None:
        server.answer(*server.wait_requests(1))
        with suppress(OSError):
            while True:
                server.send(frame(6, 1, 0, bytes(8)) * 1000)  # answers to pings: nothing is said to them

    with peer(script, Peer.serve) as url:
        async with make(url, ca) as client:
            assert (await client.get("/")).content == b"good"
            await sleep(0.2)
            with move_on_after(10.0) as scope:
                assert (await client.get("/")).content == b"good"
            assert not scope.cancelled_caught


async def test_what_is_over_leaves_nothing_behind(peer: Peers, ca: Path) -> None:
    """Answers that come before the request is sent: were their streams left open, there would soon be no more."""

    def script(server: Peer) -> None:
        with suppress(EOFError, OSError):
            for count in range(1, 21):
                stream = server.wait_requests(count)[-1]
                server.conn.send_headers(stream, [(":status", "200")], end_stream=True)
                server.flush()
            server.wait_end()

    with peer(script, max_streams=5) as url:
        async with make(url, ca) as client:
            for _ in range(20):
                assert (await client.post("/", content=bytes(200_000))).status_code == 200
            engine: Any = engine_of(client)
            (lease,) = engine._connections._idle
            assert lease.connection._streams == {}


async def test_a_connection_that_has_died_is_left_by_those_who_give_up_early(
    peer: Peers, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2, "_DOUBT", 0.0)
    with peer(Peer.wait_end, Peer.serve) as url:
        async with make(url, ca) as client:
            answers = []
            for _ in range(3):  # one may still hear the end of the greeting
                with suppress(errors.TimeoutError):
                    answers.append(await client.get("/", timeout=0.3 if not answers else 5.0))
            assert answers


@shared_only
async def test_who_gives_up_in_a_moment_leaves_the_connection_to_others(peer: Peers, ca: Path) -> None:
    def script(server: Peer) -> None:
        server.answer(server.wait_requests(2)[1])
        server.wait_end()

    with peer(script, Peer.close) as url:
        async with make(url, ca) as client:
            with pytest.raises(errors.TimeoutError):
                await client.get("/", timeout=0.1)
            assert (await client.get("/")).content == b"good"
