"""HTTP/1.1 as a server sees it, without I/O: bytes in, requests out; responses in, bytes out."""

import json
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote

MAX_HEAD = 256 * 1024
"""Longest request line plus headers, in bytes."""

Pairs: TypeAlias = tuple[tuple[str, str], ...]

REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """One request as it arrived.

    Attributes:
        method: The method, as sent.
        target: The request target, as sent (`/path?query`, or a full URL when the client talks to a proxy).
        path: The path of the target, percent-decoded.
        headers: Pairs of lower-case name and value, in the order sent, repeated ones kept.
        body: The body with its transfer encoding removed.
        http_version: `"1.1"` or `"1.0"`.
        connection: Number of the connection it came on, from 1; equal numbers show that one was reused.
    """

    method: str
    target: str
    path: str
    headers: Pairs = field(default=(), repr=False)  # may hold credentials, so not in a failing assertion
    body: bytes = field(default=b"", repr=False)
    http_version: str = "1.1"
    connection: int = 0

    @property
    def query(self) -> list[tuple[str, str]]:
        """The decoded pairs of the query, in order, blank values kept."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def header(self, name: str, default: str = "") -> str:
        """Return the first value of a header, or `default`."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), default)


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """What a handler answers.

    Attributes:
        status: The status code, 200 to 999.
        headers: Extra headers. `content-length`, `transfer-encoding` and `connection` are added as needed.
        body: The bytes, or an async iterable of them, which is sent as it comes.
        length: Announces this Content-Length for an iterable body; without it the body is sent chunked.

    Example:
        ```python
        ServerResponse(201, (("location", "/items/7"),), b"created")
        ```
    """

    status: int = 200
    headers: Iterable[tuple[str, str]] = ()
    body: bytes | AsyncIterable[bytes] = b""
    length: int | None = None

    @classmethod
    def json(cls, data: object, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> "ServerResponse":
        """Answer with a JSON document."""
        body = json.dumps(data, separators=(",", ":")).encode()
        return cls(status, (("content-type", "application/json"), *headers), body)


ServerHandler: TypeAlias = Callable[[ServerRequest], ServerResponse | Awaitable[ServerResponse | None] | None]
"""A function, plain or `async`, that answers a request; None leaves it to the built-in routes."""


class BadRequest(Exception):
    """The client did not speak HTTP/1.1; the connection is closed after the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    http_version: str
    headers: Pairs
    length: int
    chunked: bool


class RequestParser:
    """Cuts a stream of bytes into requests, however it is split.

    Args:
        connection: Number put into every request.
    """

    def __init__(self, connection: int = 0) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._scanned = 0
        self._head: _Head | None = None
        self._body = bytearray()
        self._chunk = -1
        self._trailers = False
        self._expects = False

    def __len__(self) -> int:
        """Bytes received and not yet used."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what the socket gave."""
        self._buffer += data

    def take_continue(self) -> bool:
        """Whether the client now waits for `100 Continue`; true once per request."""
        expects, self._expects = self._expects, False
        return expects

    def next_request(self) -> ServerRequest | None:
        """Return the next complete request, or None if more bytes are needed.

        Raises:
            BadRequest: The bytes are no HTTP/1.1 request.
        """
        if self._head is None:
            raw = self._take_head()
            if raw is None:
                return None
            self._head = _parse_head(raw)
            expect = (value for name, value in self._head.headers if name == "expect")
            self._expects = any(value.lower() == "100-continue" for value in expect)
        head = self._head
        if not (self._take_chunks() if head.chunked else self._take_length(head.length)):
            return None
        body, self._body = bytes(self._body), bytearray()
        self._head, self._expects = None, False
        return ServerRequest(
            head.method,
            head.target,
            _path_of(head.target),
            head.headers,
            body,
            head.http_version,
            self._connection,
        )

    def _take_head(self) -> bytes | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are ignored
            del buffer[:2]
            self._scanned = 0
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if (len(buffer) if end < 0 else end) > MAX_HEAD:
            raise BadRequest("request head too long", 431)
        if end < 0:
            self._scanned = len(buffer)
            return None
        raw = bytes(buffer[:end])
        del buffer[: end + 4]
        self._scanned = 0
        return raw

    def _take_length(self, length: int) -> bool:
        missing = length - len(self._body)
        if missing > 0:
            self._body += self._buffer[:missing]
            del self._buffer[:missing]
        return len(self._body) == length

    def _take_chunks(self) -> bool:
        buffer = self._buffer
        while True:
            if self._chunk > 0:
                part = buffer[: self._chunk]
                self._body += part
                del buffer[: len(part)]
                self._chunk -= len(part)
                if self._chunk:
                    return False
            if self._chunk == 0:
                if len(buffer) < 2:
                    return False
                if buffer[:2] != b"\r\n":
                    raise BadRequest("chunk longer than its size")
                del buffer[:2]
                self._chunk = -1
            end = buffer.find(b"\r\n")
            if end < 0:
                if len(buffer) > MAX_HEAD:
                    raise BadRequest("chunk header too long")
                return False
            line = bytes(buffer[:end])
            del buffer[: end + 2]
            if self._trailers:
                if not line:
                    self._trailers = False
                    return True
                continue
            size = line.partition(b";")[0].strip()
            if not size or size.strip(b"0123456789abcdefABCDEF"):
                raise BadRequest("bad chunk size")
            self._chunk = int(size, 16)
            if self._chunk == 0:
                self._chunk, self._trailers = -1, True


def _path_of(target: str) -> str:
    path = target.partition("?")[0]
    if "://" in path:  # a client that takes us for its proxy sends the whole URL
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unquote(path) if "%" in path else path


def _parse_head(raw: bytes) -> _Head:
    line, *lines = raw.decode("latin-1").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or not parts[0] or not parts[1] or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest("bad request line")
    headers: list[tuple[str, str]] = []
    length: int | None = None
    chunked = False
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest("bad header line")
        name, value = name.lower(), value.strip()
        headers.append((name, value))
        if name == "content-length":
            if not (value.isascii() and value.isdigit()) or length not in (None, int(value)):
                raise BadRequest("bad content-length")
            length = int(value)
        elif name == "transfer-encoding":
            if value.lower() != "chunked":
                raise BadRequest("unknown transfer-encoding", 501)
            chunked = True
    if chunked and length is not None:
        raise BadRequest("both content-length and transfer-encoding")
    return _Head(parts[0], parts[1], parts[2][5:], tuple(headers), length or 0, chunked)


def keeps_alive(request: ServerRequest) -> bool:
    """Whether the client lets the connection live after this request (RFC 9112, 9.3)."""
    options = {
        part.strip().lower() for name, value in request.headers if name == "connection" for part in value.split(",")
    }
    if request.http_version == "1.0":
        return "keep-alive" in options
    return "close" not in options


def encode_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the status line and the headers as bytes.

    There is no `date`: equal requests get answers that are equal to the byte.

    Raises:
        ValueError: A header holds a line break or the status is no final status.
    """
    if not 200 <= status <= 999:
        raise ValueError(f"status must be from 200 to 999, not {status}")
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError("a header must not hold a line break")
    return f"{text}\r\n\r\n".encode("latin-1")
