"""Downloads in each colour: which thread writes, and what Ctrl-C leaves behind."""

import io
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, Pynector
from pynector.testing import LocalServer
from servers.scripted import Connection, ScriptedServer


class Recording(io.FileIO):
    """A file that remembers which threads wrote how much at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self.writes: list[tuple[int, bool]] = []

    def write(self, data: Any, /) -> int:
        self.writes.append((len(data), threading.current_thread() is threading.main_thread()))
        return super().write(data) or 0


async def test_a_disk_holds_up_no_event_loop(server: LocalServer, tmp_path: Path) -> None:
    with Recording(tmp_path / "file") as file:
        async with AsyncPynector(base_url=server.url) as client:
            await client.download("/big?bytes=2000000", file)
            written = [size for size, _ in file.writes]
            assert sum(written) == 2_000_000
            assert not any(here for _, here in file.writes)
            file.writes.clear()
            await client.download("/big?bytes=20000", file)  # too little to be worth a thread
            assert all(here for _, here in file.writes)


def test_blocking_code_writes_where_it_is(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    with Recording(tmp_path / "file") as file, Pynector(base_url=server.url) as client:
        client.download("/big?bytes=2000000", file)
        assert sum(size for size, _ in file.writes) == 2_000_000
        assert all(here for _, here in file.writes)


SCRIPTS = {
    "blocking": """
        import sys
        from pynector import Pynector

        def show(done, total):
            if done >= 700_000:
                print("started", flush=True)

        with Pynector(base_url=sys.argv[1]) as client:
            client.download("/", sys.argv[2], progress=show)
    """,
    "asyncio": """
        import asyncio, sys
        from pynector import AsyncPynector

        def show(done, total):
            if done >= 700_000:
                print("started", flush=True)

        async def main():
            async with AsyncPynector(base_url=sys.argv[1]) as client:
                await client.download("/", sys.argv[2], progress=show)

        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("colour", SCRIPTS)
def test_ctrl_c_leaves_nothing_half_done(colour: str, tmp_path: Path) -> None:
    def stall(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 700_000)
        conn.wait()

    with ScriptedServer(stall) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPTS[colour]), server.url, str(tmp_path / "file")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=10)
            assert time.monotonic() - sent < 3
        finally:
            process.kill()
            process.wait()
    assert "KeyboardInterrupt" in err
    assert list(tmp_path.iterdir()) == []
