"""What becomes of a request when its proxy fails."""

import re
import time
import traceback
from pathlib import Path

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.proxy import BASIC, USER, ProxyServer
from servers.scripted import Connection, Script, ScriptedServer
from servers.shown import variables

pytestmark = pytest.mark.usefixtures("engine", "no_proxies_around")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)


def refuse(status: str) -> Script:
    """Refuses a CONNECT."""

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(f"HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nnope".encode())
        conn.wait()

    return script


def hang_up(conn: Connection) -> None:
    conn.read_request()


def reset(conn: Connection) -> None:
    conn.read_request()
    conn.reset()


def silent(conn: Connection) -> None:
    conn.read_request()
    conn.wait()


def drip(conn: Connection) -> None:
    conn.read_request()
    conn.drip(b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000, 0.05)


def say(data: bytes) -> Script:
    """Answers a CONNECT with these bytes, and hangs up."""

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(data)
        conn.wait(0.05)

    return script


def die_in_the_tunnel(conn: Connection) -> None:
    conn.read_request()
    conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
    conn.read(1)


ProxyFailure = tuple[Script, type[errors.TransportError], str, bool]

FAILURES: dict[str, ProxyFailure] = {
    # what the proxy does, the error, what its text says, whether it is tried again
    "401": (refuse("401 Unauthorized"), errors.HTTPProxyError, "401 Unauthorized", False),
    "403": (refuse("403 Forbidden"), errors.HTTPProxyError, "403 Forbidden", False),
    "404": (refuse("404"), errors.HTTPProxyError, ": 404", False),
    "407": (refuse("407 Proxy Authentication Required"), errors.HTTPProxyError, "407 Proxy Auth", False),
    "429": (refuse("429 Too Many Requests"), errors.HTTPProxyError, "429 Too Many", True),
    "502": (refuse("502 Bad Gateway"), errors.HTTPProxyError, "502 Bad Gateway", True),
    "503": (refuse("503 Service Unavailable"), errors.HTTPProxyError, "503 Service", True),
    "redirect": (refuse("302 Found"), errors.HTTPProxyError, "302 Found", False),
    "hangs up": (hang_up, errors.ConnectionError, "hung up", True),
    "resets": (reset, errors.ConnectionError, "no connection through the proxy", True),
    "silent": (silent, errors.ConnectionTimeoutError, "within the timeout", True),
    "drips": (drip, errors.ConnectionTimeoutError, "within the timeout", True),
    "garbage": (say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), errors.HTTPProxyError, "does not speak HTTP", False),
    "half a head": (say(b"HTTP/1.1 200 OK\r\n"), errors.ConnectionError, "hung up", True),
    "dies in the tunnel": (die_in_the_tunnel, errors.ConnectionError, "POST https://", True),
}


# With pyreqwest a proxy has refused, and that is all it tells of an answer.
UNTOLD = {
    **dict.fromkeys(["401", "403", "404", "429", "502", "503", "redirect", "garbage"], "unsuccessful"),
    "407": "proxy authorization required",
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_proxy_that_fails(engine: str, failure: str, tls_server: LocalServer, no_leaks: None) -> None:
    script, kind, text, again = FAILURES[failure]
    if engine == "pyreqwest" and failure in UNTOLD:
        text, again = UNTOLD[failure], False
    with ScriptedServer(script, repeat=True) as proxy:
        url = proxy.url.replace("://", f"://{USER}@")
        transport = AsyncHTTPTransport(tls_server.url, proxy=url, timeout=0.3)
        async with AsyncPynector(transport, retry=QUICK) as client:
            started = time.monotonic()
            with pytest.raises(kind, match=re.escape(text)) as caught:
                # Nothing of it was sent to the server, so it is tried again though it is a POST.
                await client.post("/echo", json={})
            assert time.monotonic() - started < 3
    error = caught.value
    assert error.attempts == len(proxy.connections) == (3 if again else 1)
    assert error.sent is False
    assert error.transient is again
    assert error.method == "POST"
    assert error.url == f"{tls_server.url}/echo"
    if isinstance(error, errors.ConnectionTimeoutError):
        assert error.phase == "connect"
    if failure != "dies in the tunnel":
        assert proxy.url in str(error)
    shown = "".join(traceback.format_exception(error)) + variables(error)
    assert "s3cr3t" not in shown
    assert BASIC not in shown
    assert tls_server.requests.count == 0


async def test_a_proxy_that_is_not_there(server: LocalServer, no_leaks: None) -> None:
    with ScriptedServer() as gone:
        pass
    for site in (server.url, "https://api.example.com"):
        transport = AsyncHTTPTransport(site, proxy=gone.url.replace("://", f"://{USER}@"))
        async with AsyncPynector(transport, retry=QUICK) as client:
            with pytest.raises(errors.ConnectionRefusedError, match=f"through the proxy {gone.url}") as caught:
                await client.post("/echo", json={})
        assert caught.value.attempts == 3
        assert caught.value.sent is False
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


async def test_a_proxy_whose_name_is_unknown() -> None:
    async with AsyncHTTPTransport("http://api.example.com", proxy="http://nobody.invalid:3128", max_retries=0) as t:
        with pytest.raises(errors.ConnectionError, match=r"through the proxy http://nobody\.invalid:3128") as caught:
            await t.request(HttpMessage(url="/"))
    assert caught.value.sent is False


async def test_a_forward_proxy_that_refuses_is_an_answer(server: LocalServer, no_leaks: None) -> None:
    with ProxyServer(user=USER) as proxy:
        async with AsyncHTTPTransport(server.url, proxy=proxy.url, max_retries=2) as t:
            with pytest.raises(errors.HTTPClientError, match="407 Proxy Authentication Required") as caught:
                await t.request(HttpMessage(url="/items/1"))
        assert len(proxy.seen) == 1
    assert caught.value.status_code == 407
    assert server.requests.count == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_dies_with_idle_connections(
    scheme: str, sites: dict[str, LocalServer], proxy: ProxyServer, ca: Path, no_leaks: None
) -> None:
    async with AsyncHTTPTransport(sites[scheme].url, proxy=proxy.url, verify_ssl=ca) as t:
        for number in range(3):
            response = await t.request(HttpMessage(url="/echo", method="POST", json=number))
            assert response.json()["text"] == str(number)
            proxy.sever()
            time.sleep(0.03)
    assert proxy.connections == 3


async def test_a_proxy_that_dies_during_an_answer(
    tls_server: LocalServer, proxy: ProxyServer, ca: Path, no_leaks: None
) -> None:
    async with AsyncHTTPTransport(tls_server.url, proxy=proxy.url, verify_ssl=ca) as t:
        with pytest.raises((errors.ConnectionError, errors.HTTPIncompleteError)):
            async with t.stream(HttpMessage(url="/stream?n=1000&ms=5")) as response:
                async for _ in response:
                    proxy.sever()
        assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1
