"""The engine `pyreqwest`: connections that fail, TLS and proxies."""

import ssl
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from pynector import AsyncPynector, errors
from pynector._http import reqwest
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.http2 import Peer, http2_peer
from servers.proxy import ProxyServer
from servers.scripted import Connection, ScriptedServer
from servers.scripts import good, silent

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("pyreqwest")]


def client_of(url: str, **options: Any) -> AsyncPynector:
    return AsyncPynector(base_url=url, engine="pyreqwest", **{"retry": None, **options})


# Connections that fail


async def test_what_was_not_sent_is_known(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        url = server.url
    async with client_of(url) as client:
        with pytest.raises(errors.ConnectionRefusedError) as caught:
            await client.post("/x", json=1)
        assert caught.value.sent is False
        assert caught.value.url == f"{url}/x"
        outcome = (await client.batch_request([{"path": "/x", "method": "POST"}])).outcomes[0]
        assert outcome.state == "failed"


async def test_a_reset_after_the_request_leaves_it_unknown(no_leaks: None) -> None:
    def reset(conn: Connection) -> None:
        conn.read_request()
        conn.reset()

    with ScriptedServer(reset, reset) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.ConnectionError) as caught:
                await client.post("/x", json=1)
            assert caught.value.sent
            outcome = (await client.batch_request([{"path": "/x", "method": "POST"}])).outcomes[0]
            assert outcome.state == "unknown"


async def test_a_hung_connect_is_no_silent_server(no_leaks: None) -> None:
    def stall(conn: Connection) -> None:
        conn.wait()

    with ScriptedServer(stall, scheme="https") as server:
        async with AsyncHTTPTransport(server.url, timeout=0.3, engine="pyreqwest", max_retries=0) as transport:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await transport.request(HttpMessage(url="/x"))
    assert caught.value.phase == "connect"
    assert caught.value.sent is False
    with ScriptedServer(silent) as server:
        async with AsyncHTTPTransport(server.url, timeout=0.3, engine="pyreqwest", max_retries=0) as transport:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await transport.request(HttpMessage(url="/x"))
    assert caught.value.phase == "read"
    assert caught.value.sent


# TLS and proxies


async def test_whom_to_trust(tls_server: LocalServer, ca: Path, tmp_path: Path, no_leaks: None) -> None:
    async with client_of(tls_server.url) as client:
        with pytest.raises(errors.TLSError, match="UnknownIssuer") as caught:
            await client.get("/items/1")
        assert caught.value.sent is False
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "ca.pem").write_bytes(ca.read_bytes())
    for verify in (ca, str(ca), folder, False):
        async with client_of(tls_server.url, verify_ssl=verify) as client:
            assert (await client.get("/items/1")).json()["id"] == 1


async def test_the_environment_names_whom_to_trust(
    tls_server: LocalServer, ca: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    async with client_of(tls_server.url) as client:
        assert (await client.get("/items/1")).json()["id"] == 1
    async with client_of(tls_server.url, trust_env=False) as client:
        with pytest.raises(errors.ConfigurationError, match=r"SSL_CERT_FILE.*engine='httpx'"):
            await client.get("/items/1")
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.parent / "missing.pem"))
    with pytest.raises(errors.ConfigurationError, match=r"SSL_CERT_FILE=.*missing\.pem"):
        async with client_of(tls_server.url):
            pass


async def test_a_client_certificate(authority: trustme.CA, ca: Path, tmp_path: Path, no_leaks: None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    mine = authority.issue_cert("client@example.com")
    certificate, key, both = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "both.pem"
    mine.cert_chain_pems[0].write_to_path(certificate)
    mine.private_key_pem.write_to_path(key)
    mine.private_key_and_cert_chain_pem.write_to_path(both)
    with LocalServer(ssl_context=context) as server:
        for cert in ((str(certificate), str(key)), str(both)):
            async with client_of(server.url, verify_ssl=ca, cert=cert) as client:
                assert (await client.get("/items/1")).json()["id"] == 1
        async with client_of(server.url, verify_ssl=ca) as client:
            with pytest.raises(errors.TransportError):
                await client.get("/items/1")


@pytest.mark.parametrize("user", [None, "me:se%2Fcret"])
async def test_a_proxy(
    server: LocalServer, tls_server: LocalServer, ca: Path, user: str | None, no_leaks: None
) -> None:
    with ProxyServer(user="me:se/cret" if user else None) as proxy:
        url = proxy.url_for(user) if user else proxy.url
        async with client_of("", proxy=url, verify_ssl=ca) as client:
            assert (await client.get(f"{server.url}/items/1")).json()["id"] == 1
            assert (await client.get(f"{tls_server.url}/items/2")).json()["id"] == 2
        assert [seen.method for seen in proxy.seen] == ["GET", "CONNECT"]


async def test_a_proxy_that_refuses(tls_server: LocalServer, no_leaks: None) -> None:
    with ProxyServer(user="me:secret") as proxy:
        async with client_of(tls_server.url, proxy=proxy.url_for("me:wrong"), verify_ssl=False) as client:
            with pytest.raises(errors.HTTPProxyError) as caught:
                await client.get("/items/1")
        assert caught.value.sent is False
        assert "wrong" not in str(caught.value)


async def test_proxies_of_the_environment(server: LocalServer, monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    with ProxyServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        for options, used in (({}, 1), ({"trust_env": False}, 1)):
            async with client_of(server.url, **options) as client:
                await client.get("/items/1")
            assert len(proxy.seen) == used
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with client_of(server.url) as client:
            await client.get("/items/1")
        assert len(proxy.seen) == 1


async def test_a_connection_that_has_died_is_left_by_those_who_give_up_early(
    authority: trustme.CA, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    done = threading.Event()
    monkeypatch.setattr(reqwest, "PING", timedelta(seconds=0.2))
    with http2_peer(context, lambda _: done.wait(10), Peer.serve) as url:
        async with client_of(url, http2=True, verify_ssl=str(ca)) as client:
            answers = []
            for _ in range(20):
                with suppress(errors.TimeoutError, errors.TransportError):
                    answers.append(await client.get("/", timeout=0.3))
                    break
            assert answers
        done.set()
