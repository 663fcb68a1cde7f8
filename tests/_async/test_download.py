"""Downloads: whole files or none, and where they go."""

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, Download
from servers.downloads import BODY, in_folder, sends
from servers.scripted import ScriptedServer

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

QUICK = RetryPolicy(max_retries=3, backoff_factor=0.01)


def client_of(server: ScriptedServer, *, retry: Any = QUICK, timeout: float = 5.0) -> AsyncPynector:
    return AsyncPynector(AsyncHTTPTransport(server.url, timeout=timeout), retry=retry)


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


@pytest.mark.needs("tqdm")
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
            await client.download("/drip?n=3", tmp_path / "b", progress=5)
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


async def test_on_a_transport_that_is_not_for_http(tmp_path: Path) -> None:
    class Silent:
        async def connect(self) -> None: ...

        async def disconnect(self) -> None: ...

        async def send(self, message: Any, **options: Any) -> None: ...

        def receive(self) -> Any: ...

    async with AsyncPynector(Silent()) as client:
        with pytest.raises(errors.ConfigurationError, match="Silent can't download"):
            await client.download("/", tmp_path / "file")
