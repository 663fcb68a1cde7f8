"""Other libraries on threads, each used as its documentation says."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from .work import Job, Unavailable

Block = Callable[[int], None]
"""Sends so many requests."""


@contextmanager
def mapped(one: Callable[[int], None], concurrency: int) -> Iterator[Block]:
    """A job of an executor for each request: what people write."""
    with ThreadPoolExecutor(concurrency) as executor:

        def block(count: int) -> None:
            for _ in executor.map(one, range(count)):
                pass

        yield block


@contextmanager
def pulling(one: Callable[[int], None], concurrency: int) -> Iterator[Block]:
    """A thread for each request at once, which takes the next when it is done: the cheapest there is."""
    with ThreadPoolExecutor(concurrency) as executor:

        def block(count: int) -> None:
            turns = iter(range(count))

            def worker() -> None:
                for turn in turns:
                    one(turn)

            for each in [executor.submit(worker) for _ in range(concurrency)]:
                each.result()

        yield block


@contextmanager
def _sessions(make: Callable[[], Any], job: Job) -> Iterator[Block]:
    """A session for each thread: they are not made to be shared."""
    work = job.work
    mine = threading.local()

    with ExitStack() as sessions:

        def one(_: int) -> None:
            session = getattr(mine, "session", None)
            if session is None:
                session = mine.session = sessions.enter_context(make())
            response = session.request(work.method, job.url, json=work.sent)
            job.check_all(response.status_code, len(response.content), response.json)

        with mapped(one, job.concurrency) as block:
            yield block


def check_urllib3() -> None:
    """Called before anything that stands on urllib3 is measured.

    Raises:
        Unavailable: Another package has taken its place.
    """
    from urllib3._version import __version__

    # The versions of the other end in .900 and above, so that they can be told apart.
    if int(__version__.split(".")[2]) >= 900:
        raise Unavailable("urllib3 was replaced by urllib3-future: CONTRIBUTING.md says how to install both")


def requests(job: Job) -> AbstractContextManager[Block]:
    import requests

    check_urllib3()
    return _sessions(requests.Session, job)


def niquests(job: Job) -> AbstractContextManager[Block]:
    import niquests

    return _sessions(niquests.Session, job)


@contextmanager
def urllib3(job: Job) -> Iterator[Block]:
    import urllib3

    check_urllib3()
    work = job.work
    with urllib3.PoolManager(maxsize=job.concurrency, block=True) as pool:

        def one(_: int) -> None:
            response = pool.request(work.method, job.url, json=work.sent)
            job.check_all(response.status, len(response.data), response.json)

        with mapped(one, job.concurrency) as block:
            yield block


@contextmanager
def _httpx(library: Any, job: Job) -> Iterator[Block]:
    work = job.work
    limits = library.Limits(max_connections=job.concurrency, max_keepalive_connections=job.concurrency)
    with library.Client(limits=limits, timeout=60) as client:

        def one(_: int) -> None:
            response = client.request(work.method, job.url, json=work.sent)
            job.check_all(response.status_code, len(response.content), response.json)

        with mapped(one, job.concurrency) as block:
            yield block


def httpx(job: Job) -> AbstractContextManager[Block]:
    import httpx

    return _httpx(httpx, job)


def httpx2(job: Job) -> AbstractContextManager[Block]:
    import httpx2

    return _httpx(httpx2, job)


@contextmanager
def pyreqwest(job: Job) -> Iterator[Block]:
    from pyreqwest.client import SyncClientBuilder

    work = job.work
    with SyncClientBuilder().no_proxy().build() as client:

        def one(_: int) -> None:
            request = client.request(work.method, job.url)
            if work.sent is not None:
                request = request.body_json(work.sent)
            response = request.build().send()
            job.check(response.status, len(response.bytes()))
            if work.parsed:
                job.check_document(response.json())

        with pulling(one, job.concurrency) as block:
            yield block
