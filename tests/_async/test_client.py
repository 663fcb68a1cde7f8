"""The client over HTTP: one request at a time."""

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer
from pynector.transport.http import HttpMessage

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]


async def test_request(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        response = await client.request({"path": "/items/3"})
    assert response.status_code == 200
    assert response.json() == {"id": 3, "name": "item 3"}
    assert response.get_payload()["data"]["id"] == 3
    assert response.url == f"{server.url}/items/3"
    assert response.elapsed > 0
    assert response.http_version == "HTTP/1.1"
    assert response.request.method == "GET"


async def test_a_message_and_an_absolute_url(server: LocalServer) -> None:
    async with AsyncPynector() as client:
        response = await client.request(HttpMessage("POST", f"{server.url}/echo", json={"a": [1, None]}))
    echo = response.json()
    assert echo["method"] == "POST"
    assert echo["text"] == '{"a":[1,null]}'
    assert ["content-type", "application/json"] in echo["headers"]


async def test_works_without_a_context_manager(server: LocalServer, no_leaks: None) -> None:
    client = AsyncPynector(base_url=server.url)
    assert (await client.get("/items/1")).json()["id"] == 1
    await client.aclose()
    await client.aclose()
    with pytest.raises(errors.ClosedError, match="closed"):
        await client.get("/items/1")


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
async def test_shortcuts(server: LocalServer, method: str) -> None:
    async with AsyncPynector(base_url=server.url, headers={"X-Default": "1"}) as client:
        response = await getattr(client, method)("/echo", params={"q": [1, True]}, headers={"X-Own": "2"})
    echo = response.json()
    assert echo["method"] == method.upper()
    assert echo["query"] == [["q", "1"], ["q", "true"]]
    assert ["x-default", "1"] in echo["headers"]
    assert ["x-own", "2"] in echo["headers"]


async def test_retries_until_it_succeeds(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url, retry=RetryPolicy(max_retries=3, backoff_factor=0.01)) as client:
        response = await client.get("/flaky/a", params={"fail": 2, "status": 503})
    assert response.json()["attempt"] == 3
    assert server.requests.count == 3


async def test_gives_up_with_the_last_answer(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.HTTPServerError) as caught:
            await client.request_with_retry({"path": "/status/503"}, max_retries=2, retry_delay=0.01)
        assert caught.value.attempts == 3
        assert caught.value.response is not None
        assert caught.value.response.json() == {"status": 503}
        response = await client.get("/status/404", raise_for_status=False)
        assert response.status_code == 404
        with pytest.raises(errors.HTTPNotFoundError):
            await client.get("/status/404")


async def test_total_timeout(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.TimeoutError, match=r"0\.1 s"):
            await client.get("/delay", params={"s": 10}, timeout=0.1)
        assert (await client.get("/items/1")).json()["id"] == 1


async def test_stream(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream({"path": "/big?bytes=300000"}) as response:
            assert response.status_code == 200
            total = 0
            async for chunk in response:
                total += len(chunk)
        assert total == 300_000
        async with client.stream({"path": "/big?bytes=10000000"}) as response:
            async for chunk in response:
                assert chunk
                break
        assert (await client.get("/items/1")).json()["id"] == 1


@pytest.mark.full_beyond("httpx")
async def test_settings_of_the_client(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNECTOR_BASE_URL", server.url)
    monkeypatch.setenv("PYNECTOR_MAX_RETRIES", "0")
    monkeypatch.setenv("PYNECTOR_MAX_CONCURRENCY", "3")
    monkeypatch.setenv("PYNECTOR_TIMEOUT", "0.15")
    async with AsyncPynector() as client:
        with pytest.raises(errors.HTTPServerError) as caught:
            await client.get("/status/503")
        assert caught.value.attempts == 1
        with pytest.raises(errors.TimeoutError, match=r"0\.15 s"):
            await client.get("/delay?s=5")
        server.reset()
        await client.batch_request([{"path": "/slow/1?ms=20"}] * 12)
        assert server.peak_in_flight == 3
    async with AsyncPynector(config={"timeout": 20, "max_concurrency": 5, "max_retries": 1}) as client:
        assert (await client.get("/slow/1?ms=300")).json()["id"] == 1
        assert (await client.get("/flaky/a?fail=1")).json()["attempt"] == 2
        server.reset()
        await client.batch_request([{"path": "/slow/1?ms=20"}] * 20)
        assert server.peak_in_flight == 5
        with pytest.raises(errors.TimeoutError):
            await client.get("/delay?s=5", timeout=0.05)
    async with AsyncPynector(timeout=None, config={"timeout": 0.01}) as client:
        assert (await client.get("/slow/1?ms=100")).json()["id"] == 1


@pytest.mark.parametrize(
    ("variable", "value", "accepts"),
    [
        ("PYNECTOR_TIMEOUT", "soon", "seconds above 0"),
        ("PYNECTOR_MAX_RETRIES", "-1", "0 or more"),
        ("PYNECTOR_MAX_CONCURRENCY", "many", "1 or more"),
        ("PYNECTOR_HTTP_ENGINE", "curl", "httpx"),
        ("PYNECTOR_BASE_URL", "ftp://host", "http"),
    ],
)
async def test_bad_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, accepts: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.ConfigurationError, match=variable) as caught:
        AsyncPynector()
    assert accepts in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_ulr": "http://h"}, "did you mean 'base_url'"),
        ({"config": {"tiemout": 1}}, "did you mean 'timeout'"),
        ({"timeout": 0}, "argument `timeout`"),
        ({"retry": -1}, "retr"),
        ({"base_url": "localhost:80"}, "http"),
        ({"base_url": "http://h/?a=b"}, "query"),
    ],
)
async def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message):
        AsyncPynector(**arguments)  # type: ignore[arg-type]


async def test_retries_are_logged(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="pynector")
    policy = RetryPolicy(backoff_factor=0.01)
    async with AsyncPynector(base_url=server.url, retry=policy) as client:
        await client.get("/flaky/a?fail=2")
    assert [record.message for record in caplog.records if record.name == "pynector.attempts"] == ["request.retry"] * 2
    caplog.clear()
    async with AsyncPynector(base_url=server.url, retry=policy, enable_telemetry=False) as client:
        await client.get("/flaky/b?fail=2")
    assert not [record for record in caplog.records if record.name == "pynector.attempts"]


async def test_repr_tells_the_state(server: LocalServer) -> None:
    client = AsyncPynector(base_url=server.url)
    assert "not connected" in repr(client)
    async with client:
        assert "open" in repr(client)
    assert "closed" in repr(client)
    assert server.url in repr(client)
