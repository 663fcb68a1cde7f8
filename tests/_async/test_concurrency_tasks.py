"""Task groups: nothing outlives them, failures come out together, cancellation reaches every task."""

from contextvars import ContextVar

import pytest

from pynector._concurrency.aio.clock import checkpoint, sleep
from pynector._concurrency.aio.locks import Event
from pynector._concurrency.aio.scopes import CancelScope, fail_after, get_cancelled_exc_class, move_on_after
from pynector._concurrency.aio.tasks import TaskGroup, TaskStatus, create_task_group, current_task

LONG = 30.0


async def fail(error: BaseException, delay: float = 0.0) -> None:
    if delay:
        await sleep(delay)
    raise error


async def test_runs_every_task_and_waits_for_all():
    done = []

    async def work(number: int) -> None:
        await sleep(0.01 * (5 - number))
        done.append(number)

    async with create_task_group() as tg:
        for number in range(5):
            await tg.start_soon(work, number)
    assert sorted(done) == [0, 1, 2, 3, 4]


async def test_an_empty_group_ends():
    async with create_task_group() as tg:
        pass
    assert not tg.cancel_scope.cancel_called


async def test_start_soon_does_not_wait_for_the_task():
    gate = Event()
    seen = []

    async def work() -> None:
        await gate.wait()
        seen.append("task")

    async with create_task_group() as tg:
        await tg.start_soon(work, name="gated")
        seen.append("body")
        gate.set()
    assert seen == ["body", "task"]


async def test_tasks_run_at_the_same_time():
    first, second = Event(), Event()

    async def ping() -> None:
        first.set()
        await second.wait()

    async def pong() -> None:
        await first.wait()
        second.set()

    with fail_after(LONG):
        async with create_task_group() as tg:
            await tg.start_soon(ping)
            await tg.start_soon(pong)


async def test_a_single_failure_leaves_as_a_group_and_cancels_the_siblings():
    ended = []

    async def sibling() -> None:
        try:
            await sleep(LONG)
        except get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            for _ in range(3):
                await tg.start_soon(sibling)
            await tg.start_soon(fail, ValueError("one"), 0.02)
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('one')"]
    assert ended == ["cancelled"] * 3


async def test_a_failure_cancels_the_body():
    reached = []
    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start_soon(fail, ValueError("one"))
            await sleep(LONG)
            reached.append("end of body")
    assert len(caught.value.exceptions) == 1
    assert not reached


async def test_the_failure_of_the_body_is_part_of_the_group_and_cancels_the_tasks():
    ended = []

    async def task() -> None:
        try:
            await sleep(LONG)
        finally:
            ended.append(True)

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start_soon(task)
            await sleep(0.02)
            raise KeyError("body")
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert ended == [True]


async def test_several_failures_are_all_there():
    async def fail_while_leaving() -> None:
        try:
            await sleep(LONG)
        finally:
            raise RuntimeError("while leaving")

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start_soon(fail_while_leaving)
            await sleep(0.02)
            await tg.start_soon(fail, ValueError("first"))
    assert {type(error) for error in caught.value.exceptions} == {RuntimeError, ValueError}
    value_errors, rest = caught.value.split(ValueError)
    assert value_errors is not None
    assert rest is not None
    assert value_errors.exceptions[0].__traceback__ is not None


async def test_groups_nest_and_so_do_their_failures():
    async def inner() -> None:
        async with create_task_group() as tg:
            await tg.start_soon(sleep, LONG)
            await tg.start_soon(fail, ValueError("deep"), 0.01)

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start_soon(inner)
            await tg.start_soon(sleep, LONG)
    (middle,) = caught.value.exceptions
    assert isinstance(middle, ExceptionGroup)
    assert [type(error) for error in middle.exceptions] == [ValueError]


async def test_a_failure_reaches_tasks_of_nested_groups():
    ended = []

    async def leaf() -> None:
        try:
            await sleep(LONG)
        finally:
            ended.append(True)

    async def branch(depth: int) -> None:
        async with create_task_group() as tg:
            for _ in range(2):
                if depth:
                    await tg.start_soon(branch, depth - 1)
                else:
                    await tg.start_soon(leaf)

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start_soon(branch, 2)
            await sleep(0.1)
            await tg.start_soon(fail, ValueError("x"))
    assert len(caught.value.exceptions) == 1
    assert len(ended) == 8


async def test_cancelling_the_group_ends_it_quietly():
    async with create_task_group() as tg:
        await tg.start_soon(sleep, LONG)
        await tg.start_soon(sleep, LONG)
        tg.cancel_scope.cancel()
    assert tg.cancel_scope.cancel_called


async def test_a_task_may_cancel_its_group():
    with fail_after(LONG / 2):
        async with create_task_group() as tg:

            async def stop() -> None:
                await sleep(0.02)
                tg.cancel_scope.cancel()

            await tg.start_soon(sleep, LONG)
            await tg.start_soon(stop)
            await sleep(LONG)
    assert tg.cancel_scope.cancelled_caught


async def test_an_outer_cancellation_while_the_group_waits_comes_out():
    reached = []
    with move_on_after(0.05) as scope:
        async with create_task_group() as tg:
            await tg.start_soon(sleep, LONG)
        reached.append("after the group")
    assert scope.cancelled_caught
    assert not reached


async def test_an_outer_cancellation_does_not_hide_failures():
    async def fail_on_cancel() -> None:
        try:
            await sleep(LONG)
        except get_cancelled_exc_class():
            raise OSError("while leaving") from None

    with pytest.raises(ExceptionGroup) as caught, move_on_after(0.05):
        async with create_task_group() as tg:
            await tg.start_soon(fail_on_cancel)
    assert [type(error) for error in caught.value.exceptions] == [OSError]


