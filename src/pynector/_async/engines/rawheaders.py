"""The headers of an answer of pyreqwest, as bytes.

It shows values as text, and only those in ASCII. The bytes of others, as old servers send them in Latin-1, can be had
in one way: a request that carries them is read as it comes out of a socket, one within this process.
"""

import secrets
import socket
from collections.abc import Iterator
from datetime import timedelta

from pyreqwest.client import ClientBuilder
from pyreqwest.http import HeaderMap

from ..._concurrency.aio.foreign import start
from ..._http.wire import RawHeaders
from ...errors import HTTPProtocolError

_PATIENCE = 1.0
_MOST = 1_000_000


def raw_headers(headers: HeaderMap) -> RawHeaders:
    """Headers as they came, repeated ones kept.

    Raises:
        HTTPProtocolError: There are values that are not ASCII, and they can't be had.
    """
    try:
        return [(name.encode(), value.encode()) for name, value in headers.items()]
    except ValueError:
        return list(_recovered(headers))


def _recovered(headers: HeaderMap) -> Iterator[tuple[bytes, bytes]]:
    names = list(headers)
    values: list[str | None] = []
    items = iter(headers.values())
    while len(values) < len(names):
        try:
            values.append(next(items))
        except ValueError:
            values.append(None)
    odd = {name for name, value in zip(names, values, strict=True) if value is None}
    others = headers.copy()
    for name in set(names) - odd:
        del others[name]
    found = _through_a_socket(others)
    for name, value in zip(names, values, strict=True):
        yield name.encode(), next(found[name]) if name in odd else (value or "").encode()


def _through_a_socket(headers: HeaderMap) -> dict[str, Iterator[bytes]]:
    path = f"/{secrets.token_hex(16)}"
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(_PATIENCE)
            # Without trust to anybody, as loading authorities takes long; nothing but this socket is talked to.
            client = ClientBuilder().no_proxy().danger_accept_invalid_certs(True).build()
            request = client.get(f"http://127.0.0.1:{listener.getsockname()[1]}{path}").headers(headers)
            steps = request.timeout(timedelta(seconds=_PATIENCE)).build().send()
            try:
                start(steps)
                head = _head(listener, path.encode())
            finally:
                steps.close()
    except OSError as exc:
        raise HTTPProtocolError(f"the answer has headers that are not ASCII, and they can't be read: {exc}") from exc
    found: dict[str, list[bytes]] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b": ")
        found.setdefault(name.decode().lower(), []).append(value)
    return {name: iter(lines) for name, lines in found.items()}


def _head(listener: socket.socket, path: bytes) -> bytes:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(_PATIENCE)
            received = b""
            while b"\r\n\r\n" not in received and len(received) < _MOST and (data := connection.recv(65536)):
                received += data
            if path in received:  # else it was somebody else
                return received.partition(b"\r\n\r\n")[0]
