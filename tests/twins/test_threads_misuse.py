"""Wrong use gives a clear error in both colours: functions of the other colour, and blocks left in another task."""

import functools

import pytest

from pynector._concurrency.aio import clock as aio_clock
from pynector._concurrency.aio import scopes as aio_scopes
from pynector._concurrency.aio import tasks as aio_tasks
from pynector._concurrency.threads import clock, scopes, tasks


async def async_work(**options: object) -> None:
    await aio_clock.checkpoint()


def plain_work(**options: object) -> None:
    pass


class AsyncCallable:
    async def __call__(self) -> None:
        pass


@pytest.mark.parametrize("fn", [async_work, functools.partial(async_work), lambda: async_work(), AsyncCallable()])
def test_a_blocking_group_refuses_async_functions(fn):
    with pytest.raises(ExceptionGroup) as caught, tasks.create_task_group() as tg:
        tg.start_soon(fn)
    (error,) = caught.value.exceptions
    assert type(error) is TypeError
    assert "is an async function; blocking task groups run plain functions" in str(error)


def test_blocking_start_and_run_refuse_async_functions():
    with tasks.create_task_group() as tg, pytest.raises(TypeError, match="async_work is an async function"):
        tg.start(async_work)
    with pytest.raises(TypeError, match="async_work is an async function"):
        tasks.run(async_work)


async def test_an_async_group_refuses_plain_functions():
    async with aio_tasks.create_task_group() as tg:
        with pytest.raises(TypeError, match="plain_work"):
            await tg.start_soon(plain_work)
    async with aio_tasks.create_task_group() as tg:
        with pytest.raises(TypeError, match="plain_work"):
            await tg.start(plain_work)


async def test_a_group_is_no_group_of_the_other_colour():
    with pytest.raises((TypeError, AttributeError)):
        with aio_tasks.create_task_group():
            pass
    with pytest.raises((TypeError, AttributeError)):
        async with tasks.create_task_group():
            pass


def test_a_blocking_scope_that_is_left_in_another_task():
    scope = scopes.CancelScope()
    with tasks.create_task_group() as tg:
        tg.start_soon(scope.__enter__)
    with pytest.raises(RuntimeError, match="must be left in the task that entered it"):
        scope.__exit__(None, None, None)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_async_scope_that_is_left_in_another_task(anyio_backend):
    """On trio it is an error as well, which takes the whole program down."""
    scope = aio_scopes.CancelScope()
    done = []

    async def leave() -> None:
        with pytest.raises(RuntimeError):
            scope.__exit__(None, None, None)
        done.append(True)

    with scope:
        async with aio_tasks.create_task_group() as tg:
            await tg.start_soon(leave)
    assert done


def test_a_nan_is_no_time():
    for wrong in (
        lambda: clock.sleep(float("nan")),
        lambda: scopes.move_on_after(float("nan")),
        lambda: scopes.fail_at(float("nan")),
    ):
        with pytest.raises(ValueError, match="NaN"):
            wrong()


def test_a_group_cannot_be_left_without_being_entered_or_twice():
    group = tasks.create_task_group()
    with pytest.raises(RuntimeError, match="not active"):
        group.__exit__(None, None, None)
    with group:
        pass
    with pytest.raises(RuntimeError, match="not active"):
        group.__exit__(None, None, None)


def test_a_deadline_is_a_number() -> None:
    """anyio, which has the scopes of the async colour, says so from 4.16 on."""
    with pytest.raises(ValueError, match="NaN"):
        scopes.CancelScope(deadline=float("nan"))
    with scopes.CancelScope() as scope, pytest.raises(ValueError, match="NaN"):
        scope.deadline = float("nan")
