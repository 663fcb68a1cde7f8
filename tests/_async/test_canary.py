"""A secret in every place where one may be, and every kind of failure: it is in nothing that anybody is shown."""

import json
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy
from pynector.concurrency import move_on_after
from pynector.testing import LocalServer
from pynector.transport.http import AsyncHTTPTransport, HttpMessage
from servers.canary import CANARY, USER, Watch, echo_app, sings, watching
from servers.proxy import ProxyServer
from servers.scripted import Connection, ScriptedServer, http_response
from servers.scripts import cut

pytestmark = [pytest.mark.needs("opentelemetry"), pytest.mark.usefixtures("no_proxies_around")]

TWICE = RetryPolicy(max_retries=1, backoff_factor=0.001, budget=None)


@pytest.fixture(scope="module")
def _echo() -> Iterator[LocalServer]:
    with LocalServer(echo_app) as running:
        yield running


@pytest.fixture
def echo(_echo: LocalServer) -> LocalServer:
    _echo.reset()
    return _echo


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    with watching(caplog) as found:
        yield found


def dead_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def speaks_no_tls(conn: Connection) -> None:
    """Answers at once, and in HTTP."""
    conn.send(http_response(b"no TLS here", "400 Bad Request"))
    conn.close()


HIDDEN: dict[str, Any] = {
    "params": {"api_key": CANARY},
    "headers": {"X-Api-Key": CANARY},
}
"""What every request has."""


def client_of(how: str, url: str, **options: Any) -> AsyncPynector:
    """A client that knows the secret in many ways, and in one way more."""
    given: dict[str, Any] = {
        "base_url": url,
        "retry": TWICE,
        "headers": {"X-Session-Token": CANARY},
        "cookies": {"session": CANARY},
        **options,
    }
    match how:
        case "bearer":
            given["auth"] = CANARY
        case "basic":
            given["auth"] = (USER, CANARY)
        case "userinfo":
            scheme, _, rest = url.partition("://")
            given["base_url"] = f"{scheme}://{USER}:{CANARY}@{rest}"
        case "header":
            given["headers"] = {"Authorization": f"Bearer {CANARY}", "Cookie": f"session={CANARY}"}
    return AsyncPynector(**given)


WAYS = ("bearer", "basic", "userinfo", "header")


async def fails(watch: Watch, client: AsyncPynector, path: str, **options: Any) -> None:
    """A request with the secret in its query, headers and body does not go well."""
    try:
        response = await client.post(path, json={"note": CANARY}, **HIDDEN, **options)
    except Exception as exc:
        watch.failed(exc)
    else:
        watch.show(response, response.request, response.headers, response.history)
        try:
            response.json()
        except Exception as exc:
            watch.failed(exc)
        else:
            pytest.fail(f"{path} went well")
    watch.show(client, client._sender)


