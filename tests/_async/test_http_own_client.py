"""An httpx client of the user's own as the engine: what it keeps of its settings, and what is ours."""

from collections.abc import AsyncIterator

import httpx
import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport

pytestmark = pytest.mark.usefixtures("engine")


async def test_a_client_of_ones_own(server: LocalServer, no_leaks: None) -> None:
    own = httpx.AsyncClient(
        base_url=server.url, headers={"X-Theirs": "1", "User-Agent": "theirs"}, cookies={"c": "theirs"}, trust_env=False
    )
    async with own:
        async with AsyncPynector(client=own, headers={"X-Ours": "2"}, auth="tok") as client:
            answer = (await client.post("/echo", json={"a": 1}, idempotency_key="k1", headers={"X-Own": "3"})).json()
            headers = [tuple(pair) for pair in answer["headers"]]
            assert answer["text"] == '{"a":1}'
            assert {
                ("x-theirs", "1"), ("x-ours", "2"), ("x-own", "3"), ("user-agent", "theirs"), ("cookie", "c=theirs"),
                ("authorization", "Bearer tok"), ("idempotency-key", "k1"), ("content-type", "application/json"),
            } <= set(headers)  # fmt: skip
            assert len({name for name, _ in headers}) == len(headers)
            redirected = await client.get("/redirect/2")
            assert redirected.url == f"{server.url}/redirect/0"
            async with client.stream({"path": "/redirect/1"}) as response:
                assert response.url == f"{server.url}/redirect/0"
                assert await response.read() == b'{"redirected":true}'
                assert await response.read() == b'{"redirected":true}'  # kept: asking again costs nothing
            uploaded = await client.put("/echo", content=[b"a", b"b"])
            assert uploaded.json()["text"] == "ab"
            async with client.stream({"path": "/gzip"}) as response:
                assert [chunk async for chunk in response] == [b'{"gzipped":true}']
            with pytest.raises(errors.HTTPNotFoundError):
                await client.get("/nowhere")
        assert not own.is_closed
        assert (await own.get("/items/1")).status_code == 200


async def test_failures_of_a_client_of_ones_own_are_ours(server: LocalServer, no_leaks: None) -> None:
    async with httpx.AsyncClient(timeout=0.2, trust_env=False, max_redirects=2) as own:
        async with AsyncPynector(client=own, base_url=server.url, retry=None) as client:
            with pytest.raises(errors.ConnectionTimeoutError) as caught:
                await client.get("/delay")
            assert caught.value.phase == "read"
            assert caught.value.url == f"{server.url}/delay"
            with pytest.raises(errors.ConnectionTimeoutError):
                await client.get("/drip?n=3&ms=1000")
            with pytest.raises(errors.HTTPRedirectError):
                await client.get("/redirect/4")
        async with AsyncPynector(client=own, base_url=server.url, follow_redirects=False) as client:
            assert (await client.get("/redirect/4")).status_code == 302
        async with AsyncPynector(client=own, retry=None) as client:
            with pytest.raises(errors.ConnectionRefusedError):
                await client.get("http://127.0.0.1:1/")


async def test_a_client_of_ones_own_that_was_closed(server: LocalServer) -> None:
    own = httpx.AsyncClient(trust_env=False)
    await own.aclose()
    async with AsyncPynector(client=own, base_url=server.url) as client:
        with pytest.raises(RuntimeError, match="closed"):
            await client.get("/items/1")


async def test_what_is_not_ours_to_translate_passes_through() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"some"
        raise ZeroDivisionError("in the transport")

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/now":
            raise ZeroDivisionError("in the handler")
        return httpx.Response(200, content=body())

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as own:
        async with AsyncPynector(client=own, base_url="http://mock") as client:
            with pytest.raises(ZeroDivisionError, match="in the handler"):
                await client.get("/now")
            with pytest.raises(ZeroDivisionError, match="in the transport"):
                await client.get("/later")


async def test_something_else_as_client() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"give an httpx\."):
        AsyncHTTPTransport("http://127.0.0.1:1", client=object())
    with pytest.raises(errors.ConfigurationError, match=r"give an httpx\."):
        AsyncHTTPTransport("http://127.0.0.1:1", client=5)
