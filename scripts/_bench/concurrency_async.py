"""Tasks, scopes, streams and locks on an event loop, against anyio itself."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from time import perf_counter

import anyio

from pynector._concurrency.aio.locks import CapacityLimiter, Lock, Semaphore
from pynector._concurrency.aio.scopes import CancelScope, fail_after
from pynector._concurrency.aio.streams import create_memory_object_stream
from pynector._concurrency.aio.tasks import create_task_group

from .measure import Plan, Row, Run, compare

BURST = 32
AsyncRun = Callable[[int], Awaitable[float]]


async def nothing() -> None:
    pass


async def our_tasks(count: int) -> float:
    started = perf_counter()
    for _ in range(count):
        async with create_task_group() as tg:
            await tg.start_soon(nothing)
    return perf_counter() - started


async def anyio_tasks(count: int) -> float:
    started = perf_counter()
    for _ in range(count):
        async with anyio.create_task_group() as tg:
            tg.start_soon(nothing)
    return perf_counter() - started


async def our_burst(count: int) -> float:
    started = perf_counter()
    for _ in range(0, count, BURST):
        async with create_task_group() as tg:
            for _ in range(BURST):
                await tg.start_soon(nothing)
    return perf_counter() - started


async def anyio_burst(count: int) -> float:
    started = perf_counter()
    for _ in range(0, count, BURST):
        async with anyio.create_task_group() as tg:
            for _ in range(BURST):
                tg.start_soon(nothing)
    return perf_counter() - started


def entering(make: Callable[[], AbstractContextManager[object]]) -> AsyncRun:
    """A new context manager each time."""

    async def run(count: int) -> float:
        turns = range(count)
        started = perf_counter()
        for _ in turns:
            with make():
                pass
        return perf_counter() - started

    return run


def using(make: Callable[[], AbstractAsyncContextManager[object]]) -> AsyncRun:
    """The same context manager each time."""

    async def run(count: int) -> float:
        manager = make()
        turns = range(count)
        started = perf_counter()
        for _ in turns:
            async with manager:
                pass
        return perf_counter() - started

    return run


def in_one_task(make: Callable[[float], tuple[object, object]]) -> AsyncRun:
    async def run(count: int) -> float:
        send, receive = make(100)
        turns = range(count)
        async with send, receive:
            started = perf_counter()
            for number in turns:
                await send.send(number)
                await receive.receive()
            return perf_counter() - started

    return run


def between_tasks(make: Callable[[float], tuple[object, object]]) -> AsyncRun:
    async def run(count: int) -> float:
        send, receive = make(100)

        async def produce() -> None:
            async with send:
                for number in range(count):
                    await send.send(number)

        async with receive, anyio.create_task_group() as tg:
            started = perf_counter()
            tg.start_soon(produce)
            async for _ in receive:
                pass
            return perf_counter() - started

    return run


def on(backend: str, run: AsyncRun) -> Run:
    return lambda count: anyio.run(run, count, backend=backend)


def rows(plan: Plan) -> Iterator[Row]:
    suite: list[tuple[str, int, AsyncRun, AsyncRun]] = [
        ("group with one task", 2000, our_tasks, anyio_tasks),
        (f"task in a burst of {BURST}", 6400, our_burst, anyio_burst),
        ("CancelScope()", 20_000, entering(CancelScope), entering(anyio.CancelScope)),
        ("fail_after(60)", 10_000, entering(lambda: fail_after(60)), entering(lambda: anyio.fail_after(60))),
        (
            "stream item, one task",
            5000,
            in_one_task(create_memory_object_stream),
            in_one_task(anyio.create_memory_object_stream),
        ),
        (
            "stream item, to another task",
            5000,
            between_tasks(create_memory_object_stream),
            between_tasks(anyio.create_memory_object_stream),
        ),
        ("free Lock", 5000, using(Lock), using(anyio.Lock)),
        ("free Semaphore", 5000, using(lambda: Semaphore(1)), using(lambda: anyio.Semaphore(1))),
        ("free CapacityLimiter", 5000, using(lambda: CapacityLimiter(4)), using(lambda: anyio.CapacityLimiter(4))),
    ]
    for backend in ("asyncio", "trio"):
        for what, count, ours, theirs in suite:
            name = f"{backend}: {what}"
            if plan.wants(name):
                contestants = {"ours": on(backend, ours), "anyio": on(backend, theirs)}
                yield compare(plan, name, count, contestants, goal={"anyio": 1.2})
