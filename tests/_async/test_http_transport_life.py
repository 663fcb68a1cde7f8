"""The HTTP transport without a client around it: its life, its connections, whom it trusts."""

from pathlib import Path
from typing import Any

import pytest

from pynector import errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.locks import Event
from pynector._concurrency.aio.tasks import create_task_group
from pynector._mutex import forks
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.inputs import item
from servers.inside import engine_of

pytestmark = pytest.mark.usefixtures("engine")


# Its life


async def test_connecting_and_disconnecting_twice(server: LocalServer, no_leaks: None) -> None:
    t = AsyncHTTPTransport(server.url)
    await t.disconnect()
    await t.connect()
    await t.connect()
    assert (await t.request(item(1))).json()["id"] == 1
    await t.disconnect()
    await t.disconnect()
    with pytest.raises(errors.ClosedError, match="closed"):
        await t.request(item(1))
    with pytest.raises(errors.ClosedError, match="closed"):
        await t.send(item(1))
    await t.connect()
    assert (await t.request(item(2))).json()["id"] == 2
    await t.disconnect()


async def test_it_connects_on_first_use(server: LocalServer, no_leaks: None) -> None:
    t = AsyncHTTPTransport(server.url)
    assert (await t.request(item(1))).json()["id"] == 1
    await t.disconnect()


async def test_disconnecting_lets_requests_under_way_end(server: LocalServer, no_leaks: None) -> None:
    answers = []

    async def slow(t: AsyncHTTPTransport) -> None:
        answers.append((await t.request(HttpMessage(url="/delay?s=0.3"))).status_code)

    async with create_task_group() as tg:
        async with AsyncHTTPTransport(server.url) as t:
            await tg.start_soon(slow, t)
            while server.in_flight == 0:
                await sleep(0.005)
        assert answers == []
    assert answers == [200]


@pytest.mark.engines("httpx", "httpx2")  # the third does not survive a fork
async def test_a_forked_process_starts_afresh(server: LocalServer, no_leaks: None) -> None:
    """What a forked child does, and without a fork: the connections of its parent are left alone."""
    left: list[Any] = []

    def seem_forked(t: AsyncHTTPTransport) -> None:
        engine: Any = engine_of(t)
        left.extend(lease.connection for lease in engine._connections._idle)
        forks[0] += 1

    t = AsyncHTTPTransport(server.url)
    assert (await t.request(item(1))).json()["id"] == 1
    seem_forked(t)
    assert (await t.request(item(2))).json()["id"] == 2
    assert server.connections.open == 2
    seem_forked(t)
    await t.disconnect()
    assert server.connections.open == 2
    for connection in left:
        await connection.aclose()


# Its connections


@pytest.mark.engines("httpx", "httpx2")  # the third keeps idle ones beside those in use
async def test_connections_are_reused_and_bounded(server: LocalServer, no_leaks: None) -> None:
    async def fetch(t: AsyncHTTPTransport, number: int) -> None:
        assert (await t.request(HttpMessage(url=f"/slow/{number}?ms=5"))).json()["id"] == number

    async with AsyncHTTPTransport(server.url, max_connections=3) as t:
        for number in range(5):
            await fetch(t, number)
        assert server.connections.total == 1
        async with create_task_group() as tg:
            for number in range(30):
                await tg.start_soon(fetch, t, number)
        assert server.connections.total == 3
        assert server.peak_in_flight == 3


@pytest.mark.engines("httpx", "httpx2")  # the third keeps idle ones beside those in use
async def test_idle_connections_make_room_for_those_to_other_servers(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        async with AsyncHTTPTransport(max_connections=1) as t:
            for _ in range(2):
                for url in (server.url, other.url):
                    assert (await t.request(HttpMessage(url=f"{url}/items/1"))).status_code == 200
        assert server.connections.total == other.connections.total == 2
        async with AsyncHTTPTransport(max_connections=2) as t:
            async with create_task_group() as tg:
                for number in range(2):
                    await tg.start_soon(t.request, HttpMessage(url=f"{server.url}/slow/{number}?ms=50"))
            before = server.connections.total
            await t.request(HttpMessage(url=f"{other.url}/items/1"))
            await t.request(HttpMessage(url=f"{server.url}/items/1"))
            assert server.connections.total == before


async def test_a_connection_that_idled_too_long_is_not_used_again(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        async with AsyncHTTPTransport(keepalive_expiry=0.05) as t:
            await t.request(HttpMessage(url=f"{other.url}/items/1"))
            await sleep(0.1)
            await t.request(HttpMessage(url=f"{server.url}/items/1"))
            await t.request(HttpMessage(url=f"{server.url}/items/1"))
            # Each request that ends sweeps away one that is past its time.
            for _ in range(200):
                if other.connections.open == 0:
                    break
                await sleep(0.01)
            assert other.connections.open == 0


async def test_waiting_for_a_connection_can_be_cut_short(server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(server.url, max_connections=1) as t:
        entered = Event()

        async def hold() -> None:
            async with t.stream(HttpMessage(url="/stream?n=100&ms=10")) as response:
                await anext(response)
                entered.set()
                await sleep(0.4)

        async with create_task_group() as tg:
            await tg.start_soon(hold)
            await entered.wait()
            with pytest.raises(errors.TimeoutError):
                await t.request(item(1), timeout=0.1)
        assert (await t.request(item(1))).json()["id"] == 1


# TLS


async def test_an_untrusted_certificate_is_refused_and_not_retried(tls_server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(tls_server.url, max_retries=3) as t:
        with pytest.raises(errors.TLSError, match=r"CERTIFICATE_VERIFY_FAILED|UnknownIssuer") as caught:
            await t.request(item(1))
    assert caught.value.attempts == 1
    assert caught.value.sent is False
    assert isinstance(caught.value, errors.ConnectionError)
    assert tls_server.requests.count == 0
    assert tls_server.connections.total <= 1


async def test_tls_without_verification(tls_server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(tls_server.url, verify_ssl=False) as t:
        for _ in range(2):
            assert (await t.request(item(1))).json()["id"] == 1
        assert tls_server.connections.total == 1
        async with t.stream(HttpMessage(url="/big?bytes=500000")) as response:
            assert len(await response.read()) == 500_000


@pytest.mark.engines("httpx", "httpx2")  # the third can't ignore it, and has a test of its own
async def test_the_environment_names_whom_to_trust(
    tls_server: LocalServer, ca: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    async with AsyncHTTPTransport(tls_server.url) as t:
        with pytest.raises(errors.TLSError):
            await t.request(item(1))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    async with AsyncHTTPTransport(tls_server.url) as t:
        assert (await t.request(item(1))).json()["id"] == 1
    async with AsyncHTTPTransport(tls_server.url, trust_env=False) as t:
        with pytest.raises(errors.TLSError):
            await t.request(item(1))


async def test_certificates_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(errors.ConfigurationError, match=r"SSL_CERT_FILE=.*missing\.pem"):
        await AsyncHTTPTransport().connect()
