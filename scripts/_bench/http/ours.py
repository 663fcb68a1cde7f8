"""Ours: `stream_batch` of a client, over each engine. Retries are on, as they are by default.

The others look at an answer and let go of it; so do we. `batch_request` keeps all answers, which is the same work and,
with so many objects, more for the garbage collector.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

from .peers_async import AsyncBlock
from .peers_blocking import Block
from .work import Job, Unavailable

ENGINES = ("httpx", "httpx2", "pyreqwest")

_STANDS_ON = {"httpx": "httpcore", "httpx2": "httpcore2", "pyreqwest": "pyreqwest"}


def requests(job: Job, count: int) -> Iterator[dict[str, Any]]:
    """So many requests, made when they are asked for."""
    work = job.work
    for _ in range(count):
        request: dict[str, Any] = {"method": work.method, "path": work.path}
        if work.sent is not None:
            request["json"] = work.sent
        yield request


def check_engine(engine: str) -> None:
    """Called when something was sent.

    Raises:
        Unavailable: Not by this engine.
    """
    if _STANDS_ON[engine] not in sys.modules:
        raise Unavailable(f"engine={engine!r} was accepted, but {_STANDS_ON[engine]} was not loaded: another one sent")


def check(job: Job, answer: Any) -> None:
    job.check_all(answer.status_code, len(answer.content), answer.json)


def options(job: Job, engine: str) -> dict[str, Any]:
    return {
        "base_url": job.origin,
        "engine": engine,
        "enable_telemetry": False,
        "max_connections": job.concurrency,
    }


def of_async(engine: str) -> Callable[[Job], AbstractAsyncContextManager[AsyncBlock]]:
    @asynccontextmanager
    async def contestant(job: Job) -> AsyncIterator[AsyncBlock]:
        from pynector import AsyncPynector

        async with AsyncPynector(**options(job, engine)) as client:

            async def block(count: int) -> None:
                async with client.stream_batch(requests(job, count), max_concurrency=job.concurrency) as run:
                    async for outcome in run:
                        check(job, outcome.unwrap())
                check_engine(engine)

            yield block

    return contestant


def of_blocking(engine: str) -> Callable[[Job], AbstractContextManager[Block]]:
    @contextmanager
    def contestant(job: Job) -> Iterator[Block]:
        from pynector import Pynector

        with Pynector(**options(job, engine)) as client:

            def block(count: int) -> None:
                with client.stream_batch(requests(job, count), max_concurrency=job.concurrency) as run:
                    for outcome in run:
                        check(job, outcome.unwrap())
                check_engine(engine)

            yield block

    return contestant
