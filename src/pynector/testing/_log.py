"""What the local server remembers for tests to look at."""

import dataclasses
import threading
from collections import deque

from pynector.testing._wire import ServerRequest

LOGGED_BODY = 64 * 1024
"""Most bytes of a body that the log keeps."""


class RequestLog:
    """The requests a server has received. The server writes, any thread reads.

    Args:
        size: How many of the latest requests are kept.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._recent: deque[ServerRequest] = deque(maxlen=size)
        self._count = 0

    @property
    def count(self) -> int:
        """Requests received since the start or the last reset."""
        return self._count

    @property
    def recent(self) -> tuple[ServerRequest, ...]:
        """The latest requests, oldest first. Bodies are cut after 64 KiB."""
        with self._lock:
            return tuple(self._recent)

    def add(self, request: ServerRequest) -> None:
        """Count a request and keep it; the server calls this."""
        if len(request.body) > LOGGED_BODY:
            request = dataclasses.replace(request, body=request.body[:LOGGED_BODY])
        with self._lock:
            self._count += 1
            self._recent.append(request)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._count = 0
            self._recent.clear()


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """How many connections a server has.

    Attributes:
        open: Open now.
        total: Accepted since the start or the last reset.
    """

    open: int
    total: int