async def test_a_task_that_cleans_up_under_a_shield_is_waited_for():
    cleaned = []

    async def task() -> None:
        try:
            await sleep(LONG)
        finally:
            with CancelScope(shield=True):
                await sleep(0.05)
                cleaned.append(True)

    async with create_task_group() as tg:
        await tg.start_soon(task)
        await sleep(0.02)
        tg.cancel_scope.cancel()
    assert cleaned == [True]


async def test_tasks_may_start_tasks_while_the_group_waits():
    done = []
    async with create_task_group() as tg:

        async def grow(depth: int) -> None:
            done.append(depth)
            if depth:
                await tg.start_soon(grow, depth - 1)
                await tg.start_soon(grow, depth - 1)

        await tg.start_soon(grow, 4)
    assert len(done) == 31


async def test_a_task_started_in_a_cancelled_group_ends_at_its_first_wait():
    reached = []

    async def task() -> None:
        reached.append("start")
        await checkpoint()
        reached.append("after the wait")

    async with create_task_group() as tg:
        tg.cancel_scope.cancel()
        with CancelScope(shield=True):
            await tg.start_soon(task)
            await sleep(0.02)
    assert "after the wait" not in reached


async def test_system_exit_of_the_body_comes_out_bare():
    ended = []

    async def task() -> None:
        try:
            await sleep(LONG)
        finally:
            ended.append(True)

    with pytest.raises(SystemExit) as caught:
        async with create_task_group() as outer, create_task_group() as tg:
            await outer.start_soon(task)
            await tg.start_soon(task)
            await sleep(0.02)
            raise SystemExit(3)
    assert caught.value.code == 3
    assert ended == [True, True]


async def test_a_group_takes_no_tasks_before_and_after_its_block():
    tg = create_task_group()
    assert isinstance(tg, TaskGroup)
    with pytest.raises(RuntimeError):
        await tg.start_soon(sleep, 0)
    async with tg:
        pass
    with pytest.raises(RuntimeError):
        await tg.start_soon(sleep, 0)
    with pytest.raises(RuntimeError):
        await tg.start(sleep, 0)


async def test_start_returns_what_the_task_reports():
    stop = Event()
    ended = []

    async def server(port: int, *, task_status: TaskStatus[int]) -> None:
        await sleep(0.01)
        task_status.started(port + 1)
        await stop.wait()
        ended.append(True)

    async with create_task_group() as tg:
        assert await tg.start(server, 80) == 81
        assert not ended
        stop.set()
    assert ended == [True]


async def test_start_raises_the_bare_error_of_a_task_that_fails_before_it_reports():
    async def broken(*, task_status: TaskStatus[None]) -> None:
        await sleep(0.01)
        raise OSError("port taken")

    async with create_task_group() as tg:
        with pytest.raises(OSError, match="port taken"):
            await tg.start(broken)
    assert not tg.cancel_scope.cancel_called


async def test_start_raises_if_the_task_never_reports():
    async def silent(*, task_status: TaskStatus[None]) -> None:
        await sleep(0.01)

    async with create_task_group() as tg:
        with pytest.raises(RuntimeError):
            await tg.start(silent)


async def test_reporting_twice_is_an_error():
    async def eager(*, task_status: TaskStatus[int]) -> None:
        task_status.started(1)
        task_status.started(2)

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start(eager)
            await sleep(LONG)
    assert [type(error) for error in caught.value.exceptions] == [RuntimeError]


async def test_a_failure_after_the_report_belongs_to_the_group():
    async def late(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await sleep(0.01)
        raise ValueError("late")

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            await tg.start(late)
            await sleep(LONG)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_cancelling_the_caller_of_start_ends_the_task_that_has_not_reported():
    ended = []

    async def slow(*, task_status: TaskStatus[None]) -> None:
        try:
            await sleep(LONG)
        finally:
            ended.append(True)

    async with create_task_group() as tg:
        with move_on_after(0.05) as scope:
            await tg.start(slow)
        assert scope.cancelled_caught
        assert ended == [True]
        assert not tg.cancel_scope.cancel_called


async def test_a_task_that_has_reported_leaves_the_scopes_of_its_starter():
    going = []

    async def service(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await sleep(0.1)
        going.append(True)

    async with create_task_group() as tg:
        with move_on_after(0.05) as scope:
            await tg.start(service)
            await sleep(LONG)
        assert scope.cancelled_caught
    assert going == [True]


async def test_each_task_has_a_copy_of_the_context():
    name: ContextVar[str] = ContextVar("name", default="unset")
    seen = []

    async def task(value: str) -> None:
        seen.append(name.get())
        name.set(value)
        await sleep(0.01)
        seen.append(name.get())

    name.set("parent")
    async with create_task_group() as tg:
        await tg.start_soon(task, "a")
        await tg.start_soon(task, "b")
    assert sorted(seen) == ["a", "b", "parent", "parent"]
    assert name.get() == "parent"


async def test_current_task_stands_for_one_task():
    seen = []

    async def task() -> None:
        mine = current_task()
        await sleep(0.01)
        assert current_task() is mine
        seen.append(mine)

    async with create_task_group() as tg:
        for _ in range(3):
            await tg.start_soon(task)
    seen.append(current_task())
    assert len({id(task) for task in seen}) == 4


async def test_many_tasks_in_many_groups():
    counts = []

    async def count(number: int) -> None:
        counts.append(number)

    for _ in range(30):
        async with create_task_group() as tg:
            for number in range(20):
                await tg.start_soon(count, number)
    assert len(counts) == 600
