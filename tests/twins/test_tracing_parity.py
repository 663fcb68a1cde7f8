"""Both colours tell the same story: the same spans, in the same places, with the same attributes."""

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pynector import AsyncPynector, Pynector, RetryPolicy
from pynector.errors import PynectorError
from pynector.testing import LocalServer
from servers.provider_server import ProviderServer
from servers.recorded import Recorded, Tree, attributes, is_unset, recording

pytestmark = pytest.mark.usefixtures("no_proxies_around")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.001, budget=None)
Step = tuple[str, Any]


def script(seed: int) -> list[Step]:
    """What a user may do, in any order."""
    rng = random.Random(seed)

    def path(n: int) -> str:
        choices = [f"/items/{n}", f"/flaky/{seed}-{n}?fail={rng.randint(1, 3)}", "/redirect/2", "/status/404"]
        return rng.choice([*choices, "/status/503"])

    steps: list[Step] = []
    for number in range(12):
        kind = rng.choice(["get", "get", "stream", "batch", "run"])
        steps.append((kind, [path(100 * number + n) for n in range(6)] if kind in ("batch", "run") else path(number)))
    return steps


async def in_async(url: str, steps: list[Step]) -> None:
    async with AsyncPynector(base_url=url, retry=QUICK) as client:
        for kind, what in steps:
            try:
                if kind == "get":
                    await client.get(what)
                elif kind == "stream":
                    async with client.stream({"path": what}) as response:
                        await response.read()
                elif kind == "batch":
                    await client.batch_request([{"path": path} for path in what], max_concurrency=3)
                else:
                    async with client.stream_batch(({"path": path} for path in what), max_concurrency=3) as run:
                        async for _ in run:
                            pass
            except PynectorError:
                pass


def in_threads(url: str, steps: list[Step]) -> None:
    with Pynector(base_url=url, retry=QUICK) as client:
        for kind, what in steps:
            try:
                if kind == "get":
                    client.get(what)
                elif kind == "stream":
                    with client.stream({"path": what}) as response:
                        response.read()
                elif kind == "batch":
                    client.batch_request([{"path": path} for path in what], max_concurrency=3)
                else:
                    with client.stream_batch(({"path": path} for path in what), max_concurrency=3) as run:
                        for _ in run:
                            pass
            except PynectorError:
                pass


@pytest.mark.parametrize("seed", range(5))
def test_the_same_tree(server: LocalServer, seed: int) -> None:
    found: list[list[Tree]] = []
    for colour in ("async", "blocking"):
        server.reset()
        with recording() as recorded:
            if colour == "async":
                asyncio.run(in_async(server.url, script(seed)))
            else:
                in_threads(server.url, script(seed))
            assert len(recorded.spans) > 24
            found.append(recorded.tree())
    assert found[0] == found[1]


def test_the_same_tree_of_questions(provider: ProviderServer) -> None:
    questions = ["one", "scenario=503x1 two", "scenario=400 three"]

    async def ask() -> None:
        async with AsyncPynector(**provider.options(), retry=QUICK) as client:
            await client.batch_request(questions)
            async with client.stream("four") as answer:
                await answer.read()

    with recording() as in_async:
        asyncio.run(ask())
    provider.app.forget()
    with recording() as in_blocking:
        with Pynector(**provider.options(), retry=QUICK) as client:
            client.batch_request(questions)
            with client.stream("four") as answer:
                answer.read()

    def without_ids(trees: list[Tree]) -> str:
        return repr(
            [
                (name, kind, status, [each for each in about if each[0] != "gen_ai.response.id"], without_ids(below))
                for name, kind, status, about, below in trees
            ]
        )

    assert without_ids(in_async.tree()) == without_ids(in_blocking.tree())


# What only threads can do


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recording() as recorded:
        yield recorded


def test_a_stream_that_another_thread_closes(server: LocalServer, spans: Recorded) -> None:
    with Pynector(base_url=server.url) as client:
        with client.stream({"path": "/stream?n=1000&ms=5"}) as response:
            pieces = response.iter_bytes()
            next(pieces)
            thread = threading.Thread(target=pieces.close)
            thread.start()
            thread.join()
            assert {span.name for span in spans.spans} == {"GET", "pynector.stream"}
    assert len(spans.spans) == 2
    assert all(is_unset(span) for span in spans.spans)


def test_requests_of_many_threads_are_apart(server: LocalServer, spans: Recorded) -> None:
    def ask(number: int) -> None:
        with spans.tracer.start_as_current_span(f"thread {number}"):
            client.get(f"/items/{number}")

    with Pynector(base_url=server.url) as client:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(16):
        (operation,) = spans.children(spans.one(f"thread {number}"))
        (attempt,) = spans.children(operation)
        assert attributes(attempt)["url.full"].endswith(f"/items/{number}")
