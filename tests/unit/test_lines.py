"""Bytes into chunks, text and lines: any split of the bytes gives the same."""

import re
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynector._http.lines import ByteChunks, Lines, PieceDecoder, TextChunks
from pynector.errors import ResponseTooLargeError

CUTS = st.lists(st.integers(0, 60), max_size=12)
# Much of what matters, and a little of everything else; \v, \f, \x85 and U+2028 end no line here.
TEXT = st.text(st.sampled_from("\r\n\r\nab:\v\f\x85\u2028é€😀\ufeff") | st.characters(codec="utf-8"), max_size=50)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


def decode(decoder: PieceDecoder[Any], pieces: Iterable[bytes]) -> list[Any]:
    return [out for piece in pieces for out in decoder.feed(piece)] + list(decoder.finish())


def naive_lines(text: str) -> list[str]:
    lines = re.split("\r\n|\r|\n", text)
    return lines if lines[-1] else lines[:-1]


@given(TEXT, CUTS)
@example("a\r\nb\rc\n\r\r\n", list(range(12)))
@example("", [])
def test_lines_are_those_of_the_whole(text: str, cuts: list[int]) -> None:
    assert decode(Lines("utf-8"), split(text.encode(), cuts)) == naive_lines(text)


@given(TEXT, CUTS, st.sampled_from(["utf-16", "utf-16-le", "utf-32-be"]))
def test_lines_in_other_encodings(text: str, cuts: list[int], encoding: str) -> None:
    assert decode(Lines(encoding), split(text.encode(encoding), cuts)) == naive_lines(text)


@given(st.binary(max_size=50), CUTS, st.sampled_from(["utf-8", "latin-1", "shift_jis", "gb18030", "ascii"]))
@example(b"\xe2\x82", [1], "utf-8")
@example(b"\xf0\x9f\x98\x80\xff\xf0\x9f\x98", [1, 2, 3, 4, 5, 6, 7], "utf-8")
def test_text_is_that_of_the_whole(data: bytes, cuts: list[int], encoding: str) -> None:
    chunks = decode(TextChunks(encoding), split(data, cuts))
    assert "".join(chunks) == data.decode(encoding, "replace")
    assert all(chunks)


@given(TEXT, CUTS, st.integers(1, 7))
def test_text_in_chunks_of_one_length(text: str, cuts: list[int], size: int) -> None:
    chunks = decode(TextChunks("utf-8", size), split(text.encode(), cuts))
    assert chunks == [text[start : start + size] for start in range(0, len(text), size)]


@given(st.binary(max_size=50), CUTS, st.integers(1, 7))
def test_bytes_in_chunks_of_one_size(data: bytes, cuts: list[int], size: int) -> None:
    chunks = decode(ByteChunks(size), split(data, cuts))
    assert chunks == [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("encoding", ["utf-16", "UTF_32"])
@given(TEXT, CUTS, st.sampled_from(["utf-16", "utf-32", "utf-16-le", "utf-32-le"]))
def test_text_without_a_byte_order_mark(encoding: str, text: str, cuts: list[int], sent: str) -> None:
    data = text.encode(sent)
    assert "".join(decode(TextChunks(encoding), split(data, cuts))) == data.decode(encoding, "replace")


def test_bytes_as_they_arrive() -> None:
    assert decode(ByteChunks(None), [b"ab", b"c"]) == [b"ab", b"c"]


def test_nothing_waits_for_what_is_not_needed() -> None:
    lines = Lines("utf-8")
    assert list(lines.feed(b"a\r")) == ["a"]
    assert list(lines.feed(b"\n")) == []
    assert list(lines.feed(b"\nb")) == [""]
    assert list(lines.feed(b"\n")) == ["b"]
    text = TextChunks("utf-8")
    assert list(text.feed("é".encode()[:1])) == []
    assert list(text.feed("é".encode()[1:])) == ["é"]


def test_a_line_has_a_limit() -> None:
    assert decode(Lines("utf-8", 3), [b"ab", b"c\n", b"\nabc"]) == ["abc", "", "abc"]
    for pieces in ([b"ok\nabcd\n"], [b"ok\nabcd"], [b"ok\nab", b"cd"], [b"ok\nabc", b"d\n"]):
        lines = Lines("utf-8", 3)
        found = []
        with pytest.raises(ResponseTooLargeError, match="a line is longer than 3 characters"):
            for piece in pieces:
                for line in lines.feed(piece):
                    found.append(line)
        assert found == ["ok"]
    assert decode(Lines("utf-8", None), [b"a" * 100]) == ["a" * 100]


@pytest.mark.parametrize("decoder", [lambda: Lines("utf-8"), lambda: TextChunks("utf-8", 10**7)])
def test_a_long_line_in_small_pieces_takes_linear_time(decoder: Any) -> None:
    # In quadratic time this would copy half a terabyte.
    pieces = [b"x"] * 1_000_000
    started = time.process_time()
    assert decode(decoder(), pieces) == ["x" * 1_000_000]
    assert time.process_time() - started < 60
