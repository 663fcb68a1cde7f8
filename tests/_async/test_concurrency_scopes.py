"""Cancel scopes: deadlines, nesting, shields, and who catches what."""

from math import inf

import pytest

from pynector._concurrency.aio.clock import checkpoint, current_time, sleep, sleep_until
from pynector._concurrency.aio.locks import Event
from pynector._concurrency.aio.scopes import (
    CancelScope,
    current_effective_deadline,
    fail_after,
    fail_at,
    get_cancelled_exc_class,
    move_on_after,
    move_on_at,
    shield,
)
from pynector._concurrency.aio.tasks import create_task_group

LONG = 30.0


async def test_move_on_after_leaves_quietly():
    started = current_time()
    with move_on_after(0.05) as scope:
        await sleep(LONG)
    assert scope.cancelled_caught
    assert scope.cancel_called
    assert 0.04 < current_time() - started < LONG / 2


async def test_a_scope_with_time_left_changes_nothing():
    with move_on_after(LONG) as scope:
        await sleep(0.01)
    assert not scope.cancelled_caught
    assert not scope.cancel_called


async def test_fail_after_raises_timeout_error():
    with pytest.raises(TimeoutError), fail_after(0.05):
        await sleep(LONG)


async def test_fail_after_in_time_and_errors_of_its_own():
    with fail_after(LONG):
        await checkpoint()
    with pytest.raises(KeyError), fail_after(LONG):
        raise KeyError("own")


async def test_fail_after_cancelled_by_hand_is_no_timeout():
    with fail_after(LONG) as scope:
        scope.cancel()
        await sleep(LONG)
    assert scope.cancelled_caught


async def test_none_is_no_limit():
    with move_on_after(None) as first, fail_after(None) as second, move_on_at(None) as third, fail_at(None) as last:
        await checkpoint()
        assert {scope.deadline for scope in (first, second, third, last)} == {inf}


async def test_absolute_deadlines():
    with move_on_at(current_time() + 0.05) as scope:
        await sleep(LONG)
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError), fail_at(current_time() + 0.05):
        await sleep(LONG)


async def test_a_deadline_in_the_past_ends_the_first_wait():
    with move_on_after(-1) as scope:
        await sleep(LONG)
    assert scope.cancelled_caught


async def test_the_shorter_deadline_wins_inside():
    with move_on_after(LONG) as outer:
        with move_on_after(0.05) as inner:
            await sleep(LONG)
        assert inner.cancelled_caught
        await checkpoint()
    assert not outer.cancelled_caught


async def test_the_shorter_deadline_wins_outside():
    reached = []
    with move_on_after(0.05) as outer:
        with move_on_after(LONG) as inner:
            await sleep(LONG)
        reached.append(True)
    assert outer.cancelled_caught
    assert not inner.cancelled_caught
    assert not reached


async def test_an_outer_timeout_is_not_taken_for_an_inner_one():
    with pytest.raises(TimeoutError), fail_after(0.05):
        try:
            with fail_after(LONG):
                await sleep(LONG)
        except TimeoutError:  # pragma: no cover
            pytest.fail("the inner scope had time left")


async def test_deadlines_are_inherited_by_tasks_of_tasks():
    ended = []

    async def leaf() -> None:
        try:
            await sleep(LONG)
        finally:
            ended.append(current_time())

    async def branch() -> None:
        async with create_task_group() as tg:
            await tg.start_soon(leaf)
            await tg.start_soon(leaf)

    started = current_time()
    with move_on_after(0.05) as scope:
        async with create_task_group() as tg:
            await tg.start_soon(branch)
            await tg.start_soon(leaf)
    assert scope.cancelled_caught
    assert len(ended) == 3
    assert all(end - started < LONG / 2 for end in ended)


async def test_a_task_may_shorten_the_inherited_deadline():
    seen = []

    async def task() -> None:
        with move_on_after(0.02) as scope:
            await sleep(LONG)
        seen.append(scope.cancelled_caught)

    with move_on_after(LONG) as outer:
        async with create_task_group() as tg:
            await tg.start_soon(task)
    assert seen == [True]
    assert not outer.cancelled_caught


async def test_a_deadline_can_be_shortened_while_tasks_wait():
    with move_on_after(LONG) as scope:
        async with create_task_group() as tg:
            await tg.start_soon(sleep, LONG)
            await tg.start_soon(sleep, LONG)
            await sleep(0.02)
            scope.deadline = current_time() + 0.02
            await sleep(LONG)
    assert scope.cancelled_caught


async def test_a_deadline_can_be_extended_while_tasks_wait():
    async with create_task_group() as tg:
        with move_on_after(0.05) as scope:

            async def extend() -> None:
                scope.deadline = current_time() + LONG

            await tg.start_soon(extend)
            await sleep(0.1)
    assert not scope.cancelled_caught


async def test_cancel_before_entering():
    scope = CancelScope()
    scope.cancel()
    reached = []
    with scope:
        reached.append("body")
        await sleep(LONG)
        reached.append("after the wait")
    assert reached == ["body"]
    assert scope.cancelled_caught


