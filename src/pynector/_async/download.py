"""Downloading to a file: attempts that go on where the one before was cut off."""

import contextlib
import copy
import time
from collections.abc import Callable
from typing import Any

from .._concurrency.aio.files import offload
from .._concurrency.aio.scopes import move_on_after, shield
from .._config import check_flag
from .._http.download import Download, Ranges, make_target
from .._http.wire import WireRequest, accept_encoding
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from .._policies.retry import Failure, RetryPolicy
from .._progress import ProgressCallback, make_progress
from ..errors import (
    ConfigurationError,
    HTTPIncompleteError,
    HTTPProtocolError,
    ResponseTooLargeError,
    TimeoutError,
    TransportError,
    status_error,
)
from .attempts import Record, run_attempts
from .pacing import AsyncPacer
from .transports.http import AsyncHTTPTransport

BATCH = 512 * 1024
"""Bytes that are collected for one write. Handing a write to a thread costs 0.2 ms, as much as writing 0.5 MB."""

INLINE = 64 * 1024
"""Bytes that are written at once: it takes 0.02 ms, less than a thread to do it."""


class AsyncDownloading:
    """One download, as the retry loop sees it: an attempt ends with the last byte in its place.

    Args:
        transport: What it goes through.
        to: A path, or an open file.
        overwrite: Whether the path may be of a file that exists.
        resume: Whether an attempt asks for what is missing only.
        progress: As for a batch, with bytes.

    Raises:
        ConfigurationError: An argument is wrong.
        OSError: The path can't be written to.
    """

    def __init__(
        self,
        transport: AsyncHTTPTransport,
        to: Any,
        *,
        overwrite: bool,
        resume: bool,
        progress: bool | ProgressCallback,
    ) -> None:
        self._transport = transport
        self._resume = check_flag(resume, "resume")
        self._target = make_target(to, overwrite=check_flag(overwrite, "overwrite"))
        self._ranges = Ranges()
        self._size = 0
        self._rest = False
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._on_progress: ProgressCallback | None
        self._close_progress: Callable[[], None]
        self._on_progress, self._close_progress = make_progress(progress, None, unit="B")
        self.retry_policy = transport.retry_policy
        self.prepare = transport.prepare
        self.lane = transport.lane
        self.payload = transport.payload

    async def run(
        self,
        prepared: WireRequest,
        policy: RetryPolicy,
        timeout: float | None,
        *,
        log: bool,
        pacer: AsyncPacer | None = None,
        record: Record | None = None,
    ) -> Download:
        """Do it.

        Args:
            prepared: The request.
            policy: How often it is tried again.
            timeout: Seconds for everything; None for no limit.
            log: Whether retries are logged.
            pacer: What holds its attempts back, if anything does.
            record: Where it is noted what was sent.

        Raises:
            TransportError: It was given up.
            TimeoutError: The timeout has passed.
            OSError: The file could not be written.
        """
        if prepared.method == "HEAD":
            raise ConfigurationError("the answer to a HEAD has no body to download")
        if (b"Accept-Encoding", accept_encoding()) in prepared.headers:
            # Unless the user wants it compressed: then neither its size nor a range of it would mean anything.
            prepared.set_header(b"Accept-Encoding", "identity")
        try:
            with move_on_after(timeout):
                response = await run_attempts(self, prepared, policy, record or Record(), log=log, pacer=pacer)
                self._target.commit()
                return Download(self._target.path, self._size, response)
            raise TimeoutError(f"not downloaded within {timeout or 0:.6g} s: {prepared}, {self._size} bytes came")
        finally:
            await self._keep()
            self._target.discard()
            self._close_progress()

    # One attempt

    async def attempt(self, prepared: WireRequest, record: Record) -> HttpMessage:
        """Send the request once, and write its answer, or what is missing of it."""
        started = time.perf_counter()
        asked = self._missing(prepared)
        wire, exchange, history = await self._transport.open(asked, record)
        content = b""
        try:
            headers = Headers.from_raw(exchange.headers)
            if 200 <= exchange.status_code <= 299:
                await self._place(prepared, headers, rest=self._is_rest(prepared, asked, exchange.status_code))
                while chunk := await exchange.receive():
                    await self._write(chunk)
                await self._flush()
                self._check_complete()
            else:
                content = await exchange.read()
                if exchange.status_code == 416 and asked is not prepared:
                    self._ranges.forget()
                    raise HTTPProtocolError("the server no longer has the rest of it", transient=True)
        except TransportError as exc:
            if exc.method is None:
                exc.method, exc.url = wire.method, wire.target.redacted
            raise
        finally:
            with shield():
                await exchange.aclose()
        record.answered()
        return self._transport.response(wire, exchange, content, time.perf_counter() - started, history)

    def judge(self, prepared: WireRequest, answer: HttpMessage) -> Failure | None:
        """A failure to be retried or not, for a 4xx or 5xx."""
        return self._transport.judge(prepared, answer)

    def excuse(self, prepared: WireRequest, error: Exception) -> Failure | None:
        """A failure to be retried or not, for an error of the network."""
        stuck = self._size and not self._target.rewindable and not (self._resume and self._ranges.resumable)
        return None if stuck else self._transport.excuse(prepared, error)

    def finish(self, prepared: WireRequest, answer: HttpMessage, *, raise_for_status: bool) -> HttpMessage:
        """The answer, if it was one to be written."""
        answer.raise_for_status()
        if not answer.is_success:
            raise status_error(answer)
        return answer

    # What is here, and what is missing

    def _missing(self, prepared: WireRequest) -> WireRequest:
        """The request for what is not here yet: the same one, if that is all of it or can't be told."""
        if not self._size or not self._resume or prepared.method != "GET":
            return prepared
        headers = self._ranges.ask(self._size)
        if not headers or _has_range(prepared):
            return prepared
        asked = copy.copy(prepared)
        for name, value in headers:
            asked.set_header(name, value)
        return asked

    def _is_rest(self, prepared: WireRequest, asked: WireRequest, status_code: int) -> bool:
        if status_code != 206 or _has_range(prepared):
            return False
        if asked is prepared:
            raise HTTPProtocolError("a part was sent, and all was asked for")
        return True

    async def _place(self, prepared: WireRequest, headers: Headers, *, rest: bool) -> None:
        """Get to where the first byte of an answer belongs."""
        self._rest = rest
        if rest:
            self._ranges.check(headers, self._size)
        else:
            self._target.open()
            if self._size:
                if not self._target.rewindable:
                    raise HTTPProtocolError("the server starts anew, and what was written can't be taken back")
                self._pending, self._pending_size = [], 0
                await offload(self._target.rewind) if self._target.slow else self._target.rewind()
                self._size = 0
            self._ranges.begin(headers)
            if _has_range(prepared):
                self._ranges.total = None
        self._tell()

    async def _write(self, chunk: bytes) -> None:
        self._pending.append(chunk)
        self._pending_size += len(chunk)
        self._size += len(chunk)
        limit = self._transport.max_response_size
        if limit is not None and self._size > limit and self._rest:
            # The engine counts one answer; this is the rest of several.
            raise ResponseTooLargeError(f"the whole is larger than max_response_size={limit} bytes")
        if self._pending_size >= BATCH or not self._target.slow:
            await self._flush()
        self._tell()

    async def _flush(self) -> None:
        pieces, size = self._pending, self._pending_size
        self._pending, self._pending_size = [], 0
        if self._target.slow and size > INLINE:
            await offload(self._target.write, pieces)
        elif pieces:
            self._target.write(pieces)

    async def _keep(self) -> None:
        """After a failure: a file of the user's gets what has come. Whether it does changes nothing about that."""
        if self._pending and self._target.path is None:
            with shield(), contextlib.suppress(OSError):
                await self._flush()

    def _check_complete(self) -> None:
        total = self._ranges.total
        if total is not None and self._size != total:
            raise HTTPIncompleteError(f"{self._size} bytes came, and {total} were announced")

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._size, self._ranges.total)


def _has_range(wire: WireRequest) -> bool:
    return any(len(name) == 5 and name.lower() == b"range" for name, _ in wire.headers)
