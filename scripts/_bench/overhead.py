"""What our own layers cost above an engine: one that answers at once stands in for it.

httpx's client over a transport that answers at once is there for comparison: the same place in the other library.
Nobody waits for a network here, so that the CPU time of the process is the cost, whatever else the machine does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import process_time

import httpx

from pynector import AsyncPynector, Pynector

from . import null_engine
from .measure import Plan, Row, Run, compare
from .report import RowReport

ROUNDS = 9
COUNT = 3000
LIMIT_ASYNC, LIMIT_BLOCKING = 25e-6, 30e-6
BASE = "http://127.0.0.1"
REQUEST = {"method": "GET", "path": "/small"}


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=null_engine.CONTENT)


def of_async(calls: Callable[[AsyncPynector, int], Awaitable[None]], *, telemetry: bool = False) -> Run:
    """Time `calls` in a loop and a client of its own."""

    async def main(count: int) -> float:
        async with AsyncPynector(base_url=BASE, enable_telemetry=telemetry) as client:
            await calls(client, 1)
            started = process_time()
            await calls(client, count)
            return process_time() - started

    return lambda count: asyncio.run(main(count))


def of_blocking(calls: Callable[[Pynector, int], None], *, telemetry: bool = False) -> Run:
    """Time `calls` in a client of its own."""

    def run(count: int) -> float:
        with Pynector(base_url=BASE, enable_telemetry=telemetry) as client:
            calls(client, 1)
            started = process_time()
            calls(client, count)
            return process_time() - started

    return run


async def one_by_one(client: AsyncPynector, count: int) -> None:
    for _ in range(count):
        null_engine.check(await client.request(REQUEST))


async def with_a_timeout(client: AsyncPynector, count: int) -> None:
    for _ in range(count):
        null_engine.check(await client.request(REQUEST, timeout=60))


async def in_a_batch(client: AsyncPynector, count: int) -> None:
    for each in await client.batch_request((REQUEST for _ in range(count)), max_concurrency=64):
        null_engine.check(each)


def one_by_one_blocking(client: Pynector, count: int) -> None:
    for _ in range(count):
        null_engine.check(client.request(REQUEST))


def with_a_timeout_blocking(client: Pynector, count: int) -> None:
    for _ in range(count):
        null_engine.check(client.request(REQUEST, timeout=60))


def in_a_batch_blocking(client: Pynector, count: int) -> None:
    for each in client.batch_request((REQUEST for _ in range(count)), max_concurrency=32):
        null_engine.check(each)


def httpx_async(count: int) -> float:
    async def main() -> float:
        async with httpx.AsyncClient(base_url=BASE, transport=httpx.MockTransport(answer)) as client:
            started = process_time()
            for _ in range(count):
                (await client.request("GET", "/small")).raise_for_status()
            return process_time() - started

    return asyncio.run(main())


def httpx_blocking(count: int) -> float:
    with httpx.Client(base_url=BASE, transport=httpx.MockTransport(answer)) as client:
        started = process_time()
        for _ in range(count):
            client.request("GET", "/small").raise_for_status()
        return process_time() - started


def rows(plan: Plan) -> Iterator[Row]:
    suite: list[tuple[str, dict[str, Run], float | None]] = [
        ("async: request", {"ours": of_async(one_by_one), "httpx": httpx_async}, LIMIT_ASYNC),
        ("async: item of a batch, C=64", {"ours": of_async(in_a_batch)}, LIMIT_ASYNC),
        ("async: request with a timeout of its own", {"ours": of_async(with_a_timeout)}, None),
        ("blocking: request", {"ours": of_blocking(one_by_one_blocking), "httpx": httpx_blocking}, LIMIT_BLOCKING),
        ("blocking: item of a batch, C=32", {"ours": of_blocking(in_a_batch_blocking)}, LIMIT_BLOCKING),
        ("blocking: request with a timeout of its own", {"ours": of_blocking(with_a_timeout_blocking)}, None),
    ]
    with null_engine.installed():
        for name, contestants, limit in suite:
            if plan.wants(name):
                plan.say(name)
                yield compare(plan, name, plan.requests or COUNT, contestants, limit=limit)


def measure(plan: Plan) -> RowReport:
    """Both colours, one request after the other and in a batch."""
    return RowReport("Our own layers above an engine that answers at once, CPU time for one request", [*rows(plan)])