def finish(watch: Watch, *failures: str) -> None:
    """Look for the secret everywhere, and see that there was something to find it in."""
    assert watch.leaks() == []
    assert set(failures) <= set(watch.failures)
    places = watch.places()
    assert all(places[name] for name in ("logs", "spans", "metrics"))


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
@pytest.mark.parametrize("how", WAYS)
async def test_answers_that_are_failures(echo: LocalServer, watch: Watch, how: str) -> None:
    async with client_of(how, echo.url) as client:
        for status in (400, 401, 403, 404, 429, 500, 503):
            await fails(watch, client, f"/refuse/{status}")
        await fails(watch, client, "/refuse/500", raise_for_status=False)
        await fails(watch, client, "/round/", headers={"X-Api-Key": CANARY})
        await fails(watch, client, "/nowhere/")
        await fails(watch, client, "/squeezed/")
        await fails(watch, client, "/key/")
        await fails(watch, client, "/cut/")
        assert any(sings(repr(request)) for request in echo.requests.recent)
    finish(
        watch,
        "HTTPClientError",
        "HTTPUnauthorizedError",
        "HTTPServerError",
        "HTTPTooManyRequestsError",
        "HTTPRedirectError",
        "HTTPDecodeError",
        "HTTPIncompleteError",
        "DeserializationError",
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
@pytest.mark.parametrize("how", WAYS)
async def test_no_answer(echo: LocalServer, tls_server: LocalServer, watch: Watch, how: str) -> None:
    with ScriptedServer(cut(reset=True)) as resetting, ScriptedServer(cut()) as hanging_up:
        for url in (resetting.url, hanging_up.url):
            async with client_of(how, url) as client:
                await fails(watch, client, "/x")
    async with client_of(how, f"http://127.0.0.1:{dead_port()}") as client:
        await fails(watch, client, "/x")
    async with client_of(how, tls_server.url) as client:
        await fails(watch, client, "/x")
    with ScriptedServer(speaks_no_tls) as plain:
        async with client_of(how, plain.url.replace("http:", "https:")) as client:
            await fails(watch, client, "/x")
    async with client_of(how, echo.url) as client:
        await fails(watch, client, "/delay?s=5", timeout=0.05)
        with move_on_after(0.05):
            await client.post("/delay?s=5", json={"note": CANARY}, **HIDDEN)
    finish(watch, "ConnectionRefusedError", "TLSError", "TimeoutError")


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
async def test_what_can_not_be_sent(echo: LocalServer, watch: Watch) -> None:
    async with client_of("bearer", echo.url) as client:
        await client.get("/items/1", **HIDDEN)
        for url in (
            f"http://{USER}:{CANARY}@[oops/?api_key={CANARY}",
            f"ftp://{USER}:{CANARY}@127.0.0.1/?api_key={CANARY}",
            f"http://{USER}:{CANARY}@127.0.0.1:99999/?api_key={CANARY}",
            f"http://{USER}:{CANARY}@/?api_key={CANARY}",
            f"/x\n?api_key={CANARY}",
        ):
            await fails(watch, client, url)
        for options in (
            {"headers": {"X-Api-Key": f"{CANARY}\n"}},
            {"headers": {"Authorization": f"Bearer {CANARY}\N{SNOWMAN}"}},
            {"json": {"api_key": CANARY, "other": object()}},
            {"json": {"note": CANARY}, "content": CANARY},
            {"params": {"api_key": object()}, "json": {"note": CANARY}},
        ):
            try:
                await client.post("/x", **options)
            except Exception as exc:
                watch.failed(exc)
            else:
                pytest.fail(f"{list(options)} were sent")
    for options in (
        {"base_url": f"http://{USER}:{CANARY}@[oops"},
        {"base_url": f"ftp://{USER}:{CANARY}@127.0.0.1"},
        {"base_url": f"{echo.url}?api_key={CANARY}"},
        {"auth": f"{CANARY}\n"},
        {"auth": (USER, CANARY, CANARY)},
        {"auth": ("a:b", CANARY)},
        {"headers": {"X-Api-Key": f"{CANARY}\n"}},
        {"cookies": {"session": f"{CANARY}\n"}},
        {"proxy": f"http://{USER}:{CANARY}@[oops"},
        {"proxy": f"gopher://{USER}:{CANARY}@127.0.0.1"},
        {"proxy": f"http://{USER}:{CANARY}@127.0.0.1:x"},
    ):
        try:
            async with AsyncPynector(**options) as client:
                await client.get(echo.url)
        except Exception as exc:
            watch.failed(exc)
        else:
            pytest.fail(f"{list(options)} were accepted")
    finish(watch, "ConfigurationError", "SerializationError")


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
async def test_proxies(echo: LocalServer, tls_server: LocalServer, watch: Watch) -> None:
    password = f"{USER}:{CANARY}"
    with ProxyServer(user=password) as knows, ProxyServer(user="somebody:else") as refuses:
        for proxy in (knows.url_for(password), refuses.url_for(password), f"http://{password}@127.0.0.1:{dead_port()}"):
            for url in (echo.url, tls_server.url):
                async with client_of("bearer", url, proxy=proxy) as client:
                    await fails(watch, client, "/refuse/404")
        assert any(sings(repr(seen)) for seen in knows.seen)
    finish(watch, "HTTPNotFoundError", "HTTPProxyError", "ConnectionRefusedError", "TLSError")


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
async def test_streams(echo: LocalServer, watch: Watch, tmp_path: Path) -> None:
    async with client_of("basic", echo.url) as client:

        async def read(path: str, how: str) -> None:
            request = {"path": path, "method": "POST", "json": {"note": CANARY}, **HIDDEN}
            stream = client.stream(request)
            watch.show(stream)
            try:
                async with stream as response:
                    watch.show(response, response.headers)
                    if how == "events":
                        async for event in response.iter_events():
                            event.json()
                    elif how == "lines":
                        async for line in response.iter_lines(max_line_length=8):
                            assert line
                    else:
                        await response.read()
                        response.json()
            except Exception as exc:
                watch.failed(exc)
            else:
                pytest.fail(f"{path} went well")
            watch.show(stream)

        await read("/cut/", "bytes")
        await read("/squeezed/", "bytes")
        await read("/refuse/503", "bytes")
        await read("/key/", "bytes")
        await read("/key/", "lines")
        await read("/key/", "events")
        await read("/events/", "events")
        try:
            await client.download("/cut/", tmp_path / "file", **HIDDEN)
        except Exception as exc:
            watch.failed(exc)
        else:
            pytest.fail("the download went well")
    finish(watch, "HTTPIncompleteError", "HTTPDecodeError", "HTTPServerError", "ResponseTooLargeError")


@pytest.mark.usefixtures("engine")
@pytest.mark.full_beyond("httpx", "pyreqwest")
async def test_batches(echo: LocalServer, watch: Watch, tmp_path: Path) -> None:
    def item(path: str) -> dict[str, Any]:
        return {"path": path, "method": "POST", "json": {"note": CANARY}, **HIDDEN}

    paths = ["/items/1", "/refuse/404", "/refuse/503", "/round/", "/cut/", "/squeezed/"]
    items: list[Any] = [item(path) for path in paths]
    items += [(item("/delay?s=5"), {"timeout": 0.1}), item(f"http://{USER}:{CANARY}@127.0.0.1:{dead_port()}/")]
    items += [HttpMessage(method="POST", url="/refuse/400", json=CANARY)]
    async with client_of("basic", echo.url) as client:
        result = await client.batch_request(items)
        watch.show(result, result.outcomes, result.summary(), *result.outcomes, *items[-1:])
        for outcome in result.failed:
            assert outcome.error is not None
            watch.failed(outcome.error)
            watch.show(outcome.to_dict())
        async with client.stream_batch(items) as run:
            watch.show(run)
            async for outcome in run:
                watch.show(outcome)
            watch.show(run, run.stats)

        async def broken() -> AsyncIterator[Any]:
            yield item("/items/1")
            raise RuntimeError("no more")

        other = tmp_path / "other"
        other.write_text(json.dumps({"api_key": CANARY}))
        mine = tmp_path / "mine"

        async def read(**options: Any) -> None:
            async with client.stream_batch([item("/items/1")], **options) as run:
                watch.show(run)
                watch.show([outcome async for outcome in run])

        await read(checkpoint=mine)
        unserialisable = {"path": f"/x?api_key={CANARY}", "json": {"note": CANARY, "at": object()}}
        for call in (
            lambda: client.batch_request(items, raise_on_error=True),
            lambda: client.batch_request(broken()),
            lambda: read(checkpoint=other),
            lambda: read(checkpoint=mine, raise_for_status=False),
            lambda: read(checkpoint=tmp_path),
            lambda: client.batch_request([{**item("/items/1"), "bad": CANARY}], raise_on_error=True),
            lambda: client.batch_request([unserialisable], raise_on_error=True),
        ):
            try:
                await call()
            except Exception as exc:
                watch.failed(exc)
                watch.show(getattr(exc, "outcomes", None))
            else:
                pytest.fail("a batch went well")
    finish(watch, "HTTPNotFoundError", "HTTPServerError", "SourceError", "CheckpointError", "ConnectionRefusedError")


async def test_a_bare_transport(echo: LocalServer, watch: Watch) -> None:
    password = f"{USER}:{CANARY}"
    transport = AsyncHTTPTransport(echo.url, auth=CANARY, headers={"X-Api-Key": CANARY}, proxy=f"http://{password}@x:1")
    watch.show(transport)
    async with AsyncHTTPTransport(echo.url.replace("://", f"://{password}@"), cookies={"session": CANARY}) as transport:
        watch.show(transport)
        try:
            await transport.request(HttpMessage(method="POST", url="/refuse/500", json={"note": CANARY}, **HIDDEN))
        except Exception as exc:
            watch.failed(exc)
    finish(watch, "HTTPServerError")


async def test_it_would_be_found(server: LocalServer, watch: Watch) -> None:
    """What this file says is worth as much as its search: it has to see the secret wherever it is put."""
    async with AsyncPynector(base_url=server.url) as client:
        await client.get(f"/items/1?note={CANARY}")
    logging.getLogger("some.library").debug("it is %s", CANARY)
    warnings.warn(CANARY, stacklevel=1)
    watch.show(CANARY)
    try:
        try:
            raise ValueError(CANARY)
        except ValueError as exc:
            raise RuntimeError("wrapped") from exc
    except RuntimeError as exc:
        watch.failed(exc)
    found = {leak.partition(":")[0] for leak in watch.leaks()}
    assert found >= {"logs", "spans", "warnings", "repr of str", "traceback of RuntimeError"}
