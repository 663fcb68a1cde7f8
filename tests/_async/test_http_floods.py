"""Servers that say more than can be taken: then nobody waits for the network, and deadlines hold all the same."""

import contextlib
import gzip
import math
import os
import time

import pytest

from pynector import AsyncPynector, errors
from pynector._async.transports.body import AsyncBody, AsyncPieces
from pynector._async.transports.stream import PORTION
from pynector._concurrency.aio.scopes import CancelScope
from pynector._http.decode import PIECE
from pynector._http.lines import Lines
from pynector._http.wire import WireBuilder
from pynector._messages.http import HttpMessage
from servers.scripted import Connection, ScriptedServer

DEADLINE = 0.15
ENDLESS = 8.0
"""Seconds; the time between two waits for the network was about this long."""

_EVENTS = b"Content-Type: text/event-stream\r\n"


def flood(head: bytes, data: bytes) -> object:
    def script(conn: Connection) -> None:
        conn.read_request()
        with contextlib.suppress(OSError):
            conn.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
            while True:
                conn.send(data)

    return script


FLOODS = {
    "chunks of one byte": flood(b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n" * 10_000),
    "events": flood(_EVENTS, b"data:\n\n" * 10_000),
    "comments": flood(_EVENTS, b":\n\n" * 20_000),
    "nothing in gzip": flood(b"Content-Encoding: gzip\r\n" + _EVENTS, gzip.compress(b"") * 3000),
}


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
@pytest.mark.parametrize("what", FLOODS)
async def test_a_deadline_holds_in_a_flood(what: str, no_leaks: None) -> None:
    with ScriptedServer(FLOODS[what], repeat=True) as server:
        async with AsyncPynector(base_url=server.url, retry=None) as client:
            started = time.monotonic()
            with pytest.raises(errors.TimeoutError):
                async with client.stream({"path": "/"}, timeout=DEADLINE) as response:
                    pieces = response.iter_events() if what in ("events", "comments") else response.iter_bytes()
                    async for _ in pieces:
                        pass
            assert time.monotonic() - started < ENDLESS / 2


class AllAtOnce:
    """An exchange whose body is there already."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def receive(self) -> bytes:
        body, self.body = self.body, b""
        return body

    async def aclose(self) -> None:
        pass


def body_of(data: bytes, deadline: float = math.inf) -> AsyncBody:
    wire = WireBuilder().build(HttpMessage(url="http://server.example/"))
    return AsyncBody(AllAtOnce(data), wire, b"", deadline, 1.0)  # type: ignore[arg-type]


async def test_lines_that_are_there_can_be_cancelled() -> None:
    taken = 0
    with CancelScope() as scope:
        async for _ in AsyncPieces(body_of(b"\n" * 10 * PORTION), Lines("utf-8"), PORTION):
            taken += 1
            scope.cancel()
    assert scope.cancelled_caught
    assert 0 < taken <= PORTION


async def test_lines_that_are_there_are_not_read_beyond_the_deadline() -> None:
    taken = 0
    pieces = AsyncPieces(body_of(b"\n" * 10 * PORTION), Lines("utf-8"), PORTION)
    body = pieces._body
    assert await anext(pieces) == ""
    body._deadline = -math.inf
    with pytest.raises(errors.TimeoutError):
        async for _ in pieces:
            taken += 1
    assert taken < PORTION
    with pytest.raises(errors.ClosedError, match="broke off"):
        await body.receive()


async def test_all_lines_are_there_when_they_come_at_once() -> None:
    lines = [str(n) for n in range(PORTION)]
    body = body_of("\n".join(lines).encode())
    assert [line async for line in AsyncPieces(body, Lines("utf-8"), PORTION)] == lines


@pytest.mark.needs("pyreqwest")
async def test_a_body_that_is_decoded_when_it_is_all_there() -> None:
    from pynector._async.engines.pyreqwest import _decode

    plain = os.urandom(4 * PIECE)
    assert await _decode(gzip.compress(plain), [b"gzip"]) == plain
    with pytest.raises(errors.HTTPDecodeError):
        await _decode(gzip.compress(plain)[:-1], [b"gzip"])
    with CancelScope() as scope:
        scope.cancel()
        await _decode(gzip.compress(plain), [b"gzip"])
    assert scope.cancelled_caught
