"""Server-sent events: the examples and the corner cases of the HTML standard, in any split."""

import dataclasses
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynector._http.sse import Events, ServerSentEvent, is_event_stream
from pynector.errors import DeserializationError, ResponseTooLargeError
from unit.test_lines import CUTS, decode, naive_lines, split


def parse(data: bytes) -> list[ServerSentEvent]:
    return decode(Events(), [data])


def naive_events(data: bytes) -> list[ServerSentEvent]:
    """The algorithm of the standard (9.2.6), sentence by sentence, over the whole body."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = naive_lines(text)
    events = []
    kind = buffer = identity = ""
    retry = None
    for line in lines:
        if line == "":
            if buffer != "":
                events.append(ServerSentEvent(kind or "message", buffer[:-1], identity, retry))
            kind = buffer = ""
        elif line.startswith(":"):
            continue
        else:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                kind = value
            elif field == "data":
                buffer += value + "\n"
            elif field == "id" and "\0" not in value:
                identity = value
            elif field == "retry" and value and all(digit in "0123456789" for digit in value):
                retry = int(value)
    return events


FIELDS = ["data: a", "data:b", "data", "data:", "data:  c", "event: add", "event", "id: 1", "id", "id: \0", "retry: 10"]
OTHERS = ["retry: x", "retry", "retry: ٣", ": comment", "", "", "", "other: x", " data: x", "dat", "data: é€", "\ufeff"]
LINES = st.sampled_from([*FIELDS, *OTHERS])
BODIES = st.builds(
    lambda start, lines: start + "".join(line + end for line, end in lines),
    st.sampled_from(["", "", "\ufeff", "\ufeff\ufeff"]),
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r", ""])), max_size=15),
)


@given(BODIES, CUTS)
@example("data: a\r\n\r\nid: 2\r\rdata: é\n\n", list(range(60)))
@example("\ufeffdata: a\n\n", [1, 2, 3])
def test_any_split_gives_the_events_of_the_standard(body: str, cuts: list[int]) -> None:
    data = body.encode()
    assert decode(Events(), split(data, cuts)) == naive_events(data)


@given(st.binary(max_size=60), CUTS)
def test_any_bytes(data: bytes, cuts: list[int]) -> None:
    data = b"data: " + data + b"\n\n"
    assert decode(Events(), split(data, cuts)) == naive_events(data)


@pytest.mark.parametrize(
    ("body", "events"),
    [
        # The examples of the standard
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test", ""), ("message", "test", "")]),
        (b"event: add\ndata: 73857293\n\n", [("add", "73857293", "")]),
        # An event without data is none, and its type is not kept
        (b"event: add\n\ndata: 1\n\n", [("message", "1", "")]),
        # An id is kept, even from an event without data; one with NUL is ignored
        (b"id: 7\n\ndata: 1\n\nid: \0\ndata: 2\n\n", [("message", "1", "7"), ("message", "2", "7")]),
        # The last event needs its empty line
        (b"data: 1\n\ndata: 2\n", [("message", "1", "")]),
        (b"data: 1\n\ndata: 2", [("message", "1", "")]),
        (b"", []),
    ],
)
def test_events(body: bytes, events: list[tuple[str, str, str]]) -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        assert [(e.event, e.data, e.id) for e in parse(body.replace(b"\n", end))] == events


def test_retry() -> None:
    body = b"retry: 3000\n\ndata: 1\n\ndata: 2\nretry: 10\n\ndata: 3\nretry: -1\n\ndata: 4\nretry: 1e3\n\n"
    assert [event.retry for event in parse(body)] == [3000, 10, 10, 10]
    assert parse(b"data: 1\n\n")[0].retry is None
    assert parse(b"retry: " + b"9" * 5000 + b"\ndata: 1\n\n")[0].retry is None


def test_an_event_comes_with_its_empty_line() -> None:
    events = Events()
    assert list(events.feed(b"data: 1\r\n")) == []
    assert list(events.feed(b"\r")) == [ServerSentEvent(data="1")]
    assert list(events.feed(b"\n")) == []


def test_an_event_has_a_limit() -> None:
    for data in (b"data: 1234567890", b"data: 12345\ndata: 12345\n", b": a long comment\n", b"data:\n" * 11):
        with pytest.raises(ResponseTooLargeError, match="an event is longer than 10 characters"):
            decode(Events(10), [data])
    assert len(decode(Events(10), [b"data: 123\n\n" * 100])) == 100
    assert len(decode(Events(None), [b"data: " + b"1" * 1000 + b"\n\n"])) == 1


def test_an_event_is_a_value() -> None:
    event = ServerSentEvent("add", '{"n": 1}', "7", 10)
    assert event.json() == {"n": 1}
    assert ServerSentEvent() == ServerSentEvent("message", "", "", None)
    assert pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = ""  # type: ignore[misc]


@pytest.mark.parametrize("data", ["[DONE]", "", "[" * 100_000])
def test_data_that_is_no_json(data: str) -> None:
    with pytest.raises(DeserializationError, match="the data of an event 'message' is not JSON") as caught:
        ServerSentEvent(data=data).json()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        (" text/event-stream ;x", True),
        ("text/event-streams", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_content_types(kind: str, expected: bool) -> None:
    assert is_event_stream(kind) is expected
