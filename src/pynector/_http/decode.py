"""Undoing content codings (RFC 9110, 8.4) piece by piece, within a limit, and noticing when the end is missing."""

import zlib
from collections.abc import Callable
from typing import IO, Any, Final, Protocol, cast

from ..errors import HTTPDecodeError, ResponseTooLargeError

MAX_CODINGS: Final = 5
"""As curl has it: nobody needs more than two, and each may be a bomb."""

PIECE: Final = 16 * 1024
"""Bytes that are decoded at once. What is left behind the end of one member is copied for the next, and a body may have
nothing but members of a few bytes: in one go, a megabyte of them would take a minute."""


class Decoder(Protocol):
    """Undoes one content coding."""

    def decode(self, data: bytes) -> bytes:
        """What `data` adds to the decoded body.

        Raises:
            HTTPDecodeError: It is not valid.
            ResponseTooLargeError: The body exceeds the limit. Not much more than that was decoded.
        """
        ...

    def finish(self) -> bytes:
        """What is left when the last byte has been given.

        Raises:
            HTTPDecodeError: The encoded body is not complete.
            ResponseTooLargeError: The body exceeds the limit.
        """
        ...


def make_decoder(values: list[bytes], limit: int | None = None) -> Decoder | None:
    """The decoder for a body.

    Args:
        values: Those of its Content-Encoding headers.
        limit: The most bytes of the decoded body; None for no limit.

    Returns:
        None if there is nothing to undo. An unknown coding is left as it is, for the user to undo.

    Raises:
        HTTPDecodeError: There are too many codings, one on top of the other.
    """
    codings = [coding.strip().lower() for coding in b",".join(values).decode("latin-1").split(",")]
    codings = [coding for coding in codings if coding and coding != "identity"]
    if len(codings) > MAX_CODINGS:
        raise HTTPDecodeError(f"the body has {len(codings)} content codings, one on top of the other")
    factories = [_DECODERS.get(coding) for coding in codings]
    decoders = [factory(_Room(limit)) for factory in reversed(factories) if factory]
    if not decoders or len(decoders) != len(codings):
        return None
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)


class _Room:
    """How much more may come out of a decoder."""

    __slots__ = ("_limit", "_taken")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken = 0

    @property
    def step(self) -> int | None:
        """The most bytes to ask for at once: one more than there is room for. None without a limit."""
        return None if self._limit is None else self._limit - self._taken + 1

    def take(self, data: bytes) -> bytes:
        """Count what has come out."""
        if self._limit is not None:
            self._taken += len(data)
            if self._taken > self._limit:
                raise ResponseTooLargeError(
                    f"the decompressed body is larger than max_decompressed_size={self._limit} bytes"
                )
        return data


class _Zlib:
    """`gzip` (RFC 1952, several members in a row allowed) and `deflate` (RFC 1950)."""

    def __init__(self, name: str, wbits: int, room: _Room) -> None:
        self._name = name
        self._wbits = wbits
        self._room = room
        self._inflater = zlib.decompressobj(wbits)
        self._started = False
        self._padding = False

    def decode(self, data: bytes) -> bytes:
        return _in_pieces(self._decode, data)

    def _decode(self, data: bytes) -> bytes:
        parts = []
        try:
            while data and not self._padding:
                if self._inflater.eof:
                    if self._name != "gzip" or not data.startswith(b"\x1f"):
                        self._padding = True  # after the end
                        break
                    self._inflater = zlib.decompressobj(self._wbits)
                parts.append(self._room.take(self._inflate(data)))
                data = self._inflater.unused_data
        except zlib.error as exc:
            raise HTTPDecodeError(f"the body is not valid {self._name}: {exc}") from exc
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _inflate(self, data: bytes) -> bytes:
        most = self._room.step or 0
        try:
            return self._inflater.decompress(data, most)
        except zlib.error:
            if self._name != "deflate" or self._started:
                raise
            # Some servers send the raw stream without the zlib wrapper (RFC 9110, 8.4.1.2, note).
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._inflater.decompress(data, most)
        finally:
            self._started = True

    def finish(self) -> bytes:
        rest = self._room.take(self._inflater.flush())
        if self._started and not self._inflater.eof:
            raise HTTPDecodeError(f"the {self._name} body ends too early")
        return rest


