"""Undoing content codings (RFC 9110, 8.4) piece by piece, and noticing when the end is missing."""

import zlib
from typing import Any, Protocol

from ..errors import HTTPDecodeError


class Decoder(Protocol):
    """Undoes one content coding."""

    def decode(self, data: bytes) -> bytes:
        """What `data` adds to the decoded body."""
        ...

    def finish(self) -> bytes:
        """What is left when the last byte has been given.

        Raises:
            HTTPDecodeError: The encoded body is not complete.
        """
        ...


def make_decoder(headers: list[tuple[bytes, bytes]]) -> Decoder | None:
    """The decoder for a body with these headers; None if there is nothing to undo.

    An unknown coding is left as it is, for the user to undo.
    """
    # On the path of every response: most have no such header at all.
    values = [value for name, value in headers if len(name) == 16 and name.lower() == b"content-encoding"]
    if not values:
        return None
    codings = [coding.strip().lower() for coding in b",".join(values).decode("latin-1").split(",")]
    codings = [coding for coding in codings if coding and coding != "identity"]
    factories = [_DECODERS.get(coding) for coding in codings]
    decoders = [factory() for factory in reversed(factories) if factory]
    if not decoders or len(decoders) != len(codings):
        return None
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)


class _Zlib:
    """`gzip` (RFC 1952, several members in a row allowed) and `deflate` (RFC 1950)."""

    def __init__(self, name: str, wbits: int) -> None:
        self._name = name
        self._wbits = wbits
        self._inflater = zlib.decompressobj(wbits)
        self._started = False

    def decode(self, data: bytes) -> bytes:
        parts = []
        try:
            while data:
                if self._inflater.eof:
                    if self._name != "gzip" or not data.startswith(b"\x1f"):
                        break  # padding after the end
                    self._inflater = zlib.decompressobj(self._wbits)
                parts.append(self._inflate(data))
                data = self._inflater.unused_data
        except zlib.error as exc:
            raise HTTPDecodeError(f"the body is not valid {self._name}: {exc}") from exc
        return b"".join(parts)

    def _inflate(self, data: bytes) -> bytes:
        try:
            return self._inflater.decompress(data)
        except zlib.error:
            if self._name != "deflate" or self._started:
                raise
            # Some servers send the raw stream without the zlib wrapper (RFC 9110, 8.4.1.2, note).
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._inflater.decompress(data)
        finally:
            self._started = True

    def finish(self) -> bytes:
        rest = self._inflater.flush()
        if self._started and not self._inflater.eof:
            raise HTTPDecodeError(f"the {self._name} body ends too early")
        return rest


class _Brotli:
    """`br` (RFC 7932)."""

    def __init__(self) -> None:
        try:
            import brotli
        except ImportError:
            import brotlicffi as brotli
        self._error: type[Exception] = brotli.error
        self._decompressor: Any = brotli.Decompressor()
        self._step = getattr(self._decompressor, "process", None) or self._decompressor.decompress
        self._started = False

    def decode(self, data: bytes) -> bytes:
        self._started = True
        try:
            return bytes(self._step(data))
        except self._error as exc:
            raise HTTPDecodeError(f"the body is not valid brotli: {exc}") from exc

    def finish(self) -> bytes:
        if self._started and not self._decompressor.is_finished():
            raise HTTPDecodeError("the brotli body ends too early")
        return b""


class _Zstandard:
    """`zstd` (RFC 8878), several frames in a row allowed."""

    def __init__(self) -> None:
        import zstandard

        self._error: type[Exception] = zstandard.ZstdError
        self._new: Any = zstandard.ZstdDecompressor().decompressobj
        self._decompressor: Any = self._new()
        self._started = False

    def decode(self, data: bytes) -> bytes:
        self._started = True
        parts = []
        try:
            while data:
                if self._decompressor.eof:
                    self._decompressor = self._new()
                parts.append(self._decompressor.decompress(data))
                data = self._decompressor.unused_data
        except self._error as exc:
            raise HTTPDecodeError(f"the body is not valid zstd: {exc}") from exc
        return b"".join(parts)

    def finish(self) -> bytes:
        if self._started and not self._decompressor.eof:
            raise HTTPDecodeError("the zstd body ends too early")
        return b""


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


def _gzip() -> Decoder:
    return _Zlib("gzip", zlib.MAX_WBITS | 16)


def _deflate() -> Decoder:
    return _Zlib("deflate", zlib.MAX_WBITS)


_DECODERS = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate, "br": _Brotli, "zstd": _Zstandard}
