"""Downloads: whole files or none, resumed where that is safe, and what is left behind when they end early."""

import contextlib
import gzip
import io
import os
import re
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.scopes import move_on_after
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, Download
from servers.scripted import Connection, Script, ScriptedServer, http_response

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

QUICK = RetryPolicy(max_retries=3, backoff_factor=0.01)
BODY = bytes(range(256)) * 4000  # more than one write of 512 KiB
TAG = b'ETag: "one"'


def client_of(server: ScriptedServer, *, retry: Any = QUICK, timeout: float = 5.0) -> AsyncPynector:
    return AsyncPynector(AsyncHTTPTransport(server.url, timeout=timeout), retry=retry)


def sends(body: bytes, *headers: bytes, upto: int | None = None, status: str = "200 OK") -> Script:
    """Answers one request; with `upto`, hangs up behind that many bytes of the body."""

    def script(conn: Connection) -> None:
        conn.read_request()
        whole = http_response(body, status, *headers)
        head = whole[: len(whole) - len(body)]
        with contextlib.suppress(OSError):  # the client may have seen enough
            conn.send(head + body[:upto])
        conn.wait(0.1 if upto is not None else 5)

    return script


def stalls(body: bytes, upto: int) -> Script:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(body)[: upto - len(body)])
        conn.wait()

    return script


def rest(start: int, *headers: bytes, body: bytes = BODY, total: int | None = None) -> Script:
    """Answers one request with what follows a place of the body."""
    size = len(body) if total is None else total
    content_range = b"Content-Range: bytes %d-%d/%d" % (start, len(body) - 1, size)
    return sends(body[start:], content_range, *headers, status="206 Partial Content")


def asked(request: bytes) -> dict[str, str]:
    """The headers of a request that are about ranges and codings."""
    found = re.findall(r"(?im)^(range|if-range|accept-encoding): (.*?)\r$", request.decode())
    return {name.lower(): value for name, value in found}


