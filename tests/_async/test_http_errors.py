"""Bad input: each mistake is a typed error that names it, before anything is sent."""

import datetime as dt
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer
from pynector.transport import TransportFactoryRegistry
from pynector.transport.http import AsyncHTTPTransport, HttpMessage

pytestmark = pytest.mark.usefixtures("engine")

BASE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"path": "/", "parms": {}}, "unknown request key 'parms': did you mean 'params'"),
        ({"path": "/", "url": "/"}, "path and url were given"),
        ({"path": 7}, "path: expected text, got int"),
        ({"path": "/", "method": "GET IT"}, "'GET IT' is not an HTTP method"),
        ({"path": "/", "json": {}, "content": b""}, "json and content were given"),
        ({"path": "/", "params": {"a": object()}}, "query parameter 'a' is of type object"),
        ({"path": "/", "params": "a=1"}, "params: expected a mapping"),
        ({"path": "/", "headers": {"X": "a\r\nY: b"}}, "header 'X': the value holds a control character"),
        ({"path": "/", "files": {"f": 3}}, "files.f: expected bytes, text or a binary file"),
        ({"path": "/a b\nc?q"}, "control character"),
        ({"url": "ftp://host/x"}, "unsupported URL scheme 'ftp'"),
        ({"url": "http://[::1"}, "not a valid URL"),
        ({"url": "http://a..b/"}, "part of the host is empty"),
        ({"url": f"http://{'a' * 64}.example/"}, "too long"),
        ({"url": "http://host:port/"}, "not a valid URL"),
        (["/path"], "a request: expected a mapping with `path` or `url`, or an HttpMessage, got list"),
        (None, "got NoneType"),
    ],
)
async def test_requests_that_are_wrong(data: Any, message: str) -> None:
    async with AsyncPynector(base_url=BASE) as client:
        with pytest.raises(errors.ConfigurationError) as caught:
            await client.request(data)
        assert message in str(caught.value)
        results = await client.batch_request([data])
    assert isinstance(results[0], errors.ConfigurationError)
    assert isinstance(caught.value, ValueError)
    assert results.outcomes[0].attempts == 0


@pytest.mark.parametrize("url", ["/users", "users", "", "//host/x", "?a=1"])
async def test_a_relative_url_without_a_base(url: str) -> None:
    async with AsyncPynector() as client:
        with pytest.raises(errors.ConfigurationError, match=r"relative URL .* without a base: give base_url="):
            await client.get(url)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"json": {"items": [1, {"when": dt.date(2024, 1, 1)}]}}, "json.items[1].when: date is not JSON"),
        ({"json": {"x": float("nan")}}, "json.x: nan is not JSON"),
        ({"json": {1, 2}}, "json: set is not JSON"),
        ({"form": {"a": {"b": 1}}}, "form.a: dict cannot be sent"),
        ({"form": {"a": object()}, "files": {"f": b""}}, "files can't be encoded"),
        ({"content": "\ud800"}, "content: the text holds a lone surrogate"),
    ],
)
async def test_a_body_that_cannot_be_serialised(server: LocalServer, body: dict[str, Any], path: str) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.SerializationError) as caught:
            await client.post("/echo", **body)
        assert path in str(caught.value)
        assert caught.value.sent is False
    assert server.requests.count == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiemout": 3}, "unknown option 'tiemout': did you mean 'timeout'"),
        ({"retries": 3}, "unknown option 'retries': did you mean 'retry'"),
        ({"timeout": 0}, "argument `timeout`: 0 is not accepted; give seconds above 0"),
        ({"timeout": "3"}, "argument `timeout`: '3' is not accepted"),
        ({"retry": -1}, "retry: -1 is not accepted"),
        ({"retry": "no"}, "retry: 'no' is not accepted"),
        ({"idempotency_key": "a\nb"}, "control character"),
        ({"idempotency_key": 5}, "the value must be text, not int"),
    ],
)
async def test_options_of_a_call_that_are_wrong(options: dict[str, Any], message: str) -> None:
    async with AsyncPynector(base_url=BASE) as client:
        with pytest.raises(errors.ConfigurationError) as caught:
            await client.request({"path": "/"}, **options)
        assert message in str(caught.value)
        with pytest.raises(errors.ConfigurationError):
            await client.get("/", **options)
        with pytest.raises(errors.ConfigurationError):
            async with client.stream({"path": "/"}, **options):
                pytest.fail("the block ran")


