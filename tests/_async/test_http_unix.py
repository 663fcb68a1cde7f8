"""Unix sockets: all requests go there, whatever host they are for."""

import itertools
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.concurrency import fail_after, move_on_after
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.proxy import UnixRelay

pytestmark = [
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets"),
    pytest.mark.usefixtures("engine"),
    pytest.mark.engines("httpx", "httpx2"),  # the third has none, and refuses the argument
]

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)


@pytest.fixture
def path() -> Iterator[Path]:
    """The path of a socket: a short one, for the system allows about 100 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "app.sock"


@pytest.fixture
def relay(server: LocalServer, path: Path) -> Iterator[UnixRelay]:
    """A Unix socket that leads to the local server."""
    with UnixRelay(str(path), server.port) as running:
        yield running


async def test_requests_go_to_the_socket(server: LocalServer, path: Path, relay: UnixRelay, no_leaks: None) -> None:
    async with AsyncHTTPTransport("http://api.example.com:8080/v1", uds=path) as t:
        for number in (1, 2):
            response = await t.request(HttpMessage(url="../echo", method="POST", json=number))
            assert response.json()["text"] == str(number)
            assert dict(response.json()["headers"])["host"] == "api.example.com:8080"
        # Another host, over a connection of its own.
        response = await t.request(HttpMessage(url="http://other.example/echo"))
        assert dict(response.json()["headers"])["host"] == "other.example"
        async with t.stream(HttpMessage(url="http://other.example/big?bytes=300000")) as stream:
            assert len(await stream.read()) == 300_000
    assert relay.connections == 2


async def test_tls_over_a_unix_socket(
    tls_server: LocalServer, path: Path, client_ssl_context: ssl.SSLContext, no_leaks: None
) -> None:
    with UnixRelay(str(path), tls_server.port):
        async with AsyncHTTPTransport("https://localhost", uds=path, verify_ssl=client_ssl_context) as t:
            assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1
        # The name in the certificate is that of the URL.
        async with AsyncHTTPTransport("https://api.example.com", uds=path, verify_ssl=client_ssl_context) as t:
            with pytest.raises(errors.TLSError, match=r"api\.example\.com"):
                await t.request(HttpMessage(url="/items/1"))


async def test_the_proxies_of_the_environment_are_not_for_it(
    path: Path, relay: UnixRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with AsyncHTTPTransport("http://api.example.com", uds=str(path)) as t:
        assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1
    assert relay.connections == 1
    with pytest.raises(errors.ConfigurationError, match="uds and proxy were given"):
        AsyncHTTPTransport("http://api.example.com", uds=path, proxy="http://127.0.0.1:1")


async def test_a_batch_over_a_unix_socket(path: Path, relay: UnixRelay) -> None:
    transport = AsyncHTTPTransport("http://api.example.com", uds=path)
    async with AsyncPynector(transport) as client:
        results = await client.batch_request([{"path": f"/items/{number}"} for number in range(40)], max_concurrency=8)
    assert [response.json()["id"] for response in results] == list(range(40))
    assert relay.connections <= 8


async def test_a_socket_that_is_not_there(path: Path, no_leaks: None) -> None:
    async with AsyncPynector(AsyncHTTPTransport("http://localhost", uds=path), retry=QUICK) as client:
        with pytest.raises(errors.ConnectionError, match=f"no connection to {path}") as caught:
            await client.post("/x", json={})
    assert caught.value.attempts == 3
    assert caught.value.sent is False


async def test_a_socket_that_nobody_listens_to(path: Path, no_leaks: None) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    async with AsyncHTTPTransport("http://localhost", uds=path, max_retries=0) as t:
        with pytest.raises(errors.ConnectionRefusedError, match=f"no connection to {path}"):
            await t.request(HttpMessage(url="/x"))


async def test_a_path_that_is_too_long(no_leaks: None) -> None:
    async with AsyncHTTPTransport("http://localhost", uds="/tmp/" + "x" * 200, max_retries=0) as t:
        with pytest.raises(errors.ConnectionError, match="too long"):
            await t.request(HttpMessage(url="/x"))


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue makes others refuse")
async def test_a_full_queue_and_a_deadline(path: Path, no_leaks: None) -> None:
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as first:
        sock.bind(str(path))
        sock.listen(0)
        first.connect(str(path))
        async with AsyncHTTPTransport("http://localhost", uds=path, max_retries=0, timeout=0.2) as t:
            with pytest.raises(errors.ConnectionError):
                await t.request(HttpMessage(url="/x"))
            with pytest.raises((TimeoutError, errors.ConnectionError)):
                with fail_after(0.1):
                    await t.request(HttpMessage(url="/x"))


async def test_a_deadline_at_any_time(path: Path, relay: UnixRelay, no_leaks: None) -> None:
    async with AsyncHTTPTransport("http://localhost", uds=path, max_connections=1, max_retries=0, timeout=5) as t:
        for step in itertools.count():
            with move_on_after(step * 0.0002):
                await t.request(HttpMessage(url="/items/1"))
                break
        assert (await t.request(HttpMessage(url="/items/2"))).json()["id"] == 2
