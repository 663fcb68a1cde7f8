"""The figures of a batch: histogram, tally, summary, what they look like, and rows for tables."""

import dataclasses
import io
import json
import pickle
import sys
import threading
from html.parser import HTMLParser
from math import ceil
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pynector import errors
from pynector._messages.histogram import Bar, Histogram
from pynector._messages.http import HttpMessage
from pynector._messages.json import JsonMessage
from pynector._messages.outcome import BatchResult, Outcome, RunStats, Summary
from pynector._messages.tally import Recent, Tally, summarise
from pynector._messages.usage import Usage

DURATIONS = st.floats(1e-6, 900_000.0)


class Clock:
    def __init__(self, now: float = 50.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def sent(index: int = 0, elapsed: float = 1.0, attempts: int = 1, **fields: Any) -> Outcome[Any]:
    return Outcome(index=index, elapsed=elapsed, attempts=attempts, **fields)


def tallied(outcomes: list[Outcome[Any]], clock: Clock | None = None) -> Tally:
    tally = Tally(clock or Clock())
    for outcome in outcomes:
        tally.add(outcome)
    return tally


# The histogram


@given(st.lists(DURATIONS, min_size=1, max_size=300), st.floats(0.1, 100))
def test_percentiles_are_off_by_less_than_one_percent(durations: list[float], percent: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[ceil(len(durations) * percent / 100) - 1]
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.01)
    assert histogram.count == len(durations)
    assert (histogram.lowest, histogram.highest) == (min(durations), max(durations))


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=200), st.integers(1, 60))
def test_bars_hold_everything_without_gaps(durations: list[float], most: int) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    bars = histogram.bars(most)
    assert 1 <= len(bars) <= most
    assert sum(bar.count for bar in bars) == len(durations)
    assert bars[0].low == min(durations)
    assert bars[-1].high == max(durations)
    assert [bar.high for bar in bars[:-1]] == pytest.approx([bar.low for bar in bars[1:]])
    # What is in a bar is between its ends, but for what rounding does at the very edge.
    for bar in bars[1:-1]:
        inside = [each for each in durations if bar.low * (1 - 1e-9) <= each <= bar.high * (1 + 1e-9)]
        assert len(inside) >= bar.count


@pytest.mark.parametrize("durations", [[0.0, 0.0], [1e-9, 5.0], [1e7, 1e8], [3600.0]])
def test_what_is_beyond_the_buckets_is_between_the_ends(durations: list[float]) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    for percent in (0, 50, 99, 100):
        assert min(durations) <= histogram.percentile(percent) <= max(durations)


def test_an_empty_histogram() -> None:
    histogram = Histogram()
    assert (histogram.count, histogram.lowest, histogram.highest, histogram.percentile(50)) == (0, 0.0, 0.0, 0.0)
    assert histogram.bars() == ()


# Both ways to the same summary


ERRORS = [
    errors.HTTPNotFoundError("404 Not Found", attempts=1),
    errors.HTTPServerError("500", status_code=500),
    errors.TimeoutError("late"),
    ValueError("no"),
]


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome[Any]:
    state = draw(st.sampled_from(["ok", "ok", "failed", "not_sent", "unknown"]))
    common: dict[str, Any] = {
        "index": draw(st.integers(0, 1000)),
        "state": state,
        "attempts": 0 if state == "not_sent" else draw(st.integers(0, 4)),
        "elapsed": draw(DURATIONS),
        "usage": draw(st.none() | st.builds(Usage, st.integers(0, 1000), st.integers(0, 1000))),
        "source": draw(st.sampled_from(["network", "network", "checkpoint", "duplicate"])),
    }
    if state != "ok":
        return Outcome(error=draw(st.sampled_from(ERRORS)), **common)
    return Outcome(value=HttpMessage.response(status_code=draw(st.sampled_from([200, 201, 204]))), **common)


