"""Proxies: what goes over the wire to them, and through them."""

import contextlib
import ssl
from pathlib import Path

import pytest
import trustme

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.http2 import http2_server
from servers.proxy import BASIC, USER, PproxyServer, ProxyServer

pytestmark = pytest.mark.usefixtures("engine", "no_proxies_around")


def names(site: LocalServer) -> list[str]:
    """The names of all headers that a server was sent."""
    return [name.lower() for request in site.requests.recent for name, _ in request.headers]


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


@pytest.mark.needs("socksio")
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


@pytest.mark.needs("socksio")
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


@pytest.mark.needs("socksio")
@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_wrong_credentials_for_it(kind: str, tls_server: LocalServer, pproxy: PproxyServer, ca: Path) -> None:
    proxy = pproxy.url(kind).replace("s3cr3t", "wr0ng")
    async with AsyncHTTPTransport(tls_server.url, proxy=proxy, verify_ssl=ca, max_retries=2) as t:
        with pytest.raises(errors.HTTPProxyError) as caught:
            await t.request(HttpMessage(url="/items/1"))
    assert caught.value.attempts == 1
    assert "wr0ng" not in str(caught.value)
    assert tls_server.requests.count == 0
