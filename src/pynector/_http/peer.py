"""Who is at the other end of a connection."""

import os
from typing import Any, Protocol

Peer = tuple[str, int | None]
"""An address and a port, or the path of a Unix socket and None."""


class Stream(Protocol):
    """What httpcore calls a network stream, in either colour."""

    def get_extra_info(self, info: str) -> Any: ...


def peer_of(stream: Stream) -> Peer | None:
    """The other end of a connection: that of the server, or of a proxy.

    Args:
        stream: The connection.

    Returns:
        Its address; None if it can't be told, as of a connection that has broken already.
    """
    try:
        address = stream.get_extra_info("server_addr")
    except OSError:
        return None
    if isinstance(address, tuple) and len(address) >= 2:
        return str(address[0]), int(address[1])
    # On Linux a Unix socket may have a name in place of a path: that is bytes.
    return (os.fsdecode(address), None) if isinstance(address, str | bytes) and address else None
