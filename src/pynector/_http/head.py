"""What is looked at in the head of every answer, in one pass."""

from typing import Final

from ..errors import HTTPProtocolError, ResponseTooLargeError
from .wire import RawHeaders

MAX_HEADERS: Final = 1000
"""More than any server sends; curl stops at 5,000, Python's own client at 100."""

_BODILESS: Final = frozenset({204, 304})
# What h11 and hyper speak, and what a client of the user's own may.
_VERSIONS: Final = frozenset({"HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"})


def examine(http_version: str, headers: RawHeaders) -> tuple[list[bytes] | None, bytes | None]:
    """Find in the head of an answer what says how its body is to be read.

    Args:
        http_version: As in `HTTP/1.1`.
        headers: As they came.

    Returns:
        The values of Content-Encoding and that of Content-Length; None for what is not there.

    Raises:
        HTTPProtocolError: Something is wrong that the parser below lets pass.
    """
    codings: list[bytes] | None = None
    length: bytes | None = None
    transfer: bytes | None = None
    for name, value in headers:
        # Comparing sizes first, as this is on the path of every answer.
        size = len(name)
        if size == 14:
            if name.lower() == b"content-length":
                length = value
        elif size == 16:
            if name.lower() == b"content-encoding":
                codings = [value] if codings is None else [*codings, value]
        elif size == 17 and name.lower() == b"transfer-encoding":
            transfer = value if transfer is None else b"%b, %b" % (transfer, value)
    if transfer is not None and length is not None:
        # It says in two ways where it ends, which smells of response splitting (RFC 9112, 6.3).
        raise HTTPProtocolError("the answer has both Content-Length and Transfer-Encoding")
    if transfer is not None and transfer.lower() != b"chunked":
        # Some undo the chunks and leave the rest, or take everything up to the end of the connection for the body.
        raise HTTPProtocolError(
            f"the answer has a transfer coding that was not asked for: {transfer.decode('latin-1')!r:.80}"
        )
    if len(headers) > MAX_HEADERS:
        raise HTTPProtocolError(f"the answer has more than {MAX_HEADERS} headers")
    if http_version not in _VERSIONS:
        raise HTTPProtocolError(f"the answer is in {http_version}")
    return codings, length


def refuse_announced(limit: int, length: bytes | None, method: str, status_code: int) -> None:
    """Refuse a body before it is read, if its Content-Length is over the limit.

    Raises:
        ResponseTooLargeError: It is.
    """
    if length is None or method == "HEAD" or status_code in _BODILESS or not length.isdigit():
        return
    if int(length) > limit:
        raise ResponseTooLargeError(f"the body of {int(length)} bytes is larger than max_response_size={limit} bytes")
