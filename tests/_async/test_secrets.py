"""No credential shows: not in a repr, an error, a traceback, nor in a log at any level."""

import logging
import traceback
from typing import Any

import pytest

from pynector import AsyncPynector, RetryPolicy, errors
from pynector.testing import LocalServer

pytestmark = pytest.mark.usefixtures("engine")

SECRET = "s3cr3t-value"
ONCE = RetryPolicy(max_retries=1, backoff_factor=0.01)


def everything(thing: Any, depth: int = 3) -> str:
    """What a curious user or a crash reporter sees of an object."""
    text = repr(thing) + str(thing)
    for value in getattr(thing, "__dict__", {}).values() if depth else ():
        text += everything(value, depth - 1)
    return text


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """The log lines, with their fields."""
    return caplog.text + "".join(repr(vars(record)) for record in caplog.records)


async def test_nothing_shows(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpcore", "httpx", "pynector", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    host = server.url.removeprefix("http://")
    clients = [
        AsyncPynector(base_url=server.url, auth=("user", SECRET)),
        AsyncPynector(base_url=server.url, auth=SECRET),
        AsyncPynector(base_url=f"http://user:{SECRET}@{host}"),
        AsyncPynector(base_url=server.url, headers={"X-Api-Key": SECRET, "Authorization": f"Bearer {SECRET}"}),
        AsyncPynector(base_url=server.url, cookies={"session": SECRET}),
        AsyncPynector(base_url=server.url, headers={"Cookie": f"session={SECRET}"}),
    ]
    shown = ""
    for client in clients:
        async with client:
            response = await client.get("/echo", params={"api_key": SECRET})
            assert SECRET in response.text or "Basic" in response.text  # it did reach the server
            shown += everything(client) + repr(response) + repr(response.headers) + repr(response.request)
            await client.get("/cookies/set", params={"name": "session", "value": SECRET}, raise_for_status=False)
            await client.get(f"/cookies/set?session={SECRET}", raise_for_status=False)
            for path in ("/status/401", "/status/503"):
                try:
                    await client.get(path, params={"token": SECRET}, retry=ONCE, headers={"X-Api-Key": SECRET})
                except errors.HTTPStatusError as exc:
                    shown += everything(exc) + "".join(traceback.format_exception(exc))
            try:
                await client.get(f"http://user:{SECRET}@127.0.0.1:1/", retry=None)
            except errors.ConnectionError as exc:
                shown += everything(exc) + "".join(traceback.format_exception(exc))
            shown += everything(client)
    assert "http.response" in caplog.text
    assert SECRET not in shown
    assert SECRET not in logged(caplog)


async def test_set_cookie_is_hidden_in_debug_logs(server: LocalServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="pynector")
    async with AsyncPynector(base_url=server.url) as client:
        await client.get(f"/cookies/set?session={SECRET}", raise_for_status=False)
        assert SECRET in (await client.get("/cookies")).text
    assert "REDACTED" in logged(caplog)
    assert SECRET not in logged(caplog)
