"""Decompression of what no server sends that means well."""

import gzip
import os
import time

import pytest
import zstandard

from pynector._http.decode import PIECE, BodyReader, make_decoder
from pynector.errors import HTTPDecodeError

ENDLESS = 10.0
"""Seconds. What takes time by the square of the size needs more than this."""


@pytest.mark.parametrize(
    ("coding", "empty"), [(b"gzip", gzip.compress(b"")), (b"zstd", zstandard.compress(b""))], ids=["gzip", "zstd"]
)
def test_time_is_linear_in_what_comes_also_for_members_without_content(coding: bytes, empty: bytes) -> None:
    reader = BodyReader([coding], None, None)
    body = empty * (3_000_000 // len(empty))
    started = time.monotonic()
    assert reader.feed(body) + reader.finish() == b""
    assert time.monotonic() - started < ENDLESS


@pytest.mark.parametrize("codings", [b"gzip", b"zstd", b"deflate", b"br"])
def test_a_large_piece_is_what_small_ones_are(codings: bytes) -> None:
    plain = os.urandom(3 * PIECE) + b"." * PIECE
    encoded = _encode(codings, plain)
    at_once, by_byte = make_decoder([codings]), make_decoder([codings])
    assert at_once is not None
    assert by_byte is not None
    assert at_once.decode(encoded) + at_once.finish() == plain
    pieces = [by_byte.decode(encoded[n : n + 1]) for n in range(len(encoded))]
    assert b"".join(pieces) + by_byte.finish() == plain
    cut = make_decoder([codings])
    assert cut is not None
    with pytest.raises(HTTPDecodeError):
        cut.decode(encoded[:-1])
        cut.finish()


@pytest.mark.parametrize("first", [0, 0x1F])
def test_what_follows_the_padding_is_padding(first: int) -> None:
    decoder = make_decoder([b"gzip"])
    assert decoder is not None
    # It looks like a further member at the beginning of the next piece.
    padding = b"\0" * (PIECE - len(gzip.compress(b"x"))) + bytes([first]) + b"\0" * PIECE
    assert decoder.decode(gzip.compress(b"x") + padding) == b"x"
    assert decoder.decode(b"\x1f\0") + decoder.finish() == b""


def _encode(coding: bytes, plain: bytes) -> bytes:
    if coding == b"gzip":
        return gzip.compress(plain)
    if coding == b"zstd":
        return zstandard.compress(plain)
    if coding == b"deflate":
        import zlib

        return zlib.compress(plain)
    brotli = pytest.importorskip("brotli")
    return bytes(brotli.compress(plain))
