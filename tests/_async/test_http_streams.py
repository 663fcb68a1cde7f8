"""Answers read piece by piece: bytes, text, lines, events; at once, once, and never cut short in silence."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPStream, AsyncHTTPTransport, ServerSentEvent
from servers.scripted import Connection, Script, ScriptedServer

pytestmark = pytest.mark.usefixtures("engine")

EVENTS = b"Content-Type: text/event-stream"
LONG = 5.0


def head(*headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", *headers, b"", b""])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain(body: bytes, *headers: bytes) -> Script:
    """Answers every request with this body, a chunk for each byte."""

    def script(conn: Connection) -> None:
        try:
            while True:
                conn.read_request()
                conn.send(head(*headers))
                for index in range(len(body)):
                    conn.send(chunk(body[index : index + 1]))
                conn.send(b"0\r\n\r\n")
        except EOFError:
            pass

    return script


def stalled(
    *parts: bytes, headers: tuple[bytes, ...] = (), then: Callable[[Connection], object] | None = None
) -> Script:
    """Answers with these chunks, and then does something; by default nothing until the client hangs up."""

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(head(*headers))
        for part in parts:
            conn.send(chunk(part))
        if then is None:
            conn.wait()
        else:
            conn.wait(0.05)  # the client reads them before the end of the connection
            then(conn)

    return script


def client_of(server: ScriptedServer, *, timeout: float = LONG) -> AsyncPynector:
    return AsyncPynector(AsyncHTTPTransport(server.url, timeout=timeout), retry=RetryPolicy(max_retries=2))


async def gather(pieces: Any) -> list[Any]:
    return [piece async for piece in pieces]


# What comes


async def test_bytes(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        expected = (await client.get("/big?bytes=200000")).content
        async with client.stream({"path": "/big?bytes=200000"}) as response:
            assert b"".join(await gather(response.iter_bytes())) == expected
        async with client.stream({"path": "/big?bytes=200000"}) as response:
            chunks = await gather(response.iter_bytes(chunk_size=30_000))
            assert [len(piece) for piece in chunks] == [30_000] * 6 + [20_000]
            assert b"".join(chunks) == expected
        async with client.stream({"path": "/gzip"}) as response:
            assert b"".join(await gather(response.iter_bytes())) == b'{"gzipped":true}'
    assert server.connections.total == 1


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [(b"text/plain; charset=utf-16", "utf-16"), (b"text/plain", "utf-8"), (b"text/plain; charset=none", "utf-8")],
)
async def test_text(kind: bytes, encoding: str, no_leaks: None) -> None:
    body = "héllo €😀".encode(encoding)
    with ScriptedServer(plain(body, b"Content-Type: " + kind)) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/"}) as response:
                pieces = await gather(response.iter_text())
                assert pieces[0] == "h"
                assert "".join(pieces) == "héllo €😀"
            async with client.stream({"path": "/"}) as response:
                assert await gather(response.iter_text(chunk_size=3)) == ["hél", "lo ", "€😀"]
            async with client.stream({"path": "/"}) as response:
                assert await response.read() == body
                assert response.text() == "héllo €😀"


async def test_lines(server: LocalServer, no_leaks: None) -> None:
    with ScriptedServer(plain("a\r\nb\r\rc\u2028d\né".encode())) as scripted:
        async with client_of(scripted) as client:
            async with client.stream({"path": "/"}) as response:
                assert await gather(response.iter_lines()) == ["a", "b", "", "c\u2028d", "é"]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=3"}) as response:
            assert await gather(response.iter_lines()) == [f'{{"index": {n}}}' for n in range(3)]


async def test_events(no_leaks: None) -> None:
    body = b"\xef\xbb\xbf: hi\r\n\r\nid: 1\r\nretry: 10\r\nevent: add\r\ndata: [1,\r\ndata: 2]\r\n\r\ndata: half"
    with ScriptedServer(plain(body, EVENTS + b"; charset=utf-8")) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/"}) as response:
                events = await gather(response.iter_events())
                assert events == [ServerSentEvent("add", "[1,\n2]", "1", 10)]
                assert events[0].json() == [1, 2]


async def test_events_of_another_type(no_leaks: None) -> None:
    with ScriptedServer(plain(b'data: {"a": 1}\n\n', b"Content-Type: application/json")) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/x?key=1"}) as response:
                with pytest.raises(
                    errors.HTTPDecodeError, match="a 200, is of type 'application/json' and not"
                ) as caught:
                    response.iter_events()
                assert (caught.value.method, caught.value.url) == ("GET", f"{server.url}/x?key=REDACTED")
                assert await gather(response.iter_lines()) == ['data: {"a": 1}', ""]
            async with client.stream({"path": "/"}) as response:
                assert len(await gather(response.iter_events(check_content_type=False))) == 1


@pytest.mark.parametrize("way", ["iter_bytes", "iter_text", "iter_lines", "iter_events", "iteration"])
async def test_each_piece_is_handed_on_as_it_arrives(way: str, no_leaks: None) -> None:
    taken: list[int] = []

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(head(EVENTS))
        for number in range(2):
            conn.send(chunk(b"data: %d\n\n" % number))
            while number not in taken:  # nothing more before that was handed on
                if conn.wait(0.005):
                    return
        conn.send(b"0\r\n\r\n")
        conn.wait()

    with ScriptedServer(script) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/"}) as response:
                pieces = aiter(response if way == "iteration" else getattr(response, way)())
                for number in range(2):
                    assert str(number) in str(await anext(pieces))
                    if way == "iter_lines":
                        assert await anext(pieces) == ""
                    taken.append(number)
                assert await gather(pieces) == []


async def test_read_json_and_text(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/items/7"}) as response:
            for method in (response.json, response.text):
                with pytest.raises(errors.ClosedError, match="read"):
                    method()
            content = await response.read()
            assert await response.read() == content
            assert response.json()["id"] == 7
        assert response.json()["id"] == 7
        assert response.text() == content.decode()
        assert await response.read() == content
        async with client.stream({"path": "/status/404?body=gone"}, raise_for_status=False) as response:
            assert await gather(response.iter_lines()) == ["gone"]
        async with client.stream({"path": "/status/404?body=gone"}, raise_for_status=False) as response:
            await response.read()
            with pytest.raises(errors.DeserializationError, match=r"not JSON in 404 GET http.*it begins with 'gone'"):
                response.json()


# Once, and in one way


async def test_a_body_is_read_once(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=4&ms=1"}) as response:
            lines = response.iter_lines()
            assert await anext(lines) == '{"index": 0}'
            for again in (response.iter_lines, response.iter_bytes, response.iter_text, lambda r=response: aiter(r)):
                with pytest.raises(errors.ClosedError, match=r"is read with iter_lines\(\) already"):
                    again()
            with pytest.raises(errors.ClosedError, match="already"):
                await response.read()
            with pytest.raises(errors.ClosedError, match="already"):
                await anext(response)
            async for line in lines:  # the iterator itself is taken up again
                assert line == '{"index": 1}'
                break
            assert len(await gather(lines)) == 2
            assert await gather(lines) == []
        async with client.stream({"path": "/stream?n=4&ms=5"}) as response:
            async for data in response:
                assert data
                break
            assert (await response.read()).endswith(b"3}\n")
            with pytest.raises(errors.ClosedError, match="was read to its end"):
                aiter(response)
        for way in ("iter_bytes", "iter_text", "iter_lines"):
            with pytest.raises(errors.ClosedError, match="is not open"):
                getattr(response, way)()


async def test_one_task_at_a_time(no_leaks: None) -> None:
    with ScriptedServer(stalled(b"x")) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/"}) as response:
                pieces = response.iter_bytes()
                assert await anext(pieces) == b"x"

                async def wait() -> None:
                    await anext(pieces)

                async with create_task_group() as group:
                    await group.start_soon(wait)
                    deadline = time.monotonic() + LONG
                    while not response._body._busy:
                        assert time.monotonic() < deadline
                        await sleep(0.005)
                    with pytest.raises(RuntimeError, match="another task is reading"):
                        await anext(pieces)
                    group.cancel_scope.cancel()


@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True])
async def test_bad_sizes(server: LocalServer, value: Any) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream"}) as response:
            for way, name in (
                (response.iter_bytes, "chunk_size"),
                (response.iter_text, "chunk_size"),
                (response.iter_lines, "max_line_length"),
                (response.iter_events, "max_event_size"),
            ):
                with pytest.raises(errors.ConfigurationError, match=name):
                    way(**{name: value})
            assert len(await gather(response.iter_lines())) == 5


# The end


@pytest.mark.parametrize("way", ["iter_bytes", "iter_text", "iter_lines", "iter_events", "iteration"])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_is_no_end(way: str, reset: bool, no_leaks: None) -> None:
    def cut(conn: Connection) -> None:
        conn.reset() if reset else conn.close()

    def open_pieces(response: AsyncHTTPStream) -> Any:
        return response if way == "iteration" else getattr(response, way)()

    with ScriptedServer(stalled(b"data: 1\n\ndata: 2", headers=(EVENTS,), then=cut), plain(b"good")) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/x"}) as response:
                pieces = open_pieces(response)
                received = []
                with pytest.raises(errors.ConnectionError if reset else errors.HTTPIncompleteError) as caught:
                    async for piece in pieces:
                        received.append(piece)
                assert caught.value.url == f"{server.url}/x"
                assert received
                # Nor does who reads on meet an end
                with pytest.raises(errors.ClosedError, match="broke off"):
                    await anext(pieces)
            assert (await client.get("/next")).content == b"good"
        assert len(server.requests) == 2


async def test_reading_all_of_what_is_cut(no_leaks: None) -> None:
    with ScriptedServer(stalled(b"one", b"two", then=Connection.close)) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/"}) as response:
                with pytest.raises(errors.HTTPIncompleteError) as caught:
                    await response.read()
                assert caught.value.partial == b"onetwo"
                with pytest.raises(errors.ClosedError, match="broke off"):
                    await response.read()


@pytest.mark.parametrize("way", ["iter_bytes", "iter_lines", "iter_events", "read"])
async def test_silence_is_bounded(way: str, no_leaks: None) -> None:
    with ScriptedServer(stalled(b"data: 1\n\n", headers=(EVENTS,)), plain(b"good")) as server:
        async with client_of(server, timeout=0.3) as client:
            async with client.stream({"path": "/x"}) as response:
                started = time.monotonic()
                with pytest.raises(errors.ConnectionTimeoutError) as caught:
                    if way == "read":
                        await response.read()
                    else:
                        await gather(getattr(response, way)())
                assert 0.25 < time.monotonic() - started < 3
                assert caught.value.phase == "read"
                assert caught.value.url == f"{server.url}/x"
            assert (await client.get("/next")).content == b"good"


async def test_a_slow_stream_is_not_silent(no_leaks: None) -> None:
    def drip(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        conn.drip(b"a\nb\nc\nd\n", 0.1)
        conn.wait()

    with ScriptedServer(drip) as server:
        async with client_of(server, timeout=0.5) as client:
            async with client.stream({"path": "/"}) as response:
                assert await gather(response.iter_lines()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("way", ["iter_bytes", "iter_lines", "iter_events"])
async def test_the_deadline_covers_reading(way: str, no_leaks: None) -> None:
    def drip(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        conn.drip(b"data: x\n\n" * 100, 0.05)

    with ScriptedServer(drip, plain(b"good")) as server:
        async with client_of(server) as client:
            started = time.monotonic()
            async with client.stream({"path": "/"}, timeout=0.4) as response:
                pieces = getattr(response, way)()
                with pytest.raises(errors.TimeoutError, match=r"within 0\.4 s"):
                    await gather(pieces)
                assert 0.35 < time.monotonic() - started < 0.65
                with pytest.raises(errors.ClosedError, match="broke off before its end: TimeoutError"):
                    await anext(pieces)
            assert (await client.get("/next")).content == b"good"


@pytest.mark.parametrize("way", ["break", "aclose", "raise", "cancel"])
async def test_leaving_early_closes_now(way: str, no_leaks: None) -> None:
    left: list[bool] = []

    def watch(conn: Connection) -> None:
        conn.read_request()
        conn.send(head() + chunk(b"one\n"))
        if conn.wait(LONG):
            left.append(True)

    with ScriptedServer(watch, plain(b"good")) as server:
        async with client_of(server) as client:
            try:
                async with client.stream({"path": "/"}) as response:
                    lines = response.iter_lines()
                    with move_on_after(0.1 if way == "cancel" else LONG):
                        async for line in lines:
                            if way == "cancel":
                                continue
                            if way == "raise":
                                raise KeyError(line)
                            break
                    if way == "aclose":
                        await lines.aclose()
                        await lines.aclose()
                    if way in ("aclose", "cancel"):  # within the block already
                        await wait_for(left)
                        with pytest.raises(errors.ClosedError, match=r"this answer is closed|broke off"):
                            await anext(lines)
            except KeyError:
                assert way == "raise"
            await wait_for(left)
            with pytest.raises(errors.ClosedError):
                await anext(lines)
            assert (await client.get("/next")).content == b"good"


async def test_closing_what_has_ended(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/stream?n=2"}) as response:
            lines = response.iter_lines()
            assert len(await gather(lines)) == 2
            await lines.aclose()
            assert await gather(lines) == []
        await client.get("/items/1")
    assert server.connections.total == 1


async def test_a_line_without_end_is_refused(no_leaks: None) -> None:
    def endless(conn: Connection) -> None:
        conn.read_request()
        conn.send(head(EVENTS) + chunk(b"data: 1\n\n"))
        try:
            while True:
                conn.send(chunk(b"x" * 1000))
        except OSError:
            pass

    with ScriptedServer(endless, endless, plain(b"good")) as server:
        async with client_of(server) as client:
            async with client.stream({"path": "/x"}) as response:
                lines = response.iter_lines(max_line_length=5000)
                assert [await anext(lines), await anext(lines)] == ["data: 1", ""]
                with pytest.raises(errors.ResponseTooLargeError, match="a line is longer than 5,000") as caught:
                    await anext(lines)
                assert caught.value.url == f"{server.url}/x"
                with pytest.raises(errors.ClosedError, match="given up"):
                    await anext(lines)
            async with client.stream({"path": "/x"}) as response:
                events = response.iter_events(max_event_size=5000)
                assert (await anext(events)).data == "1"
                with pytest.raises(errors.ResponseTooLargeError, match="an event is longer than 5,000"):
                    await anext(events)
            assert (await client.get("/next")).content == b"good"


async def wait_for(noted: list[bool]) -> None:
    """Wait for what a script notes, in a thread of its own."""
    deadline = time.monotonic() + LONG
    while not noted:
        assert time.monotonic() < deadline
        await sleep(0.005)
