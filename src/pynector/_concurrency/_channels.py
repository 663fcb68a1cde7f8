"""Pieces of byte channels that both colours have in common."""

import errno
import ssl
from typing import Final

CHUNK: Final = 65_536
"""Bytes that TLS encrypts and decrypts at once."""


def torn() -> OSError:
    """What follows a write that was cut short: it would be taken for the rest of that one."""
    return OSError(errno.EPIPE, "an earlier write was cut short")


def read_more(ssl_object: ssl.SSLObject, incoming: ssl.MemoryBIO, data: bytes, max_bytes: int) -> bytes:
    """Add to `data` what else has come in: a record holds 16 KiB at most, and whoever reads pays for every piece."""
    parts = [data]
    room = max_bytes - len(data)
    while room > 0 and incoming.pending:
        try:
            part = ssl_object.read(room)
        except ssl.SSLError:
            break  # needs more, or has ended: the next read comes across it again
        if not part:
            break
        parts.append(part)
        room -= len(part)
    return b"".join(parts)
