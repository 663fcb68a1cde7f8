"""The services that the examples of the documentation talk to."""

import asyncio
import json
import re
import socketserver
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager

from pynector.testing import ServerRequest, ServerResponse

USERS = 1000


class DocsApp:
    """What `https://api.example.com` answers. Everything else is left to the routes of the local server."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, request: ServerRequest) -> ServerResponse | Awaitable[ServerResponse] | None:
        if match := re.fullmatch(r"/users(?:/(\d+))?", request.path):
            return self._users(request, match[1])
        if match := re.fullmatch(r"/reports/(\d+)", request.path):
            return _later(5.0, ServerResponse.json({"report": int(match[1])}))
        answer = {
            "/me": self._me,
            "/payments": self._payments,
            "/busy": self._busy,
            "/uploads": _upload,
            "/export": _export,
            "/events": _events,
            "/old-users": lambda _: ServerResponse(301, (("location", "/users?limit=2"),)),
        }.get(request.path)
        return None if answer is None else answer(request)

    def _users(self, request: ServerRequest, number: str | None) -> ServerResponse:
        body = json.loads(request.body) if request.body else {}
        if number is None:
            if request.method == "POST":
                return ServerResponse.json({"id": USERS + 1, **body}, 201)
            limit = int(dict(request.query).get("limit", 3))
            return ServerResponse.json([_user(n) for n in range(1, limit + 1)])
        if int(number) > USERS:
            return ServerResponse.json({"error": "no such user"}, 404)
        if request.method == "DELETE":
            return ServerResponse(204)
        return ServerResponse.json({**_user(int(number)), **body})

    def _me(self, request: ServerRequest) -> ServerResponse:
        if not request.header("authorization"):
            return ServerResponse.json({"error": "who are you?"}, 401)
        return ServerResponse.json(_user(1))

    def _payments(self, request: ServerRequest) -> ServerResponse:
        """Fails the first time for each key; without a key, always."""
        key = request.header("idempotency-key")
        self._seen[key] += 1
        if not key or self._seen[key] == 1:
            return ServerResponse.json({"error": "try again"}, 503)
        return ServerResponse.json({"state": "paid", "amount": json.loads(request.body)["amount"]}, 201)

    def _busy(self, request: ServerRequest) -> ServerResponse:
        self._seen["/busy"] += 1
        if self._seen["/busy"] <= 2:
            return ServerResponse.json({"error": "slow down"}, 429, (("retry-after-ms", "20"),))
        return ServerResponse.json({"tries": self._seen["/busy"]})


def _user(number: int) -> dict[str, object]:
    return {"id": number, "name": f"user {number}"}


async def _later(seconds: float, response: ServerResponse) -> ServerResponse:
    await asyncio.sleep(seconds)
    return response


def _upload(request: ServerRequest) -> ServerResponse:
    kind = request.header("content-type").partition(";")[0]
    return ServerResponse.json({"type": kind, "bytes": len(request.body)}, 201)


def _export(request: ServerRequest) -> ServerResponse:
    async def body() -> AsyncIterator[bytes]:
        for number in range(1, USERS + 1):
            yield json.dumps(_user(number)).encode() + b"\n"

    return ServerResponse(200, (("content-type", "application/x-ndjson"),), body())


def _events(request: ServerRequest) -> ServerResponse:
    body = b'id: 1\ndata: {"price": 10}\n\n: still here\n\nid: 2\ndata: {"price": 11}\n\nevent: done\ndata: []\n\n'
    return ServerResponse(200, (("content-type", "text/event-stream"),), body)


class _Lines(socketserver.StreamRequestHandler):
    """Answers each JSON message with its payload in capital letters."""

    def handle(self) -> None:
        for line in self.rfile:
            message = json.loads(line)
            answer = {"headers": message["headers"], "payload": message["payload"].upper()}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class _LineServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def line_server() -> Iterator[int]:
    """What `lines.example.com` answers, at a port of 127.0.0.1."""
    with _LineServer(("127.0.0.1", 0), _Lines) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
