"""Servers that want credentials, what they were sent, and a body for them."""

from collections.abc import Callable, Iterator

from pynector.testing import LocalServer, ServerRequest, ServerResponse


def sent(server: LocalServer, name: str) -> list[str]:
    return [request.header(name) for request in server.requests.recent]


def guard(valid: str = "Bearer 1") -> Callable[[ServerRequest], ServerResponse | None]:
    """Lets nobody in who has not this `Authorization`."""

    def app(request: ServerRequest) -> ServerResponse | None:
        if request.header("authorization") == valid:
            return None
        return ServerResponse.json({"problem": "expired"}, 401, (("set-cookie", "seen=1; Path=/"),))

    return app


def plain() -> Iterator[bytes]:
    yield from (b"one", b"two")
