"""TLS: whom we trust, who we are, and what becomes of a request when the two sides do not agree."""

import contextlib
import datetime as dt
import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.scripted import Connection, Script, ScriptedServer, http_response

pytestmark = pytest.mark.usefixtures("engine")

# The TLS of the third is not Python's: it takes no context of it, and no key with a password.
pythons_tls = pytest.mark.engines("httpx", "httpx2")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)
PASSWORD = "pa55-w0rd"


class Identity:
    """Files of a client: a certificate, its key, both in one, and the key encrypted."""

    def __init__(self, authority: trustme.CA, folder: Path) -> None:
        issued = authority.issue_cert("client.example")
        self.both = folder / "both.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.both))
        self.cert = folder / "cert.pem"
        issued.cert_chain_pems[0].write_to_path(str(self.cert))
        self.key = folder / "key.pem"
        issued.private_key_pem.write_to_path(str(self.key))
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        self.locked = folder / "locked.pem"
        self.locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(PASSWORD.encode()),
            )
        )


@pytest.fixture(scope="module")
def identity(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A client that the authority knows."""
    return Identity(authority, tmp_path_factory.mktemp("identity"))


def context_for(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    """A server's context with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def serve(context: ssl.SSLContext, seen: list[Any] | None = None) -> Script:
    """Shakes hands and answers one request; notes the certificate of the client."""

    def script(conn: Connection) -> None:
        try:
            conn.start_tls(context)
        except OSError as error:
            if seen is not None:
                seen.append(error)
            # Closed now, with what the client has said unread, the connection would end before the alert gets there.
            with socket.socket(fileno=conn._sock.detach()) as sock:
                sock.settimeout(1)
                with contextlib.suppress(OSError):
                    while sock.recv(65536):
                        pass
            return
        if seen is not None:
            tls: Any = conn._sock
            seen.append(tls.getpeercert())
        try:
            conn.read_request()
            conn.send(http_response(b"good"))
            conn.wait()
        except EOFError:
            pass

    return script


async def fetch(url: str, timeout: float = 3, **options: Any) -> bytes:
    async with AsyncPynector(AsyncHTTPTransport(url, timeout=timeout, **options), retry=QUICK) as client:
        response = await client.get("/x")
        return bytes(response.content)


async def failure(context: ssl.SSLContext, **options: Any) -> errors.TLSError:
    """The error of a request to a server with that context, which must have seen one connection only."""
    with ScriptedServer(serve(context), repeat=True, scheme="https") as server:
        with pytest.raises(errors.TLSError) as caught:
            await fetch(server.url, **options)
        assert len(server.connections) == caught.value.attempts == 1
        assert not server.requests or not caught.value.transient
    return caught.value


# Whom we trust


@pytest.mark.parametrize("kind", [str, Path])
async def test_an_authority_of_ones_own(kind: Any, tls_server: LocalServer, ca: Path, no_leaks: None) -> None:
    async with AsyncHTTPTransport(tls_server.url, verify_ssl=kind(ca)) as t:
        for number in (1, 2):
            assert (await t.request(HttpMessage(url=f"/items/{number}"))).json()["id"] == number
    assert tls_server.connections.total == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes such folders")
async def test_a_folder_of_authorities(tls_server: LocalServer, ca: Path, tmp_path: Path, no_leaks: None) -> None:
    command = ["openssl", "x509", "-hash", "-noout", "-in", str(ca)]
    name = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(ca.read_bytes())
    async with AsyncHTTPTransport(tls_server.url, verify_ssl=tmp_path) as t:
        assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1


@pythons_tls
async def test_a_context_of_ones_own(tls_server: LocalServer, client_ssl_context: ssl.SSLContext) -> None:
    before = client_ssl_context.minimum_version, client_ssl_context.verify_flags, client_ssl_context.options
    async with AsyncHTTPTransport(tls_server.url, verify_ssl=client_ssl_context) as t:
        assert (await t.request(HttpMessage(url="/items/1"))).json()["id"] == 1
    after = client_ssl_context.minimum_version, client_ssl_context.verify_flags, client_ssl_context.options
    assert after == before


async def test_an_authority_of_ones_own_is_the_only_one(authority: trustme.CA, ca: Path, no_leaks: None) -> None:
    error = await failure(context_for(trustme.CA(), "127.0.0.1"), verify_ssl=ca)
    assert re.search("CERTIFICATE_VERIFY_FAILED|UnknownIssuer", str(error))
    assert error.sent is False


async def test_the_wrong_host(authority: trustme.CA, ca: Path, no_leaks: None) -> None:
    error = await failure(context_for(authority, "other.example"), verify_ssl=ca)
    assert re.search(
        """certificate is not valid for '127.0.0.1'|certificate not valid for name "127.0.0.1";""", str(error)
    )


@pytest.mark.engines("httpx", "httpx2")  # the third looks names up on its own, beyond the reach of a test
async def test_an_address_with_a_zone(authority: trustme.CA, ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    asked = []

    def lookup(host: Any, *args: Any) -> Any:
        asked.append(host if isinstance(host, str) else host.decode())
        return real("127.0.0.1" if asked[-1].startswith("fe80") else host, *args)

    with ScriptedServer(serve(context_for(authority, "fe80::1")), scheme="https") as server:
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        url = server.url.replace("127.0.0.1", "[fe80::1%25eth0]")
        assert await fetch(url, verify_ssl=ca, trust_env=False) == b"good"
    assert {host for host in asked if host.startswith("fe80")} == {"fe80::1%eth0"}


async def test_an_expired_certificate(authority: trustme.CA, ca: Path, no_leaks: None) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    context = context_for(authority, "127.0.0.1", not_before=past - dt.timedelta(days=9), not_after=past)
    error = await failure(context, verify_ssl=ca)
    assert re.search("certificate (has )?expired", str(error))


async def test_all_of_it_is_let_through_without_checks(authority: trustme.CA, no_leaks: None) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    context = context_for(trustme.CA(), "other.example", not_before=past - dt.timedelta(days=9), not_after=past)
    with ScriptedServer(serve(context), scheme="https") as server:
        assert await fetch(server.url, verify_ssl=False) == b"good"


@pythons_tls
async def test_a_server_that_is_too_old(authority: trustme.CA, ca: Path, no_leaks: None) -> None:
    context = context_for(authority, "127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    own = ssl.create_default_context(cafile=str(ca))
    own.minimum_version = ssl.TLSVersion.TLSv1_3
    error = await failure(context, verify_ssl=own)
    assert "PROTOCOL_VERSION" in str(error)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing.pem", r"verify_ssl.*missing\.pem.*No such file"),
        (lambda folder: folder / "empty.pem", r"verify_ssl.*empty\.pem.*can't be loaded"),
    ],
)
async def test_authorities_that_cannot_be_loaded(make: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(errors.ConfigurationError, match=message):
        await AsyncHTTPTransport(verify_ssl=make(tmp_path)).connect()


# Who we are


async def introduce(version: ssl.TLSVersion, authority: trustme.CA, ca: Path, cert: Any) -> None:
    """A server that wants a certificate is shown this one."""
    context = context_for(authority, "127.0.0.1")
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    seen: list[Any] = []
    with ScriptedServer(serve(context, seen), scheme="https") as server:
        assert await fetch(server.url, verify_ssl=ca, cert=cert) == b"good"
    assert ("DNS", "client.example") in seen[0]["subjectAltName"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("form", ["one file", "two files", "needless password"])
async def test_a_client_certificate(
    form: str, version: ssl.TLSVersion, authority: trustme.CA, ca: Path, identity: Identity, no_leaks: None
) -> None:
    cert: Any = {
        "one file": identity.both,
        "two files": (str(identity.cert), identity.key),
        "needless password": (identity.both, None, PASSWORD),
    }[form]
    await introduce(version, authority, ca, cert)


@pythons_tls
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("password", [PASSWORD, PASSWORD.encode()])
async def test_a_key_with_a_password(
    password: Any, version: ssl.TLSVersion, authority: trustme.CA, ca: Path, identity: Identity, no_leaks: None
) -> None:
    await introduce(version, authority, ca, (identity.cert, identity.locked, password))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("who", ["nobody", "a stranger"])
async def test_a_client_that_is_not_known(
    who: str,
    version: ssl.TLSVersion,
    method: str,
    authority: trustme.CA,
    ca: Path,
    tmp_path: Path,
    no_leaks: None,
) -> None:
    context = context_for(authority, "127.0.0.1")
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    cert = None if who == "nobody" else Identity(trustme.CA(), tmp_path).both
    seen: list[Any] = []
    with ScriptedServer(serve(context, seen), repeat=True, scheme="https") as server:
        async with AsyncPynector(AsyncHTTPTransport(server.url, verify_ssl=ca, cert=cert), retry=QUICK) as client:
            with pytest.raises(errors.TLSError, match="alert") as caught:
                await client.request({"path": "/x", "method": method})
        assert caught.value.attempts == len(server.connections) == 1
    assert caught.value.transient is False
    assert isinstance(seen[0], ssl.SSLError)


async def refused(cert: Any, message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message) as caught:
        await AsyncHTTPTransport(cert=cert).connect()
    assert "wr0ng" not in str(caught.value)


async def test_client_certificates_that_cannot_be_loaded(identity: Identity, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stranger = Identity(trustme.CA(), other)
    (tmp_path / "empty.pem").touch()
    await refused(tmp_path / "missing.pem", r"`cert`: .*missing\.pem' can't be read: No such file")
    await refused((identity.cert, tmp_path / "missing.pem"), r"`cert`: .*missing\.pem' can't be read")
    await refused(tmp_path, r"`cert`: .* can't be read: Is a directory")
    await refused(tmp_path / "empty.pem", r"`cert`: .*empty\.pem' can't be loaded")
    await refused(identity.cert, r"`cert`: .*cert\.pem' can't be loaded: .*no key in it")
    await refused((identity.cert, stranger.key), r"`cert`: .*cert\.pem' with the key .*key\.pem' .*key values mismatch")


@pythons_tls
async def test_wrong_passwords_of_a_key(identity: Identity) -> None:
    await refused((identity.cert, identity.locked), r"`cert`: .*locked\.pem' can't be loaded: .*its password")
    await refused((identity.cert, identity.locked, "wr0ng"), r"`cert`: .*locked\.pem' can't be loaded: .*its password")
    await refused((identity.cert, identity.locked, "wr0ng" * 500), r"`cert`: .*password cannot be longer")


@pythons_tls
async def test_the_password_of_a_key_does_not_show(identity: Identity) -> None:
    transport = AsyncHTTPTransport(cert=(identity.cert, identity.locked, PASSWORD))
    async with transport:
        shown = f"{transport!r} {vars(transport)}"
    assert "REDACTED" in shown
    assert PASSWORD not in shown


async def test_a_client_certificate_is_not_for_the_next_transport(
    authority: trustme.CA, ca: Path, identity: Identity, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    context = context_for(authority, "127.0.0.1")
    context.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(context)
    seen: list[Any] = []
    with ScriptedServer(serve(context, seen), repeat=True, scheme="https") as server:
        assert await fetch(server.url, cert=identity.both) == b"good"
        assert await fetch(server.url) == b"good"
    assert [bool(cert) for cert in seen] == [True, False]


# Who does not speak TLS, or not to the end


async def test_a_handshake_without_an_answer(no_leaks: None) -> None:
    def mute(conn: Connection) -> None:
        conn.wait()

    with ScriptedServer(mute, repeat=True, scheme="https") as server:
        async with AsyncPynector(AsyncHTTPTransport(server.url, timeout=0.2), retry=QUICK) as client:
            started = time.monotonic()
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await client.post("/x", json={})
            assert time.monotonic() - started < 3 * (0.2 + 0.25)
    assert caught.value.phase == "connect"
    assert caught.value.sent is False
    assert caught.value.attempts == 3


async def test_a_server_that_hangs_up_in_the_handshake(no_leaks: None) -> None:
    def hang_up(conn: Connection) -> None:
        conn.read(1)

    with ScriptedServer(hang_up, repeat=True, scheme="https") as server:
        async with AsyncPynector(AsyncHTTPTransport(server.url), retry=QUICK) as client:
            with pytest.raises(errors.ConnectionError, match="hung up in the TLS handshake") as caught:
                await client.post("/x", json={})
    assert not isinstance(caught.value, errors.TLSError)
    assert caught.value.sent is False
    assert caught.value.attempts == 3


async def test_tls_on_a_plain_port(server: LocalServer, no_leaks: None) -> None:
    with pytest.raises(errors.TransportError) as caught:
        await fetch(server.url.replace("http:", "https:"), timeout=0.2)
    assert isinstance(caught.value, errors.ConnectionError)
    assert caught.value.sent is False


async def test_plain_http_on_a_tls_port(authority: trustme.CA, no_leaks: None) -> None:
    with ScriptedServer(serve(context_for(authority, "127.0.0.1")), repeat=True) as server:
        with pytest.raises((errors.HTTPProtocolError, errors.ConnectionError)):
            await fetch(server.url, timeout=0.5)


# HTTP/2


@pythons_tls
async def test_a_context_that_offers_http2_by_itself(authority: trustme.CA, ca: Path, no_leaks: None) -> None:
    context = context_for(authority, "127.0.0.1")
    context.set_alpn_protocols(["h2", "http/1.1"])
    own = ssl.create_default_context(cafile=str(ca))
    own.set_alpn_protocols(["h2", "http/1.1"])
    with ScriptedServer(serve(context), serve(context), scheme="https") as server:
        async with AsyncHTTPTransport(server.url, verify_ssl=own) as t:
            with pytest.raises(errors.ConfigurationError, match=r"offers HTTP/2, and 127\.0\.0\.1 took it"):
                await t.request(HttpMessage(url="/x"))
        own.set_alpn_protocols(["http/1.1"])
        assert await fetch(server.url, verify_ssl=own) == b"good"


@pythons_tls
async def test_http2_with_a_context_that_does_not_offer_it(authority: trustme.CA, ca: Path, no_leaks: None) -> None:
    context = context_for(authority, "127.0.0.1")
    context.set_alpn_protocols(["h2", "http/1.1"])
    own = ssl.create_default_context(cafile=str(ca))
    with ScriptedServer(serve(context), scheme="https") as server:
        # It is used as it is: the request goes out in HTTP/1.1.
        assert await fetch(server.url, verify_ssl=own, http2=True) == b"good"
