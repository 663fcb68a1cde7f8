"""What a server may send at most: sizes, headers, interim answers."""

import contextlib
import gc
import gzip
import os
import secrets
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard

from pynector import AsyncPynector, errors
from pynector._http import decode
from pynector.transport.http import AsyncHTTPTransport
from servers.inside import engine_of
from servers.scripted import Connection, Script, ScriptedServer, http_response

pytestmark = pytest.mark.usefixtures("engine")

own_engines = pytest.mark.engines("httpx", "httpx2")  # whose insides are looked at

OK = http_response(b"good")
BOMB = 64 * 1024 * 1024


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": lambda data: zstandard.compress(data, 1),
}


def answers(*pieces: bytes, whole: bool = False) -> Script:
    """Answers a request with these bytes and waits for the client to hang up; the next connection is answered well.

    With `whole`, an answer ends with these bytes. Then pyreqwest, which may have them all by the time they are refused,
    may also use the connection again: that is sound, and the next request there is answered well too.
    """

    def script(conn: Connection) -> None:
        if conn.number:
            conn.read_request()
            conn.send(OK)
            conn.wait()
            return
        conn.read_request()
        try:
            for piece in pieces:
                conn.send(piece)
        except OSError:
            return
        if whole and os.environ["PYNECTOR_HTTP_ENGINE"] == "pyreqwest":
            with contextlib.suppress(EOFError):
                conn.read_request()
                conn.send(OK)
        assert conn.wait(), "the connection was not closed"

    return script


def head(*fields: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, "\r\n"]).encode()


async def refused(
    script: Script, match: str, error: type[Exception] = errors.ResponseTooLargeError, **options: object
) -> None:
    """A request and a stream are refused, their connection is closed, and the client serves on."""
    with ScriptedServer(script, repeat=True) as server:
        async with AsyncPynector(base_url=server.url, retry=None, **options) as client:
            with pytest.raises(error, match=match) as caught:
                await client.get("/?token=secret")
            assert caught.value.method == "GET"  # type: ignore[attr-defined]
            assert "secret" not in str(caught.value.url)  # type: ignore[attr-defined]
            assert (await client.get("/")).content == b"good"
    with ScriptedServer(script, repeat=True) as server:
        async with AsyncPynector(base_url=server.url, retry=None, **options) as client:
            with pytest.raises(error, match=match):
                async with client.stream({"path": "/"}) as stream:
                    async for _ in stream:
                        pass
            assert (await client.get("/")).content == b"good"


async def test_a_body_that_is_announced_too_large_is_not_read() -> None:
    await refused(
        answers(head("Content-Length: 1001")),
        "1001 bytes is larger than max_response_size=1000",
        max_response_size=1000,
    )


async def test_a_body_that_grows_too_large() -> None:
    piece = b"400\r\n" + bytes(1024) + b"\r\n"
    await refused(
        answers(head("Transfer-Encoding: chunked"), *[piece] * 100),
        "max_response_size=50000",
        max_response_size=50_000,
    )


async def test_bodies_within_the_limits() -> None:
    body = b"x" * 1000
    packed = gzip.compress(body)
    replies = [
        http_response(body),
        head(f"Content-Length: {len(packed)}", "Content-Encoding: gzip") + packed,
        head("Content-Length: 5000"),
    ]

    def script(conn: Connection) -> None:
        for reply in replies:
            conn.read_request()
            conn.send(reply)
        conn.wait()

    with ScriptedServer(script, repeat=True) as server:
        async with AsyncPynector(base_url=server.url, max_response_size=1000, max_decompressed_size=1000) as client:
            assert (await client.get("/")).content == body
            assert (await client.get("/")).content == body
            assert (await client.head("/")).content == b""  # its length is that of a body that does not come
        assert len(server.connections) == 1


@pytest.mark.parametrize("coding", ENCODERS)
async def test_a_bomb_is_not_unpacked(coding: str) -> None:
    packed = ENCODERS[coding](bytes(BOMB))
    await refused(
        answers(head(f"Content-Length: {len(packed)}", f"Content-Encoding: {coding}"), packed, whole=True),
        "max_decompressed_size=100000",
        max_decompressed_size=100_000,
    )


