"""What `progress=` accepts."""

import functools
from typing import Any

import pytest

from pynector import _progress
from pynector._progress import Bar, make_progress, show_progress
from pynector.errors import ConfigurationError


class Callback:
    def __call__(self, done: int, total: int | None) -> None: ...


class Late:
    async def __call__(self, done: int, total: int | None) -> None: ...


async def late(done: int, total: int | None) -> None: ...


@pytest.mark.parametrize(
    "callback", [print, max, Callback(), Callback().__call__, lambda *args: None, functools.partial(print, "done:")]
)
def test_callables(callback: Any) -> None:
    chosen, close = make_progress(callback, None)
    assert chosen is callback
    close()


@pytest.mark.parametrize(
    ("callback", "text"),
    [
        (late, "progress: late is an async function; give a plain one"),
        (Late(), "progress: Late is an async function"),
        (functools.partial(late, 1), "is an async function"),
        (lambda: None, r"can't be called with \(done, total\): too many positional"),
        (lambda done, *, total: None, r"can't be called with \(done, total\)"),
        (lambda done, total, more: None, "missing a required argument: 'more'"),
        (5, "progress is of type int"),
    ],
)
def test_what_is_refused(callback: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make_progress(callback, 3)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.needs("tqdm")
def test_a_bar_without_failures(capsys: pytest.CaptureFixture[str]) -> None:
    bar, close = make_progress(True, 4)
    assert isinstance(bar, Bar)
    for done in range(1, 5):
        show_progress(bar, done, 4)
    close()
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "failed" not in shown


@pytest.mark.needs("tqdm")
def test_a_bar_tells_of_failures_and_of_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    bar, close = make_progress(True, 8)
    assert isinstance(bar, Bar)
    for done in range(1, 9):
        show_progress(bar, done, 8, failed=done // 4)
    close()
    last = capsys.readouterr().err.rstrip().split("\r")[-1]
    assert "8/8" in last
    assert "req/s, 2 failed (25.0%)" in last


@pytest.mark.needs("tqdm")
def test_failures_are_written_at_most_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(_progress, "monotonic", clock)
    bar, close = make_progress(True, None)
    assert isinstance(bar, Bar)
    texts: list[str] = []
    monkeypatch.setattr(bar._bar, "set_postfix_str", lambda text, refresh: texts.append(text))
    for done in range(1, 101):
        show_progress(bar, done, None, failed=1)
        clock.now += 0.03125
    assert len(texts) == 25
    assert texts[0] == "1 failed (100.0%)"
    close()
    assert texts[-1] == "1 failed (1.0%)"


def test_a_callback_hears_of_the_same_two_numbers() -> None:
    calls: list[tuple[int, int | None]] = []
    show_progress(lambda done, total: calls.append((done, total)), 3, None, failed=2)
    assert calls == [(3, None)]
