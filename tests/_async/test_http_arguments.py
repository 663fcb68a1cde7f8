"""The arguments of the HTTP transport: what is refused, and what a JSON library and a limit per host do."""

import datetime as dt
import json
import pickle
import ssl
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from pynector import AsyncPynector, errors
from pynector.concurrency import create_task_group, sleep
from pynector.testing import LocalServer, ServerRequest, ServerResponse
from pynector.transport.http import AsyncHTTPTransport, AsyncHTTPTransportFactory, HttpMessage

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.engines("httpx")  # nothing is sent
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "htpx"}, "give httpx, httpx2 or pyreqwest; did you mean 'httpx'?"),
        ({"engine": "pyrequest"}, "did you mean 'pyreqwest'?"),
        ({"http2": 1}, "argument `http2`: 1 is not accepted; give True or False"),
        ({"verify_ssl": None}, "argument `verify_ssl`: None is not accepted; give True or False, the path of a PEM"),
        ({"verify_ssl": ""}, "argument `verify_ssl`: '' is not accepted"),
        ({"cert": 3}, "argument `cert`: a value of type int is not accepted; give the path of a PEM file"),
        ({"cert": ("a", "b", 3)}, "argument `cert`: a value of type tuple is not accepted"),
        ({"cert": ()}, "argument `cert`: a value of type tuple is not accepted"),
        ({"cert": "", "verify_ssl": "ca.pem"}, "argument `cert`: a value of type str is not accepted"),
        ({"cert": "c.pem", "verify_ssl": ssl.create_default_context()}, "load cert= into it"),
        ({"proxy": 3}, "argument `proxy`: expected the URL of a proxy, got int"),
        ({"proxy": "proxy.example.com:3128"}, "the URL has no scheme; give scheme://host:port, or scheme://user:pass"),
        ({"proxy": "ftp://proxy.example.com"}, "is reached by http, https, socks5, socks5h, not by 'ftp'"),
        ({"proxy": "http://proxy.example.com:99999"}, "argument `proxy`: not a valid URL of a proxy; give scheme://"),
        ({"proxy": "http://me:s3cr3t@"}, "argument `proxy`: the URL has no host; give scheme://host:port"),
        ({"proxy": "http://me:s3cr3t/@proxy:1"}, "argument `proxy`: not a valid URL of a proxy"),
        ({"proxy": "http://me:x/s3cr3t@proxy:1"}, "argument `proxy`: not a valid URL of a proxy"),
        ({"proxy": "http://me/s3cr3t@proxy:1"}, "a /, ? or # in a password is written %2F, %3F or %23"),
        ({"proxy": "http://me:s3cr3t@pro\nxy:1"}, "argument `proxy`: the URL has a control character in it"),
        ({"proxy": f"socks5://me:{'s3cr3t' * 50}@proxy:1"}, "SOCKS has users and passwords of 255 bytes at most"),
        ({"uds": ""}, "argument `uds`: '' is not accepted; give the path of a Unix socket"),
        ({"uds": b"/tmp/x"}, "argument `uds`"),
        ({"uds": "/tmp/x", "proxy": "http://p:1"}, "uds and proxy were given, but there is one way"),
        ({"max_connections_per_host": 0}, "argument `max_connections_per_host`: 0 is not accepted; give an integer"),
        ({"max_connections_per_host": True}, "argument `max_connections_per_host`: True is not accepted"),
        ({"keepalive_expiry": -1}, "argument `keepalive_expiry`: -1 is not accepted; give seconds, 0 or more"),
        ({"keepalive_expiry": None}, "argument `keepalive_expiry`: None is not accepted"),
        ({"keepalive_expiry": float("nan")}, "argument `keepalive_expiry`: nan is not accepted"),
        ({"max_response_size": 0}, "argument `max_response_size`: 0 is not accepted; give an integer of 1 or more"),
        ({"max_decompressed_size": 1.5}, "argument `max_decompressed_size`: 1.5 is not accepted"),
        ({"json_codec": object()}, "dumps(value) -> bytes or str, and loads(bytes) -> value, such as orjson"),
        ({"json_codec": "orjson"}, "argument `json_codec`: 'orjson' is not accepted"),
        ({"event_hooks": [print]}, 'expected a mapping, got list; give {"request": [...], "response": [...]}'),
        ({"event_hooks": {"requests": []}}, "unknown key 'requests'; known are request, response"),
        ({"event_hooks": {"request": print}}, "'request' is no list of callables"),
        ({"event_hooks": {"response": [3]}}, "'response' is no list of callables"),
        ({"auth": httpx.DigestAuth}, "auth is the class DigestAuth: give an object of it"),
        ({"auth": {"token": "s3cr3t"}}, "auth of type dict is not usable"),
        (
            {"auth": httpx.DigestAuth("me", "s3cr3t"), "engine": "pyreqwest"},
            "the engine 'pyreqwest' can't run auth of type DigestAuth, which is made for httpx: use engine='httpx' or",
        ),
    ],
)
async def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    for make in (AsyncPynector, AsyncHTTPTransport, AsyncHTTPTransportFactory().create_transport):
        with pytest.raises(errors.ConfigurationError) as caught:
            make(base_url="http://127.0.0.1:1", **options)
        assert message in str(caught.value)
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.engines("httpx")  # nothing is sent
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"verify_ssl": "ca.pem"}, "verify_ssl"),
        ({"cert": "c.pem"}, "cert"),
        ({"http2": True}, "http2"),
        ({"proxy": "http://me:s3cr3t@127.0.0.1:1"}, "proxy"),
        ({"uds": "/tmp/x"}, "uds"),
        ({"max_connections_per_host": 1}, "max_connections_per_host"),
        ({"keepalive_expiry": 1}, "keepalive_expiry"),
        ({"event_hooks": {"request": [print]}}, "event_hooks"),
        ({"auth": httpx.BasicAuth("a", "s3cr3t")}, "auth"),
        ({"auth": lambda request: {}}, "auth"),
    ],
)
async def test_what_the_users_own_client_brings_itself(options: dict[str, Any], name: str) -> None:
    async with httpx.AsyncClient() as own:
        with pytest.raises(errors.ConfigurationError, match=f"client= brings its own {name}: set it on that client"):
            AsyncHTTPTransport("http://127.0.0.1:1", client=own, **options)
        AsyncHTTPTransport("http://127.0.0.1:1", client=own, auth="token", event_hooks={}, json_codec=orjson)


