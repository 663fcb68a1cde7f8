"""Credentials: callables that sign and refresh."""

import hashlib
import io
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.concurrency import sleep
from pynector.testing import LocalServer, ServerRequest, ServerResponse
from pynector.transport.http import HttpMessage
from servers.auth import guard, plain, sent

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)

pytestmark = pytest.mark.usefixtures("engine")


class Tokens:
    """A signer with a token that the server takes from `valid` on; it counts what is done with it."""

    def __init__(self, token: int = 0, *, pause: float = 0.0) -> None:
        self.token = token
        self.refreshed: list[HttpMessage] = []
        self.pause = pause

    async def __call__(self, request: HttpMessage) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def refresh(self, response: HttpMessage) -> None:
        self.refreshed.append(response)
        if self.pause:
            await sleep(self.pause)
        self.token += 1


# Callables that sign


async def test_the_signer_sees_what_is_sent(server: LocalServer) -> None:
    seen: list[HttpMessage] = []

    def sign(request: HttpMessage) -> Mapping[str, str]:
        seen.append(request)
        digest = hashlib.sha256(request.content).hexdigest()
        return {"X-Signature": f"{request.method} {request.url} {request.headers['x-team']} {digest}"}

    async with AsyncPynector(base_url=server.url, auth=sign, headers={"X-Team": "blue"}) as client:
        await client.post("/echo", params={"q": "a b"}, json={"n": 1}, headers={"X-Signature": "none"})
    digest = hashlib.sha256(b'{"n":1}').hexdigest()
    assert sent(server, "x-signature") == [f"POST {server.url}/echo?q=a+b blue {digest}"]
    assert seen[0].headers["content-length"] == "7"
    assert seen[0].headers["host"] == server.url.partition("//")[2]


async def test_an_async_signer(server: LocalServer) -> None:
    async def sign(request: HttpMessage) -> Mapping[str, str]:
        await sleep(0)
        return {"Authorization": "Signed"}

    async with AsyncPynector(base_url=server.url, auth=sign) as client:
        await client.get("/echo")
        async with client.stream({"path": "/echo"}) as response:
            await response.read()
    assert sent(server, "authorization") == ["Signed", "Signed"]


async def test_every_attempt_and_every_hop_is_signed_anew(server: LocalServer) -> None:
    seen: list[str] = []

    def sign(request: HttpMessage) -> Mapping[str, str]:
        seen.append(request.url.removeprefix(server.url))
        return {"X-Signature": str(len(seen))}

    async with AsyncPynector(base_url=server.url, auth=sign, retry=QUICK) as client:
        await client.get("/flaky/signed", params={"fail": 1})
        await client.get("/redirect/1")
        async with client.stream({"path": "/redirect/1"}) as response:
            await response.read()
    assert sent(server, "x-signature") == ["1", "2", "3", "4", "5", "6"]
    assert [path.partition("?")[0] for path in seen] == ["/flaky/signed"] * 2 + ["/redirect/1", "/redirect/0"] * 2


async def test_nothing_is_signed_for_another_origin(server: LocalServer) -> None:
    def sign(request: HttpMessage) -> Mapping[str, str]:
        return {"X-Signature": "mine", "Authorization": "mine"}

    with LocalServer() as other:
        async with AsyncPynector(base_url=server.url, auth=sign) as client:
            await client.get("/redirect-to", params={"url": f"{other.url}/redirect-to?url={server.url}/items/1"})
            await client.get(f"{other.url}/items/2")
        assert sent(other, "authorization") == ["", "mine"]
        assert sent(other, "x-signature") == ["", "mine"]
    # Back at home it stays without: who redirects may choose what is asked for here.
    assert sent(server, "x-signature") == ["mine", ""]


async def test_an_authorization_of_the_request_wins(server: LocalServer) -> None:
    tokens = Tokens()
    async with AsyncPynector(base_url=server.url, auth=tokens) as client:
        await client.get("/bearer", headers={"Authorization": "Bearer own"})
        with pytest.raises(errors.HTTPUnauthorizedError):
            await client.get("/basic-auth/a/b", headers={"Authorization": "Bearer own"})
    assert sent(server, "authorization") == ["Bearer own", "Bearer own"]
    assert tokens.refreshed == []


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "the callable auth= returned NoneType: it must return a mapping"),
        ("Bearer s3cr3t", "the callable auth= returned str: it must return a mapping"),
        ({"Authorization": "s3cr3t\r\nX: y"}, "header 'Authorization': the value holds a control character"),
        ({"Authorization": 3}, "header 'Authorization': the value must be text, not int"),
    ],
)
async def test_a_signer_that_returns_nonsense(server: LocalServer, returned: Any, message: str) -> None:
    def sign(request: HttpMessage) -> Any:
        return returned

    async with AsyncPynector(base_url=server.url, auth=sign) as client:
        with pytest.raises(errors.ConfigurationError) as caught:
            await client.get("/echo")
    assert message in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert server.requests.count == 0


