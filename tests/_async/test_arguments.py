"""What is given wrongly, or in a form that is less common: refused where it is given, or understood."""

from collections.abc import Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector.testing import LocalServer
from pynector.transport import TransportFactoryRegistry
from pynector.transport.http import AsyncHTTPTransportFactory


def test_what_a_client_is_made_of() -> None:
    wrong: Any
    for wrong in ({"registry": 3}, {"enable_telemetry": "no"}, {"config": []}, {"config": {"http_engine": "curl"}}):
        with pytest.raises(errors.ConfigurationError) as caught:
            AsyncPynector(**wrong)
        assert next(iter(wrong)) in str(caught.value)


@pytest.mark.parametrize("option", [{"raise_for_status": "no"}, {"raise_for_status": None}, {"idempotency_key": ""}])
async def test_options_of_a_request(server: LocalServer, option: Any) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match=next(iter(option))):
            await client.request({"path": "/items/1"}, **option)
        wrong: Any = "yes"
        with pytest.raises(errors.ConfigurationError, match="raise_on_error"):
            await client.batch_request([], raise_on_error=wrong)
    assert server.requests.count == 0


async def test_a_request_without_a_place_to_go(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match="no `path` and no `url`"):
            await client.request({"method": "POST", "json": {}})
        assert (await client.request({"url": ""}, raise_for_status=False)).status_code == 404


async def test_the_other_names_of_json_and_form(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        assert (await client.post("/echo", json_data={"a": 1})).json()["text"] == '{"a":1}'
        assert (await client.put("/echo", form_data={"a": "1"})).json()["text"] == "a=1"


async def test_the_base_url_of_a_factory(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNECTOR_BASE_URL", "http://nowhere.invalid")
    registry: TransportFactoryRegistry[Any] = TransportFactoryRegistry()
    registry.register("http", AsyncHTTPTransportFactory(base_url=server.url))
    async with AsyncPynector(registry=registry) as client:
        assert (await client.get("/items/1")).json()["id"] == 1
    async with AsyncPynector(registry=registry, base_url=f"{server.url}/items") as client:
        assert (await client.get("/2")).json()["id"] == 2
    registry.register("http", AsyncHTTPTransportFactory())
    monkeypatch.setenv("PYNECTOR_BASE_URL", server.url)
    async with AsyncPynector(registry=registry) as client:
        assert (await client.get("/items/3")).json()["id"] == 3


# Inputs of a batch that raise before there is a first item


class _Rows:
    def __iter__(self) -> Iterator[Any]:
        raise TypeError("no such table")


async def test_an_input_that_can_not_be_opened() -> None:
    async with AsyncPynector() as client:
        with pytest.raises(errors.SourceError, match="TypeError when it was opened: no such table") as caught:
            await client.batch_request(_Rows())
        assert isinstance(caught.value.__cause__, TypeError)
        with pytest.raises(errors.SourceError, match="no such table"):
            async with client.stream_batch(_Rows()) as run:
                assert [outcome async for outcome in run] == []


class _Sized:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        raise self.error

    def __iter__(self) -> Iterator[Any]:
        yield {"path": "/items/1"}


async def test_an_input_whose_length_is_not_known(server: LocalServer) -> None:
    async with AsyncPynector(base_url=server.url) as client:
        seen: list[Any] = []
        results = await client.batch_request(_Sized(TypeError()), progress=lambda *numbers: seen.append(numbers))
        assert [response.json()["id"] for response in results] == [1]
        assert seen == [(1, None)]
        with pytest.raises(errors.SourceError, match="OSError when it was asked for its length: connection lost"):
            await client.batch_request(_Sized(OSError("connection lost")))
