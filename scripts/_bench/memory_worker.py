"""One measurement of memory in a process of its own: `python -m _bench.memory_worker async httpx 1000000 ORIGIN`."""

import asyncio
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pynector import AsyncPynector, Pynector
from pynector.errors import ConfigurationError

from . import null_engine
from .http.ours import check_engine
from .http.work import SMALL, Unavailable

CONCURRENCY = {"async": 64, "blocking": 32}


def peak() -> int:
    """The most memory this process has had, in bytes."""
    # Before getrusage: what that says of a process begins with the size of the one that started it.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def requests(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"path": "/small", "params": {"n": number}}


def check(outcome: Any, length: int) -> None:
    answer = outcome.unwrap()
    if answer.status_code != 200 or len(answer.content) != length:
        raise AssertionError(f"not the answer of the server: {answer!r}")


async def grow(client: AsyncPynector, count: int, length: int) -> int:
    """Send so many, and return how many outcomes there were."""
    seen = 0
    async with client.stream_batch(requests(count), max_concurrency=CONCURRENCY["async"]) as run:
        async for outcome in run:
            check(outcome, length)
            seen += 1
    return seen


def grow_blocking(client: Pynector, count: int, length: int) -> int:
    """The same on threads."""
    seen = 0
    with client.stream_batch(requests(count), max_concurrency=CONCURRENCY["blocking"]) as run:
        for outcome in run:
            check(outcome, length)
            seen += 1
    return seen


def main(colour: str, engine: str, number: str, origin: str) -> dict[str, Any]:
    """Measure once.

    Returns:
        By how many bytes the peak grew; or under `unavailable` why that can't be said.
    """
    count = int(number)
    if not hasattr(AsyncPynector, "stream_batch"):
        return {"unavailable": "this version has no stream_batch"}
    length = len(null_engine.CONTENT) if engine == "none" else SMALL
    options: dict[str, Any] = {"base_url": origin or "http://127.0.0.1", "enable_telemetry": False}
    if engine != "none":
        options["engine"] = engine
    # Whatever is kept for the next request is there after the first few, and is no growth.
    first = max(1, min(5000, count // 10))

    async def on_loop() -> tuple[int, int]:
        async with AsyncPynector(**options) as client:
            await grow(client, first, length)
            before = peak()
            return before, await grow(client, count, length)

    def on_threads() -> tuple[int, int]:
        with Pynector(**options) as client:
            grow_blocking(client, first, length)
            before = peak()
            return before, grow_blocking(client, count, length)

    try:
        with null_engine.installed() if engine == "none" else nullcontext():
            before, seen = asyncio.run(on_loop()) if colour == "async" else on_threads()
        if engine != "none":
            check_engine(engine)
    except (ModuleNotFoundError, ConfigurationError, Unavailable) as exc:
        return {"unavailable": str(exc).splitlines()[0]}
    if seen != count:
        raise AssertionError(f"{seen} outcomes for {count} requests")
    return {"growth": peak() - before}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
