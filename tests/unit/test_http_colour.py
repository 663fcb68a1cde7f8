"""What cannot be written once for both colours: the wrong kind of `with`, and a client of the wrong kind."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from pynector import AsyncPynector, Pynector, errors
from pynector.transport.http import AsyncHTTPTransport, HTTPTransport

URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "make",
    [
        lambda: AsyncPynector(base_url=URL),
        lambda: AsyncHTTPTransport(URL),
        lambda: AsyncPynector(base_url=URL).stream({"path": "/"}),
        lambda: AsyncHTTPTransport(URL).stream({"path": "/"}),
    ],
)
def test_with_around_what_is_async(make: Callable[[], Any]) -> None:
    thing = make()
    name = type(thing).__name__
    twin = name.removeprefix("Async")
    with pytest.raises(TypeError, match=rf"{name} is for async code: use `async with {name}\(.*`with {twin}\("):
        with thing:
            pytest.fail("the block ran")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pynector(base_url=URL),
        lambda: HTTPTransport(URL),
        lambda: Pynector(base_url=URL).stream({"path": "/"}),
        lambda: HTTPTransport(URL).stream({"path": "/"}),
    ],
)
async def test_async_with_around_what_blocks(make: Callable[[], Any]) -> None:
    thing = make()
    name = type(thing).__name__
    with pytest.raises(TypeError, match=rf"{name} is for blocking code: use `with {name}\(.*`async with Async{name}\("):
        async with thing:
            pytest.fail("the block ran")


async def test_an_httpx_client_of_the_other_colour() -> None:
    with httpx.Client(trust_env=False) as blocking:
        with pytest.raises(errors.ConfigurationError, match=r"client= is a Client: give an httpx\.AsyncClient"):
            await AsyncPynector(client=blocking).connect()
    async with httpx.AsyncClient(trust_env=False) as own:
        with pytest.raises(errors.ConfigurationError, match=r"client= is a AsyncClient: give an httpx\.Client"):
            Pynector(client=own).connect()


async def test_an_async_iterator_as_a_body_of_blocking_code() -> None:
    async def body() -> Any:
        yield b"x"

    with Pynector(base_url=URL, retry=None) as client:
        with pytest.raises(errors.ConfigurationError, match="AsyncPynector"):
            client.post("/", content=body())


def test_a_transport_of_the_other_colour() -> None:
    other: Any
    for client, other in ((AsyncPynector, HTTPTransport()), (Pynector, AsyncHTTPTransport())):
        with pytest.raises(
            errors.ConfigurationError, match=f"^{type(other).__name__} is for (async|blocking) code: give"
        ):
            client(other)


def test_async_methods_in_blocking_code() -> None:
    class Methods:
        def connect(self) -> None: ...
        def disconnect(self) -> None: ...
        async def send(self, message: Any, **options: Any) -> None: ...
        def receive(self) -> Any: ...

    transport: Any = Methods()
    with pytest.raises(errors.ConfigurationError, match=r"^Methods\.send is an async function, and blocking code runs"):
        Pynector(transport)
