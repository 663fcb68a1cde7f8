"""Scripts that serve a file whole, cut off or in part, and what was asked of them."""

import contextlib
import re
from pathlib import Path

from servers.scripted import Connection, Script, http_response

BODY = bytes(range(256)) * 4000  # more than one write of 512 KiB
TAG = b'ETag: "one"'


def sends(body: bytes, *headers: bytes, upto: int | None = None, status: str = "200 OK") -> Script:
    """Answers one request; with `upto`, hangs up behind that many bytes of the body."""

    def script(conn: Connection) -> None:
        conn.read_request()
        whole = http_response(body, status, *headers)
        head = whole[: len(whole) - len(body)]
        with contextlib.suppress(OSError):  # the client may have seen enough
            conn.send(head + body[:upto])
        conn.wait(0.1 if upto is not None else 5)

    return script


def stalls(body: bytes, upto: int) -> Script:
    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(http_response(body)[: upto - len(body)])
        conn.wait()

    return script


def rest(start: int, *headers: bytes, body: bytes = BODY, total: int | None = None) -> Script:
    """Answers one request with what follows a place of the body."""
    size = len(body) if total is None else total
    content_range = b"Content-Range: bytes %d-%d/%d" % (start, len(body) - 1, size)
    return sends(body[start:], content_range, *headers, status="206 Partial Content")


def asked(request: bytes) -> dict[str, str]:
    """The headers of a request that are about ranges and codings."""
    found = re.findall(r"(?im)^(range|if-range|accept-encoding): (.*?)\r$", request.decode())
    return {name.lower(): value for name, value in found}


def in_folder(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())
