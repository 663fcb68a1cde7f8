"""Requests for tests of batches and transports."""

from collections.abc import Iterator
from typing import Any

from pynector.transport.http import HttpMessage


def item(number: int) -> HttpMessage:
    """The request of one item of the local server."""
    return HttpMessage(method="GET", url=f"/items/{number}")


def indexes(count: int) -> list[dict[str, Any]]:
    """Requests whose answers tell which of them each belongs to."""
    return [{"path": f"/index/{n}"} for n in range(count)]


class Endless:
    """An endless input that knows how far it was read, and whether it was closed."""

    def __init__(self, path: str = "/index/{n}", end: int | None = None) -> None:
        self.path = path
        self.end = end
        self.pulled = 0
        self.got = 0
        self.most_live = 0
        self.closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            while self.pulled != self.end:
                n = self.pulled
                self.pulled += 1
                self.most_live = max(self.most_live, self.pulled - self.got)
                yield {"path": self.path.format(n=n)}
        finally:
            self.closed = True
