"""What `progress=` accepts."""

import functools
from typing import Any

import pytest

from pynector._progress import make_progress
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
