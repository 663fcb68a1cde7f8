"""The HTTP transport without a client around it: making one, sending and receiving."""

from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from pynector.transport import AsyncTransport, AsyncTransportFactory, JsonMessage, TransportFactoryRegistry
from pynector.transport.http import AsyncHTTPTransport, AsyncHTTPTransportFactory, HttpMessage
from servers.inputs import item

pytestmark = pytest.mark.usefixtures("engine")

SECRET = "s3cr3t"


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


async def test_options_that_no_request_has() -> None:
    transport = AsyncHTTPTransport("http://127.0.0.1:1")
    with pytest.raises(errors.ConfigurationError, match="unknown option 'retries'"):
        transport.prepare({"path": "/"}, {"retries": 1})


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
