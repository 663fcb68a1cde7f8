"""Which library an engine imports: its own, and never the other one."""

import subprocess
import sys

import pytest

from pynector.testing import LocalServer

LIBRARIES = ("httpx", "httpcore", "httpx2", "httpcore2")

ASYNC = """
import asyncio, sys
from pynector import AsyncPynector

async def main():
    async with AsyncPynector(base_url=sys.argv[1], engine=sys.argv[2], retry=None) as client:
        assert (await client.get("/echo")).status_code == 200
        assert b"multipart" in (await client.post("/echo", files={"f": b"x"}, form={"a": "b"})).content
        try:
            await client.get("https://127.0.0.1:1/")
        except Exception as exc:
            print(type(exc).__name__)

asyncio.run(main())
"""

THREADS = """
import sys
from pynector import Pynector

with Pynector(base_url=sys.argv[1], engine=sys.argv[2], retry=None) as client:
    assert client.get("/echo").status_code == 200
    assert b"multipart" in client.post("/echo", files={"f": b"x"}, form={"a": "b"}).content
    try:
        client.get("https://127.0.0.1:1/")
    except Exception as exc:
        print(type(exc).__name__)
"""


@pytest.mark.parametrize("code", [ASYNC, THREADS], ids=["async", "threads"])
@pytest.mark.parametrize(("name", "own"), [("httpx", ["httpcore", "httpx"]), ("httpx2", ["httpcore2", "httpx2"])])
def test_the_other_library_is_not_imported(server: LocalServer, code: str, name: str, own: list[str]) -> None:
    code += f"print(*sorted(set(sys.modules) & {set(LIBRARIES)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code, server.url, name], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["ConnectionRefusedError", " ".join(own), ""]
