"""The async client of language models: event loops, generators that are dropped, cancellations at any moment."""

import asyncio
import gc
import os
import signal
import warnings
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest

from pynector import AsyncPynector
from pynector.errors import WrongLoopError
from servers.leaks import LeakCheck
from servers.provider_server import ProviderServer

pytestmark = pytest.mark.needs("openai", "anthropic")


def client_of(provider: ProviderServer, **options: Any) -> AsyncPynector:
    return AsyncPynector(**provider.options(**options), retry=None)


def test_a_second_event_loop(provider: ProviderServer, no_leaks: None) -> None:
    client = client_of(provider)

    async def ask(text: str) -> str:
        return (await client.request(text)).text

    async def read(text: str) -> str:
        async with client.stream(text) as answer:
            return (await answer.read()).text

    async def many(text: str) -> str:
        return (await client.batch_request([text]))[0].text

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        assert first.run_until_complete(ask("one")) == "echo: one"
        for way in (ask, read, many):
            with pytest.raises(WrongLoopError):
                second.run_until_complete(way("two"))
        assert first.run_until_complete(read("three")) == "echo: three"
        first.run_until_complete(client.aclose())
    finally:
        first.close()
        second.close()
    assert provider.app.count("two") == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child(provider: ProviderServer, no_leaks: None) -> None:
    async def ask(client: AsyncPynector, text: str) -> str:
        async with client.stream(text) as answer:
            assert (await answer.read()).text == f"echo: {text}"
        return (await client.request(text)).text

    async def main() -> None:
        async with client_of(provider) as client:
            assert await ask(client, "before") == "echo: before"
            before = provider.server.connections.total
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                status = 1
                try:
                    status = 0 if asyncio.run(ask(client, "child")) == "echo: child" else 2
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            assert provider.server.connections.total == before + 1
            assert await ask(client, "parent") == "echo: parent"
            assert provider.server.connections.total == before + 1

    asyncio.run(main())


def test_a_stream_that_is_dropped_with_its_loop(provider: ProviderServer, no_leaks: None) -> None:
    """Nobody closes the answer, nor the client: all is gone once the loop has ended."""

    async def main() -> None:
        client = client_of(provider)
        answer = await client.stream("one two three four five six seven").__aenter__()
        assert await anext(answer) == "echo:"

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    assert [each for each in caught if not issubclass(each.category, ResourceWarning)] == []


class Steps:
    """Runs something step by step, and cancels a scope just before a given one of its waits."""

    def __init__(self, work: Awaitable[None], scope: anyio.CancelScope, number: int) -> None:
        self._work = work
        self._scope = scope
        self._left = number

    @property
    def passed(self) -> bool:
        """Whether that wait came."""
        return self._left <= 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        send: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                waited_for = send(value)
            except StopIteration:
                return
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()
            try:
                send, value = steps.send, (yield waited_for)
            except BaseException as exc:
                send, value = steps.throw, exc


async def ask(client: AsyncPynector, how: str, text: str) -> None:
    if how == "plain":
        assert (await client.request(text)).text == f"echo: {text}"
        return
    async with client.stream(text) as answer:
        async for piece in answer:
            assert piece
            if how == "left":
                break


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "not connected"])
@pytest.mark.parametrize("how", ["plain", "streamed", "left"])
async def test_cancelled_at_every_wait(provider: ProviderServer, how: str, warm: bool, no_leaks: None) -> None:
    async with client_of(provider) as client:
        await client.request("the SDK is imported")
        check = LeakCheck()
        tasks = anyio.get_current_task().id, len(anyio.get_running_tasks())
        for number in range(1, 200):
            async with client_of(provider) as other:
                if warm:
                    await other.request("there is a connection")
                text = f"{how} {warm} {number} and so on"
                with anyio.CancelScope() as scope:
                    steps = Steps(ask(other, how, text), scope, number)
                    await steps
                assert provider.app.count(text) <= 1
                # Its own answer, and not that of the one before.
                assert (await other.request(f"after {number}")).text == f"echo: after {number}"
                async with other.stream(f"after all {number}") as answer:
                    assert (await answer.read()).text == f"echo: after all {number}"
            if not steps.passed:
                break
        assert 1 < number < 199
        with anyio.move_on_after(2):
            while check.left():
                await anyio.sleep(0.01)
        assert check.left() == []
        assert (anyio.get_current_task().id, len(anyio.get_running_tasks())) == tasks