@pytest.mark.parametrize("coding", ENCODERS)
async def test_a_bomb_in_a_bomb(coding: str) -> None:
    packed = ENCODERS[coding](ENCODERS[coding](bytes(BOMB)))
    await refused(
        answers(head(f"Content-Length: {len(packed)}", f"Content-Encoding: {coding}, {coding}"), packed, whole=True),
        "max_decompressed_size=1000000",
        max_decompressed_size=1_000_000,
    )


async def test_the_limit_of_the_body_is_one_of_plain_bodies_too() -> None:
    await refused(
        answers(http_response(bytes(2000)), whole=True), "max_decompressed_size=1000", max_decompressed_size=1000
    )


async def test_too_many_codings() -> None:
    await refused(
        answers(head("Content-Length: 1", "Content-Encoding: " + ", ".join(["gzip"] * 6)) + b"x", whole=True),
        "6 content codings",
        errors.HTTPDecodeError,
    )


async def test_too_many_headers() -> None:
    await refused(
        answers(head(*["A: b"] * 1001, "Content-Length: 0")),
        "more than 1000 headers|head is too large",
        errors.HTTPProtocolError,
    )


async def test_headers_that_are_too_large() -> None:
    await refused(answers(head(*["A: " + "b" * 1000] * 1000)), "too (long|large)", errors.HTTPProtocolError)


@pytest.mark.engines("httpx", "httpx2")  # the third skips any number of them, for the time that it has
async def test_interim_answers_without_end() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    await refused(answers(*[early] * 10_000), "more than 100 interim answers", errors.HTTPProtocolError)


async def test_some_interim_answers() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    with ScriptedServer(answers(early * 20 + OK), repeat=True) as server:
        async with AsyncPynector(base_url=server.url) as client:
            assert (await client.get("/")).content == b"good"


@pytest.mark.engines("httpx", "httpx2")  # whose connections are made here
@own_engines
async def test_checked_headers_are_not_kept_beyond_their_connection() -> None:
    """They have credentials in them, and a module lives for ever."""
    secret = secrets.token_hex(20).encode()
    with ScriptedServer(answers(OK), repeat=True) as server:
        async with AsyncPynector(base_url=server.url, headers={"X-Api-Key": secret.decode()}) as client:
            assert (await client.get("/")).content == b"good"
            (lease,) = engine_of(client)._connections._idle
            assert secret in repr(lease.connection._known).encode()
        assert not lease.connection._known
    modules = [module for name, module in sys.modules.items() if name.startswith("pynector")]
    caches = [value for module in modules for value in vars(module).values() if hasattr(value, "cache_info")]
    assert secret.decode() not in repr([gc.get_referents(cache) for cache in caches])


@own_engines
async def test_zstd_stops_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb of a few kilobytes is not unpacked further than a block beyond it."""
    packed = zstandard.compress(bytes(BOMB), 1)
    weighed: list[int] = []
    take = decode._Room.take

    def counting(room: decode._Room, data: bytes) -> bytes:
        weighed.append(len(data))
        return take(room, data)

    monkeypatch.setattr(decode._Room, "take", counting)
    await refused(
        answers(head(f"Content-Length: {len(packed)}", "Content-Encoding: zstd"), packed, whole=True),
        "max_decompressed_size=100000",
        max_decompressed_size=100_000,
    )
    assert max(weighed) <= 128 * 1024


@pytest.mark.engines("httpx", "httpx2")  # whose connections are made here
@own_engines
async def test_nothing_is_kept_if_so_wished() -> None:
    with ScriptedServer(answers(OK), repeat=True) as server:
        async with AsyncPynector(base_url=server.url, keepalive_expiry=0.0) as client:
            assert (await client.get("/")).content == b"good"
            connections: Any = engine_of(client)._connections
            assert (connections._open, len(connections._idle)) == (0, 0)


async def test_an_answer_to_a_request_that_is_not_read() -> None:
    """The server refuses, keeps the connection open and reads no more."""

    def script(conn: Connection) -> None:
        conn.read_head()
        conn.send(http_response(b"", "413 Content Too Large"))
        time.sleep(1.0)

    with ScriptedServer(script, repeat=True) as server:
        transport = AsyncHTTPTransport(server.url, timeout=0.3)
        async with AsyncPynector(transport, retry=None) as client:
            with pytest.raises(errors.HTTPStatusError, match="413"):
                await client.post("/", content=bytes(50_000_000))