class _Brotli:
    """`br` (RFC 7932)."""

    def __init__(self, room: _Room) -> None:
        try:
            import brotli
        except ImportError:
            import brotlicffi as brotli
        self._error: type[Exception] = brotli.error
        self._decompressor: Any = brotli.Decompressor()
        self._step = getattr(self._decompressor, "process", None) or self._decompressor.decompress
        self._room = room
        self._started = False

    def decode(self, data: bytes) -> bytes:
        self._started = True
        most = self._room.step
        try:
            if most is None:
                return bytes(self._step(data))
            # It stops somewhere behind that size, within one of its buffers, and keeps the rest.
            out = self._room.take(bytes(self._step(data, output_buffer_limit=most)))
            parts = [out]
            while not self._decompressor.can_accept_more_data():
                parts.append(self._room.take(bytes(self._step(b"", output_buffer_limit=self._room.step))))
            return b"".join(parts)
        except self._error as exc:
            raise HTTPDecodeError(f"the body is not valid brotli: {exc}") from exc

    def finish(self) -> bytes:
        if self._started and not self._decompressor.is_finished():
            raise HTTPDecodeError("the brotli body ends too early")
        return b""


class _Zstandard:
    """`zstd` (RFC 8878), several frames in a row allowed."""

    # RFC 9659: a decoder for HTTP need not give more memory to one stream.
    _WINDOW = 8 * 1024 * 1024

    def __init__(self, room: _Room) -> None:
        import zstandard

        self._error: type[Exception] = zstandard.ZstdError
        decompressor: Any = zstandard.ZstdDecompressor(max_window_size=self._WINDOW)
        self._new: Any = decompressor.decompressobj
        self._decompressor: Any = self._new()
        self._room = room
        self._started = False
        self._scale: Any = None
        if room.step is not None:
            # What tells where a body ends can't be told to stop at some size, and what can does not tell. So each
            # piece is tried first, in small steps whose results are only counted.
            self._scale = zstandard.ZstdDecompressor(max_window_size=self._WINDOW).stream_writer(
                cast("IO[bytes]", _Scale(_Room(room.step - 1))), closefd=False
            )

    def decode(self, data: bytes) -> bytes:
        if self._scale is not None:
            try:
                self._scale.write(data)
            except self._error as exc:
                raise HTTPDecodeError(f"the body is not valid zstd: {exc}") from exc
        return _in_pieces(self._decode, data)

    def _decode(self, data: bytes) -> bytes:
        self._started = True
        parts = []
        try:
            while data:
                if self._decompressor.eof:
                    self._decompressor = self._new()
                parts.append(self._room.take(self._decompressor.decompress(data)))
                data = self._decompressor.unused_data
        except self._error as exc:
            raise HTTPDecodeError(f"the body is not valid zstd: {exc}") from exc
        return b"".join(parts)

    def finish(self) -> bytes:
        if self._started and not self._decompressor.eof:
            raise HTTPDecodeError("the zstd body ends too early")
        return b""


class _Scale:
    """Weighs what is written to it, and throws it away."""

    __slots__ = ("_room",)

    def __init__(self, room: _Room) -> None:
        self._room = room

    def write(self, data: bytes) -> int:
        self._room.take(data)
        return len(data)


class _Chain:
    """Several codings, undone last to first."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def decode(self, data: bytes) -> bytes:
        for decoder in self._decoders:
            data = decoder.decode(data) if data else data
        return data

    def finish(self) -> bytes:
        data = b""
        for decoder in self._decoders:
            data = (decoder.decode(data) if data else b"") + decoder.finish()
        return data


def _in_pieces(decode: Callable[[bytes], bytes], data: bytes) -> bytes:
    if len(data) <= PIECE:
        return decode(data)
    return b"".join([decode(data[start : start + PIECE]) for start in range(0, len(data), PIECE)])


def _gzip(room: _Room) -> Decoder:
    return _Zlib("gzip", zlib.MAX_WBITS | 16, room)


def _deflate(room: _Room) -> Decoder:
    return _Zlib("deflate", zlib.MAX_WBITS, room)


_DECODERS = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _Brotli, "zstd": _Zstandard}


class BodyReader:
    """From the bytes on the wire to the body, within limits.

    Args:
        codings: The values of Content-Encoding; None without any.
        wire_limit: The most bytes on the wire; None for no limit.
        limit: The most bytes of the body; None for no limit.
    """

    __slots__ = ("_decoder", "_received", "_room", "_wire_limit")

    def __init__(self, codings: list[bytes] | None, wire_limit: int | None, limit: int | None) -> None:
        self._decoder = make_decoder(codings, limit) if codings else None
        self._wire_limit = wire_limit
        self._received = 0
        self._room = _Room(limit)

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the body.

        Raises:
            HTTPDecodeError: It can't be decoded.
            ResponseTooLargeError: A limit is exceeded.
        """
        if self._wire_limit is not None:
            self._received += len(data)
            if self._received > self._wire_limit:
                raise ResponseTooLargeError(f"the body is larger than max_response_size={self._wire_limit} bytes")
        return self._room.take(data) if self._decoder is None else self._decoder.decode(data)

    def finish(self) -> bytes:
        """What is left at the end of the body.

        Raises:
            HTTPDecodeError: The encoded body is not complete.
            ResponseTooLargeError: A limit is exceeded.
        """
        return b"" if self._decoder is None else self._decoder.finish()
