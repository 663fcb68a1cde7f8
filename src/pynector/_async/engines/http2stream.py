"""One request on an HTTP/2 connection, and the answer that is coming in."""

import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..._http.wire import RawHeaders
from .http1 import MAX_INTERIM

if TYPE_CHECKING:
    from .http2 import AsyncHTTP2Connection

STREAM_WINDOW: Final = 1024 * 1024
"""Bytes of one body that may wait to be read."""

_BODILESS: Final = frozenset({204, 304})
# As HTTP/1.1 has it: what h2 does not look at may end up in somebody's log, or in an answer of his own.
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_find_end = re.compile(rb"[\0\r\n]").search


class AsyncHTTP2Stream:
    """One request, and the answer that is coming in.

    Attributes:
        status_code: Of the answer.
        headers: Of the answer, as they came.
        http_version: `HTTP/2`.
        complete: Whether the answer was read to its end.
        number: Of the stream.
        timeout: The longest silence of the server about it, in seconds.
        heard: When something was last heard about it, or sent.
        interim: How many 1xx answers have come.
        sent: Whether the request is out to its end.
        over: Whether nothing more comes in that is wanted.
        ended: Whether nothing more comes in on the wire.
    """

    __slots__ = (
        "_bodiless",
        "_chunks",
        "_connection",
        "_expected",
        "_failure",
        "_received",
        "_uncredited",
        "complete",
        "ended",
        "headers",
        "heard",
        "http_version",
        "interim",
        "number",
        "over",
        "sent",
        "status_code",
        "timeout",
    )

    def __init__(
        self, connection: "AsyncHTTP2Connection", number: int, timeout: float | None, *, bodiless: bool = False
    ) -> None:
        self._connection = connection
        self._bodiless = bodiless
        self._expected: int | None = None
        self._received = 0
        self._chunks: list[bytes] = []
        self._failure: Exception | None = None
        self._uncredited = 0
        self.status_code = 0
        self.headers: RawHeaders = []
        self.http_version = "HTTP/2"
        self.complete = False
        self.number = number
        self.timeout = timeout
        self.heard = time.monotonic()
        self.interim = 0
        self.sent = False
        self.over = False
        self.ended = False

    async def receive(self) -> bytes:
        """The next piece of the body as it is on the wire; empty at its end.

        Raises:
            Exception: Those of httpcore.
        """
        if not (self._chunks or self.over):
            await self._connection.wait(self, self.has_news)
        if self._chunks:
            data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            if self._uncredited >= STREAM_WINDOW // 2 and not self.over:
                size, self._uncredited = self._uncredited, 0
                await self._connection.credit(self, size)
            return data
        if not self.complete:
            self.raise_failure()
            self.complete = True
            await self.end()
        return b""

    async def end(self) -> None:
        """Be done with it: what was not read is not wanted any more."""
        await self._connection.forget(self)

    def take_head(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep the head of the answer, if it is valid."""
        lengths = set()
        for name, value in headers:
            if name == b":status":
                self.status_code = int(value) if len(value) == 3 and value.isdigit() else 0
            elif not name.startswith(b":"):
                if not _is_name(name) or _find_end(value):
                    self._refuse("the answer has a header that is not valid")
                    return
                lower = name.lower()
                if lower == b"content-length":
                    lengths.add(value)
                self.headers.append((lower, value))
        if not 200 <= self.status_code <= 999:
            self._refuse("the answer has no valid status")
        elif lengths:
            length = lengths.pop()
            if lengths or not length.isdigit():
                self._refuse("the answer has a Content-Length that is not valid")
            elif not self._bodiless and self.status_code not in _BODILESS:
                self._expected = int(length)

    def take_data(self, data: bytes, size: int) -> None:
        """Keep a piece of the body, which counts for `size` bytes in its window."""
        self._uncredited += size
        if not data or self.over:
            return
        self._received += len(data)
        if self._expected is not None and self._received > self._expected:
            self._refuse(f"the body is longer than its Content-Length of {self._expected} bytes")
        else:
            self._chunks.append(data)

    def take_end(self) -> None:
        """The server says that this was all."""
        if self._expected is not None and self._received < self._expected and not self.over:
            text = f"received {self._received} bytes, expected {self._expected}"
            self._refuse(f"the server ended the answer without sending complete message body ({text})")
        self.over = self.ended = True

    def take_interim(self) -> None:
        """One more 1xx answer."""
        self.interim += 1
        if self.interim > MAX_INTERIM:
            self._refuse(f"more than {MAX_INTERIM} interim answers (1xx)")

    def _refuse(self, text: str) -> None:
        self.fail(self._connection.remote_error(text))

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it is over."""
        if not self.over:
            self._failure = error
            self.over = True

    def raise_failure(self) -> None:
        """Raise the error it ended with, if there is one."""
        if self._failure is not None:
            raise self._failure

    def touch(self) -> None:
        """Something was heard about it, or sent."""
        self.heard = time.monotonic()

    def patience(self) -> float | None:
        """Seconds that may pass until something must be heard."""
        return None if self.timeout is None else max(0.0, self.heard + self.timeout - time.monotonic())

    def has_head(self) -> bool:
        """Whether the head of the answer is there, or never comes."""
        return bool(self.status_code) or self.over

    def has_news(self) -> bool:
        """Whether there is a piece of the body, or its end."""
        return bool(self._chunks) or self.over

    def may_send(self) -> bool:
        """Whether the server takes more of our body, or no longer wants it."""
        return self.over or self._connection.window(self.number) > 0
