"""Iterables as bodies: each chunk is checked, in whatever way they are iterated."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

from pynector._http.body import stream_body
from pynector._messages.http import HttpMessage
from pynector.errors import SerializationError


def source_of(content: Any) -> Any:
    body = stream_body(HttpMessage("POST", "/", content=content))
    assert body is not None
    return body.source


class Later:
    def __init__(self, *chunks: Any) -> None:
        self.chunks = chunks

    def __aiter__(self) -> AsyncIterator[Any]:
        return Steps(iter(self.chunks))


class Steps:
    def __init__(self, chunks: Iterator[Any]) -> None:
        self.chunks = chunks

    def __aiter__(self) -> "Steps":
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.chunks)
        except StopIteration:
            raise StopAsyncIteration from None


class Both(Later):
    def __iter__(self) -> Iterator[Any]:
        yield from self.chunks


def test_chunks_of_any_kind_of_bytes() -> None:
    source = source_of(iter([b"a", bytearray(b"b"), memoryview(b"c")]))
    assert list(source) == [b"a", b"b", b"c"]
    assert not isinstance(source, AsyncIterable)


async def test_async_chunks() -> None:
    source = source_of(Later(b"a", bytearray(b"b")))
    assert [chunk async for chunk in source] == [b"a", b"b"]
    assert not isinstance(source, Iterable)


async def test_what_can_be_iterated_in_both_ways_stays_so() -> None:
    source = source_of(Both(b"a"))
    assert list(source) == [chunk async for chunk in source] == [b"a"]


@pytest.mark.parametrize("bad", [1, "text", None, [b"x"]])
async def test_chunks_that_are_no_bytes(bad: Any) -> None:
    text = f"a chunk of the body must be bytes, not {type(bad).__name__}"
    with pytest.raises(SerializationError, match=text):
        list(source_of(iter([b"good", bad])))
    with pytest.raises(SerializationError, match=text):
        [chunk async for chunk in source_of(Later(b"good", bad))]
    with pytest.raises(SerializationError, match=text):
        source_of([b"good", bad])
