"""Downloads that are cut off: resumed where that is safe, and what is left behind when they end early."""

import gzip
import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.scopes import move_on_after
from pynector.transport.http import AsyncHTTPTransport
from servers.downloads import BODY, TAG, asked, in_folder, rest, sends, stalls
from servers.scripted import Connection, Script, ScriptedServer

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

QUICK = RetryPolicy(max_retries=3, backoff_factor=0.01)


def client_of(server: ScriptedServer, *, retry: Any = QUICK, timeout: float = 5.0) -> AsyncPynector:
    return AsyncPynector(AsyncHTTPTransport(server.url, timeout=timeout), retry=retry)


# Cut off


async def test_begins_again_without_a_validator(tmp_path: Path, no_leaks: None) -> None:
    seen: list[int] = []
    with ScriptedServer(sends(BODY, upto=700_000), sends(b"another one")) as server:
        async with client_of(server) as client:
            done = await client.download("/", tmp_path / "file", progress=lambda n, _: seen.append(n))
        assert [asked(request) for request in server.requests] == [{"accept-encoding": "identity"}] * 2
    assert done.size == 11
    assert (tmp_path / "file").read_bytes() == b"another one"
    assert max(seen) == 700_000
    assert seen[-1] == 11


@pytest.mark.parametrize("upto", [1, 100, 700_000, len(BODY) - 1])
@pytest.mark.parametrize("to_file", [False, True])
async def test_resumes_by_tag(upto: int, to_file: bool, tmp_path: Path, no_leaks: None) -> None:
    file = io.BytesIO(b"before")
    file.seek(6)
    target: Any = file if to_file else tmp_path / "file"
    with ScriptedServer(sends(BODY, TAG, upto=upto), rest(upto, TAG)) as server:
        async with client_of(server) as client:
            done = await client.download("/", target)
        assert asked(server.requests[1]) == {
            "accept-encoding": "identity",
            "range": f"bytes={upto}-",
            "if-range": '"one"',
        }
    assert done.size == len(BODY)
    assert done.response.status_code == 206
    assert (file.getvalue() if to_file else (tmp_path / "file").read_bytes()) == (b"before" if to_file else b"") + BODY


