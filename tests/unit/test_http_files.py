"""Files as bodies: read by several requests at once, and refused in time."""

import io
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from pynector._http.body import stream_body
from pynector._http.files import CHUNK, FileChunks, FileView, measure, read, shared_view
from pynector._messages.http import HttpMessage
from pynector.errors import ConfigurationError, SerializationError


class Slow(io.BytesIO):
    """A file whose reads give other threads their turn."""

    def read(self, size: int | None = -1, /) -> bytes:
        position = self.tell()
        threading.Event().wait(0.001)
        self.seek(position)
        return super().read(size)


def test_threads_share_a_file() -> None:
    content = bytes(range(256)) * 1024
    file = Slow(b"head" + content)
    file.seek(4)
    seen: list[bytes] = []
    threads = [threading.Thread(target=lambda: seen.append(b"".join(FileChunks(file, 4)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each == content for each in seen] == [True] * 4
    assert file.tell() == 4


def test_measuring_leaves_the_position() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    assert measure(file) == (6, 4)
    assert file.tell() == 4
    assert measure(io.StringIO("abc")) == (None, 0)


def test_a_view_moves_as_a_file_does(tmp_path: Path) -> None:
    path = tmp_path / "named"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        view = FileView(file, 2)
        assert (view.read(3), view.tell(), file.tell()) == (b"234", 5, 0)
        assert (view.seek(-2, io.SEEK_CUR), view.read()) == (3, b"3456789")
        assert (view.seek(-1, io.SEEK_END), view.read(), view.read()) == (9, b"9", b"")
        assert view.seek(0) == 0
        assert view.name == str(path)
    assert FileView(io.BytesIO(), 0).name == "upload"


def test_what_cannot_seek_is_read_as_it_is() -> None:
    class Pipe:
        def __init__(self) -> None:
            self.left = CHUNK + 1

        def read(self, size: int = -1, /) -> bytes:
            count = min(size, self.left)
            self.left -= count
            return b"x" * count

    pipe = Pipe()
    assert shared_view(pipe) is pipe
    assert shared_view(b"bytes") == b"bytes"
    body = stream_body(HttpMessage("POST", "/", content=pipe))
    assert body is not None
    assert (body.length, body.replayable) == (None, False)
    source: Any = body.source
    assert [len(chunk) for chunk in source] == [CHUNK, 1]


def test_files_that_have_to_be_awaited(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        awaited: Any = anyio.AsyncFile(file)
        with pytest.raises(ConfigurationError, match="content: AsyncFile has to be awaited to be read"):
            HttpMessage("POST", "/", content=awaited)
        with pytest.raises(ConfigurationError, match=r"files\.f: AsyncFile has to be awaited"):
            HttpMessage("POST", "/", files={"f": ("name", awaited)})


def test_a_read_that_gives_something_to_await() -> None:
    async def later() -> bytes:
        return b""

    class Hidden:
        def read(self, size: int = -1, /) -> Any:
            return later()

    with pytest.raises(SerializationError, match=r"read\(\) of a Hidden gave coroutine, not bytes"):
        read(Hidden(), 1)


def test_a_file_that_was_closed_meanwhile() -> None:
    file = io.BytesIO(b"x")
    alone = HttpMessage("POST", "/", content=file)
    upload = HttpMessage("POST", "/", files={"f": ("name", file, "text/plain")})
    file.close()
    for message in (alone, upload):
        with pytest.raises(SerializationError, match="the file is closed"):
            stream_body(message)
