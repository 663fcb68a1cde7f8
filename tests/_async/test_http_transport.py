"""The HTTP transport without a client around it: making one, sending and receiving, its life, its connections."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.locks import Event
from pynector._concurrency.aio.tasks import create_task_group
from pynector._mutex import forks
from pynector.testing import LocalServer
from pynector.transport import AsyncTransport, AsyncTransportFactory, JsonMessage, TransportFactoryRegistry
from pynector.transport.http import AsyncHTTPTransport, AsyncHTTPTransportFactory, HttpMessage

pytestmark = pytest.mark.usefixtures("engine")

SECRET = "s3cr3t"


def item(number: int) -> HttpMessage:
    return HttpMessage(method="GET", url=f"/items/{number}")


# Making one


async def test_the_usage_of_a_bare_transport(server: LocalServer, no_leaks: None) -> None:
    registry: TransportFactoryRegistry[Any] = TransportFactoryRegistry()
    registry.register("http", AsyncHTTPTransportFactory(base_url=server.url, message_type=HttpMessage))
    transport = registry.create_transport("http")
    seen = []
    async with transport as t:
        assert t is transport
        await t.send(HttpMessage(method="GET", url="/items/4", params={"limit": 10}))
        async for response in t.receive():
            seen.append(response.get_payload()["data"])
    assert seen == [{"id": 4, "name": "item 4"}]
    assert server.requests.recent[-1].target == "/items/4?limit=10"


async def test_a_transport_is_what_the_protocols_say() -> None:
    assert isinstance(AsyncHTTPTransport(), AsyncTransport)
    assert isinstance(AsyncHTTPTransportFactory(), AsyncTransportFactory)


async def test_options_win_over_the_factory(server: LocalServer) -> None:
    factory = AsyncHTTPTransportFactory(
        base_url="http://127.0.0.1:1",
        default_headers={"X-From": "factory"},
        default_timeout=5.0,
        default_max_retries=7,
        retry_backoff_factor=0.25,
    )
    transport = factory.create_transport(base_url=server.url, max_retries=0)
    assert transport.retry_policy.max_retries == 0
    assert transport.retry_policy.backoff_factor == 0.25
    assert factory.create_transport().retry_policy.max_retries == 7
    async with transport:
        answer = (await transport.request(HttpMessage(url="/echo"))).json()
        assert ["x-from", "factory"] in answer["headers"]
    other = factory.create_transport(base_url=server.url, headers={"X-From": "call"})
    async with other:
        answer = (await other.request({"path": "/echo"})).json()
        assert ["x-from", "call"] in answer["headers"]


async def test_a_factory_refuses_names_it_does_not_know() -> None:
    with pytest.raises(errors.ConfigurationError, match="unknown option 'verify_sll': did you mean 'verify_ssl'"):
        AsyncHTTPTransportFactory(verify_sll=False)
    with pytest.raises(errors.ConfigurationError, match="unknown option 'tiemout': did you mean 'timeout'"):
        AsyncHTTPTransportFactory().create_transport(tiemout=3)


@pytest.mark.parametrize(
    ("variable", "value", "accepts"),
    [
        ("PYNECTOR_MAX_RETRIES", "-1", "an integer of 0 or more"),
        ("PYNECTOR_MAX_RETRIES", "many", "an integer of 0 or more"),
        ("PYNECTOR_HTTP_ENGINE", "curl", "httpx"),
    ],
)
async def test_a_bad_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, accepts: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.ConfigurationError, match=rf"{variable}.*'{value}'.*{accepts}"):
        AsyncHTTPTransport()


@pytest.mark.engines("httpx")  # which is one of the settings
async def test_the_environment_counts_until_an_argument_does(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYNECTOR_MAX_RETRIES", "1")
    monkeypatch.setenv("PYNECTOR_TIMEOUT", "0.5")
    monkeypatch.setenv("PYNECTOR_BASE_URL", server.url)
    monkeypatch.setenv("PYNECTOR_HTTP_ENGINE", "httpx")
    assert AsyncHTTPTransport().retry_policy.max_retries == 1
    assert AsyncHTTPTransport(max_retries=4).retry_policy.max_retries == 4
    async with AsyncPynector(retry_backoff_factor=0.01) as client:
        with pytest.raises(errors.HTTPServerError) as caught:
            await client.get("/status/503")
        assert caught.value.attempts == 2
        with pytest.raises(errors.TimeoutError, match=r"0\.5 s"):
            await client.get("/delay?s=5")
        assert (await client.get("/delay?s=0.6", timeout=5)).status_code == 200
    async with AsyncPynector(config={"max_retries": 0, "timeout": 5}) as client:
        with pytest.raises(errors.HTTPServerError) as caught:
            await client.get("/status/503")
        assert caught.value.attempts == 1


# Send and receive


async def test_receive_gives_what_was_sent_in_order_and_ends(server: LocalServer) -> None:
    async with AsyncHTTPTransport(server.url) as t:
        assert [answer async for answer in t.receive()] == []
        for number in range(3):
            await t.send(item(number))
        answers = t.receive()
        assert (await anext(answers)).json()["id"] == 0
        assert [answer.json()["id"] async for answer in t.receive()] == [1, 2]
        assert [answer async for answer in answers] == []
        await t.send({"path": "/items/9"})
        assert [answer.json()["id"] async for answer in answers] == [9]


async def test_every_task_receives_its_own_answers(server: LocalServer, no_leaks: None) -> None:
    received: dict[int, list[int]] = {}

    async def work(t: AsyncHTTPTransport, worker: int) -> None:
        for step in range(5):
            await t.send(item(worker * 100 + step))
            await sleep(0.001)
        received[worker] = [answer.json()["id"] async for answer in t.receive()]

    async with AsyncHTTPTransport(server.url) as t:
        await t.send(item(7))
        async with create_task_group() as tg:
            for worker in range(20):
                await tg.start_soon(work, t, worker)
        assert [answer.json()["id"] async for answer in t.receive()] == [7]
    assert received == {worker: [worker * 100 + step for step in range(5)] for worker in range(20)}


async def test_a_child_task_does_not_see_the_answers_of_its_parent(server: LocalServer) -> None:
    seen: list[Any] = []

    async def child(t: AsyncHTTPTransport) -> None:
        seen.append([answer async for answer in t.receive()])
        await t.send(item(2))
        seen.append([answer.json()["id"] async for answer in t.receive()])

    async with AsyncHTTPTransport(server.url) as t:
        await t.send(item(1))
        async with create_task_group() as tg:
            await tg.start_soon(child, t)
        assert [answer.json()["id"] async for answer in t.receive()] == [1]
    assert seen == [[], [2]]


async def test_two_transports_do_not_mix_their_answers(server: LocalServer) -> None:
    async with AsyncHTTPTransport(server.url) as one, AsyncHTTPTransport(server.url) as two:
        await one.send(item(1))
        await two.send(item(2))
        assert [answer.json()["id"] async for answer in two.receive()] == [2]
        assert [answer.json()["id"] async for answer in one.receive()] == [1]


async def test_a_send_that_fails_leaves_nothing_to_receive(server: LocalServer) -> None:
    async with AsyncHTTPTransport(server.url) as t:
        with pytest.raises(errors.HTTPNotFoundError):
            await t.send(HttpMessage(url="/nowhere"))
        with pytest.raises(errors.TimeoutError, match=r"0\.1 s: GET .*/delay"):
            await t.send(HttpMessage(url="/delay"), timeout=0.1)
        assert [answer async for answer in t.receive()] == []


# Request and stream


async def test_request_retries_as_the_transport_was_told(server: LocalServer) -> None:
    async with AsyncHTTPTransport(server.url, max_retries=2, retry_backoff_factor=0.01) as t:
        assert (await t.request(HttpMessage(url="/flaky/a?fail=2"))).json()["attempt"] == 3
        with pytest.raises(errors.HTTPServerError) as caught:
            await t.request(HttpMessage(url="/flaky/b?fail=3"))
        assert caught.value.attempts == 3
    async with AsyncHTTPTransport(server.url, max_retries=1, retry_backoff_factor=0.01, retry_status_codes=[404]) as t:
        server.reset()
        with pytest.raises(errors.HTTPServerError):
            await t.request(HttpMessage(url="/status/503"))
        assert server.requests.count == 1
        with pytest.raises(errors.HTTPNotFoundError):
            await t.request(HttpMessage(url="/status/404"))
        assert server.requests.count == 3


async def test_stream_and_stream_response(server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(server.url, max_retries=1, retry_backoff_factor=0.01) as t:
        async with t.stream(HttpMessage(url="/flaky/s?fail=1")) as response:
            assert response.status_code == 200
            assert b"".join([chunk async for chunk in response]).startswith(b'{"key":"s"')
        async with t.stream_response(HttpMessage(url="/stream?n=3&ms=1")) as response:
            assert response.headers["content-type"] == "application/x-ndjson"
            assert len((await response.read()).splitlines()) == 3
        with pytest.raises(errors.HTTPServerError) as caught:
            async with t.stream(HttpMessage(url="/status/503")):
                pytest.fail("the block of a stream that failed ran")
        assert caught.value.attempts == 2
        stream = t.stream(HttpMessage(url="/drip?n=100&ms=50"), timeout=0.2)
        with pytest.raises(errors.TimeoutError, match=r"0\.2 s: GET .*/drip"):
            async with stream as response:
                await response.read()
        late = t.stream(HttpMessage(url="/delay"), timeout=0.1)
        with pytest.raises(errors.TimeoutError, match=r"0\.1 s: GET .*/delay"):
            async with late:
                pytest.fail("the block of a stream that never began ran")


async def test_a_stream_outside_its_block(server: LocalServer) -> None:
    async with AsyncHTTPTransport(server.url) as t:
        stream = t.stream(item(1))
        assert "closed" in repr(stream)
        with pytest.raises(errors.ClosedError, match="not open"):
            await stream.read()
        async with stream as response:
            assert repr(response) == f"<{type(response).__name__} 200 {server.url}/items/1>"
        with pytest.raises(errors.ClosedError, match="not open"):
            await anext(stream)
        await stream.__aexit__(None, None, None)


async def test_leaving_a_stream_early_keeps_the_others_going(server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(server.url) as t:
        for _ in range(3):
            async with t.stream(HttpMessage(url="/big?bytes=5000000")) as response:
                assert await anext(response)
        with pytest.raises(ZeroDivisionError):
            async with t.stream(HttpMessage(url="/big?bytes=5000000")) as response:
                raise ZeroDivisionError
        assert (await t.request(item(1))).json()["id"] == 1


async def test_another_message_type(server: LocalServer) -> None:
    document = '{"headers":{"kind":"made"},"payload":[1,2]}'
    async with AsyncHTTPTransport(server.url, message_type=JsonMessage) as t:
        await t.send(HttpMessage(url="/status/200", params={"body": document}))
        assert [answer async for answer in t.receive()] == [JsonMessage([1, 2], {"kind": "made"})]
        with pytest.raises(errors.HTTPNotFoundError):
            await t.send(HttpMessage(url="/status/404", params={"body": document}))
        with pytest.raises(errors.DeserializationError) as caught:
            await t.send(item(1))
    assert caught.value.attempts == 1


# Its life


async def test_connecting_and_disconnecting_twice(server: LocalServer, no_leaks: None) -> None:
    t = AsyncHTTPTransport(server.url)
    await t.disconnect()
    await t.connect()
    await t.connect()
    assert (await t.request(item(1))).json()["id"] == 1
    await t.disconnect()
    await t.disconnect()
    with pytest.raises(errors.ClosedError, match="closed"):
        await t.request(item(1))
    with pytest.raises(errors.ClosedError, match="closed"):
        await t.send(item(1))
    await t.connect()
    assert (await t.request(item(2))).json()["id"] == 2
    await t.disconnect()


async def test_it_connects_on_first_use(server: LocalServer, no_leaks: None) -> None:
    t = AsyncHTTPTransport(server.url)
    assert (await t.request(item(1))).json()["id"] == 1
    await t.disconnect()


async def test_disconnecting_lets_requests_under_way_end(server: LocalServer, no_leaks: None) -> None:
    answers = []

    async def slow(t: AsyncHTTPTransport) -> None:
        answers.append((await t.request(HttpMessage(url="/delay?s=0.3"))).status_code)

    async with create_task_group() as tg:
        async with AsyncHTTPTransport(server.url) as t:
            await tg.start_soon(slow, t)
            while server.in_flight == 0:
                await sleep(0.005)
        assert answers == []
    assert answers == [200]


@pytest.mark.engines("httpx", "httpx2")  # the third does not survive a fork
async def test_a_forked_process_starts_afresh(server: LocalServer, no_leaks: None) -> None:
    """What a forked child does, and without a fork: the connections of its parent are left alone."""
    left: list[Any] = []

    def seem_forked(t: AsyncHTTPTransport) -> None:
        engine: Any = t._engine
        left.extend(lease.connection for lease in engine._connections._idle)
        forks[0] += 1

    t = AsyncHTTPTransport(server.url)
    assert (await t.request(item(1))).json()["id"] == 1
    seem_forked(t)
    assert (await t.request(item(2))).json()["id"] == 2
    assert server.connections.open == 2
    seem_forked(t)
    await t.disconnect()
    assert server.connections.open == 2
    for connection in left:
        await connection.aclose()


# Its connections


@pytest.mark.engines("httpx", "httpx2")  # the third keeps idle ones beside those in use
async def test_connections_are_reused_and_bounded(server: LocalServer, no_leaks: None) -> None:
    async def fetch(t: AsyncHTTPTransport, number: int) -> None:
        assert (await t.request(HttpMessage(url=f"/slow/{number}?ms=5"))).json()["id"] == number

    async with AsyncHTTPTransport(server.url, max_connections=3) as t:
        for number in range(5):
            await fetch(t, number)
        assert server.connections.total == 1
        async with create_task_group() as tg:
            for number in range(30):
                await tg.start_soon(fetch, t, number)
        assert server.connections.total == 3
        assert server.peak_in_flight == 3


@pytest.mark.engines("httpx", "httpx2")  # the third keeps idle ones beside those in use
async def test_idle_connections_make_room_for_those_to_other_servers(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        async with AsyncHTTPTransport(max_connections=1) as t:
            for _ in range(2):
                for url in (server.url, other.url):
                    assert (await t.request(HttpMessage(url=f"{url}/items/1"))).status_code == 200
        assert server.connections.total == other.connections.total == 2
        async with AsyncHTTPTransport(max_connections=2) as t:
            async with create_task_group() as tg:
                for number in range(2):
                    await tg.start_soon(t.request, HttpMessage(url=f"{server.url}/slow/{number}?ms=50"))
            before = server.connections.total
            await t.request(HttpMessage(url=f"{other.url}/items/1"))
            await t.request(HttpMessage(url=f"{server.url}/items/1"))
            assert server.connections.total == before


async def test_a_connection_that_idled_too_long_is_not_used_again(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        async with AsyncHTTPTransport(keepalive_expiry=0.05) as t:
            await t.request(HttpMessage(url=f"{other.url}/items/1"))
            await sleep(0.1)
            await t.request(HttpMessage(url=f"{server.url}/items/1"))
            await t.request(HttpMessage(url=f"{server.url}/items/1"))
            # Each request that ends sweeps away one that is past its time.
            for _ in range(200):
                if other.connections.open == 0:
                    break
                await sleep(0.01)
            assert other.connections.open == 0


async def test_waiting_for_a_connection_can_be_cut_short(server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(server.url, max_connections=1) as t:
        entered = Event()

        async def hold() -> None:
            async with t.stream(HttpMessage(url="/stream?n=100&ms=10")) as response:
                await anext(response)
                entered.set()
                await sleep(0.4)

        async with create_task_group() as tg:
            await tg.start_soon(hold)
            await entered.wait()
            with pytest.raises(errors.TimeoutError):
                await t.request(item(1), timeout=0.1)
        assert (await t.request(item(1))).json()["id"] == 1


# TLS


async def test_an_untrusted_certificate_is_refused_and_not_retried(tls_server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(tls_server.url, max_retries=3) as t:
        with pytest.raises(errors.TLSError, match=r"CERTIFICATE_VERIFY_FAILED|UnknownIssuer") as caught:
            await t.request(item(1))
    assert caught.value.attempts == 1
    assert caught.value.sent is False
    assert isinstance(caught.value, errors.ConnectionError)
    assert tls_server.requests.count == 0
    assert tls_server.connections.total <= 1


async def test_tls_without_verification(tls_server: LocalServer, no_leaks: None) -> None:
    async with AsyncHTTPTransport(tls_server.url, verify_ssl=False) as t:
        for _ in range(2):
            assert (await t.request(item(1))).json()["id"] == 1
        assert tls_server.connections.total == 1
        async with t.stream(HttpMessage(url="/big?bytes=500000")) as response:
            assert len(await response.read()) == 500_000


@pytest.mark.engines("httpx", "httpx2")  # the third can't ignore it, and has a test of its own
async def test_the_environment_names_whom_to_trust(
    tls_server: LocalServer, ca: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    async with AsyncHTTPTransport(tls_server.url) as t:
        with pytest.raises(errors.TLSError):
            await t.request(item(1))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    async with AsyncHTTPTransport(tls_server.url) as t:
        assert (await t.request(item(1))).json()["id"] == 1
    async with AsyncHTTPTransport(tls_server.url, trust_env=False) as t:
        with pytest.raises(errors.TLSError):
            await t.request(item(1))


async def test_certificates_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(errors.ConfigurationError, match=r"SSL_CERT_FILE=.*missing\.pem"):
        await AsyncHTTPTransport().connect()


# An httpx client of the user's own


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


async def test_options_that_no_request_has() -> None:
    transport = AsyncHTTPTransport("http://127.0.0.1:1")
    with pytest.raises(errors.ConfigurationError, match="unknown option 'retries'"):
        transport.prepare({"path": "/"}, {"retries": 1})


async def test_something_else_as_client() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"give an httpx\."):
        AsyncHTTPTransport("http://127.0.0.1:1", client=object())
    with pytest.raises(errors.ConfigurationError, match=r"give an httpx\."):
        AsyncHTTPTransport("http://127.0.0.1:1", client=5)


# Secrets


async def test_no_credential_shows(server: LocalServer) -> None:
    url = server.url.replace("//", f"//user:{SECRET}@")
    options: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET},
        "cookies": {"session": SECRET},
        "auth": ("user", SECRET),
    }
    transport = AsyncHTTPTransport(url, **options)
    default_headers = options.pop("headers")
    factory = AsyncHTTPTransportFactory(url, default_headers=default_headers, **options)
    async with AsyncPynector(transport) as client:
        await client.get("/items/1")
        data = {"path": "/items/1", "headers": {"X-Api-Key": SECRET}}
        shown = [transport, factory, client, transport.stream(data), client.stream(data), transport.prepare(data, {})]
        shown += [transport._engine, transport._builder]
        for thing in shown:
            assert SECRET not in repr(thing)
            assert SECRET not in repr(getattr(thing, "__dict__", {}))
        with pytest.raises(errors.HTTPNotFoundError) as caught:
            await client.get(f"/nowhere?api_key={SECRET}")
        with pytest.raises(errors.TimeoutError) as late:
            await client.get(f"/delay?token={SECRET}", timeout=0.05)
    for error in (caught.value, late.value):
        assert SECRET not in f"{error!r} {error} {vars(error)}"