@settings(max_examples=200)
@given(st.lists(outcomes(), max_size=80), st.floats(0.01, 1000))
def test_both_ways_give_the_same_summary(given_outcomes: list[Outcome[Any]], elapsed: float) -> None:
    exact = BatchResult(given_outcomes, elapsed=elapsed).summary()
    bounded = tallied(given_outcomes).summary(elapsed)
    latencies = ("latency_p50", "latency_p95", "latency_p99")
    for name in latencies:
        assert getattr(bounded, name) == pytest.approx(getattr(exact, name), rel=0.01)
    assert dataclasses.replace(bounded, **{name: getattr(exact, name) for name in latencies}) == exact
    assert type(bounded) is type(exact) is Summary
    assert exact.total == exact.ok + exact.failed + exact.not_sent + exact.unknown == len(given_outcomes)
    assert sum(exact.sources.values()) == exact.total
    assert sum(exact.error_types.values()) == exact.total - exact.ok
    assert sum(bar.count for bar in exact.latency_histogram) == sum(
        each.attempts > 0 and each.source == "network" for each in given_outcomes
    )
    assert pickle.loads(pickle.dumps(exact)) == exact


def test_what_this_run_did_not_send_itself() -> None:
    usage = Usage(10, 5)
    summary = summarise(
        [
            sent(0, elapsed=1.0, value="a", usage=usage),
            sent(1, elapsed=90.0, attempts=3, value="b", usage=usage, source="checkpoint"),
            sent(2, elapsed=90.0, attempts=3, value="b", usage=usage, source="duplicate"),
            sent(3, elapsed=0.0, attempts=0, error=ERRORS[2], state="not_sent"),
        ],
        elapsed=2.0,
    )
    assert summary.sources == {"network": 2, "checkpoint": 1, "duplicate": 1}
    assert (summary.total, summary.ok, summary.not_sent) == (4, 3, 1)
    assert (summary.retries, summary.retried, summary.latency_max, summary.usage) == (0, 0, 1.0, usage)
    assert summary.throughput == 1.0
    assert summary.error_types == {"TimeoutError": 1}


def test_error_types_begin_with_the_most_frequent() -> None:
    summary = summarise([sent(error=ERRORS[at], state="failed") for at in (0, 2, 2, 3, 0, 2)], 1.0)
    assert list(summary.error_types.items()) == [("TimeoutError", 3), ("HTTPNotFoundError", 2), ("ValueError", 1)]
    assert summary.status_codes == {404: 2}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(1, 2, 3, 4, 5), Usage(1, 2, 3, 4, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}, Usage(7, 2)),
        ({"input_tokens": 7, "output_tokens": None}, Usage(7, 0)),
        (SimpleNamespace(input_tokens=7, output_tokens=1, cached_tokens=3), Usage(7, 1, 3)),
        ("nothing of the kind", Usage()),
    ],
)
def test_usage_of_any_api(usage: Any, expected: Usage) -> None:
    summary = summarise([sent(value=1, usage=usage), sent(value=1), sent(value=1, usage=Usage(100, 200))], 1.0)
    assert summary.usage == expected + Usage(100, 200)


class Strange:
    """An answer of another transport, which means something else by a status."""

    def __init__(self, status_code: object) -> None:
        self.status_code = status_code


def test_statuses_that_are_none() -> None:
    summary = summarise([sent(value=Strange(status)) for status in ("ok", None, 0, [200], {}, 207)], 1.0)
    assert summary.status_codes == {207: 1}


def test_memory_is_bounded_whatever_comes() -> None:
    tally = Tally()
    for n in range(5_000):
        kind: Any = type(f"Error{n}", (Exception,), {})
        tally.add(sent(n, elapsed=1.01**n * 1e-6, error=kind("x"), state="failed"))
        tally.add(sent(n, elapsed=1.0, value=Strange(n + 1)))
        tally.retry()
    summary = tally.summary(1.0)
    assert len(summary.status_codes) <= 101
    assert len(summary.error_types) <= 101
    assert sum(summary.status_codes.values()) == sum(summary.error_types.values()) == 5_000
    assert summary.status_codes[0] > 4_800
    assert summary.error_types["other"] > 4_800
    kinds = sum(map(sys.getsizeof, tally._kinds)) + sum(map(sys.getsizeof, tally._kinds.values()))
    recent = sum(sys.getsizeof(each) + sys.getsizeof(each._counts) for each in (tally._items, tally._resent))
    histogram = sys.getsizeof(tally._latencies._counts)
    assert sys.getsizeof(tally._kinds) + kinds + recent + histogram < 50_000


