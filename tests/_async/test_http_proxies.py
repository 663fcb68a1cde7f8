"""Proxies: what they are told, what they are not, and what becomes of a request when they fail."""

import contextlib
import importlib
import itertools
import logging
import re
import ssl
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.concurrency import CancelScope, fail_after, move_on_after
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.http2 import http2_server
from servers.leaks import LeakCheck
from servers.proxy import PproxyServer, ProxyServer
from servers.scripted import Connection, Script, ScriptedServer

pytestmark = pytest.mark.usefixtures("engine")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)
USER = "me:s3cr3t"
BASIC = "Basic bWU6czNjcjN0"


@pytest.fixture(autouse=True)
def _no_proxies_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):  # one of the engines can't be told not to look at them
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[ProxyServer]:
    """A proxy for everybody."""
    with ProxyServer() as running:
        yield running


@pytest.fixture(scope="module")
def pproxy() -> Iterator[PproxyServer]:
    """A proxy that others have written."""
    with PproxyServer(USER) as running:
        yield running


@pytest.fixture
def sites(server: LocalServer, tls_server: LocalServer) -> dict[str, LocalServer]:
    """A server for each scheme."""
    return {"http": server, "https": tls_server}


def names(site: LocalServer) -> list[str]:
    """The names of all headers that a server was sent."""
    return [name.lower() for request in site.requests.recent for name, _ in request.headers]


# What goes over the wire


async def test_http_is_forwarded(server: LocalServer, no_leaks: None) -> None:
    with ProxyServer(user=USER) as proxy:
        async with AsyncHTTPTransport(server.url, proxy=proxy.url_for(USER)) as t:
            response = await t.request(HttpMessage(url="/echo/a%20b", params={"q": "1"}, method="POST", json={"x": 1}))
            assert response.json()["target"] == "/echo/a%20b?q=1"
            assert response.json()["text"] == '{"x":1}'
            assert (await t.request(HttpMessage(url="/items/2"))).json()["id"] == 2
        first, second = proxy.seen
    assert (first.method, first.target) == ("POST", f"{server.url}/echo/a%20b?q=1")
    assert first.headers["host"] == server.url.removeprefix("http://")
    assert second.target == f"{server.url}/items/2"
    assert first.headers["proxy-authorization"] == second.headers["proxy-authorization"] == BASIC
    assert proxy.connections == 1  # the second request went over the connection of the first
    assert "proxy-authorization" not in names(server)


async def test_https_goes_through_a_tunnel(engine: str, tls_server: LocalServer, ca: Path, no_leaks: None) -> None:
    with ProxyServer(user=USER) as proxy:
        async with AsyncHTTPTransport(tls_server.url, proxy=proxy.url_for(USER), verify_ssl=ca) as t:
            for number in (1, 2):
                assert (await t.request(HttpMessage(url=f"/items/{number}"))).json()["id"] == number
        (seen,) = proxy.seen
    target = tls_server.url.removeprefix("https://")
    assert (seen.method, seen.target) == ("CONNECT", target)
    if engine == "pyreqwest":
        del seen.headers["user-agent"]  # of its own
    assert seen.headers == {"host": target, "proxy-authorization": BASIC}
    assert tls_server.connections.total == 1
    assert "proxy-authorization" not in names(tls_server)
    assert "authorization" not in names(tls_server)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_tls_to_the_proxy(
    scheme: str,
    sites: dict[str, LocalServer],
    server_ssl_context: ssl.SSLContext,
    ca: Path,
    no_leaks: None,
) -> None:
    site = sites[scheme]
    with ProxyServer(user=USER, ssl_context=server_ssl_context) as proxy:
        assert proxy.url.startswith("https://")
        async with AsyncHTTPTransport(site.url, proxy=proxy.url_for(USER), verify_ssl=ca) as t:
            for number in (1, 2):
                assert (await t.request(HttpMessage(url=f"/items/{number}"))).json()["id"] == number
            async with t.stream(HttpMessage(url="/big?bytes=300000")) as response:
                assert len(await response.read()) == 300_000
        assert {seen.method for seen in proxy.seen} == {"GET" if scheme == "http" else "CONNECT"}
    assert "proxy-authorization" not in names(site)


