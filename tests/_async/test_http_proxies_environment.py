"""Proxies that the environment names, and that their credentials show nowhere."""

import logging
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.proxy import BASIC, USER, ProxyServer
from servers.shown import everything

pytestmark = pytest.mark.usefixtures("engine", "no_proxies_around")


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
