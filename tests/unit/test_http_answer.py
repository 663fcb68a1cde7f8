"""From what came over the wire to an answer or an error: content codings and failures."""

import builtins
import gzip
import ssl
import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import brotlicffi
import h11
import httpcore
import httpx
import pytest
import zstandard

from pynector import errors
from pynector._http.decode import Decoder, make_decoder
from pynector._http.failures import died_before_answer, translate
from pynector._http.head import examine
from pynector._http.wire import WireBuilder
from pynector._messages.http import HttpMessage

TEXT = b"the quick brown fox " * 500
WIRE = WireBuilder("http://h").build(HttpMessage(url="/x?api_key=s3cr3t"))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "X-GZip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def decoder_of(*codings: str) -> Decoder:
    decoder = make_decoder([coding.encode() for coding in codings])
    assert decoder is not None
    return decoder


def decode(decoder: Decoder, data: bytes, size: int) -> bytes:
    parts = [decoder.decode(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join(parts) + decoder.finish()


# Content codings


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_codings_however_they_are_cut(coding: str, size: int) -> None:
    assert decode(decoder_of(coding), ENCODERS[coding](TEXT), size) == TEXT


@pytest.mark.parametrize("coding", ENCODERS)
def test_every_missing_end_is_noticed(coding: str) -> None:
    data = ENCODERS[coding](b"short text")
    for end in range(1, len(data)):
        with pytest.raises(errors.HTTPDecodeError, match="ends too early"):
            decode(decoder_of(coding), data[:end], 100)


@pytest.mark.parametrize("coding", ENCODERS)
def test_nonsense(coding: str) -> None:
    with pytest.raises(errors.HTTPDecodeError, match="is not valid"):
        decode(decoder_of(coding), b"\x00\xffnonsense" * 10, 1000)


@pytest.mark.parametrize("coding", ENCODERS)
def test_an_empty_body_is_complete(coding: str) -> None:
    assert decoder_of(coding).finish() == b""


def test_deflate_without_its_wrapper() -> None:
    assert decode(decoder_of("deflate"), raw_deflate(TEXT), 10_000) == TEXT
    with pytest.raises(errors.HTTPDecodeError, match="not valid deflate"):
        decoder = decoder_of("deflate")
        decoder.decode(zlib.compress(TEXT)[:10])
        decoder.decode(b"\xff" * 100)


def test_several_members_and_frames() -> None:
    assert decode(decoder_of("gzip"), gzip.compress(b"one ") + gzip.compress(b"two"), 5) == b"one two"
    assert decode(decoder_of("gzip"), gzip.compress(b"one") + b"\x00\x00padding", 1000) == b"one"
    assert decode(decoder_of("deflate"), zlib.compress(b"one") + b"\x1f\x8b", 1000) == b"one"
    assert decode(decoder_of("zstd"), zstandard.compress(b"one ") + zstandard.compress(b"two"), 5) == b"one two"
    with pytest.raises(errors.HTTPDecodeError, match="ends too early"):
        decode(decoder_of("gzip"), gzip.compress(b"one") + gzip.compress(b"two")[:-3], 1000)


@pytest.mark.parametrize("headers", [("gzip, br",), ("gzip", "identity, br")])
@pytest.mark.parametrize("size", [3, 100_000])
def test_several_codings(headers: tuple[str, ...], size: int) -> None:
    data = brotli.compress(gzip.compress(TEXT))
    assert decode(decoder_of(*headers), data, size) == TEXT
    with pytest.raises(errors.HTTPDecodeError):
        decode(decoder_of(*headers), data[:-2], size)


@pytest.mark.parametrize("coding", [None, "", "identity", "compress", "gzip, mystery"])
def test_what_is_left_as_it_is(coding: str | None) -> None:
    headers = [] if coding is None else [(b"Content-ENCODING", coding.encode())]
    codings, _ = examine("HTTP/1.1", [(b"sixteen-letters!", b"gzip"), *headers])
    assert codings == ([coding.encode()] if coding is not None else None)
    assert make_decoder(codings or []) is None


def test_the_other_brotli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    assert decode(decoder_of("br"), brotlicffi.compress(TEXT), 100) == TEXT
    with pytest.raises(errors.HTTPDecodeError, match="not valid brotli"):
        decode(decoder_of("br"), b"\xff" * 50, 100)


# Failures


def translated(exc: Exception, partial: bytes | None = None) -> errors.TransportError:
    error = translate(exc, WIRE, partial=partial)
    assert error is not None
    assert error.method == "GET"
    assert error.url == "http://h/x?api_key=REDACTED"
    return error


@pytest.mark.parametrize("module", [httpcore, httpx])
@pytest.mark.parametrize(
    ("name", "kind", "sent", "transient"),
    [
        ("ConnectTimeout", errors.ConnectionTimeoutError, False, True),
        ("PoolTimeout", errors.ConnectionTimeoutError, False, True),
        ("ReadTimeout", errors.ConnectionTimeoutError, True, True),
        ("WriteTimeout", errors.ConnectionTimeoutError, True, True),
        ("ConnectError", errors.ConnectionError, False, True),
        ("ReadError", errors.ConnectionError, True, True),
        ("WriteError", errors.ConnectionError, True, True),
        ("ProxyError", errors.HTTPProxyError, False, False),
        ("UnsupportedProtocol", errors.HTTPProtocolError, False, False),
        ("LocalProtocolError", errors.HTTPProtocolError, False, False),
        ("RemoteProtocolError", errors.HTTPProtocolError, True, False),
    ],
)
@pytest.mark.parametrize("text", ["", "what happened"])
def test_what_becomes_of_exceptions(
    module: Any, name: str, kind: type[errors.TransportError], sent: bool, transient: bool, text: str
) -> None:
    error = translated(getattr(module, name)(text))
    assert type(error) is kind
    assert (error.sent, error.transient) == (sent, transient)
    assert str(error)
    assert text in str(error)


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (httpx.CloseError(""), errors.ConnectionError),
        (httpx.DecodingError(""), errors.HTTPDecodeError),
        (httpx.TooManyRedirects(""), errors.HTTPRedirectError),
        (h11.LocalProtocolError("Too much data"), errors.HTTPProtocolError),
        (h11.RemoteProtocolError("bad"), errors.HTTPProtocolError),
    ],
)
def test_other_exceptions(exc: Exception, kind: type[errors.TransportError]) -> None:
    assert type(translated(exc)) is kind


