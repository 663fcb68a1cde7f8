"""The built-in routes of the local server. Equal requests get equal answers; only `/flaky` has a memory."""

import asyncio
import base64
import gzip
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from pynector.testing._wire import ServerRequest, ServerResponse

Answer: TypeAlias = ServerResponse | Awaitable[ServerResponse]

BLOCK = bytes(range(256)) * 256


class Routes:
    """Answers requests by their path; keeps the attempts of `/flaky`."""

    def __init__(self) -> None:
        self._attempts: Counter[str] = Counter()
        self._table: dict[tuple[str, int], Callable[..., Answer]] = {
            ("items", 1): self._item,
            ("index", 1): self._index,
            ("slow", 1): self._slow,
            ("delay", 0): self._delay,
            ("status", 1): self._status,
            ("flaky", 1): self._flaky,
            ("big", 0): self._big,
            ("stream", 0): self._stream,
            ("drip", 0): self._drip,
            ("redirect", 1): self._redirect,
            ("redirect-to", 0): self._redirect_to,
            ("cookies", 0): self._cookies,
            ("cookies", 1): self._set_cookies,
            ("basic-auth", 2): self._basic_auth,
            ("bearer", 0): self._bearer,
            ("gzip", 0): self._gzip,
            ("deflate", 0): self._deflate,
        }

    def reset(self) -> None:
        """Forget all attempts."""
        self._attempts.clear()

    def answer(self, request: ServerRequest) -> Answer:
        """Return the answer of the route, 404 without one, 400 for arguments it can't read."""
        name, *rest = request.path[1:].split("/")
        if name == "echo":
            return self._echo(request)
        route = self._table.get((name, len(rest)))
        if route is None:
            return ServerResponse.json({"error": "no such route", "path": request.path}, 404)
        try:
            return route(request, *rest)
        except ValueError as error:
            return ServerResponse.json({"error": str(error)}, 400)

    def _item(self, request: ServerRequest, number: str) -> Answer:
        return ServerResponse.json({"id": int(number), "name": f"item {int(number)}"})

    def _index(self, request: ServerRequest, number: str) -> Answer:
        return ServerResponse.json({"index": int(number)})

    def _echo(self, request: ServerRequest) -> Answer:
        return ServerResponse.json(
            {
                "method": request.method,
                "target": request.target,
                "path": request.path,
                "query": request.query,
                "headers": request.headers,
                "body": base64.b64encode(request.body).decode(),
                "text": request.body.decode(errors="replace"),
                "http_version": request.http_version,
            }
        )

    def _slow(self, request: ServerRequest, number: str) -> Answer:
        milliseconds = _number(request, "ms", 50)
        return _later(milliseconds / 1000, ServerResponse.json({"id": int(number), "ms": milliseconds}))

    def _delay(self, request: ServerRequest) -> Answer:
        seconds = _number(request, "s", 1)
        return _later(seconds, ServerResponse.json({"delay": seconds}))

    def _status(self, request: ServerRequest, code: str) -> Answer:
        status = _status_code(code)
        headers, arguments = _retry_headers(request), dict(request.query)
        if "body" in arguments:
            return ServerResponse(status, (("content-type", "text/plain"), *headers), arguments["body"].encode())
        return ServerResponse.json({"status": status}, status, headers)

    def _flaky(self, request: ServerRequest, key: str) -> Answer:
        arguments = dict(request.query)
        fail, status = int(arguments.get("fail", 2)), _status_code(arguments.get("status", "503"))
        self._attempts[key] += 1
        attempt = self._attempts[key]
        answer = {"key": key, "attempt": attempt}
        if attempt <= fail:
            return ServerResponse.json(answer, status, _retry_headers(request))
        return ServerResponse.json(answer)

    def _big(self, request: ServerRequest) -> Answer:
        size = int(dict(request.query).get("bytes", 1_000_000))

        async def body() -> AsyncIterator[bytes]:
            for start in range(0, size, len(BLOCK)):
                yield BLOCK[: size - start]

        return ServerResponse(200, (("content-type", "application/octet-stream"),), body())

    def _stream(self, request: ServerRequest) -> Answer:
        count, pause = int(_number(request, "n", 5)), _number(request, "ms", 10) / 1000

        async def body() -> AsyncIterator[bytes]:
            for index in range(count):
                if index:
                    await asyncio.sleep(pause)
                yield json.dumps({"index": index}).encode() + b"\n"

        return ServerResponse(200, (("content-type", "application/x-ndjson"),), body())

    def _drip(self, request: ServerRequest) -> Answer:
        count, pause = int(_number(request, "n", 10)), _number(request, "ms", 10) / 1000

        async def body() -> AsyncIterator[bytes]:
            for index in range(count):
                if index:
                    await asyncio.sleep(pause)
                yield b"*"

        length = count if _number(request, "length", 1) else None
        return ServerResponse(200, (("content-type", "application/octet-stream"),), body(), length)

    def _redirect(self, request: ServerRequest, number: str) -> Answer:
        left = int(number)
        if left <= 0:
            return ServerResponse.json({"redirected": True})
        return ServerResponse.json({"left": left}, 302, (("location", f"/redirect/{left - 1}"),))

    def _redirect_to(self, request: ServerRequest) -> Answer:
        arguments = dict(request.query)
        status = _status_code(arguments.get("status", "302"))
        return ServerResponse.json({"status": status}, status, (("location", _header(arguments.get("url", "/"))),))

    def _cookies(self, request: ServerRequest) -> Answer:
        pairs = [part.strip().partition("=") for part in request.header("cookie").split(";") if part.strip()]
        return ServerResponse.json({"cookies": {name: value for name, _, value in pairs}})

    def _set_cookies(self, request: ServerRequest, verb: str) -> Answer:
        if verb != "set":
            return ServerResponse.json({"error": "no such route", "path": request.path}, 404)
        cookies = [("set-cookie", _header(f"{name}={value}; Path=/")) for name, value in request.query]
        return ServerResponse.json({"set": len(cookies)}, 302, (("location", "/cookies"), *cookies))

    def _basic_auth(self, request: ServerRequest, user: str, password: str) -> Answer:
        expected = base64.b64encode(f"{user}:{password}".encode()).decode()
        scheme, _, given = request.header("authorization").partition(" ")
        if scheme.lower() == "basic" and given == expected:
            return ServerResponse.json({"authenticated": True, "user": user})
        return ServerResponse.json({"authenticated": False}, 401, (("www-authenticate", 'Basic realm="test"'),))

    def _bearer(self, request: ServerRequest) -> Answer:
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() == "bearer" and token:
            return ServerResponse.json({"authenticated": True, "token": token})
        return ServerResponse.json({"authenticated": False}, 401, (("www-authenticate", "Bearer"),))

    def _gzip(self, request: ServerRequest) -> Answer:
        return _encoded("gzip", gzip.compress(b'{"gzipped":true}', mtime=0))

    def _deflate(self, request: ServerRequest) -> Answer:
        return _encoded("deflate", zlib.compress(b'{"deflated":true}'))


def _encoded(name: str, body: bytes) -> ServerResponse:
    return ServerResponse(200, (("content-type", "application/json"), ("content-encoding", name)), body)


async def _later(seconds: float, response: ServerResponse) -> ServerResponse:
    await asyncio.sleep(seconds)
    return response


def _number(request: ServerRequest, name: str, default: float) -> float:
    value = float(dict(request.query).get(name, default))
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be zero or more")
    return value


def _status_code(text: str) -> int:
    status = int(text)
    if not 200 <= status <= 999:
        raise ValueError(f"status must be from 200 to 999, not {status}")
    return status


def _header(value: str) -> str:
    value.encode("latin-1")  # an UnicodeEncodeError is a ValueError: the client gets a 400
    if "\r" in value or "\n" in value:
        raise ValueError("a header must not hold a line break")
    return value


def _retry_headers(request: ServerRequest) -> tuple[tuple[str, str], ...]:
    names = {"retry_after": "retry-after", "retry_after_ms": "retry-after-ms"}
    return tuple((names[name], _header(value)) for name, value in request.query if name in names)
