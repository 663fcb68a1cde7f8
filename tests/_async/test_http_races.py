"""An answer reaches the request it is for, whoever is cancelled and whenever; and nothing is lost on the way."""

import itertools
import random
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import CancelScope, move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from servers.http2 import Peer, http2_peer
from servers.inside import engine_of

# The third engine has connections of its own, and no counters to look at.
pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("httpx", "httpx2")]

SECONDS = 1.2
TASKS = 32
PERMITS = 12


@pytest.fixture
def many(authority: trustme.CA, no_leaks: None) -> Iterator[str]:
    """The URL of an HTTP/2 server that answers late, in any order, with the path of the request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with http2_peer(context, shuffled, max_streams=5) as url:
        yield url


def shuffled(server: Peer) -> None:
    rng = random.Random(server.number)
    open_streams: list[tuple[int, bytes]] = []
    seen = 0
    with suppress(OSError, EOFError):
        while True:
            while len(server.requests) == seen and (not open_streams or server.has_news()):
                if not server.read():
                    return
            open_streams += [(number, headers[b":path"]) for number, headers in server.requests[seen:]]
            seen = len(server.requests)
            rng.shuffle(open_streams)
            # Some are kept until more come, but not all.
            for _ in range(rng.randrange(1, len(open_streams) + 1)):
                number, path = open_streams.pop()
                answer(server, number, path * rng.choice([1, 50, 5000]))


def answer(server: Peer, number: int, body: bytes) -> None:
    with suppress(Exception):  # the client has given it up
        server.conn.send_headers(number, [(":status", "200")])
        while body:
            size = min(16_384, server.conn.local_flow_control_window(number), len(body))
            if not size:
                server.conn.reset_stream(number)
                break
            server.conn.send_data(number, body[:size])
            body = body[size:]
        else:
            server.conn.end_stream(number)
    server.flush()


async def hammer(
    client: AsyncPynector, url: Callable[[int, random.Random], str], check: Callable[[int, Any], bool]
) -> int:
    """Send requests from many tasks, most of which are cancelled at some moment."""
    end = time.monotonic() + SECONDS
    good = [0] * TASKS
    wrong: list[Any] = []
    numbers = itertools.count(1)

    async def work(worker: int) -> None:
        rng = random.Random(next(numbers))
        while time.monotonic() < end and not wrong:
            number = next(numbers)
            body = bytes(rng.choice([0, 0, 10, 20_000, 300_000]))
            with move_on_after(rng.choice([0.0005, 0.002, 0.01, 0.05, 5.0])):
                with suppress(errors.ConnectionError, errors.HTTPProtocolError):
                    response = await client.post(url(number, rng), content=body, retry=None)
                    if not check(number, response):
                        wrong.append((number, response.content[:100]))
                    good[worker] += 1

    async def cancel(scopes: list[CancelScope]) -> None:
        rng = random.Random(0)
        while time.monotonic() < end:
            await sleep(rng.random() * 0.02)
            if scopes:
                rng.choice(scopes).cancel()

    async def again(worker: int, scopes: list[CancelScope]) -> None:
        while time.monotonic() < end:
            scope = CancelScope()
            scopes.append(scope)
            with scope:
                await work(worker)
            scopes.remove(scope)

    scopes: list[CancelScope] = []
    async with create_task_group() as group:
        for worker in range(TASKS):
            await group.start_soon(again, worker, scopes)
        await group.start_soon(cancel, scopes)
    assert not wrong
    return sum(good)


def assert_nothing_is_lost(client: AsyncPynector) -> Any:
    connections: Any = engine_of(client)._connections
    assert connections._permits._all._semaphore.value == PERMITS
    assert not connections._permits._hosts
    assert connections._open == len(connections._idle) <= PERMITS
    assert not connections._shared
    assert not connections._attempts
    for lease in connections._idle:
        assert lease.users == 0
        assert not getattr(lease.connection, "_streams", None)
        assert not getattr(lease.connection, "_waiting", None)
    return connections


async def test_http_1(server: LocalServer, no_leaks: None) -> None:
    options: dict[str, Any] = {"max_connections": PERMITS, "max_connections_per_host": PERMITS - 2}
    async with AsyncPynector(base_url=server.url, **options) as client:
        good = await hammer(
            client,
            lambda number, rng: f"/slow/{number}?ms={rng.choice([0, 0, 1, 5])}",
            lambda number, response: response.json()["id"] == number,
        )
        connections = assert_nothing_is_lost(client)
    assert good > TASKS
    assert connections._open == 0


async def test_http_2(many: str, ca: Path) -> None:
    async with AsyncPynector(base_url=many, http2=True, verify_ssl=str(ca), max_connections=PERMITS) as client:
        good = await hammer(
            client,
            lambda number, _: f"/{number}/",
            lambda number, response: set(response.content.decode().strip("/").split("//")) == {str(number)},
        )
        connections = assert_nothing_is_lost(client)
    assert good > TASKS
    assert connections._open == 0
