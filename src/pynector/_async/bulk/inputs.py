"""How each kind of input is read."""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sized
from typing import Any

from ..._concurrency.aio.colour import iterate
from ..._concurrency.aio.inputs import numbered
from ..._messages.http import HttpMessage
from ...errors import ConfigurationError, SourceError
from .job import Job
from .signal import AsyncSignal
from .source import AsyncHanded, AsyncRoom, AsyncShared


def open_source(
    requests: Any,
    *,
    total: int | None,
    low: int,
    news: AsyncSignal,
    room: AsyncRoom | None,
    name: Callable[[Job], None] | None = None,
) -> AsyncShared | AsyncHanded:
    """The source for an input.

    Args:
        requests: The input.
        total: How many items there are, if it has a length.
        low: For what one task must read: how few items may wait for a worker before that task is told.
        news: Where it is told.
        room: What bounds the number of live items, if anything does.
        name: Code of the user's that every item goes through, and that runs where the input is read.

    Raises:
        ConfigurationError: It can't be iterated over, or only in the other colour.
        SourceError: Its `__iter__` raised.
    """
    try:
        shared = numbered(requests) if name is None else None
        if shared is None:
            return AsyncHanded(iterate(requests), sized=total is not None, low=low, news=news, name=name)
    except ConfigurationError:
        raise
    except Exception as exc:
        if isinstance(exc, TypeError) and not isinstance(requests, Iterable | AsyncIterable):
            raise _no_input(requests) from None
        raise _source_error(exc, "when it was opened") from exc
    step, close = shared
    length = len(requests) if isinstance(requests, list | tuple) else None
    return AsyncShared(step, close, length=length, sized=total is not None, room=room)


def length_of(requests: object) -> int | None:
    """The number of items of an input, if it has a length.

    Raises:
        ConfigurationError: It is one request rather than many.
        SourceError: Its `__len__` raised.
    """
    if isinstance(requests, str | bytes | Mapping | HttpMessage):
        raise _no_input(requests)
    if not isinstance(requests, Sized):
        return None
    try:
        return len(requests)
    except TypeError:
        return None  # what only sometimes has a length says so like this, as `operator.length_hint` expects it
    except Exception as exc:
        raise _source_error(exc, "when it was asked for its length") from exc


def _no_input(requests: object) -> ConfigurationError:
    return ConfigurationError(
        f"requests is of type {type(requests).__name__}: give an iterable of requests, such as a list"
    )


def source_error(source: AsyncShared | AsyncHanded) -> SourceError | None:
    """What to raise for an input that has raised."""
    cause, when = source.error, f"after {source.taken} items"
    if cause is None:
        cause, when = source.close_error, "when it was closed"
    if cause is None:
        return None
    error = _source_error(cause, when)
    error.__cause__ = cause
    return error


def _source_error(cause: Exception, when: str) -> SourceError:
    return SourceError(f"the input raised {type(cause).__name__} {when}: {cause}")