@pytest.mark.parametrize("kind", [KeyError, errors.ConnectionRefusedError])
async def test_what_a_signer_raises_comes_out_as_it_is(server: LocalServer, kind: type[Exception]) -> None:
    problem, calls = kind("the vault is sealed"), []

    def sign(request: HttpMessage) -> Mapping[str, str]:
        calls.append(request)
        raise problem

    async with AsyncPynector(base_url=server.url, auth=sign, retry=QUICK) as client:
        with pytest.raises(kind) as caught:
            await client.get("/echo")
        with pytest.raises(kind):
            async with client.stream({"path": "/echo"}):
                pass
    assert caught.value is problem
    assert len(calls) == 2  # it is no failure of the network: nothing is tried again


async def test_the_body_of_an_upload_is_not_taken_for_an_empty_one(server: LocalServer) -> None:
    def sign(request: HttpMessage) -> Mapping[str, str]:
        return {"X-Signature": hashlib.sha256(request.content).hexdigest()}

    async with AsyncPynector(base_url=server.url, auth=sign) as client:
        with pytest.raises(errors.SerializationError, match="not in memory"):
            await client.post("/echo", content=io.BytesIO(b"file"))
        await client.post("/echo", content=b"bytes")
    assert sent(server, "x-signature") == [hashlib.sha256(b"bytes").hexdigest()]


# Refreshing


@pytest.mark.parametrize("streamed", [False, True])
async def test_one_refresh_and_one_more_request(streamed: bool) -> None:
    tokens = Tokens()
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=tokens, retry=None) as client:
            if streamed:
                async with client.stream({"path": "/items/1"}) as stream:
                    assert await stream.read() == b'{"id":1,"name":"item 1"}'
            else:
                response = await client.get("/items/1")
                assert response.json()["id"] == 1
            await client.get("/items/2")
        assert sent(server, "authorization") == ["Bearer 0", "Bearer 1", "Bearer 1"]
        assert sent(server, "cookie") == ["", "seen=1", "seen=1"]
        assert server.connections.total == 1
    [response] = tokens.refreshed
    assert (response.status_code, response.json()) == (401, {"problem": "expired"})
    assert response.request is not None
    assert response.request.headers["authorization"] == "Bearer 0"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_second_401_stands(streamed: bool) -> None:
    tokens = Tokens(token=5)
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=tokens) as client:
            with pytest.raises(errors.HTTPUnauthorizedError) as caught:
                if streamed:
                    async with client.stream({"path": "/items/1"}):
                        pass
                else:
                    await client.get("/items/1")
        assert sent(server, "authorization") == ["Bearer 5", "Bearer 6"]
    assert caught.value.response is not None
    assert caught.value.attempts == 1  # it is sent again, but that is no retry
    assert len(tokens.refreshed) == 1


async def test_a_signer_without_refresh_leaves_the_401() -> None:
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=lambda request: {"Authorization": "Bearer 0"}) as client:
            with pytest.raises(errors.HTTPUnauthorizedError):
                await client.get("/items/1")
        assert server.requests.count == 1


async def test_many_401s_at_once_refresh_once() -> None:
    tokens = Tokens(pause=0.1)
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=tokens) as client:
            results = await client.batch_request([{"path": f"/items/{n}"} for n in range(64)], max_concurrency=64)
        assert [response.json()["id"] for response in results] == list(range(64))
        assert sent(server, "authorization").count("Bearer 1") == 64
        assert sent(server, "authorization").count("Bearer 0") > 1
    assert len(tokens.refreshed) == 1