def in_folder(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


# What comes


async def test_to_a_path(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for to in (tmp_path / "file", str(tmp_path / "text")):
            done = await client.download("/big", to, params={"bytes": 1_500_000})
            assert type(done) is Download
            assert done.path == Path(to)
            assert done.size == 1_500_000
            assert Path(to).read_bytes() == (bytes(range(256)) * 6000)[:1_500_000]
            assert (done.response.status_code, done.response.content) == (200, b"")
            assert done.response.url.endswith("/big?bytes=1500000")
        empty = await client.download("/big?bytes=0", tmp_path / "empty")
        assert (empty.size, (tmp_path / "empty").read_bytes()) == (0, b"")
    assert in_folder(tmp_path) == ["empty", "file", "text"]
    assert server.connections.total == 1


async def test_to_a_file(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        memory = io.BytesIO(b"before")
        memory.seek(0, os.SEEK_END)
        done = await client.download("/drip?n=3&ms=1", memory)
        assert (done.path, done.size) == (None, 3)
        assert memory.getvalue() == b"before***"
        for buffering in (0, -1):
            with open(tmp_path / "file", "wb", buffering) as file:
                await client.download("/big?bytes=1500000", file)
                assert not file.closed
                assert os.path.getsize(tmp_path / "file") == 1_500_000

        class Digest:
            size = 0

            def write(self, data: bytes) -> None:
                self.size += len(data)

        digest: Any = Digest()
        await client.download("/big?bytes=1500000", digest)
        assert digest.size == 1_500_000


async def test_a_file_that_takes_little_at_a_time(server: LocalServer, no_leaks: None) -> None:
    class Small(io.RawIOBase):
        taken = b""

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:1000])
            return min(len(data), 1000)

    file: Any = Small()
    async with AsyncPynector(base_url=server.url) as client:
        await client.download("/big?bytes=100000", file)
    assert file.taken == (bytes(range(256)) * 400)[:100_000]


async def test_other_methods_and_parts(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.download("/echo", tmp_path / "a", method="POST", json={"n": 1}, headers={"X-One": "1"})
        text = (tmp_path / "a").read_text()
        assert '"method":"POST"' in text.replace(" ", "")
        assert "x-one" in text.lower()
        await client.download("/redirect/2", tmp_path / "b")
        assert b"redirected" in (tmp_path / "b").read_bytes()


async def test_codings(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    seen: list[tuple[int, int | None]] = []
    async with AsyncPynector(base_url=server.url) as client:
        done = await client.download("/gzip", tmp_path / "a", progress=lambda n, total: seen.append((n, total)))
        assert (tmp_path / "a").read_bytes() == b'{"gzipped":true}'
        assert done.size == 16
        assert seen[-1] == (16, None)  # the length that was sent is that of the encoded body
        assert dict(server.requests.recent[-1].headers)["accept-encoding"] == "identity"
        await client.download("/gzip", tmp_path / "a", headers={"Accept-Encoding": "gzip"})
        assert dict(server.requests.recent[-1].headers)["accept-encoding"] == "gzip"


async def test_progress(
    server: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_leaks: None
) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        seen: list[tuple[int, int | None]] = []
        await client.download("/drip?n=3", tmp_path / "a", progress=lambda done, total: seen.append((done, total)))
        assert seen[0] == (0, 3)
        assert seen[-1] == (3, 3)
        seen.clear()
        await client.download("/big?bytes=300000", io.BytesIO(), progress=lambda *both: seen.append(both))
        assert seen[-1] == (300_000, None)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        await client.download("/drip?n=3", tmp_path / "a", progress=True)
        assert "3.00/3.00" in capsys.readouterr().err

        def stop(done: int, total: int | None) -> None:
            raise KeyError(done)

        with pytest.raises(KeyError):
            await client.download("/drip?n=3", tmp_path / "b", progress=stop)
        with pytest.raises(errors.ConfigurationError, match="progress"):
            await client.download("/drip?n=3", tmp_path / "b", progress=5)  # type: ignore[arg-type]
    assert in_folder(tmp_path) == ["a"]


# The file


async def test_what_was_there_stays_until_the_end(tmp_path: Path, no_leaks: None) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")
    seen: list[tuple[bytes, int]] = []

    def look(done: int, total: int | None) -> None:
        seen.append((target.read_bytes(), len(in_folder(tmp_path))))

    with ScriptedServer(sends(BODY), sends(BODY, upto=100)) as server:
        async with client_of(server, retry=None) as client:
            await client.download("/", target, progress=look)
            assert set(seen) == {(b"before", 2)}
            assert target.read_bytes() == BODY
        async with client_of(server, retry=None) as client:
            with pytest.raises(errors.HTTPIncompleteError):
                await client.download("/", target)
    assert target.read_bytes() == BODY
    assert in_folder(tmp_path) == ["file"]


async def test_who_may_read_it(server: LocalServer, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        async with AsyncPynector(base_url=server.url) as client:
            await client.download("/items/1", tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


async def test_a_link_is_followed(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    async with AsyncPynector(base_url=server.url) as client:
        done = await client.download("/items/1", tmp_path / "link")
    assert done.path == tmp_path / "there" / "file"
    assert (tmp_path / "link").is_symlink()
    assert done.path.read_bytes()


async def test_names_as_long_as_can_be(server: LocalServer, tmp_path: Path) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        await client.download("/items/1", tmp_path / ("é" * 127))


async def test_without_overwriting(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(FileExistsError, match="overwrite=False"):
            await client.download("/items/1", tmp_path / "file", overwrite=False)
        assert len(server.requests.recent) == 0
        await client.download("/items/1", tmp_path / "new", overwrite=False)

        def meanwhile(done: int, total: int | None) -> None:
            (tmp_path / "late").write_bytes(b"mine")

        with pytest.raises(FileExistsError):
            await client.download("/items/1", tmp_path / "late", overwrite=False, progress=meanwhile)
    assert (tmp_path / "file").read_bytes() == (tmp_path / "late").read_bytes() == b"mine"
    assert in_folder(tmp_path) == ["file", "late", "new"]


async def test_targets_that_are_refused(server: LocalServer, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    closed = io.BytesIO()
    closed.close()
    async with AsyncPynector(base_url=server.url) as client:
        for to, kind, text in [
            (tmp_path / "none" / "file", FileNotFoundError, "no such folder"),
            (tmp_path, IsADirectoryError, "name of a file"),
            (fifo, errors.ConfigurationError, "no regular file"),
            ("", errors.ConfigurationError, "no usable path"),
            ("a\0b", errors.ConfigurationError, "no usable path"),
            (5, errors.ConfigurationError, "to is of type int"),
            (io.StringIO(), errors.ConfigurationError, "binary mode"),
            (closed, errors.ConfigurationError, "closed"),
        ]:
            with pytest.raises(kind, match=text):
                await client.download("/items/1", to)  # type: ignore[arg-type]
        for options, text in [
            ({"overwrite": 1}, "overwrite"),
            ({"resume": "yes"}, "resume"),
            ({"raise_for_status": False}, "raises for every status"),
            ({"tiemout": 3}, "timeout"),
            ({"method": "HEAD"}, "no body"),
        ]:
            with pytest.raises(errors.ConfigurationError, match=text):
                await client.download("/items/1", tmp_path / "file", **options)
        assert len(server.requests.recent) == 0
    with pytest.raises(errors.ClosedError):
        await client.download("/items/1", tmp_path / "file")
    assert in_folder(tmp_path) == ["fifo"]


async def test_a_status_is_raised_before_anything_is_written(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    memory = io.BytesIO()
    async with AsyncPynector(base_url=server.url, follow_redirects=False) as client:
        for to in (tmp_path / "file", memory):
            with pytest.raises(errors.HTTPNotFoundError) as caught:
                await client.download("/status/404?body=gone", to)
            assert caught.value.response is not None
            assert caught.value.response.text == "gone"
            with pytest.raises(errors.HTTPStatusError, match="302"):
                await client.download("/redirect/1", to)
        await client.download("/flaky/a?fail=2", tmp_path / "new", retry=QUICK)
    assert (tmp_path / "file").read_bytes() == b"before"
    assert memory.getvalue() == b""
    assert b'"attempt"' in (tmp_path / "new").read_bytes()


async def test_a_disk_that_fails(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(OSError, match="No space left"):
            await client.download("/big", Full(), retry=QUICK)
        assert len(server.requests.recent) == 1
        if os.path.exists("/dev/full"):
            with open("/dev/full", "wb", buffering=0) as file:
                with pytest.raises(OSError, match="No space left"):
                    await client.download("/big", file)
        (tmp_path / "shut").mkdir()
        (tmp_path / "shut").chmod(0o500)
        if not os.access(tmp_path / "shut", os.W_OK):
            with pytest.raises(PermissionError):
                await client.download("/big", tmp_path / "shut" / "file")
        (tmp_path / "shut").chmod(0o700)
        assert (await client.get("/items/1")).json()["id"] == 1


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


async def test_on_a_transport_that_is_not_for_http(tmp_path: Path) -> None:
    class Silent:
        async def connect(self) -> None: ...

        async def disconnect(self) -> None: ...

        async def send(self, message: Any, **options: Any) -> None: ...

        def receive(self) -> Any: ...

    async with AsyncPynector(Silent()) as client:
        with pytest.raises(errors.ConfigurationError, match="Silent can't download"):
            await client.download("/", tmp_path / "file")


async def test_a_limit_counts_the_whole(tmp_path: Path, no_leaks: None) -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (1000, BODY[n : n + 1000]) for n in range(0, 3000, 1000))

    def cut(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + TAG + b"\r\n\r\n" + chunked)
        conn.wait(0.1)

    with ScriptedServer(cut, rest(3000, TAG, body=BODY[:6000]), sends(BODY[:6000])) as server:
        transport = AsyncHTTPTransport(server.url, max_response_size=5000)
        async with AsyncPynector(transport, retry=QUICK) as client:
            with pytest.raises(errors.ResponseTooLargeError, match="max_response_size=5000") as caught:
                await client.download("/", tmp_path / "file")
            assert caught.value.url == f"{server.url}/"
            with pytest.raises(errors.ResponseTooLargeError):
                await client.download("/", tmp_path / "file")
    assert in_folder(tmp_path) == []