async def test_cancelling_without_a_wait_catches_nothing():
    with CancelScope() as scope:
        scope.cancel()
        scope.cancel()
    assert scope.cancel_called
    assert not scope.cancelled_caught


async def test_cancellation_stays_until_the_scope_is_left():
    hits = 0
    with CancelScope() as scope:
        scope.cancel()
        for _ in range(3):
            try:
                await sleep(LONG)
            except get_cancelled_exc_class():
                hits += 1
        await checkpoint()
    assert hits == 3
    assert scope.cancelled_caught
    await checkpoint()


async def test_cancel_from_a_sibling_wakes_the_waiter():
    gate = Event()
    async with create_task_group() as tg:
        with CancelScope() as scope:

            async def stop() -> None:
                await sleep(0.02)
                scope.cancel()

            await tg.start_soon(stop)
            await gate.wait()
        assert scope.cancelled_caught
        assert not tg.cancel_scope.cancel_called


async def test_cancelling_an_inner_scope_leaves_the_outer_alone():
    with CancelScope() as outer:
        with CancelScope() as inner:
            inner.cancel()
            await sleep(LONG)
        await checkpoint()
    assert inner.cancelled_caught
    assert not outer.cancelled_caught


async def test_if_both_are_cancelled_the_outer_one_catches():
    with CancelScope() as outer:
        with CancelScope() as inner:
            outer.cancel()
            inner.cancel()
            await sleep(LONG)
        pytest.fail("the outer scope was cancelled as well")  # pragma: no cover
    assert outer.cancelled_caught
    assert not inner.cancelled_caught


async def test_a_shield_keeps_cancellation_out_and_it_comes_with_the_next_wait():
    seen = []
    with CancelScope() as outer:
        outer.cancel()
        with shield():
            await sleep(0.02)
            seen.append("shielded")
        seen.append("after the shield")
        await sleep(LONG)
        seen.append("after the wait")
    assert seen == ["shielded", "after the shield"]
    assert outer.cancelled_caught


async def test_a_shield_has_a_deadline_of_its_own():
    with move_on_after(0.02) as outer:
        with CancelScope(shield=True, deadline=current_time() + 0.1) as inner:
            await sleep(LONG)
        assert inner.cancelled_caught
        await sleep(LONG)
    assert outer.cancelled_caught


async def test_lowering_a_shield_lets_a_pending_cancellation_in():
    async with create_task_group() as tg:
        with CancelScope() as outer:
            with CancelScope(shield=True) as inner:
                outer.cancel()

                async def lower() -> None:
                    await sleep(0.02)
                    inner.shield = False

                await tg.start_soon(lower)
                await sleep(LONG)
            pytest.fail("the cancellation passes the inner scope")  # pragma: no cover
    assert outer.cancelled_caught
    assert not inner.shield


async def test_shielded_tasks_of_a_cancelled_group_go_on():
    done = []

    async def task() -> None:
        with shield():
            await sleep(0.05)
            done.append(True)

    async with create_task_group() as tg:
        await tg.start_soon(task)
        await sleep(0.02)
        tg.cancel_scope.cancel()
    assert done == [True]


async def test_errors_while_cancelled_come_out():
    with pytest.raises(KeyError), move_on_after(0.02) as scope:
        try:
            await sleep(LONG)
        except get_cancelled_exc_class():
            raise KeyError("cleanup") from None
    assert scope.cancel_called
    assert not scope.cancelled_caught


async def test_a_cancellation_inside_a_group_made_by_hand_is_taken_out():
    with pytest.raises(ExceptionGroup) as caught, CancelScope() as scope:
        scope.cancel()
        try:
            await sleep(LONG)
        except get_cancelled_exc_class() as cancelled:
            raise BaseExceptionGroup("mixed", [cancelled, ValueError("kept")]) from None
    assert [type(error) for error in caught.value.exceptions] == [ValueError]
    assert scope.cancelled_caught


async def test_cancelled_is_no_exception():
    assert not issubclass(get_cancelled_exc_class(), Exception)


async def test_a_scope_serves_one_block():
    with CancelScope() as scope:
        pass
    with pytest.raises(RuntimeError):
        scope.__exit__(None, None, None)
    with CancelScope() as scope:
        with pytest.raises(RuntimeError):
            scope.__enter__()


async def test_effective_deadline():
    assert current_effective_deadline() == inf
    now = current_time()
    with CancelScope(deadline=now + 50):
        with CancelScope(deadline=now + 100) as inner:
            assert current_effective_deadline() == now + 50
            inner.shield = True
            assert current_effective_deadline() == now + 100
        with CancelScope() as cancelled:
            cancelled.cancel()
            assert current_effective_deadline() == -inf


async def test_time_passes():
    before = current_time()
    await sleep(0)
    await sleep(0.02)
    await sleep_until(before + 0.04)
    await sleep_until(before)
    assert 0.035 < current_time() - before < LONG
