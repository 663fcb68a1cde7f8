"""What `progress=` of a batch or a download may be, made into one callback."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from .errors import ConfigurationError


class ProgressCallback(Protocol):
    """Called with how many items are finished, or bytes have come, and how many there are if that is known."""

    def __call__(self, done: int, total: int | None, /) -> object:
        """Show it."""
        ...


class _Bar:
    """A tqdm bar: in a terminal, or in a notebook."""

    def __init__(self, total: int | None, unit: str) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ConfigurationError("progress=True needs tqdm: pip install 'pynector[cli]'") from None
        self._bar: Any = tqdm(total=total, unit=unit, unit_scale=unit == "B", unit_divisor=1024)

    def __call__(self, done: int, total: int | None, /) -> None:
        if total != self._bar.total:
            self._bar.total = total  # what a download learns from the head of its answer
            self._bar.refresh()
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


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
        bar = _Bar(total, unit)
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
