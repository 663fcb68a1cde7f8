"""What `progress=` of a batch or a download may be, made into one callback."""

import inspect
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

from .errors import ConfigurationError

_TELL_EVERY: Final = 0.1
"""Seconds between two changes of what stands behind the bar."""


class ProgressCallback(Protocol):
    """Called with how many items are finished, or bytes have come, and how many there are if that is known."""

    def __call__(self, done: int, total: int | None, /) -> object:
        """Show it."""
        ...


class Bar:
    """A tqdm bar: in a terminal, or in a notebook. Behind its rate it shows how many items have failed, if some have.

    Attributes:
        failed: How many of the finished items have failed: whoever calls it, and knows, sets this before.
    """

    def __init__(self, total: int | None, unit: str) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ConfigurationError("progress=True needs tqdm: pip install 'pynector[cli]'") from None
        self.failed = 0
        self._bar: Any = tqdm(total=total, unit=unit, unit_scale=unit == "B", unit_divisor=1024)
        self._told_at = -inf

    def __call__(self, done: int, total: int | None, /) -> None:
        if total != self._bar.total:
            self._bar.total = total  # what a download learns from the head of its answer
            self._bar.refresh()
        if self.failed:
            # tqdm does not draw more often by itself, so to write it more often would be for nobody.
            now = monotonic()
            if now - self._told_at >= _TELL_EVERY:
                self._told_at = now
                self._tell(done)
        self._bar.update(done - self._bar.n)

    def _tell(self, done: int) -> None:
        share = f" ({self.failed / done:.1%})" if done else ""
        self._bar.set_postfix_str(f"{self.failed} failed{share}", refresh=False)

    def close(self) -> None:
        """Draw it for the last time."""
        if self.failed:
            self._tell(self._bar.n)
        self._bar.close()


def show_progress(callback: ProgressCallback, done: int, total: int | None, failed: int = 0) -> None:
    """Call what `make_progress` has made; a bar of ours is told as well how many items have failed.

    Args:
        callback: What to call.
        done: How many items are finished.
        total: How many there are, if that is known.
        failed: How many of the finished ones have failed.
    """
    if type(callback) is Bar:
        callback.failed = failed
    callback(done, total)


def _nothing() -> None:
    pass


def make_progress(
    progress: bool | ProgressCallback, total: int | None, *, unit: str = "req"
) -> tuple[ProgressCallback | None, Callable[[], None]]:
    """The callback for `progress=`, and what to call at the end.

    Args:
        progress: True for a bar, a callable, or False for nothing.
        total: How many items there are, if that is known.
        unit: What is counted; `"B"` for bytes.

    Raises:
        ConfigurationError: It is neither, or a callable that can't be called with two numbers, or is async; or tqdm
            is not installed.
    """
    if progress is False:
        return None, _nothing
    if progress is True:
        bar = Bar(total, unit)
        return bar, bar.close
    if callable(progress):
        _check_callback(progress)
        return progress, _nothing
    raise ConfigurationError(
        f"progress is of type {type(progress).__name__}: give True, False, or a callable taking (done, total)"
    )


def _check_callback(callback: Callable[..., object]) -> None:
    """Refuse, before anything is sent, what would fail with the first finished item."""
    name = getattr(callback, "__qualname__", type(callback).__qualname__)
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        raise ConfigurationError(f"progress: {name} is an async function; give a plain one taking (done, total)")
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return  # a builtin that does not tell
    try:
        signature.bind(0, None)
    except TypeError as error:
        raise ConfigurationError(f"progress: {name} can't be called with (done, total): {error}") from None
