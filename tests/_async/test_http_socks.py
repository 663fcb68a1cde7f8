"""SOCKS proxies, byte for byte, and what becomes of a request when they fail."""

import traceback

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.proxy import USER
from servers.scripted import Connection, Script, ScriptedServer
from servers.shown import variables

pytestmark = pytest.mark.usefixtures("engine", "no_proxies_around")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)


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


@pytest.mark.needs("socksio")
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


@pytest.mark.needs("socksio")
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


@pytest.mark.needs("socksio")
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


@pytest.mark.needs("socksio")
async def test_a_socks_proxy_that_is_not_there(no_leaks: None) -> None:
    with ScriptedServer() as proxy:
        url = f"socks5://{USER}@127.0.0.1:{proxy.port}"
    transport = AsyncHTTPTransport("http://api.example.com", proxy=url, timeout=5.0)
    async with AsyncPynector(transport, retry=QUICK) as client:
        with pytest.raises(errors.ConnectionError, match=f"socks5://127.0.0.1:{proxy.port}") as caught:
            await client.post("/x", json={})
    assert caught.value.attempts == 3
    assert caught.value.sent is False


@pytest.mark.needs("socksio")
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


@pytest.mark.needs("socksio")
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