@pytest.mark.engines("httpx")  # nothing is sent
async def test_what_is_right_is_taken_and_no_secret_shows() -> None:
    options: dict[str, Any] = {
        "verify_ssl": Path("ca.pem"),
        "cert": ("c.pem", Path("k.pem"), "s3cr3t"),
        "http2": True,
        "proxy": "socks5h://me:s3cr3t@proxy.example.com:1080",
        "max_connections_per_host": 2,
        "keepalive_expiry": 0,
        "max_response_size": 10,
        "max_decompressed_size": 20,
        "json_codec": json,
        "event_hooks": {"request": (print,), "response": []},
        "auth": lambda request: {},
    }
    transport = AsyncHTTPTransport("http://127.0.0.1:1", **options)
    factory = AsyncHTTPTransportFactory("http://127.0.0.1:1", **options)
    for thing in (transport, factory, factory.create_transport()):
        assert "s3cr3t" not in f"{thing!r} {vars(thing)!r}"
    settings = transport._settings
    assert settings.cert is not None
    assert settings.cert.get() == options["cert"]
    assert settings.proxy is not None
    assert settings.proxy.get() == options["proxy"]
    for name in ("verify_ssl", "http2", "max_connections_per_host", "max_response_size", "max_decompressed_size"):
        assert getattr(settings, name) == options[name]
    assert AsyncHTTPTransport("http://127.0.0.1:1", uds=Path("/tmp/x"))._settings.uds == "/tmp/x"


# A JSON library


class Codec:
    """The standard library, with names changed on both ways."""

    @staticmethod
    def dumps(value: Any) -> str:
        return json.dumps({"wrapped": value})

    @staticmethod
    def loads(data: bytes) -> Any:
        return {"parsed": json.loads(data)}


