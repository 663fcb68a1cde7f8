"""One measurement of waiting in a process of its own: `python -m _bench.waiters_worker httpx 1000 10 ORIGIN`."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from time import perf_counter
from typing import Any

from .http.ours import check_engine
from .http.work import SMALL, Unavailable

Call = Callable[[], Awaitable[Any]]


async def together(call: Call, tasks: int) -> float:
    """Seconds for one request, if `tasks` tasks send one each at once."""

    async def one() -> None:
        answer = await call()
        if answer.status_code != 200 or len(answer.content) != SMALL:
            raise AssertionError(f"not the answer of the server: {answer!r}")

    await asyncio.gather(*(one() for _ in range(20)))
    started = perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    return (perf_counter() - started) / tasks


async def ours(engine: str, tasks: int, connections: int, origin: str) -> float:
    from pynector import AsyncPynector

    async with AsyncPynector(
        base_url=origin, engine=engine, max_connections=connections, enable_telemetry=False
    ) as client:
        seconds = await together(lambda: client.request({"path": "/small"}), tasks)
    check_engine(engine)
    return seconds


async def theirs(name: str, tasks: int, connections: int, origin: str) -> float:
    library: Any = import_module(name)
    limits = library.Limits(max_connections=connections, max_keepalive_connections=connections)
    # Without a limit for the wait in the pool, which is what is measured.
    async with library.AsyncClient(limits=limits, timeout=library.Timeout(60, pool=None)) as client:
        return await together(lambda: client.get(f"{origin}/small"), tasks)


def main(who: str, tasks: str, connections: str, origin: str) -> dict[str, Any]:
    """Measure once.

    Returns:
        What it took; or under `unavailable` why this contestant can't take part.
    """
    from pynector.errors import ConfigurationError

    label, _, engine = who.partition(": ")
    send, name = (ours, engine) if engine else (theirs, label)
    try:
        return {"seconds": asyncio.run(send(name, int(tasks), int(connections), origin))}
    except (ModuleNotFoundError, ConfigurationError, Unavailable) as exc:
        return {"unavailable": str(exc).splitlines()[0]}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
