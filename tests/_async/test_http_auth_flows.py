"""Credentials: the flows of httpx."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import httpx2
import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.concurrency import sleep
from pynector.testing import LocalServer, ServerRequest, ServerResponse
from pynector.transport.http import AsyncHTTPTransport
from servers.auth import guard, plain, sent

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)
PACKAGES = {"httpx": httpx, "httpx2": httpx2}
# The other engine knows nothing of httpx: it refuses these when it is built.
made_for_httpx = pytest.mark.engines("httpx", "httpx2")

pytestmark = pytest.mark.usefixtures("engine")


async def generated() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


@made_for_httpx
async def test_digest(httpbin: str, engine: str) -> None:
    auth = PACKAGES[engine].DigestAuth("ada", "lovelace")
    async with AsyncPynector(base_url=httpbin, auth=auth, retry=None) as client:
        for algorithm in ("MD5", "SHA-256"):
            response = await client.get(f"/digest-auth/auth/ada/lovelace/{algorithm}")
            assert response.json() == {"authenticated": True, "user": "ada"}
        async with client.stream({"path": "/digest-auth/auth/ada/lovelace"}) as stream:
            assert b"true" in await stream.read()
        with pytest.raises(errors.HTTPUnauthorizedError) as caught:
            await client.get("/digest-auth/auth/ada/other")
        assert caught.value.attempts == 1


@made_for_httpx
async def test_netrc(server: LocalServer, tmp_path: Any) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login ada password lovelace\n")
    async with AsyncPynector(base_url=server.url, auth=httpx.NetRCAuth(str(file))) as client:
        assert (await client.get("/basic-auth/ada/lovelace")).json()["authenticated"] is True


class TokenAuth(httpx.Auth):
    """Asks for a token before, and for another one after a 401; it reads every answer."""

    requires_response_body = True

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[Any] = []

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        for _ in range(2):
            asked: Any = yield httpx.Request("POST", f"{self.url}/token", json={"user": "ada"})
            self.bodies.append(asked.json())
            request.headers["Authorization"] = f"Bearer {asked.json()['token']}"
            request.url = request.url.copy_add_param("tried", str(len(self.bodies)))
            response: Any = yield request
            self.bodies.append(response.json())
            if response.status_code != 401:
                return


def token_server() -> LocalServer:
    given: list[int] = []

    def app(request: ServerRequest) -> ServerResponse | None:
        if request.path == "/token":
            assert request.body == b'{"user":"ada"}'
            given.append(len(given))
            return ServerResponse.json({"token": str(given[-1])})
        return guard()(request)

    return LocalServer(app)


@made_for_httpx
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_flow_of_the_users_own(streamed: bool) -> None:
    with token_server() as server:
        auth = TokenAuth(server.url)
        async with AsyncPynector(base_url=server.url, auth=auth, retry=None, headers={"X-Team": "blue"}) as client:
            if streamed:
                async with client.stream({"path": "/items/7", "method": "PUT", "content": plain_list()}) as stream:
                    assert b"".join([chunk async for chunk in stream]) == b'{"id":7,"name":"item 7"}'
            else:
                response = await client.put("/items/7", content=plain_list())
                assert response.json() == {"id": 7, "name": "item 7"}
        targets = [request.target for request in server.requests.recent]
        assert targets == ["/token", "/items/7?tried=1", "/token", "/items/7?tried=1&tried=3"]
        assert sent(server, "x-team") == ["", "blue", "", "blue"]
        assert [request.body for request in server.requests.recent if request.method == "PUT"] == [b"onetwo"] * 2
        assert server.connections.total == 1
    assert auth.bodies[-1] == {"id": 7, "name": "item 7"}
    assert auth.bodies[1] == {"problem": "expired"}


def plain_list() -> list[bytes]:
    return [b"one", b"two"]


class BodyAuth(httpx.Auth):
    """Signs the body, and tries it again whatever the answer is."""

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["X-Signature"] = hashlib.sha256(request.content).hexdigest()
        yield request
        yield request


@made_for_httpx
@pytest.mark.parametrize("content", [b"onetwo", plain, generated])
async def test_a_flow_that_needs_the_body(server: LocalServer, content: Any) -> None:
    body = content() if callable(content) else content
    async with AsyncPynector(base_url=server.url, auth=BodyAuth()) as client:
        await client.post("/echo", content=body)
    assert sent(server, "x-signature") == [hashlib.sha256(b"onetwo").hexdigest()] * 2
    assert [request.body for request in server.requests.recent] == [b"onetwo"] * 2


class AsyncWaitingAuth(httpx.Auth):
    """Waits in its flow, reads an answer in it, and counts how often it ended."""

    def __init__(self) -> None:
        self.ended = 0
        self.read: list[bytes] = []

    async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        try:
            await sleep(0)
            request.headers["Authorization"] = "Bearer 0"
            response = yield request
            self.read.append(await response.aread())
            if response.status_code == 401:
                request.headers["Authorization"] = "Bearer 1"
                yield request
        finally:
            self.ended += 1


@made_for_httpx
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_async_flow(streamed: bool) -> None:
    auth = AsyncWaitingAuth()
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=auth) as client:
            if streamed:
                async with client.stream({"path": "/items/1"}) as stream:
                    assert b"item 1" in await stream.read()
            else:
                assert (await client.get("/items/1")).json()["id"] == 1
            # The 401 stands if the body is gone.
            with pytest.raises(errors.HTTPUnauthorizedError) as caught:
                await client.post("/items/2", content=plain())
        assert caught.value.response.json() == {"problem": "expired"}
        assert sent(server, "authorization") == ["Bearer 0", "Bearer 1", "Bearer 0"]
        assert server.connections.total == 1
    assert auth.read == [b'{"problem":"expired"}'] * 2
    assert auth.ended == 2


@made_for_httpx
async def test_what_a_flow_raises_comes_out_and_leaks_nothing(server: LocalServer, no_leaks: None) -> None:
    class Angry(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
            yield request
            raise errors.ConnectionRefusedError("angry")

    transport = AsyncHTTPTransport(server.url, auth=Angry(), max_connections=1, timeout=1)
    async with AsyncPynector(transport, retry=QUICK) as client:
        for _ in range(2):
            with pytest.raises(errors.ConnectionRefusedError, match="angry"):
                await client.get("/items/1")
            with pytest.raises(errors.ConnectionRefusedError, match="angry"):
                async with client.stream({"path": "/big"}):
                    pass
    assert server.requests.count == 4


@made_for_httpx
async def test_a_flow_gives_nothing_to_another_origin(server: LocalServer) -> None:
    with LocalServer() as other:
        async with AsyncPynector(base_url=server.url, auth=httpx.BasicAuth("ada", "lovelace")) as client:
            await client.get("/redirect-to", params={"url": f"{other.url}/items/1"})
            await client.get("/redirect/1")
        assert sent(other, "authorization") == [""]
    assert sent(server, "authorization") == ["Basic YWRhOmxvdmVsYWNl"] * 3


@made_for_httpx
async def test_the_chunks_of_a_body_stay_as_they_were(server: LocalServer) -> None:
    headers = {"Transfer-Encoding": "chunked"}
    async with AsyncPynector(base_url=server.url, auth=httpx.BasicAuth("a", "b")) as client:
        response = await client.post("/echo", content=plain_list(), headers=headers)
    names = [name for name, _ in response.json()["headers"]]
    assert names.count("content-length") + names.count("transfer-encoding") == 1