async def test_resumes_by_date_and_several_times(tmp_path: Path, no_leaks: None) -> None:
    modified = b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
    date = b"Date: Sun, 06 Nov 1994 08:49:38 GMT"
    middle = BODY[100:]
    head = (b"Content-Range: bytes 100-%d/*" % (len(BODY) - 1), modified, date)
    with ScriptedServer(
        sends(BODY, modified, date, upto=100),
        sends(middle, *head, status="206 Partial Content", upto=800_000),
        sends(b"busy", b"Connection: close", status="503 Service Unavailable"),
        rest(800_100, modified, date),
    ) as server:
        async with client_of(server) as client:
            await client.download("/", tmp_path / "file")
        assert asked(server.requests[3])["range"] == "bytes=800100-"
        assert asked(server.requests[3])["if-range"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert (tmp_path / "file").read_bytes() == BODY


@pytest.mark.parametrize(
    "headers",
    [
        [b'ETag: W/"one"'],
        [b"ETag: one"],
        [TAG, b"Accept-Ranges: none"],
        [TAG, b"Content-Encoding: identity, gzip"],
        [b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
        [b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", b"Date: Sun, 06 Nov 1994 08:49:37 GMT"],
        [b"Last-Modified: yesterday", b"Date: today"],
    ],
)
async def test_a_weak_validator_is_none(headers: list[bytes], tmp_path: Path, no_leaks: None) -> None:
    body = BODY
    if b"gzip" in headers[-1]:
        body = gzip.compress(os.urandom(1000))
    with ScriptedServer(sends(body, *headers, upto=500), sends(b"all")) as server:
        async with client_of(server) as client:
            await client.download("/", tmp_path / "file")
        assert "range" not in asked(server.requests[1])
    assert (tmp_path / "file").read_bytes() == b"all"


async def test_content_that_has_changed(tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(sends(BODY, TAG, upto=700_000), sends(b"new", b'ETag: "two"')) as server:
        async with client_of(server) as client:
            done = await client.download("/", tmp_path / "file")
    assert (done.size, done.response.status_code) == (3, 200)
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    "wrong",
    [
        rest(99, TAG),
        rest(101, TAG),
        rest(100, TAG, total=len(BODY) + 1),
        rest(100, b'ETag: "two"'),
        sends(BODY[100:], TAG, status="206 Partial Content"),
        sends(BODY[100:], b"Content-Range: pages 1-2/3", status="206 Partial Content"),
        sends(
            gzip.compress(b"x" * (len(BODY) - 100)),
            b"Content-Range: bytes 100-%d/%d" % (len(BODY) - 1, len(BODY)),
            b"Content-Encoding: gzip",
            b"Connection: close",
            status="206 Partial Content",
        ),
        sends(b"", b"Content-Range: bytes */50", b"Connection: close", status="416 Range Not Satisfiable"),
    ],
)
async def test_a_rest_that_does_not_fit(wrong: Script, tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(sends(BODY, TAG, upto=100), wrong, sends(b"all", TAG)) as server:
        async with client_of(server) as client:
            await client.download("/", tmp_path / "file")
        assert "range" not in asked(server.requests[2])
    assert (tmp_path / "file").read_bytes() == b"all"


async def test_a_part_that_nobody_asked_for(tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(rest(100), rest(100)) as server:
        async with client_of(server) as client:
            with pytest.raises(errors.HTTPProtocolError, match="a part was sent"):
                await client.download("/", tmp_path / "file")
            # A user who asks for a part gets it
            done = await client.download("/", tmp_path / "file", headers={"Range": "bytes=100-"})
        assert done.size == len(BODY) - 100


async def test_resume_can_be_switched_off(tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(sends(BODY, TAG, upto=100), sends(b"all", TAG)) as server:
        async with client_of(server) as client:
            await client.download("/", tmp_path / "file", resume=False)
        assert "range" not in asked(server.requests[1])
    assert (tmp_path / "file").read_bytes() == b"all"


async def test_what_the_policy_does_not_allow(tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(sends(BODY, TAG, upto=100), sends(BODY, TAG, upto=100), rest(100, TAG)) as server:
        async with client_of(server, retry=None) as client:
            with pytest.raises(errors.HTTPIncompleteError) as caught:
                await client.download("/", tmp_path / "file")
            assert caught.value.attempts == 1
        async with client_of(server) as client:
            with pytest.raises(errors.HTTPIncompleteError):
                await client.download("/", tmp_path / "file", method="POST")
        assert len(server.requests) == 2
        async with client_of(server) as client:
            with pytest.raises(errors.HTTPProtocolError):
                await client.download("/", tmp_path / "file")
    assert in_folder(tmp_path) == []


async def test_a_file_that_cannot_go_back(no_leaks: None) -> None:
    class Pipe:
        taken = b""

        def write(self, data: bytes) -> None:
            self.taken += data

    pipe: Any = Pipe()
    with ScriptedServer(sends(BODY, upto=100)) as server:
        async with client_of(server) as client:
            with pytest.raises(errors.HTTPIncompleteError):
                await client.download("/", pipe)
        assert len(server.requests) == 1
    assert pipe.taken == BODY[:100]
    pipe.taken = b""
    with ScriptedServer(sends(BODY, TAG, upto=100), rest(100, TAG)) as server:
        async with client_of(server) as client:
            await client.download("/", pipe)
    assert pipe.taken == BODY
    with ScriptedServer(sends(BODY, TAG, upto=100), sends(b"new", b'ETag: "two"')) as server:
        async with client_of(server) as client:
            with pytest.raises(errors.HTTPProtocolError, match="can't be taken back"):
                await client.download("/", pipe)


# Ended early


@pytest.mark.parametrize("cut", [False, True])
async def test_an_open_file_has_what_came_before_it_failed(cut: bool, tmp_path: Path, no_leaks: None) -> None:
    script = sends(BODY, upto=100_000) if cut else stalls(BODY, 100_000)
    with ScriptedServer(script) as server:
        async with client_of(server, retry=None) as client:
            with open(tmp_path / "file", "wb") as file:
                with pytest.raises(errors.HTTPIncompleteError if cut else errors.TimeoutError):
                    await client.download("/", file, timeout=None if cut else 0.5)
    assert (tmp_path / "file").read_bytes() == BODY[:100_000]


async def test_the_deadline_covers_everything(tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(sends(BODY, TAG, upto=100), stalls(BODY, 700_000)) as server:
        async with client_of(server) as client:
            started = time.monotonic()
            with pytest.raises(errors.TimeoutError, match=r"not downloaded within 0\.5 s: .*700000 bytes came"):
                await client.download("/", tmp_path / "file", timeout=0.5)
            assert time.monotonic() - started < 0.75
    assert in_folder(tmp_path) == []


async def test_silence(tmp_path: Path, no_leaks: None) -> None:
    with ScriptedServer(stalls(BODY, 1000)) as server:
        async with client_of(server, retry=None, timeout=0.2) as client:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await client.download("/", tmp_path / "file")
            assert caught.value.phase == "read"
    assert in_folder(tmp_path) == []


async def test_cancelled(tmp_path: Path, no_leaks: None) -> None:
    (tmp_path / "file").write_bytes(b"before")
    with ScriptedServer(stalls(BODY, 700_000), sends(b"good")) as server:
        async with client_of(server) as client:
            with move_on_after(0.3) as scope:
                await client.download("/", tmp_path / "file")
            assert scope.cancelled_caught
            assert (await client.get("/")).content == b"good"
    assert in_folder(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"


async def test_a_limit_counts_the_whole(tmp_path: Path, no_leaks: None) -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (1000, BODY[n : n + 1000]) for n in range(0, 3000, 1000))

    def cut(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + TAG + b"\r\n\r\n" + chunked)
        conn.wait(0.1)

    with ScriptedServer(cut, rest(3000, TAG, b"Connection: close", body=BODY[:6000]), sends(BODY[:6000])) as server:
        transport = AsyncHTTPTransport(server.url, max_response_size=5000)
        async with AsyncPynector(transport, retry=QUICK) as client:
            with pytest.raises(errors.ResponseTooLargeError, match="max_response_size=5000") as caught:
                await client.download("/", tmp_path / "file")
            assert caught.value.url == f"{server.url}/"
            with pytest.raises(errors.ResponseTooLargeError):
                await client.download("/", tmp_path / "file")
    assert in_folder(tmp_path) == []
