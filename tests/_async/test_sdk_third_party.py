"""A provider that somebody else has written an adapter for: by a call, or as pip leaves a package behind."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, RateLimit
from pynector._async.adapters.registry import AsyncAdapters, adapters
from pynector.errors import ConfigurationError, RateLimitError
from pynector.transport.sdk import AsyncSDKAdapter, EndEvent, SdkMessage, SdkRequest, StreamEvent, TextEvent
from pynector.transport.sdk import register_adapter as register

NAME = "echo-of-the-tests"


class Refused(Exception):
    """What the SDK of that provider raises."""

    status_code = 429
    body: Any = {"message": "slower", "code": "busy"}


class AsyncEchoAdapter(AsyncSDKAdapter):
    """As little as there can be."""

    provider = "echo"

    def __init__(
        self, *, api_key: str | None = None, base_url: str | None = None, timeout: float | None = 60.0
    ) -> None:
        self.asked = 0

    async def complete(self, request: SdkRequest) -> SdkMessage:
        self.asked += 1
        if request.turns[-1].text == "refuse":
            raise Refused
        return SdkMessage(text=request.turns[-1].text or "", model=request.model or "echo-1")

    async def stream(self, request: SdkRequest) -> AsyncIterator[StreamEvent]:
        message = await self.complete(request)
        yield TextEvent(message.text)
        yield EndEvent(message)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    before = dict(adapters._classes)
    yield
    adapters._classes = before


async def used(client: AsyncPynector) -> None:
    async with client:
        message = await client.request("hello")
        assert (message.text, message.model) == ("hello", "echo-1")
        async with client.stream("hello") as answer:
            assert [piece async for piece in answer] == ["hello"]
        results = await client.batch_request(["one", "two"])
        assert [each.text for each in results] == ["one", "two"]


async def test_it_is_registered_by_a_call(no_leaks: None) -> None:
    register(NAME, AsyncEchoAdapter)
    await used(AsyncPynector(transport_type="sdk", sdk_type=NAME))
    client = AsyncPynector(transport_type="sdk", sdk_type=NAME, max_retries=2, retry=None)
    with pytest.raises(RateLimitError) as caught:
        await client.request("refuse")
    error = caught.value
    assert (error.provider, error.status_code, error.code, error.transient) == ("echo", 429, "busy", True)
    assert isinstance(error.__cause__, Refused)
    with pytest.raises(ConfigurationError, match="unknown option 'api'"):
        AsyncPynector(transport_type="sdk", sdk_type=NAME, api="chat")
    await client.aclose()


async def test_count_tokens_gets_what_the_user_gave(no_leaks: None) -> None:
    register(NAME, AsyncEchoAdapter)
    seen: list[Any] = []
    limit = RateLimit(tokens_per_minute=10**9, count_tokens=lambda data: seen.append(data) or 1)
    given = {"prompt": "hello", "max_tokens": 5}
    async with AsyncPynector(transport_type="sdk", sdk_type=NAME, rate_limit=limit) as client:
        await client.request("one")
        await client.request(given)
        await client.batch_request(["two"])
        async with client.stream("three") as answer:
            assert [piece async for piece in answer] == ["three"]
    assert seen == ["one", given, "two", "three"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that brings adapters."""
    (tmp_path / "pynector_echo.py").write_text("from echo_of_the_tests import AsyncEchoAdapter\nnothing = object()\n")
    info = tmp_path / "pynector_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pynector-echo\nVersion: 1.0\n")
    groups = "".join(
        f"[pynector.adapters.{colour}]\n{NAME} = pynector_echo:AsyncEchoAdapter\nnone = pynector_echo:nothing\n"
        for colour in ("async", "sync")
    )
    (info / "entry_points.txt").write_text(groups)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "echo_of_the_tests", sys.modules[__name__])
    yield
    sys.modules.pop("pynector_echo", None)


async def test_it_is_found_as_an_entry_point(installed: None, no_leaks: None) -> None:
    assert NAME in AsyncAdapters().names()
    await used(AsyncPynector(transport_type="sdk", sdk_type=NAME))
    with pytest.raises(ConfigurationError, match="is no adapter: give a subclass of"):
        AsyncPynector(transport_type="sdk", sdk_type="none")
    with pytest.raises(ConfigurationError, match=f"did you mean '{NAME}'"):
        AsyncPynector(transport_type="sdk", sdk_type=f"{NAME}s")


def test_what_is_no_adapter() -> None:
    for wrong in (object, AsyncEchoAdapter(), None):
        with pytest.raises(ConfigurationError, match="is no adapter"):
            register(NAME, wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not empty"):
        register("", AsyncEchoAdapter)
    with pytest.raises(ConfigurationError, match="no adapter was given"):
        register(NAME)
