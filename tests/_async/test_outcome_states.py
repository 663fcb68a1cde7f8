"""What an outcome says of a request that has no answer: it decides what is safe to send again."""

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector._concurrency.aio.clock import sleep
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport
from servers.scripted import Connection, ScriptedServer, http_response

pytestmark = pytest.mark.usefixtures("engine")


async def states(client: AsyncPynector, requests: list[object], timeout: float | None = None) -> list[str]:
    results = await client.batch_request(requests, max_concurrency=10, timeout=timeout)
    return [outcome.state for outcome in results.outcomes]


async def test_waiting_for_a_connection_is_not_sending(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url, max_connections=2) as client:
        found = await states(client, [{"path": "/delay?s=10"}] * 6, timeout=0.3)
    assert sorted(found) == ["not_sent"] * 4 + ["unknown"] * 2
    assert server.requests.count == 2


async def test_an_own_timeout_leaves_it_open(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        assert await states(client, [({"path": "/delay?s=10"}, {"timeout": 0.1})]) == ["unknown"]


@pytest.mark.engines("httpx", "httpx2")  # of a deadline the third does not tell what it cut short
async def test_a_handshake_is_not_sending(no_leaks: None) -> None:
    def silent(conn: Connection) -> None:
        conn.wait(10)

    with ScriptedServer(silent, silent, scheme="https") as scripted:
        async with AsyncPynector(base_url=scripted.url, retry=None) as client:
            assert await states(client, [({"path": "/"}, {"timeout": 0.2})]) == ["not_sent"]
            assert await states(client, [{"path": "/"}], timeout=0.2) == ["not_sent"]


async def test_a_lost_connection_leaves_it_open_and_a_refused_one_does_not(no_leaks: None) -> None:
    def hang_up(conn: Connection) -> None:
        conn.read_request()
        conn.close()

    def half_an_answer(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    with ScriptedServer(hang_up) as scripted:
        async with AsyncPynector(base_url=scripted.url, retry=None) as client:
            assert await states(client, [{"path": "/", "method": "POST"}]) == ["unknown"]
    with ScriptedServer(half_an_answer) as scripted:
        async with AsyncPynector(base_url=scripted.url, retry=None) as client:
            assert await states(client, [{"path": "/"}]) == ["failed"]
    async with AsyncPynector(base_url=scripted.url, retry=None) as client:
        assert await states(client, [{"path": "/"}]) == ["failed"]


async def test_a_redirect_is_an_answer(no_leaks: None) -> None:
    with ScriptedServer() as nowhere:
        location = b"Location: " + nowhere.url.encode()

    def elsewhere(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(b"", "307 Temporary Redirect", location))
        conn.wait(5)

    with ScriptedServer(elsewhere, elsewhere) as scripted:
        async with AsyncPynector(base_url=scripted.url, retry=None) as client:
            assert await states(client, [{"path": "/", "method": "POST"}]) == ["failed"]


async def test_a_rejected_request_failed(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url, retry=None) as client:
        assert await states(client, [{"path": "/status/503"}, {"paht": "/"}]) == ["failed", "failed"]


@pytest.mark.engines("httpx", "httpx2")  # the third has other connections for the threads of a batch
async def test_without_retries_one_request_is_one_on_the_wire(no_leaks: None) -> None:
    """Also on a kept connection that the server closes when it reads the next request."""

    def once(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(b"ok"))
        conn.read_request()
        conn.close()

    def answer(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(b"ok"))

    with ScriptedServer(once) as scripted:
        async with AsyncPynector(base_url=scripted.url, retry=None) as client:
            await client.get("/")
            results = await client.batch_request([{"path": "/danger", "method": "DELETE"}])
            assert results.outcomes[0].state == "unknown"
        assert len(scripted.requests) == 2
    with ScriptedServer(once, answer) as scripted:
        # With retries it is tried again at once, on a connection of its own, and counted.
        async with AsyncPynector(base_url=scripted.url, retry=RetryPolicy(max_retries=1, backoff_factor=30)) as client:
            await client.get("/")
            results = await client.batch_request([{"path": "/danger", "method": "DELETE"}])
            assert [(outcome.state, outcome.attempts) for outcome in results.outcomes] == [("ok", 2)]
            await sleep(0)
        assert len(scripted.requests) == 3


async def test_servers_that_close_after_each_answer(no_leaks: None) -> None:
    """Nothing that can't be repeated is sent on a connection that is closed already."""

    def once(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(b"ok"))
        conn.close()

    with ScriptedServer(*[once] * 20) as scripted:
        async with AsyncPynector(base_url=scripted.url, retry=None) as client:
            for _ in range(20):
                assert (await client.post("/", json=1)).text == "ok"
                while not scripted.connections[-1].closed:
                    await sleep(0.001)
                await sleep(0.005)
        assert len(scripted.connections) == 20


async def test_a_pool_that_does_not_move_is_an_error(server: LocalServer, no_leaks: None) -> None:
    transport = AsyncHTTPTransport(base_url=server.url, max_connections=1, timeout=0.3, max_retries=0)
    async with AsyncPynector(transport) as client:
        async with client.stream({"path": "/big?bytes=10000000"}):
            with pytest.raises(errors.ConnectionTimeoutError, match="all 1 connections were in use") as caught:
                await client.get("/items/1")
            assert caught.value.phase == "pool"
            assert not caught.value.sent
        # One that moves is none, however long the queue is.
        results = await client.batch_request([{"path": "/slow/1?ms=50"}] * 20, max_concurrency=20)
        assert len(results.ok) == 20


@pytest.mark.engines("httpx", "httpx2")  # the third keeps idle ones beside those in use
async def test_sockets_stay_within_the_limit(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        requests = [{"url": f"{(server, other)[n % 2].url}/items/{n}"} for n in range(200)]
        async with AsyncPynector(max_connections=6) as client:
            results = await client.batch_request(requests, max_concurrency=20)
            assert [response.json()["id"] for response in results] == list(range(200))
            await sleep(0.05)
            assert server.connections.open + other.connections.open <= 6


async def test_connections_are_kept_for_a_while(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        for _ in range(3):
            await client.get("/items/1")
        assert server.connections.total == 1
    async with AsyncPynector(base_url=server.url, keepalive_expiry=0.05) as client:
        await client.get("/items/1")
        await sleep(0.2)
        await client.get("/items/1")
        assert server.connections.total == 3
