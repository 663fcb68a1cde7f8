"""Hooks: what they see, what they may change, and what becomes of what they raise."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.concurrency import sleep
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.01)

pytestmark = pytest.mark.usefixtures("engine")


class Log:
    """Hooks that write down what they see."""

    def __init__(self) -> None:
        self.requests: list[HttpMessage] = []
        self.responses: list[HttpMessage] = []

    async def request(self, request: HttpMessage) -> None:
        await sleep(0)
        self.requests.append(request)

    def response(self, response: HttpMessage) -> None:
        self.responses.append(response)

    @property
    def hooks(self) -> dict[str, Any]:
        return {"request": [self.request], "response": [self.response]}


async def test_hooks_see_every_exchange(server: LocalServer) -> None:
    log = Log()
    async with AsyncPynector(
        base_url=server.url, auth="token", cookies={"a": "b"}, event_hooks=log.hooks, retry=QUICK
    ) as client:
        await client.post("/flaky/hooks", params={"fail": 1, "status": 429}, json={"n": 1})
        await client.get("/redirect/1")
    paths = ["/flaky/hooks?fail=1&status=429"] * 2 + ["/redirect/1", "/redirect/0"]
    assert [request.url for request in log.requests] == [f"{server.url}{path}" for path in paths]
    assert [response.status_code for response in log.responses] == [429, 200, 302, 200]
    assert [response.url for response in log.responses] == [request.url for request in log.requests]
    first, answer = log.requests[0], log.responses[0]
    assert first.content == b'{"n":1}'
    assert first.headers["authorization"] == "Bearer token"
    assert first.headers["cookie"] == "a=b"
    assert first.headers["content-type"] == "application/json"
    assert answer.json() == {"key": "hooks", "attempt": 1}
    assert answer.elapsed > 0
    assert answer.request is first
    assert log.requests[2].method == "GET"


async def test_a_stream_shows_hooks_its_head(server: LocalServer) -> None:
    log = Log()
    async with AsyncPynector(base_url=server.url, event_hooks=log.hooks) as client:
        async with client.stream({"path": "/big?bytes=100000"}) as stream:
            assert len(log.responses) == 1
            assert len(await stream.read()) == 100_000
    assert log.responses[0].status_code == 200
    assert log.responses[0].content == b""
    assert log.responses[0].headers["transfer-encoding"] == "chunked"


async def test_a_hook_may_set_headers(server: LocalServer) -> None:
    def first(request: HttpMessage) -> Mapping[str, str]:
        return {"X-Step": "one", "user-agent": "mine"}

    async def second(request: HttpMessage) -> Mapping[str, str]:
        return {"X-Steps": f"{request.headers['x-step']}, two"}

    hooks = {"request": [first, second]}
    async with AsyncPynector(base_url=server.url, event_hooks=hooks) as client:
        headers = (await client.get("/echo", headers={"X-Step": "none"})).json()["headers"]
        async with client.stream({"path": "/echo"}) as stream:
            streamed = json.loads(await stream.read())["headers"]
    for sent in (headers, streamed):
        assert [value for name, value in sent if name == "x-steps"] == ["one, two"]
        assert [value for name, value in sent if name == "x-step"] == ["one"]
        assert [value for name, value in sent if name == "user-agent"] == ["mine"]


async def test_hooks_see_the_signature_and_the_refresh(server: LocalServer) -> None:
    class Tokens:
        token = ""

        def __call__(self, request: HttpMessage) -> Mapping[str, str]:
            return {"Authorization": f"Bearer {self.token}"}

        def refresh(self, response: HttpMessage) -> None:
            self.token = "new"

    log = Log()
    async with AsyncPynector(base_url=server.url, auth=Tokens(), event_hooks=log.hooks) as client:
        await client.get("/bearer")
    assert [request.headers["authorization"] for request in log.requests] == ["Bearer", "Bearer new"]
    assert [response.status_code for response in log.responses] == [401, 200]


@pytest.mark.engines("httpx", "httpx2")  # the flows are made for these
async def test_hooks_see_the_requests_of_a_flow(server: LocalServer) -> None:
    log = Log()
    auth = httpx.BasicAuth("a", "b")
    async with AsyncPynector(base_url=server.url, auth=auth, event_hooks=log.hooks) as client:
        await client.get("/basic-auth/a/b")
    assert log.requests[0].headers["authorization"] == "Basic YTpi"


@pytest.mark.parametrize("returned", ["X-Step: one", 3, [("X-Step", "one")]])
async def test_a_hook_that_returns_nonsense(server: LocalServer, returned: Any) -> None:
    async with AsyncPynector(base_url=server.url, event_hooks={"request": [lambda request: returned]}) as client:
        with pytest.raises(errors.ConfigurationError, match=r"a request hook returned .*: it must return a mapping"):
            await client.get("/echo")
    assert server.requests.count == 0


@pytest.mark.parametrize("where", ["request", "response"])
@pytest.mark.parametrize("kind", [ValueError, errors.ConnectionRefusedError])
async def test_what_a_hook_raises_comes_out_and_leaks_nothing(
    server: LocalServer, where: str, kind: type[Exception], no_leaks: None
) -> None:
    problem = kind("no")

    def hook(message: HttpMessage) -> None:
        if not message.url.endswith("/items/1"):
            raise problem

    transport = AsyncHTTPTransport(server.url, event_hooks={where: [hook]}, max_connections=1, timeout=2)
    async with AsyncPynector(transport, retry=QUICK) as client:
        for _ in range(2):
            with pytest.raises(kind) as caught:
                await client.get("/echo")
            assert caught.value is problem
            with pytest.raises(kind) as caught:
                async with client.stream({"path": "/big"}):
                    pass
            assert caught.value is problem
            await client.get("/items/1")
        # Nothing is sent again for it, and its answer was seen.
        assert server.requests.count == (2 if where == "request" else 6)
        [outcome] = (await client.batch_request([{"path": "/echo", "method": "POST"}])).outcomes
        assert outcome.state == "failed"


async def test_a_hook_that_raises_for_the_status(server: LocalServer) -> None:
    def hook(response: HttpMessage) -> None:
        response.raise_for_status()

    async with AsyncPynector(base_url=server.url, event_hooks={"response": [hook]}, retry=QUICK) as client:
        with pytest.raises(errors.HTTPServerError) as caught:
            await client.get("/status/503", raise_for_status=False)
        assert caught.value.attempts == 1
        await client.get("/items/1")
    assert server.requests.count == 2