async def test_the_certificate_of_a_proxy_is_checked(
    server: LocalServer, server_ssl_context: ssl.SSLContext, no_leaks: None
) -> None:
    with ProxyServer(ssl_context=server_ssl_context) as proxy:
        async with AsyncHTTPTransport(server.url, proxy=proxy.url_for(USER), max_retries=2) as t:
            with pytest.raises(
                errors.TLSError, match=f"through the proxy {proxy.url}: .*(CERTIFICATE_VERIFY|UnknownIssuer)"
            ) as caught:
                await t.request(HttpMessage(url="/items/1"))
        assert not proxy.seen
        assert caught.value.attempts == 1
        async with AsyncHTTPTransport(server.url, proxy=proxy.url_for(USER), verify_ssl=False) as t:
            assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1
        assert len(proxy.seen) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_streams_through_a_proxy(
    scheme: str, sites: dict[str, LocalServer], proxy: ProxyServer, ca: Path, no_leaks: None
) -> None:
    async with AsyncHTTPTransport(sites[scheme].url, proxy=proxy.url, verify_ssl=ca) as t:
        message = HttpMessage(url="/echo", method="POST", content=b"x" * 300_000)
        assert len((await t.request(message)).json()["text"]) == 300_000
        async with t.stream(HttpMessage(url="/stream?n=3&ms=1")) as response:
            assert (await response.read()).count(b"\n") == 3
        async with t.stream(HttpMessage(url="/big?bytes=5000000")) as response:
            async for chunk in response:
                assert chunk
                break
        assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1


# Now and then the server falls over its own farewell to a client that has hung up.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_http2_through_a_tunnel(
    kind: str,
    authority: trustme.CA,
    ca: Path,
    pproxy: PproxyServer,
    server_ssl_context: ssl.SSLContext,
    tmp_path: Path,
    no_leaks: None,
) -> None:
    with http2_server(authority, tmp_path) as site, contextlib.ExitStack() as stack:
        url = pproxy.url("socks5")
        if kind != "socks5":
            context = server_ssl_context if kind == "https" else None
            url = stack.enter_context(ProxyServer(user=USER, ssl_context=context)).url_for(USER)
        async with AsyncHTTPTransport(site.url, proxy=url, verify_ssl=ca, http2=True) as t:
            for _ in range(2):
                response = await t.request(HttpMessage(url="/echo"))
                assert response.http_version == "HTTP/2"
                assert "proxy-authorization" not in response.json()["headers"]
        assert len(site.connections) == 1


async def test_a_header_of_ones_own_for_the_proxy(server: LocalServer, proxy: ProxyServer) -> None:
    own = {"Proxy-Authorization": "Negotiate abc"}
    async with AsyncHTTPTransport(server.url, proxy=proxy.url_for(USER), headers=own) as t:
        await t.request(HttpMessage(url="/items/1"))
    assert proxy.seen[0].headers["proxy-authorization"] == "Negotiate abc"


async def test_redirects_between_forwarding_and_tunnels(
    sites: dict[str, LocalServer], proxy: ProxyServer, ca: Path, no_leaks: None
) -> None:
    url = sites["https"].url + "/items/3"
    async with AsyncHTTPTransport(sites["http"].url, proxy=proxy.url, verify_ssl=ca) as t:
        response = await t.request(HttpMessage(url="/redirect-to", params={"url": url}))
    assert response.url == url
    assert [seen.method for seen in proxy.seen] == ["GET", "CONNECT"]


