"""Where one frame of HTTP/2 ends and the next one begins (RFC 9113, 4.1)."""

from typing import Final

_HEAD: Final = 9
_GOAWAY: Final = 0x07
_MAX_SIZE: Final = 16_384
"""What we let a server send, which is the least it may."""


class FrameSplitter:
    """Takes the GOAWAY frames out of what a server sends.

    h2 takes one for the end of everything and refuses all that follows. But a server that closes a connection in
    good order (nginx does so after 1,000 requests) still answers what it had taken on.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def split(self, data: bytes) -> tuple[bytes, int | None]:
        """Split off what is complete.

        Args:
            data: What came in.

        Returns:
            The complete frames but GOAWAY, and the number of the last stream that a GOAWAY says was taken on.

        Raises:
            ValueError: A frame is larger than we allow.
        """
        data = self._buffer + data if self._buffer else data
        frames: list[bytes] = []
        last: int | None = None
        start = position = 0
        while len(data) - position >= _HEAD:
            size = int.from_bytes(data[position : position + 3])
            if size > _MAX_SIZE:
                # h2 would say so only when all of it is there.
                raise ValueError(f"a frame of {size} bytes")
            end = position + _HEAD + size
            if end > len(data):
                break
            if data[position + 3] == _GOAWAY and size >= 8:
                frames.append(data[start:position])
                named = int.from_bytes(data[position + _HEAD : position + _HEAD + 4]) & 0x7FFF_FFFF
                last = named if last is None else min(last, named)
                start = end
            position = end
        frames.append(data[start:position])
        self._buffer = data[position:]
        return b"".join(frames), last