async def test_request_with_retry_makes_its_own_policy() -> None:
    async with AsyncPynector(base_url=BASE) as client:
        options: dict[str, Any] = {"retry": 3}
        with pytest.raises(errors.ConfigurationError, match="makes its own policy"):
            await client.request_with_retry({"path": "/"}, **options)
        with pytest.raises(errors.ConfigurationError, match="max_retries"):
            await client.request_with_retry({"path": "/"}, max_retries=-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_ulr": BASE}, "unknown option 'base_ulr': did you mean 'base_url'"),
        ({"transport_type": "htpp"}, "unknown transport 'htpp': did you mean 'http'"),
        ({"timeout": -1}, "argument `timeout`: -1 is not accepted"),
        ({"retry": 1.5}, "retry: 1.5 is not accepted"),
        ({"max_connections": 0}, "argument `max_connections`: 0 is not accepted"),
        ({"max_retries": True}, "argument `max_retries`: True is not accepted"),
        ({"engine": "curl"}, "argument `engine`: 'curl' is not accepted; give httpx"),
        ({"retry_status_codes": [99]}, "retry_statuses: 99 is not accepted"),
        ({"retry_backoff_factor": -1}, "backoff_factor: -1 is not accepted"),
        ({"auth": 3}, "auth of type int is not usable"),
        ({"auth": ("a:b", "c")}, "must not contain a colon"),
        ({"headers": {"bad name": "x"}}, "header 'bad name': not a valid name"),
        ({"config": {"max_retrys": 1}}, "unknown config key 'max_retrys': did you mean 'max_retries'"),
        ({"config": {"max_concurrency": 0}}, 'config["max_concurrency"]: 0 is not accepted'),
        ({"config": {"http_engine": "curl"}}, "'curl' is not accepted; give httpx"),
        ({"transport": object()}, "object is no transport: it lacks connect, disconnect, send, receive"),
        ({"transport": AsyncHTTPTransport(), "base_url": BASE}, "'base_url' is an option for a transport to be made"),
    ],
)
async def test_a_client_that_is_made_wrongly(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        AsyncPynector(**options)
    assert message in str(caught.value)


async def test_a_secret_does_not_show_in_the_error_it_causes() -> None:
    for auth in (("user:s3cr3t", "s3cr3t"), "s3cr3t\n", ""):
        with pytest.raises(errors.ConfigurationError) as caught:
            AsyncPynector(auth=auth)
        assert "s3cr3t" not in str(caught.value)
    with pytest.raises(errors.ConfigurationError) as caught:
        await AsyncPynector(base_url="https://me:s3cr3t@").get("/")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PYNECTOR_TIMEOUT", "soon"),
        ("PYNECTOR_TIMEOUT", "-3"),
        ("PYNECTOR_MAX_RETRIES", "1.5"),
        ("PYNECTOR_MAX_CONCURRENCY", "0"),
        ("PYNECTOR_HTTP_ENGINE", "urllib"),
    ],
)
async def test_a_bad_environment(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(errors.ConfigurationError, match=f"`{variable}`: '{value}' is not accepted; give "):
        AsyncPynector()


async def test_a_bad_base_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNECTOR_BASE_URL", "api.example.com/s3cr3t")
    with pytest.raises(errors.ConfigurationError, match="`PYNECTOR_BASE_URL`: this value is not accepted") as caught:
        AsyncPynector()
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["api.example.com", "/v1", "ftp://host", f"{BASE}/?q=1", f"{BASE}/#top"])
async def test_a_base_url_that_is_none(base_url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="argument `base_url`: this value is not accepted"):
        AsyncPynector(base_url=base_url)


@pytest.mark.parametrize("limit", [0, -1, True, "3", 1.5])
async def test_a_concurrency_that_is_none(limit: Any) -> None:
    async with AsyncPynector(base_url=BASE) as client:
        with pytest.raises(errors.ConfigurationError, match=r"argument `max_concurrency`: .* an integer of 1 or more"):
            await client.batch_request([], max_concurrency=limit)


@pytest.mark.parametrize("requests", ["/path", b"/path", {"path": "/"}, HttpMessage(url="/"), 3, None])
async def test_a_batch_of_no_requests(requests: Any) -> None:
    async with AsyncPynector(base_url=BASE) as client:
        with pytest.raises(errors.ConfigurationError, match="give an iterable of requests"):
            await client.batch_request(requests)


async def test_options_of_a_batch_that_are_wrong() -> None:
    async with AsyncPynector(base_url=BASE) as client:
        wrong: dict[str, Any] = {"raise_on_eror": True}
        with pytest.raises(errors.ConfigurationError, match="unknown option 'raise_on_eror'"):
            await client.batch_request([], **wrong)
        with pytest.raises(errors.ConfigurationError, match="argument `timeout`"):
            await client.batch_request([], timeout=-1)
        bar: Any = "yes"
        with pytest.raises(errors.ConfigurationError, match="progress is of type str"):
            await client.batch_request([], progress=bar)
        results = await client.batch_request([({"path": "/"}, {"tiemout": 1})])
        assert "did you mean 'timeout'" in str(results[0])


async def test_a_registry_that_is_used_wrongly() -> None:
    registry: TransportFactoryRegistry[Any] = TransportFactoryRegistry()
    with pytest.raises(errors.ConfigurationError, match="unknown transport 'http': there are none"):
        registry.create_transport("http")
    wrong: Any = object()
    with pytest.raises(errors.ConfigurationError, match="object is no transport factory"):
        registry.register("http", wrong)
    with pytest.raises(errors.ConfigurationError, match="must be a text that is not empty"):
        registry.register("", wrong)
    with pytest.raises(errors.ConfigurationError, match="unknown transport 'http'"):
        AsyncPynector(registry=registry)


@pytest.mark.parametrize("host", ["exa mple", "1.2.3.4.5", "999999999999"])
async def test_a_host_that_some_engines_do_not_take(host: str, no_leaks: None) -> None:
    async with AsyncPynector(retry=None) as client:
        with pytest.raises(errors.PynectorError):
            await client.get(f"http://user:s3cr3t@{host}/", timeout=5)
