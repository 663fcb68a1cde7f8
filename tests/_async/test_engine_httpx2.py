"""The engine `httpx2`: the same code over the other library."""

import sys

import httpx2
import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer


async def test_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(errors.ConfigurationError, match=r"pip install 'pynector\[httpx2\]'"):
        async with AsyncPynector(base_url="http://localhost", engine="httpx2"):
            pass


async def test_a_client_of_ones_own(server: LocalServer, no_leaks: None) -> None:
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as own:
        async with AsyncPynector(client=own) as client:
            assert (await client.get("/items/1")).json()["id"] == 1
            assert (await client.get("/gzip")).status_code == 200
            async with client.stream({"path": "/big?bytes=100000"}) as stream:
                assert sum([len(chunk) async for chunk in stream]) == 100_000
            with pytest.raises(errors.HTTPNotFoundError):
                await client.get("/status/404")
            with pytest.raises(errors.ConnectionRefusedError):
                await client.get("http://127.0.0.1:1/", retry=None)


async def test_limits_hold_for_a_client_of_ones_own(server: LocalServer, no_leaks: None) -> None:
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as own:
        async with AsyncPynector(client=own, max_response_size=1000, retry=None) as client:
            with pytest.raises(errors.ResponseTooLargeError, match="max_response_size=1000"):
                await client.get("/big?bytes=100000")
            assert (await client.get("/items/1")).status_code == 200
        async with AsyncPynector(client=own, max_decompressed_size=10, retry=None) as client:
            with pytest.raises(errors.ResponseTooLargeError, match="max_decompressed_size=10"):
                await client.get("/gzip")
