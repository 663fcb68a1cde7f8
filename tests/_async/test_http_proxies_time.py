"""Deadlines, and cancellation at every step, on the way through a proxy."""

import importlib
import itertools
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector.concurrency import CancelScope, fail_after, move_on_after
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.leaks import LeakCheck
from servers.proxy import USER, PproxyServer, ProxyServer
from servers.scripted import Connection, ScriptedServer

pytestmark = pytest.mark.usefixtures("engine", "no_proxies_around")


def mute(conn: Connection) -> None:
    conn.wait()


@pytest.mark.needs("socksio")
@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_deadline_holds_while_a_proxy_says_nothing(kind: str, no_leaks: None) -> None:
    with ScriptedServer(mute) as proxy:
        transport = AsyncHTTPTransport("https://api.example.com", proxy=f"{kind}://127.0.0.1:{proxy.port}")
        async with transport as t:
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                with fail_after(0.3):
                    await t.request(HttpMessage(url="/"))
            assert 0.25 < time.monotonic() - started < 0.3 + 0.25


class Interrupter:
    """Counts the steps of the network, each before and after, and cancels at one of them."""

    def __init__(self, cancel: Callable[[], object], at: int) -> None:
        self.cancel = cancel
        self.at = at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.cancel()


class AsyncCounted:
    """The network below the dialer, or a stream of it, whose steps are counted."""

    def __init__(self, below: Any, interrupter: Callable[[], Interrupter]) -> None:
        self.below = below
        self.interrupter = interrupter

    async def connect_tcp(self, *args: Any) -> "AsyncCounted":
        self.interrupter().step()
        stream = AsyncCounted(await self.below.connect_tcp(*args), self.interrupter)
        self.interrupter().step()
        return stream

    async def start_tls(self, *args: Any) -> "AsyncCounted":
        self.interrupter().step()
        stream = AsyncCounted(await self.below.start_tls(*args), self.interrupter)
        self.interrupter().step()
        return stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.interrupter().step()
        data: bytes = await self.below.read(max_bytes, timeout)
        self.interrupter().step()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.interrupter().step()
        await self.below.write(buffer, timeout)
        self.interrupter().step()

    async def aclose(self) -> None:
        await self.below.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self.below.get_extra_info(info)


dial = importlib.import_module(AsyncHTTPTransport.__module__.replace("transports.http", "engines.dial"))

ROUTES = ["http over http", "https over http", "http over https", "https over https", "https over socks5"]


@pytest.fixture
def route(
    request: pytest.FixtureRequest,
    sites: dict[str, LocalServer],
    pproxy: PproxyServer,
    server_ssl_context: ssl.SSLContext,
) -> Iterator[tuple[str, str]]:
    """The URL of a server, and that of a proxy to it."""
    site, _, kind = request.param.partition(" over ")
    url = sites[site].url
    if kind == "socks5":
        yield url, pproxy.url("socks5")
    else:
        with ProxyServer(user=USER, ssl_context=server_ssl_context if kind == "https" else None) as proxy:
            yield url, proxy.url_for(USER)
            give_up = time.monotonic() + 3
            while proxy.open and time.monotonic() < give_up:
                time.sleep(0.01)  # until it has seen that its client has left
            assert proxy.open == 0


@pytest.mark.needs("socksio")
@pytest.mark.engines("httpx", "httpx2")  # whose steps are made here
@pytest.mark.parametrize("route", ROUTES, indirect=True)
async def test_cancelled_at_every_step(
    route: tuple[str, str], ca: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    interrupter = Interrupter(lambda: None, 0)
    network_backend = dial.network_backend

    def counted(httpcore: Any) -> AsyncCounted:
        return AsyncCounted(network_backend(httpcore), lambda: interrupter)

    url, proxy = route
    cancelled = 0
    with monkeypatch.context() as patch:
        patch.setattr(dial, "network_backend", counted)
        for at in itertools.count(1):
            # One connection: a permit that is lost would make the next request wait for ever.
            t = AsyncHTTPTransport(url, proxy=proxy, verify_ssl=ca, max_connections=1, max_retries=0, timeout=5)
            check = LeakCheck()
            async with t:
                with CancelScope() as scope:
                    interrupter = Interrupter(scope.cancel, at)
                    await t.request(HttpMessage(url="/items/1"))
                reached = interrupter.steps >= at
                cancelled += scope.cancelled_caught
                interrupter = Interrupter(lambda: None, 0)
                assert (await t.request(HttpMessage(url="/items/2"))).json()["id"] == 2
            assert not check.wait(3)
            if not reached:
                break
    assert cancelled >= (3 if url.startswith("http:") else 6)


@pytest.mark.needs("socksio")
@pytest.mark.parametrize("route", ROUTES, indirect=True)
async def test_a_deadline_at_any_time(route: tuple[str, str], ca: Path, no_leaks: None) -> None:
    url, proxy = route
    t = AsyncHTTPTransport(url, proxy=proxy, verify_ssl=ca, max_connections=1, max_retries=0, timeout=5)
    async with t:
        for step in itertools.count():
            with move_on_after(step * 0.0004):
                await t.request(HttpMessage(url="/items/1"))
                break
        assert (await t.request(HttpMessage(url="/items/2"))).json()["id"] == 2