# How far a run is


def test_the_rate_of_the_last_ten_seconds() -> None:
    clock = Clock()
    tally = Tally(clock)
    assert tally.stats(0.0).requests_per_second == 0.0
    for _ in range(40):  # two a second, for twenty seconds
        clock.now += 0.5
        tally.add(sent(value=1))
    assert tally.stats(20.0).requests_per_second == pytest.approx(2.0, rel=0.06)
    tally.retry()
    assert tally.stats(20.0).requests_per_second == pytest.approx(2.1, rel=0.06)
    clock.now += 5
    assert tally.stats(25.0).requests_per_second == pytest.approx(1.1, rel=0.06)
    clock.now += 5
    assert tally.stats(30.0).requests_per_second == 0.0
    clock.now += 1000
    assert tally.stats(1030.0).requests_per_second == 0.0
    tally.add(sent(value=1))
    assert tally.stats(1030.0).requests_per_second == pytest.approx(0.1, rel=0.06)


def test_the_rate_at_the_beginning() -> None:
    clock = Clock()
    tally = tallied([sent(value=1)] * 50, clock)
    clock.now += 0.25
    assert tally.stats(0.25).requests_per_second == 200.0
    assert tally.stats(0.0).requests_per_second == 0.0


@given(st.lists(st.floats(0, 4), max_size=100), st.floats(0, 25))
def test_recent_counts_what_a_list_of_times_would(steps: list[float], later: float) -> None:
    now = 30.0
    recent = Recent(now)
    times: list[float] = []
    for step in steps:
        now += step
        recent.add(now)
        times.append(now)
    now += later
    since = now - Recent.seconds(now)
    assert 9.5 <= Recent.seconds(now) <= 10.0
    # The beginning of a slot is a multiple of a half, and so exact.
    assert recent.count(now) == sum(each >= round(since * 2) / 2 for each in times)


def test_items_that_cost_no_request_are_not_in_the_rate() -> None:
    tally = tallied([sent(value=1, source="checkpoint"), sent(value=1, source="duplicate", attempts=0)])
    stats = tally.stats(1.0, total=4)
    assert (stats.done, stats.requests_per_second, stats.eta) == (2, 0.0, None)


def test_the_end_is_foretold() -> None:
    clock = Clock()
    tally = tallied([sent(value=1)] * 5, clock)
    clock.now += 100
    # Few of late: the average of all 100 seconds.
    assert tally.stats(100.0, total=10).eta == pytest.approx(100.0)
    assert tally.stats(100.0).eta is None
    assert tally.stats(100.0, total=5).eta == 0.0
    assert tally.stats(100.0, total=3).eta == 0.0
    assert Tally(clock).stats(100.0, total=3).eta is None
    for _ in range(50):
        tally.add(sent(value=1))
    assert tally.stats(100.0, total=105).eta == pytest.approx(10.0, rel=0.06)