async def test_orjson(server: LocalServer) -> None:
    when = dt.datetime(2024, 5, 17, 12, tzinfo=dt.UTC)
    async with AsyncPynector(base_url=server.url, json_codec=orjson) as client:
        response = await client.post("/echo", json={"when": when})
        assert json.loads(response.json()["text"]) == {"when": "2024-05-17T12:00:00+00:00"}
        with pytest.raises(errors.SerializationError, match=r"json: it cannot be encoded: .*set"):
            await client.post("/echo", json={"tags": {1, 2}})
        with pytest.raises(errors.DeserializationError, match="the body is not JSON in 200 GET"):
            (await client.get("/big?bytes=4")).json()
    assert server.requests.count == 2


async def test_a_json_library_of_your_own(server: LocalServer) -> None:
    seen: list[HttpMessage] = []
    hooks = {"response": [seen.append]}
    async with AsyncPynector(base_url=server.url, json_codec=Codec, event_hooks=hooks) as client:
        response = await client.post("/echo", json=[1])
        items = await client.get("/items/1")
        with pytest.raises(errors.HTTPNotFoundError) as caught:
            await client.get("/nowhere")
        redirected = await client.get("/redirect/1")
    assert response.json()["parsed"]["text"] == '{"wrapped": [1]}'
    assert response.get_payload()["data"] == response.json()
    assert seen[1].json() == items.json() == {"parsed": {"id": 1, "name": "item 1"}}
    assert caught.value.response.json()["parsed"]["error"] == "no such route"
    assert redirected.history[0].json() == {"parsed": {"left": 1}}
    # It is no part of the value.
    copy = pickle.loads(pickle.dumps(items))
    assert copy == items
    assert copy.json() == {"id": 1, "name": "item 1"}


class Broken:
    @staticmethod
    def dumps(value: Any) -> Any:
        if value == "number":
            return 3
        raise LookupError("dumps is broken")

    @staticmethod
    def loads(data: bytes) -> Any:
        raise LookupError("loads is broken")


async def test_a_json_library_that_fails(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url, json_codec=Broken()) as client:
        with pytest.raises(errors.SerializationError, match="dumps is broken"):
            await client.post("/echo", json={"n": 1})
        with pytest.raises(errors.SerializationError, match="dumps gave int, neither bytes nor text"):
            await client.post("/echo", json="number")
        response = await client.get("/items/1")
        with pytest.raises(errors.DeserializationError, match="loads is broken; it begins with"):
            response.json()
        assert response.get_payload()["data"] == response.text


# A limit per host


def slow_server(order: list[str]) -> LocalServer:
    def app(request: ServerRequest) -> ServerResponse | None:
        order.append(request.path)
        return None

    return LocalServer(app)


async def test_a_busy_host_holds_up_no_other(server: LocalServer) -> None:
    order: list[str] = []
    with slow_server(order) as slow:
        async with AsyncPynector(max_connections=20, max_connections_per_host=2) as client:

            async def ask(number: int) -> None:
                await client.get(f"{slow.url}/slow/{number}?ms=200")

            async with create_task_group() as tasks:
                for number in range(6):
                    await tasks.start_soon(ask, number)
                    await sleep(0.05)
                for number in range(10):
                    await client.get(f"{server.url}/items/{number}")
                # All of them while the slow server was still busy with the first two.
                answered_meanwhile = len(order)
        assert answered_meanwhile < 6
        assert slow.peak_in_flight == 2
        assert order == [f"/slow/{number}" for number in range(6)]
        assert slow.connections.total == 2
    assert server.requests.count == 10


async def test_a_stream_holds_its_place_until_it_is_closed(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url, max_connections_per_host=1) as client:
        async with client.stream({"path": "/big"}):
            with pytest.raises(errors.TimeoutError):
                await client.get("/items/1", timeout=0.2)
        assert (await client.get("/items/1", timeout=5)).status_code == 200


async def test_an_error_gives_its_place_back(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url, max_connections_per_host=1, retry=None) as client:
        for _ in range(3):
            with pytest.raises(errors.HTTPServerError):
                await client.get("/status/500")
            with pytest.raises(errors.TimeoutError):
                await client.get("/delay", timeout=0.1)
        assert (await client.get("/items/1", timeout=5)).status_code == 200
