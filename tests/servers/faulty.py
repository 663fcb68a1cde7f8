"""A server whose faults are decided by a seed: the same for every client that asks the same."""

import asyncio
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Final

from pynector.testing import ServerRequest, ServerResponse

MILD: Final[Mapping[str, int]] = {"404": 4, "429": 4, "500": 2, "503": 4, "cut": 4}
"""How many of a hundred attempts have which fault; the others are answered."""

BROKEN: Final[Mapping[str, int]] = {"500": 20, "503": 25, "cut": 20}
"""What opens circuits, again and again."""


def number(*parts: object) -> int:
    """A number that looks random and is the same in every process."""
    return zlib.crc32(" ".join(map(str, parts)).encode())


def fault(seed: int, path: str, attempt: int, faults: Mapping[str, int] = MILD) -> str:
    """What becomes of an attempt: a status, or the name of another fault; `200` for none.

    Args:
        seed: Of the script.
        path: Where the request goes. A path that is not found never is.
        attempt: Which one it is for that path, from 1.
        faults: How many of a hundred have which.
    """
    draw = number(seed, path) % 100
    if draw < faults.get("404", 0):
        return "404"
    draw = number(seed, path, attempt) % 100
    for name, share in faults.items():
        if name != "404":
            if draw < share:
                return name
            draw -= share
    return "200"


class FaultyApp:
    """Answers `/x/...` by the script, after up to so many seconds, and leaves other paths to the server's own routes.

    Args:
        seed: Of the script.
        latency: The most seconds that an answer takes.
        faults: How many of a hundred have which.

    Attributes:
        attempts: How many came for each path.
        answered: How many of them were answered with 200.
    """

    def __init__(self, seed: int, latency: float = 0.006, faults: Mapping[str, int] = MILD) -> None:
        self.seed = seed
        self.faults = faults
        self.latency = latency
        self.attempts: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    def fault(self, path: str, attempt: int) -> str:
        """What becomes of an attempt."""
        return fault(self.seed, path, attempt, self.faults)

    async def __call__(self, request: ServerRequest) -> ServerResponse | None:
        path = request.path
        if not path.startswith("/x/"):
            return None
        self.attempts[path] += 1
        attempt = self.attempts[path]
        what = self.fault(path, attempt)
        await asyncio.sleep(self.latency * (number("latency", path, attempt) % 100) / 100)
        if what == "cut":
            return ServerResponse(200, (), _cut(), length=100)
        if what == "200":
            self.answered[path] += 1
        return ServerResponse.json({"path": path, "attempt": attempt}, int(what))


async def _cut() -> AsyncIterator[bytes]:
    yield b"{"
    raise ConnectionAbortedError