async def test_a_refresh_that_fails_is_not_repeated_by_all_who_wait() -> None:
    calls = []

    class Broken(Tokens):
        async def refresh(self, response: HttpMessage) -> None:
            calls.append(response)
            await sleep(0.2)
            raise LookupError("no new token")

    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=Broken(), retry=None) as client:
            results: Any = await client.batch_request([{"path": "/items/1"}] * 16, max_concurrency=16)
            assert sorted({type(error).__name__ for error in results}) == ["HTTPUnauthorizedError", "LookupError"]
            assert len(calls) == 1
            with pytest.raises(LookupError, match="no new token"):
                await client.get("/items/1")
            assert len(calls) == 2
        assert server.requests.count == 17


async def test_a_refresh_may_ask_through_the_same_client(server: LocalServer, no_leaks: None) -> None:
    class Asking(Tokens):
        client: AsyncPynector
        path = "/items/1"

        async def refresh(self, response: HttpMessage) -> None:
            results = await self.client.batch_request([{"path": self.path}], raise_on_error=True, retry=None)
            self.token = results[0].json()["id"]

    def app(request: ServerRequest) -> ServerResponse | None:
        return None if request.path == "/items/1" else guard()(request)

    tokens = Asking()
    with LocalServer(app) as server:
        async with AsyncPynector(base_url=server.url, auth=tokens, retry=None) as client:
            tokens.client = client
            assert (await client.get("/items/2", timeout=5)).json()["id"] == 2
            # One that is rejected itself is not refreshed in turn: that would never end.
            tokens.token, tokens.path = 0, "/items/3"
            with pytest.raises(errors.HTTPUnauthorizedError):
                await client.get("/items/2", timeout=5)


async def test_a_refresh_that_is_cut_short_is_left_to_the_next_one() -> None:
    tokens = Tokens(pause=5)
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=tokens) as client:
            with pytest.raises(errors.TimeoutError):
                await client.get("/items/1", timeout=0.1)
            tokens.pause = 0
            await client.get("/items/1", timeout=5)
    assert len(tokens.refreshed) == 2


async def generated() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


class Pipe(io.RawIOBase):
    """A file that can't seek."""

    def __init__(self) -> None:
        self._rest = io.BytesIO(b"onetwo")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


REPEATABLE: list[Callable[[], dict[str, Any]]] = [
    lambda: {"content": b"onetwo"},
    lambda: {"content": io.BytesIO(b"onetwo")},
    lambda: {"content": [b"one", b"two"]},
    lambda: {"files": {"f": ("f.txt", io.BytesIO(b"onetwo"))}},
    lambda: {"files": {"f": b"onetwo"}, "form": {"a": "b"}},
]
ONCE: list[Callable[[], dict[str, Any]]] = [
    lambda: {"content": generated()},
    lambda: {"content": plain()},
    lambda: {"content": io.BufferedReader(Pipe())},
    lambda: {"files": {"f": ("f.txt", io.BufferedReader(Pipe()))}},
]


@pytest.mark.parametrize("body", REPEATABLE)
async def test_bodies_that_are_sent_again(body: Callable[[], dict[str, Any]]) -> None:
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=Tokens()) as client:
            response = await client.post("/echo", **body())
        assert "onetwo" in response.json()["text"]
        first, second = server.requests.recent
        assert first.body == second.body
        # The same for a retry and for a redirect.
        async with AsyncPynector(base_url=server.url, auth=Tokens(1), retry=QUICK) as client:
            await client.put("/flaky/a", params={"fail": 1}, **body())
            await client.post("/redirect-to", params={"url": "/echo", "status": 307}, **body())
        for request in server.requests.recent[2:]:
            assert b"onetwo" in request.body


@pytest.mark.parametrize("body", ONCE)
async def test_bodies_that_are_not_sent_again(body: Callable[[], dict[str, Any]]) -> None:
    tokens = Tokens()
    with LocalServer(guard()) as server:
        async with AsyncPynector(base_url=server.url, auth=tokens, retry=QUICK) as client:
            with pytest.raises(errors.HTTPUnauthorizedError):
                await client.post("/echo", **body())
            assert server.requests.count == 1
            assert len(tokens.refreshed) == 1  # the next request has the new token
            await client.post("/echo", **body())
            with pytest.raises(errors.HTTPServerError):
                await client.put("/status/503", **body())
            with pytest.raises(errors.HTTPRedirectError, match="can't be sent again"):
                await client.post("/redirect-to", params={"url": "/echo", "status": 307}, **body())
        assert server.requests.count == 4