async def test_a_batch_through_a_proxy(engine: str, tls_server: LocalServer, ca: Path) -> None:
    with ProxyServer(user=USER) as proxy:
        transport = AsyncHTTPTransport(tls_server.url, proxy=proxy.url_for(USER), verify_ssl=ca)
        async with AsyncPynector(transport) as client:
            results = await client.batch_request(
                [{"path": f"/items/{number}"} for number in range(40)], max_concurrency=8
            )
        assert [response.json()["id"] for response in results] == list(range(40))
        if engine != "pyreqwest":  # which may connect anew while a connection is on its way back
            assert len(proxy.seen) <= 8


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_others_have_written(
    engine: str, kind: str, scheme: str, sites: dict[str, LocalServer], pproxy: PproxyServer, ca: Path
) -> None:
    if (engine, kind, scheme) == ("pyreqwest", "http", "https"):
        pytest.skip("this proxy knows no header names in lower case, which pyreqwest uses with CONNECT")
    url = sites[scheme].url.replace("127.0.0.1", "localhost")
    async with AsyncHTTPTransport(url, proxy=pproxy.url(kind), verify_ssl=ca) as t:
        for number in (1, 2):
            assert (await t.request(HttpMessage(url=f"/items/{number}"))).json()["id"] == number
        async with t.stream(HttpMessage(url="/big?bytes=500000")) as response:
            assert len(await response.read()) == 500_000
    assert sites[scheme].connections.total >= 1
    assert "proxy-authorization" not in names(sites[scheme])


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_wrong_credentials_for_it(kind: str, tls_server: LocalServer, pproxy: PproxyServer, ca: Path) -> None:
    proxy = pproxy.url(kind).replace("s3cr3t", "wr0ng")
    async with AsyncHTTPTransport(tls_server.url, proxy=proxy, verify_ssl=ca, max_retries=2) as t:
        with pytest.raises(errors.HTTPProxyError) as caught:
            await t.request(HttpMessage(url="/items/1"))
    assert caught.value.attempts == 1
    assert "wr0ng" not in str(caught.value)
    assert tls_server.requests.count == 0


# The environment


async def test_proxies_of_the_environment(
    sites: dict[str, LocalServer],
    proxy: ProxyServer,
    ca: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("https_proxy", proxy.url)

    async def fetch(**options: Any) -> int:
        before = len(proxy.seen)
        async with AsyncHTTPTransport(verify_ssl=ca, **options) as t:
            for site in sites.values():
                assert (await t.request(HttpMessage(url=f"{site.url}/items/1"))).json()["id"] == 1
        return len(proxy.seen) - before

    assert await fetch() == 2
    assert await fetch(trust_env=False) == 0
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{sites['http'].port}")
    assert await fetch() == 1
    assert await fetch(proxy=proxy.url) == 2
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    assert await fetch() == 0


async def test_the_environment_is_read_once(
    server: LocalServer, proxy: ProxyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    async with AsyncHTTPTransport(server.url) as t:
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("NO_PROXY", "*")
        await t.request(HttpMessage(url="/items/1"))
    assert len(proxy.seen) == 1


async def test_a_proxy_of_the_environment_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "gopher://me:s3cr3t@proxy")
    with pytest.raises(errors.ConfigurationError, match="HTTPS_PROXY") as caught:
        await AsyncHTTPTransport().connect()
    assert "s3cr3t" not in str(caught.value)


# What goes wrong


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


def mute(conn: Connection) -> None:
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


def variables(error: BaseException | None) -> str:
    """What a crash report shows of the functions of ours that an error went through."""
    shown = []
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"].startswith("pynector."):
                for name, value in frame.f_locals.items():
                    with contextlib.suppress(RuntimeError):  # of a request of pyreqwest that was sent
                        shown.append(f"{name}={value!r}")
        error = error.__cause__ or error.__context__
    assert "proxy" in "".join(shown)
    return "\n".join(shown)


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


# SOCKS, byte for byte


def socks(*replies: bytes, answer: bool = False) -> tuple[Script, list[bytes]]:
    """Speaks SOCKS5 with a user and a password: what it says after each message, and what it was told."""
    told: list[bytes] = []

    def message(conn: Connection, *lengths: int) -> bytes:
        """Fixed bytes, each part followed by a length and as many bytes."""
        data = b""
        for length in lengths:
            data += conn.read(length + 1) if length >= 0 else conn.read(-length)
            if length >= 0:
                data += conn.read(data[-1])
        return data

    def script(conn: Connection) -> None:
        for lengths, reply in zip([(1,), (1, 0), (4, -2)], replies, strict=False):
            told.append(message(conn, *lengths))
            conn.drip(reply, 0.002)
        if answer:
            conn.read_request()
            conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        conn.wait()

    return script, told


CHOSEN, ACCEPTED = b"\5\2", b"\1\0"
DONE = b"\5\0\0\1\x7f\0\0\1\0\x50"


@pytest.mark.parametrize(
    "done", [DONE, b"\5\0\0\3\x09localhost\0\x50", b"\5\0\0\4" + bytes(16) + b"\0\x50"], ids=["v4", "name", "v6"]
)
@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
async def test_socks_in_pieces(kind: str, done: bytes, no_leaks: None) -> None:
    script, told = socks(CHOSEN, ACCEPTED, done, answer=True)
    with ScriptedServer(script) as proxy:
        url = f"{kind}://{USER}@127.0.0.1:{proxy.port}"
        async with AsyncHTTPTransport("http://nobody.invalid:8080", proxy=url) as t:
            assert (await t.request(HttpMessage(url="/x"))).content == b"ok"
    # The proxy looks the name up.
    assert told == [b"\5\1\2", b"\1\2me\6s3cr3t", b"\5\1\0\3\x0enobody.invalid\x1f\x90"]
    assert proxy.requests[0].startswith(b"GET /x HTTP/1.1\r\n")
    assert b"roxy" not in proxy.requests[0]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:80", b"\1\x7f\0\0\1\0\x50"),
        ("http://[::1]:81", b"\4" + bytes(15) + b"\1\0\x51"),
    ],
)
async def test_addresses_for_socks(url: str, address: bytes) -> None:
    told: list[bytes] = []

    def script(conn: Connection) -> None:
        told.append(conn.read(3))
        conn.send(b"\5\0")
        told.append(conn.read(3 + len(address)))
        conn.send(DONE)
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        conn.wait()

    with ScriptedServer(script) as proxy:
        async with AsyncHTTPTransport(url, proxy=f"socks5://127.0.0.1:{proxy.port}") as t:
            assert (await t.request(HttpMessage(url="/x"))).content == b"ok"
    assert told == [b"\5\1\0", b"\5\1\0" + address]


