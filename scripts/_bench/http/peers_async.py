"""Other libraries on an event loop, each used as its documentation says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from .work import Job

AsyncBlock = Callable[[int], Awaitable[None]]
"""Sends so many requests."""


def bounded(one: Callable[[], Awaitable[None]], concurrency: int) -> AsyncBlock:
    """A task for each request, and a semaphore: what people write."""

    async def block(count: int) -> None:
        semaphore = asyncio.Semaphore(concurrency)

        async def guarded() -> None:
            async with semaphore:
                await one()

        await asyncio.gather(*(guarded() for _ in range(count)))

    return block


def pulling(one: Callable[[], Awaitable[None]], concurrency: int) -> AsyncBlock:
    """A task for each request at once, which takes the next when it is done: the cheapest there is."""

    async def block(count: int) -> None:
        turns = iter(range(count))

        async def worker() -> None:
            for _ in turns:
                await one()

        await asyncio.gather(*(worker() for _ in range(concurrency)))

    return block


@asynccontextmanager
async def _httpx(library: Any, job: Job) -> AsyncIterator[AsyncBlock]:
    work = job.work
    limits = library.Limits(max_connections=job.concurrency, max_keepalive_connections=job.concurrency)
    async with library.AsyncClient(limits=limits, timeout=60) as client:

        async def one() -> None:
            response = await client.request(work.method, job.url, json=work.sent)
            job.check_all(response.status_code, len(response.content), response.json)

        yield bounded(one, job.concurrency)


def httpx(job: Job) -> AbstractAsyncContextManager[AsyncBlock]:
    import httpx

    return _httpx(httpx, job)


def httpx2(job: Job) -> AbstractAsyncContextManager[AsyncBlock]:
    import httpx2

    return _httpx(httpx2, job)


@asynccontextmanager
async def aiohttp(job: Job) -> AsyncIterator[AsyncBlock]:
    import aiohttp

    work = job.work
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.concurrency)) as session:

        async def one() -> None:
            async with session.request(work.method, job.url, json=work.sent) as response:
                job.check(response.status, len(await response.read()))
                if work.parsed:
                    job.check_document(await response.json())

        yield bounded(one, job.concurrency)


@asynccontextmanager
async def niquests(job: Job) -> AsyncIterator[AsyncBlock]:
    import niquests

    work = job.work
    async with niquests.AsyncSession(pool_maxsize=job.concurrency) as session:

        async def one() -> None:
            response = await session.request(work.method, job.url, json=work.sent)
            job.check_all(response.status_code or 0, len(response.content or b""), response.json)

        yield bounded(one, job.concurrency)


@asynccontextmanager
async def pyreqwest(job: Job) -> AsyncIterator[AsyncBlock]:
    from pyreqwest.client import ClientBuilder

    work = job.work
    async with ClientBuilder().no_proxy().build() as client:

        async def one() -> None:
            request = client.request(work.method, job.url)
            if work.sent is not None:
                request = request.body_json(work.sent)
            response = await request.build().send()
            job.check(response.status, len(await response.bytes()))
            if work.parsed:
                job.check_document(await response.json())

        yield pulling(one, job.concurrency)
