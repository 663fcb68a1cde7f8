"""An engine that answers at once, without a socket: what is left is what our own layers cost."""

import contextlib
from collections.abc import Iterator
from typing import Any

from pynector._async import engines as async_engines
from pynector._async.engines.protocol import Answer as AsyncAnswer
from pynector._sync import engines as sync_engines
from pynector._sync.engines.protocol import Answer

CONTENT = b'{"id":1}'
_HEADERS = [
    (b"Server", b"nginx"),
    (b"Date", b"Thu, 01 Jan 2026 00:00:00 GMT"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"8"),
    (b"Connection", b"keep-alive"),
]


class _Base:
    def abandon(self) -> None:
        pass


class AsyncNullEngine(_Base):
    """For the async client."""

    async def send(self, wire: Any, headers: Any, record: Any) -> AsyncAnswer:
        record.sending()
        return AsyncAnswer(200, _HEADERS, "HTTP/1.1", CONTENT)

    async def aclose(self) -> None:
        pass


class NullEngine(_Base):
    """For the blocking client."""

    def send(self, wire: Any, headers: Any, record: Any) -> Answer:
        record.sending()
        return Answer(200, _HEADERS, "HTTP/1.1", CONTENT)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Clients that are used inside send nothing."""
    async_made, sync_made = async_engines.make_engine, sync_engines.make_engine
    async_engines.make_engine = lambda *_, **__: AsyncNullEngine()  # type: ignore[assignment]
    sync_engines.make_engine = lambda *_, **__: NullEngine()  # type: ignore[assignment]
    try:
        yield
    finally:
        async_engines.make_engine, sync_engines.make_engine = async_made, sync_made


def check(answer: Any) -> None:
    """The same check as of a real answer.

    Raises:
        AssertionError: It did not come from this engine.
    """
    if isinstance(answer, BaseException):
        raise answer
    if answer.status_code != 200 or answer.content is not CONTENT:
        raise AssertionError(f"not the answer of the null engine: {answer!r}")
