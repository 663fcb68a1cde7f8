"""Callables of async code in the blocking client: refused, with the name of what was given."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from pynector import Pynector, errors
from pynector.testing import LocalServer
from pynector.transport.http import HttpMessage


async def sign(request: HttpMessage) -> Mapping[str, str]:
    return {"Authorization": "Bearer 1"}


async def hook(message: HttpMessage) -> None:
    pass


class Tokens:
    def __call__(self, request: HttpMessage) -> Mapping[str, str]:
        return {"Authorization": "Basic none"}

    async def refresh(self, response: HttpMessage) -> None:
        pass


class AsyncOnly(httpx.Auth):
    async def async_auth_flow(self, request: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield request


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"auth": sign}, "sign"),
        ({"auth": Tokens()}, "Tokens.refresh"),
        ({"event_hooks": {"request": [hook]}}, "hook"),
        ({"event_hooks": {"response": [hook]}}, "hook"),
    ],
)
def test_async_callables_are_refused(server: LocalServer, options: dict[str, Any], name: str) -> None:
    with Pynector(base_url=server.url, **options) as client:
        with pytest.raises(errors.ConfigurationError) as caught:
            client.get("/bearer")
        assert str(caught.value) == f"{name} is an async function, and blocking code runs plain ones"


def test_a_flow_for_async_code_alone_is_refused(server: LocalServer) -> None:
    client = Pynector(base_url=server.url, auth=AsyncOnly())
    for _ in range(2):
        with pytest.raises(errors.ConfigurationError, match="auth of type AsyncOnly has no flow for this kind of code"):
            client.get("/items/1")
    client.close()
    assert server.requests.count == 0
