"""Driving coroutines of a foreign library that knows asyncio only."""

from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from math import inf
from time import monotonic
from typing import Any, TypeVar, cast

from .._foreign import BlockingCalls, Closable, Feed, OutOfPatienceError, StandIn, dismiss
from ._calls import Calls
from ._parking import Task, current

__all__ = ["Feed", "OutOfPatienceError", "blocking_calls", "drive_feeding", "driver", "finished", "start"]

T = TypeVar("T")


@cache
def _running_loop() -> tuple[Callable[[], Any], Callable[[Any], None]]:
    """How asyncio is asked for the loop of this thread, and told. Imported late: other blocking code needs none."""
    from asyncio import _get_running_loop, _set_running_loop

    return _get_running_loop, _set_running_loop


def driver() -> Callable[[Coroutine[Any, Any, T]], T]:
    """What runs a foreign coroutine to its end, here.

    A cancellation or a deadline ends the wait at once; what the coroutine had under way elsewhere may live on. The
    coroutine's own cancellation error is never seen.

    Returns:
        A function that takes the coroutine and returns its result.
    """
    return _drive


def _drive(steps: Coroutine[Any, Any, T]) -> T:
    task = current()
    loop = StandIn(task.wake)
    # A notebook has a loop of its own in this thread: it is back whenever this code is not looking.
    get_loop, set_loop = _running_loop()
    outer = get_loop()
    task.waits += 1
    try:
        while True:
            try:
                set_loop(loop)
                asked_again = steps.send(None) is None
            finally:
                set_loop(outer)
            if not asked_again:
                task.park()
    except StopIteration as stop:
        return cast("T", stop.value)
    except BaseException:
        dismiss(steps)
        raise
    finally:
        task.pass_on()


def blocking_calls(build: Callable[[], Closable]) -> BlockingCalls | None:
    """Clients of a foreign library whose calls block the thread, each for one call at a time.

    Args:
        build: Makes one more.

    Returns:
        Them; None where nothing may block, and `driver` is what there is.
    """
    return Calls(build)


def drive_feeding(
    steps: Coroutine[Any, Any, T], feed: Feed, chunks: Iterator[bytes], patience: float | None = None
) -> T:
    """Run a foreign coroutine to its end that uploads something on the way.

    The source of the upload is run by the caller. `feed` stays open when the coroutine succeeds: the upload may go on
    while the answer is read already, by another coroutine.

    Args:
        steps: The coroutine.
        feed: What it pulls chunks from.
        chunks: The source.
        patience: Seconds that may pass without a chunk being asked for; None for no limit.

    Returns:
        What it returns.

    Raises:
        OutOfPatienceError: More time has passed.
        Exception: Whatever the source has raised.
    """
    task = current()
    get_loop, set_loop = _running_loop()
    outer = get_loop()
    feed.attach(task.wake)
    until = inf if patience is None else monotonic() + patience
    task.waits += 1
    try:
        while True:
            try:
                set_loop(feed)
                asked_again = steps.send(None) is None
            finally:
                set_loop(outer)
            if feed.wanted():
                feed.deliver(next((chunk for chunk in chunks if chunk), None))
                until = inf if patience is None else monotonic() + patience
            elif not asked_again:
                _park(task, until)
    except StopIteration as stop:
        return cast("T", stop.value)
    except BaseException:
        feed.close()
        dismiss(steps)
        raise
    finally:
        feed.attach(None)
        task.pass_on()


def _park(task: Task, until: float) -> None:
    if monotonic() >= until:
        raise OutOfPatienceError
    task.park(until)


def finished(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a foreign coroutine that has nothing to wait for.

    Args:
        steps: The coroutine.

    Returns:
        What it returns.

    Raises:
        RuntimeError: It has to wait.
    """
    try:
        steps.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    steps.close()
    raise RuntimeError("the coroutine has to wait")


def start(steps: Coroutine[Any, Any, object]) -> None:
    """Have a foreign coroutine begin what it does. Nobody waits for it: it is to be closed.

    Args:
        steps: The coroutine.
    """
    get_loop, set_loop = _running_loop()
    outer = get_loop()
    try:
        set_loop(StandIn(_ignore))
        steps.send(None)
    finally:
        set_loop(outer)


def _ignore() -> None:
    pass
