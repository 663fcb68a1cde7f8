"""Deadlines hold whatever the server does: of a request, of a batch, of a scope around; and so does a cancellation."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import fail_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport
from servers.scripted import Connection, ScriptedServer

pytestmark = pytest.mark.usefixtures("engine")

DEADLINE = 0.15
SLOW = 2.0
ENDLESS = 8.0
"""Seconds; what would come after the deadline takes longer than this."""


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A port whose queue is full: nobody refuses a connection, and nobody takes it."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def scripted(script: Callable[[Connection], object], scheme: str = "http") -> Any:
    @contextlib.contextmanager
    def serve() -> Iterator[str]:
        with ScriptedServer(script, repeat=True, scheme=scheme) as server:
            yield server.url

    return serve


def drip_head(conn: Connection) -> None:
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nX: ")
    conn.drip(b"." * 1000, 0.05)


def drip_body(conn: Connection) -> None:
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    conn.drip(b"." * 1000, 0.05)


def say_nothing(conn: Connection) -> None:
    conn.read_request()
    conn.wait()


def read_nothing(conn: Connection) -> None:
    conn.read_head()
    conn.ignore()


def shake_no_hands(conn: Connection) -> None:
    conn.wait()


SERVERS = {
    "black hole": black_hole,
    "mute TLS": scripted(shake_no_hands, "https"),
    "silence": scripted(say_nothing),
    "head drips": scripted(drip_head),
    "body drips": scripted(drip_body),
}


async def by_request(client: AsyncPynector, request: dict[str, Any]) -> None:
    with pytest.raises(errors.TimeoutError, match=rf" {re.escape(str(DEADLINE))} s: "):
        await client.request(request, timeout=DEADLINE)


async def by_client_timeout_in_stream(client: AsyncPynector, request: dict[str, Any]) -> None:
    with pytest.raises(errors.TimeoutError):
        async with client.stream(request, timeout=DEADLINE) as response:
            await response.read()


async def by_batch(client: AsyncPynector, request: dict[str, Any]) -> None:
    results = await client.batch_request([request, request], max_concurrency=2, timeout=DEADLINE)
    assert [type(result) for result in results] == [errors.TimeoutError] * 2


async def by_scope(client: AsyncPynector, request: dict[str, Any]) -> None:
    with pytest.raises(TimeoutError), fail_after(DEADLINE):
        await client.request(request)


async def by_cancelling(client: AsyncPynector, request: dict[str, Any]) -> None:
    async with create_task_group() as group:
        await group.start_soon(client.request, request)
        await sleep(DEADLINE)
        group.cancel_scope.cancel()


WAYS = [by_request, by_client_timeout_in_stream, by_batch, by_scope, by_cancelling]
Way = Callable[[AsyncPynector, dict[str, Any]], Awaitable[None]]


async def check(url: str, request: dict[str, Any], way: Way, server: LocalServer) -> None:
    async with AsyncPynector(base_url=url, retry=None, transport_type="http", max_connections=4) as client:
        started = time.monotonic()
        await way(client, request)
        assert time.monotonic() - started < ENDLESS / 2
        # Nothing is used up: the client goes on, as often as it has connections and once more.
        results = await client.batch_request([{"url": f"{server.url}/items/{n}"} for n in range(5)], max_concurrency=5)
        assert [result.json()["id"] for result in results] == [0, 1, 2, 3, 4]


@pytest.mark.full_beyond("httpx", "pyreqwest")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SERVERS)
async def test_a_deadline_holds(name: str, way: Way, server: LocalServer, no_leaks: None) -> None:
    with SERVERS[name]() as url:
        await check(url, {"path": "/x"}, way, server)


@pytest.mark.full_beyond("httpx", "pyreqwest")
@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_that_nobody_reads(way: Way, server: LocalServer, no_leaks: None) -> None:
    with scripted(read_nothing)() as url:
        await check(url, {"path": "/x", "method": "POST", "content": b"x" * 50_000_000}, way, server)


@pytest.mark.full_beyond("httpx")
@pytest.mark.engines("httpx", "httpx2")  # the third looks names up on its own, beyond the reach of a test
@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_name_lookup_is_left_behind(
    way: Way, server: LocalServer, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    original = socket.getaddrinfo
    done = threading.Event()

    def slow(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        # A name is first tried as an address, which is quick.
        if host in ("slow.example", b"slow.example") and not flags & socket.AI_NUMERICHOST:
            done.wait(SLOW)
        return original(host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    started = time.monotonic()
    try:
        await check("http://slow.example", {"path": "/x"}, way, server)
        assert time.monotonic() - started < SLOW
    finally:
        done.set()


@pytest.mark.parametrize(
    ("script", "phase"), [(say_nothing, "read"), (read_nothing, "write"), (shake_no_hands, "connect")]
)
async def test_silence_is_a_time_out_of_the_transport(script: Any, phase: str, no_leaks: None) -> None:
    with ScriptedServer(script, repeat=True, scheme="https" if phase == "connect" else "http") as peer:
        transport = AsyncHTTPTransport(peer.url, timeout=0.3)
        async with AsyncPynector(transport, retry=None) as client:
            started = time.monotonic()
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await client.post("/x", content=b"x" * (50_000_000 if phase == "write" else 5))
            assert time.monotonic() - started < ENDLESS / 2
            assert caught.value.phase == phase