def refusal(code: int) -> bytes:
    return bytes([5, code]) + DONE[2:]


SOCKS_FAILURES: dict[str, tuple[tuple[bytes, ...], type[errors.TransportError], str, bool]] = {
    "no method": ((b"\5\xff",), errors.HTTPProxyError, "takes no user and password", False),
    "other method": ((b"\5\0",), errors.HTTPProxyError, "takes no user and password", False),
    "wrong password": ((CHOSEN, b"\1\1"), errors.HTTPProxyError, "refused our user and password", False),
    "not allowed": ((CHOSEN, ACCEPTED, refusal(2)), errors.HTTPProxyError, "not allowed by ruleset", False),
    "unreachable": ((CHOSEN, ACCEPTED, refusal(4)), errors.HTTPProxyError, "host unreachable", True),
    "refused": ((CHOSEN, ACCEPTED, refusal(5)), errors.HTTPProxyError, "api.example.com:443: connection refused", True),
    "no such code": ((CHOSEN, ACCEPTED, refusal(77)), errors.HTTPProxyError, "does not speak SOCKS5", False),
    "no such address": ((CHOSEN, ACCEPTED, b"\5\0\0\7" + bytes(8)), errors.HTTPProxyError, "does not speak", False),
    "HTTP": ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), errors.HTTPProxyError, "does not speak SOCKS5", False),
    "silent": ((CHOSEN, ACCEPTED, b""), errors.ConnectionTimeoutError, "within the timeout", True),
    "half a reply": ((CHOSEN, ACCEPTED, DONE[:6]), errors.ConnectionTimeoutError, "within the timeout", True),
}


# In the words of pyreqwest.
SOCKS_TEXTS = {
    "no method": "does not support user/pass authentication",
    "other method": "implements authentication incorrectly",
    "wrong password": "credentials not accepted",
    "not allowed": "connection not allowed",
    "refused": "connection refused",
    **dict.fromkeys(["no such code", "no such address", "HTTP"], "failed parsing server response"),
}