def test_phases() -> None:
    names = ("ConnectTimeout", "PoolTimeout", "ReadTimeout", "WriteTimeout")
    found = [translated(getattr(httpcore, name)()) for name in names]
    assert [getattr(error, "phase", None) for error in found] == ["connect", "pool", "read", "write"]


def test_subclasses_are_known_by_their_parents() -> None:
    class Special(httpcore.ReadTimeout):
        pass

    assert type(translated(Special())) is errors.ConnectionTimeoutError


def test_what_is_not_translated() -> None:
    class ReadTimeout(Exception):
        pass

    for exc in (ValueError("x"), ReadTimeout(), httpx.InvalidURL("x")):
        assert translate(exc, WIRE) is None
    own = errors.HTTPDecodeError("ours")
    assert translate(own, WIRE) is None
    assert (own.method, own.url) == ("GET", "http://h/x?api_key=REDACTED")


def caused(cause: BaseException, depth: int = 2) -> Exception:
    error: BaseException = cause
    for _ in range(depth):
        outer = OSError("wrapped")
        outer.__cause__ = error
        error = outer
    top = httpcore.ConnectError("no connection")
    top.__context__ = error
    return top


def test_causes_of_a_connection_that_failed() -> None:
    refused = builtins.ConnectionRefusedError(111, "refused")
    assert type(translated(caused(refused))) is errors.ConnectionRefusedError
    group = ExceptionGroup("several", [OSError("unreachable"), refused])
    assert type(translated(caused(group))) is errors.ConnectionRefusedError
    for untrusted in (ssl.SSLCertVerificationError("untrusted"), ssl.SSLError("eof")):
        error = translated(caused(untrusted))
        assert type(error) is errors.TLSError
        assert not error.transient
        assert not error.sent
    assert type(translated(caused(OSError("unreachable")))) is errors.ConnectionError


def test_a_cycle_of_causes_ends() -> None:
    first, second = OSError("one"), OSError("two")
    first.__cause__, second.__cause__ = second, first
    assert type(translated(caused(first))) is errors.ConnectionError


def test_what_the_end_of_a_connection_means() -> None:
    nothing = httpcore.RemoteProtocolError("Server disconnected without sending a response.")
    assert translated(nothing).transient
    assert died_before_answer(nothing)
    cut = httpcore.RemoteProtocolError("peer closed connection without sending complete message body")
    incomplete = translated(cut, partial=b"some")
    assert isinstance(incomplete, errors.HTTPIncompleteError)
    assert incomplete.partial == b"some"
    assert type(translated(cut)) is errors.HTTPProtocolError
    assert not died_before_answer(cut)
    assert died_before_answer(httpcore.ReadError())
    assert died_before_answer(httpcore.WriteError())
    assert not died_before_answer(httpcore.ReadTimeout())


def test_heads_that_are_refused() -> None:
    length, chunked = (b"Content-Length", b"3"), (b"TRANSFER-Encoding", b"chunked")
    assert examine("HTTP/1.1", [length]) == (None, b"3")
    assert examine("HTTP/1.0", [chunked]) == (None, None)
    assert examine("HTTP/2", []) == (None, None)
    for version, headers, text in [
        ("HTTP/1.1", [length, chunked], "both"),
        ("HTTP/9.9", [], "HTTP/9.9"),
        ("HTTP/1.2", [], "HTTP/1.2"),
        ("HTTP/1.1", [(b"Transfer-Encoding", b"gzip, chunked")], "transfer coding"),
        ("HTTP/1.1", [(b"Transfer-Encoding", b"other")], "transfer coding"),
        ("HTTP/1.1", [(b"Transfer-Encoding", b"gzip"), (b"Transfer-Encoding", b"chunked")], "transfer coding"),
        ("HTTP/1.1", [(b"A", b"b")] * 1001, "more than 1000"),
    ]:
        with pytest.raises(errors.HTTPProtocolError, match=text):
            examine(version, headers)