def test_the_figures_of_a_moment() -> None:
    tally = tallied([sent(value=1, usage=Usage(3, 4)), sent(error=ERRORS[0], state="failed", attempts=3)])
    for _ in range(3):
        tally.retry()
    stats = tally.stats(
        4.0,
        total=9,
        ready=1,
        in_flight=2,
        waiting=3,
        waiting_for_limit=4,
        concurrency=5,
        limit_history=[(0.0, 10), (1.5, 5)],
    )
    assert stats == RunStats(
        done=2,
        ok=1,
        failed=1,
        ready=1,
        in_flight=2,
        waiting=3,
        total=9,
        waiting_for_limit=4,
        retries=3,
        requests_per_second=5 / 4,
        tokens=Usage(3, 4),
        eta=14.0,
        concurrency=5,
        limit_history=((0.0, 10), (1.5, 5)),
        elapsed=4.0,
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.done = 3  # type: ignore[misc]
    assert (tally.done, tally.ok, tally.failed, tally.usage) == (2, 1, 1, Usage(3, 4))


def test_retries_that_nobody_told_of_are_those_of_the_outcomes() -> None:
    assert tallied([sent(value=1, attempts=4)]).stats(1.0).retries == 3


def test_retries_of_many_threads_are_all_counted() -> None:
    tally = Tally()

    def resend() -> None:
        for _ in range(2_000):
            tally.retry()

    threads = [threading.Thread(target=resend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.stats(1.0).retries == 8_000


# What a summary looks like


HOSTILE = "<script>alert('x')</script>&"
Hostile: Any = type("<script>", (Exception,), {})


def hostile_batch() -> BatchResult[Any]:
    return BatchResult(
        [
            *(sent(n, elapsed=0.01 * (n + 1), value=HttpMessage.response(status_code=200)) for n in range(30)),
            sent(30, key=HOSTILE, error=Hostile(HOSTILE), state="failed", usage={"input_tokens": 12}),
            *(sent(n, error=ERRORS[0], state="failed") for n in range(31, 45)),
            sent(45, error=ERRORS[2], state="not_sent", attempts=0),
            sent(46, value=1, source="checkpoint"),
        ],
        elapsed=3.0,
    )


class Checked(HTMLParser):
    """Reads HTML and refuses what does not close."""

    VOID = frozenset({"br", "hr", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("make", [lambda: hostile_batch(), lambda: hostile_batch().summary()])
def test_html_is_well_formed_and_holds_no_script(make: Any) -> None:
    html = make()._repr_html_()
    page = Checked(html)
    assert "script" not in page.tags
    assert "svg" in page.tags
    assert "<script>" in page.text  # the name of the class, as text
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"href", "src"}
    # Readable on white and on black: no text has a colour of its own, and nothing has a background.
    values = " ".join(value or "" for _, value in page.attributes)
    assert "currentColor" in values
    assert values.count("background:") == values.count("background:none")
    assert not [value for name, value in page.attributes if name == "style" and " color:" in f" {value}"]


def test_html_of_a_batch_shows_some_of_what_failed() -> None:
    page = Checked(hostile_batch()._repr_html_())
    assert HOSTILE in page.text
    assert "HTTPNotFoundError: 404 Not Found" in page.text
    assert page.text.count("404 Not Found") == 9
    assert "and 6 more without an answer" in page.text
    fine = Checked(BatchResult([sent(value=1)], elapsed=1.0)._repr_html_())
    assert "more without" not in fine.text
    assert fine.tags.count("table") == 1


def drawing(html: str) -> ET.Element:
    return ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=50))
def test_the_drawing_has_a_bar_for_what_there_is(durations: list[float]) -> None:
    summary = summarise([sent(value=1, elapsed=each) for each in durations], 1.0)
    svg = drawing(summary._repr_html_())
    left, top, width, height = map(float, svg.attrib["viewBox"].split())
    space = "{http://www.w3.org/2000/svg}"
    bars = svg.findall(f"{space}rect")
    assert len(bars) == sum(bar.count > 0 for bar in summary.latency_histogram)
    assert sum(int((bar.findtext(f"{space}title") or "").split()[0]) for bar in bars) == len(durations)
    assert [each.text for each in svg.findall(f"{space}text")][:2] == ["p50", "p95"]
    for each in bars:
        x, y = float(each.attrib["x"]), float(each.attrib["y"])
        assert left <= x
        assert x + float(each.attrib["width"]) <= width + 0.1
        assert top <= y
        assert y + float(each.attrib["height"]) <= height
    for line in svg.findall(f"{space}line"):
        assert 0 <= float(line.attrib["x1"]) <= width


def test_nothing_to_draw() -> None:
    page = Checked(BatchResult()._repr_html_())
    assert "svg" not in page.tags
    assert "0 in 0.00 s" in page.text


def test_the_text_of_everything() -> None:
    assert str(hostile_batch().summary()).splitlines() == [
        "items       47 in 3.00 s (15.0/s)",
        "outcomes    31 ok, 15 failed, 1 not sent, 0 unknown",
        "retries     0 for 0 items",
        "latency     p50 230 ms, p95 1000 ms, p99 1000 ms, max 1000 ms",
        "statuses    200 x 30, 404 x 14",
        "errors      HTTPNotFoundError x 14, <script> x 1, TimeoutError x 1",
        "sources     46 network, 1 checkpoint, 0 duplicate",
        "tokens      12 in, 0 out",
    ]
    many = Summary(1, 1, 0, 0, 0, 0, 0, {0: 3, 200: 1}, 1.0, 1.0, 0.0005, 0.01, 0.01, 12.0)
    assert "statuses    other x 3, 200 x 1" in str(many)
    assert "p50 0.5 ms, p95 10 ms, p99 10 ms, max 12.0 s" in str(many)


def test_rich_shows_a_table() -> None:
    odd: Any = type("Odd[/bold]", (Exception,), {})
    summary = summarise([sent(value=1), sent(error=odd("x"), state="failed")], 1.0)
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(summary)
    shown = console.export_text()
    assert "2 in 1.00 s (2.0/s)" in shown
    assert "Odd[/bold] x 1" in shown
    assert "│" in shown


def test_a_summary_as_plain_values() -> None:
    summary = hostile_batch().summary()
    fields = summary.to_dict()
    assert json.loads(json.dumps(fields))["error_types"]["HTTPNotFoundError"] == 14
    assert list(fields) == [field.name for field in dataclasses.fields(Summary)]
    assert fields["usage"] == dataclasses.asdict(Usage(12))
    assert (fields["status_codes"], fields["sources"]["checkpoint"]) == ({200: 30, 404: 14}, 1)
    assert fields["latency_histogram"] == [dataclasses.asdict(bar) for bar in summary.latency_histogram]
    assert type(summary.latency_histogram[0]) is Bar
    assert summarise([], 0.0).to_dict()["usage"] is None


# Rows for tables


def response(content: bytes, kind: str) -> HttpMessage:
    request = HttpMessage("GET", "https://h/", headers={"authorization": "Bearer hunter2"})
    return HttpMessage.response(status_code=200, headers={"content-type": kind}, content=content, request=request)


def test_the_row_of_an_answer() -> None:
    value = response(b'{"a": [1]}', "application/json")
    request = {"path": "/", "headers": {"authorization": "hunter2"}}
    outcome = sent(4, key="k", request=request, value=value, elapsed=0.5, request_id="r1", usage=Usage(3, 2))
    assert outcome.to_dict() == {
        "index": 4,
        "key": "k",
        "state": "ok",
        "ok": True,
        "status_code": 200,
        "error_type": None,
        "error": None,
        "attempts": 1,
        "elapsed": 0.5,
        "request_id": "r1",
        "source": "network",
        "input_tokens": 3,
        "output_tokens": 2,
        "value": {"a": [1]},
    }
    assert "hunter2" not in repr(outcome.to_dict())


def test_the_row_of_an_error() -> None:
    row = sent(1, error=ERRORS[0], state="failed").to_dict()
    assert (row["ok"], row["status_code"], row["error_type"], row["error"]) == (
        False,
        404,
        "HTTPNotFoundError",
        "404 Not Found",
    )
    assert row["value"] is None
    assert "input_tokens" not in row


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (response(b"hello", "text/plain"), "hello"),
        (response(b"{not json", "application/json"), "{not json"),
        (response(b"\x00\x01", "image/png"), b"\x00\x01"),
        (JsonMessage({"x": 1}), {"x": 1}),
        (SimpleNamespace(text="an answer", get_payload=dict), "an answer"),
        ({"any": "thing"}, {"any": "thing"}),
        (7, 7),
        (None, None),
    ],
)
def test_what_an_answer_says(value: Any, expected: Any) -> None:
    assert sent(value=value).to_dict()["value"] == expected


def test_rows_without_values_parse_nothing() -> None:
    class Codec:
        def loads(self, data: bytes) -> Any:
            parsed.append(data)
            return json.loads(data)

        def dumps(self, value: Any) -> bytes:
            raise NotImplementedError

    parsed: list[bytes] = []
    value = HttpMessage.response(
        status_code=200, headers={"content-type": "application/json"}, content=b"[1]", json_codec=Codec()
    )
    batch = BatchResult([sent(0, value=value), sent(1, error=ERRORS[0], state="failed")])
    rows = batch.to_dicts(value=False)
    assert [row["index"] for row in rows] == [0, 1]
    assert not any("value" in row for row in rows)
    assert parsed == []
    assert [row["value"] for row in batch.to_dicts()] == [[1], None]
    assert batch.to_dicts()[0]["value"] == [1]
    assert parsed == [b"[1]"]