@pytest.mark.parametrize("failure", SOCKS_FAILURES)
async def test_a_socks_proxy_that_fails(engine: str, failure: str, no_leaks: None) -> None:
    replies, kind, text, again = SOCKS_FAILURES[failure]
    if engine == "pyreqwest":
        text = SOCKS_TEXTS.get(failure, text)
    script, _ = socks(*replies)
    with ScriptedServer(script, repeat=True) as proxy:
        url = f"socks5://{USER}@127.0.0.1:{proxy.port}"
        transport = AsyncHTTPTransport("https://api.example.com", proxy=url, timeout=0.3)
        async with AsyncPynector(transport, retry=QUICK) as client:
            with pytest.raises(kind, match=text) as caught:
                await client.post("/x", json={})
    error = caught.value
    assert error.attempts == len(proxy.connections) == (3 if again else 1)
    assert error.sent is False
    assert f"socks5://127.0.0.1:{proxy.port}" in str(error)
    assert "s3cr3t" not in "".join(traceback.format_exception(error)) + variables(error)


async def test_a_socks_proxy_that_hangs_up(engine: str, no_leaks: None) -> None:
    def at_once(conn: Connection) -> None:
        conn.read(3)

    def after_the_password(conn: Connection) -> None:
        conn.read(3)
        conn.send(CHOSEN)
        conn.read(11)

    # The second is a blunt way to refuse a password; pyreqwest does not tell when it was.
    at_first = errors.HTTPProxyError if engine == "pyreqwest" else errors.ConnectionError
    for script, kind in ((at_once, at_first), (after_the_password, errors.HTTPProxyError)):
        with ScriptedServer(script) as proxy:
            url = f"socks5://{USER}@127.0.0.1:{proxy.port}"
            async with AsyncHTTPTransport("https://api.example.com", proxy=url, max_retries=0) as t:
                with pytest.raises(kind, match=f"127.0.0.1:{proxy.port}"):
                    await t.request(HttpMessage(url="/"))


async def test_a_socks_proxy_that_recovers(no_leaks: None) -> None:
    def unreachable(conn: Connection) -> None:
        conn.read(3)
        conn.send(b"\5\0")
        conn.read(10)
        conn.send(refusal(4))

    def good(conn: Connection) -> None:
        conn.read(3)
        conn.send(b"\5\0")
        conn.read(10)
        conn.send(DONE)
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        conn.wait()

    with ScriptedServer(unreachable, unreachable, good) as proxy:
        url = f"socks5://127.0.0.1:{proxy.port}"
        async with AsyncPynector(AsyncHTTPTransport("http://192.0.2.1", proxy=url), retry=QUICK) as client:
            assert (await client.post("/x", json={})).content == b"ok"


@pytest.mark.engines("httpx", "httpx2")  # the third needs none
async def test_socks_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'pynector\[socks\]'"):
        await AsyncHTTPTransport(proxy="socks5://127.0.0.1:1080").connect()


# Time, and cancellation


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


# Secrets


def everything(thing: Any, depth: int = 6) -> str:
    """What a curious user or a crash reporter sees of an object."""
    text = repr(thing) + str(thing)
    slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    inside = {**getattr(thing, "__dict__", {}), **{name: getattr(thing, name, None) for name in slots}}
    for name, value in inside.items() if depth else ():
        if name != "_value":  # of a Secret, which is where it belongs
            text += everything(value, depth - 1)
    return text


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_credentials_show_nowhere(
    scheme: str,
    sites: dict[str, LocalServer],
    ca: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore", "httpx", "pynector", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    with ProxyServer(user=USER) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url_for(USER))
        for options in ({}, {"proxy": proxy.url_for(USER)}):
            transport = AsyncHTTPTransport(sites[scheme].url, verify_ssl=ca, **options)
            async with AsyncPynector(transport) as client:
                response = await client.get("/echo")
                shown = everything(client) + everything(transport) + repr(response.request)
                assert "Proxy" in shown  # it was looked through
        assert len(proxy.seen) == 2
    assert "s3cr3t" not in shown + caplog.text
    assert BASIC not in shown + caplog.text
    assert "czNjcjN0" not in shown + caplog.text
