"""Who takes part."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

from . import ours, peers_async, peers_blocking
from .peers_async import AsyncBlock
from .peers_blocking import Block
from .work import Job

AsyncContestant = Callable[[Job], AbstractAsyncContextManager[AsyncBlock]]
BlockingContestant = Callable[[Job], AbstractContextManager[Block]]

COLOURS = ("async", "blocking")


def our_label(engine: str) -> str:
    return f"pynector ({engine})"


_OURS_ASYNC: dict[str, AsyncContestant] = {our_label(e): ours.of_async(e) for e in ours.ENGINES}
_OURS_BLOCKING: dict[str, BlockingContestant] = {our_label(e): ours.of_blocking(e) for e in ours.ENGINES}

ASYNC: dict[str, AsyncContestant] = {
    **_OURS_ASYNC,
    "pyreqwest": peers_async.pyreqwest,
    "aiohttp": peers_async.aiohttp,
    "niquests": peers_async.niquests,
    "httpx2": peers_async.httpx2,
    "httpx": peers_async.httpx,
}
"""How to run each on an event loop, by label; ours first."""

BLOCKING: dict[str, BlockingContestant] = {
    **_OURS_BLOCKING,
    "pyreqwest": peers_blocking.pyreqwest,
    "urllib3": peers_blocking.urllib3,
    "requests": peers_blocking.requests,
    "niquests": peers_blocking.niquests,
    "httpx2": peers_blocking.httpx2,
    "httpx": peers_blocking.httpx,
}
"""How to run each on threads, by label; ours first."""

LABELS: dict[str, list[str]] = {"async": list(ASYNC), "blocking": list(BLOCKING)}

PACKAGES = (
    "pynector",
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "pyreqwest",
    "aiohttp",
    "requests",
    "urllib3",
    "niquests",
    "anyio",
)
"""Whose versions a report names."""
