"""Locks: mutual exclusion, order, hand-over, cancellation, and bad use."""

from collections.abc import Callable
from math import inf

import pytest

from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.locks import (
    CapacityLimiter,
    Condition,
    Event,
    Lock,
    Mutex,
    ProcessMutex,
    Semaphore,
    WouldBlock,
)
from pynector._concurrency.aio.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.aio.tasks import create_task_group

LONG = 30.0


@pytest.fixture
def early() -> tuple[Lock, Semaphore, CapacityLimiter, Event, Condition]:
    """Primitives made where no event loop runs."""
    return Lock(), Semaphore(1), CapacityLimiter(1), Event(), Condition()


async def until(condition: Callable[[], bool]) -> None:
    with fail_after(LONG):
        while not condition():
            await sleep(0.001)


async def test_primitives_can_be_made_early(early):
    lock, semaphore, limiter, event, condition = early
    with fail_after(LONG):
        async with lock, semaphore, limiter, condition:
            assert lock.locked()
            assert semaphore.value == 0
            assert limiter.available_tokens == 0
        with move_on_after(0.01) as scope:
            await event.wait()
        assert scope.cancelled_caught


async def test_a_lock_lets_one_task_in():
    lock = Lock()
    inside = 0
    most = 0

    async def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            async with lock:
                inside += 1
                most = max(most, inside)
                await sleep(0.001)
                inside -= 1

    async with create_task_group() as tg:
        for _ in range(5):
            await tg.start_soon(work)
    assert most == 1
    assert not lock.locked()


async def test_a_lock_is_handed_over_in_order():
    lock = Lock()
    order = []

    async def take(number: int) -> None:
        async with lock:
            order.append(number)

    async with create_task_group() as tg:
        async with lock:
            for number in range(5):
                await tg.start_soon(take, number)
                await until(lambda number=number: lock.statistics().tasks_waiting == number + 1)
    assert order == [0, 1, 2, 3, 4]


async def test_a_free_lock_with_waiters_is_not_free():
    lock = Lock()
    async with create_task_group() as tg:
        await lock.acquire()
        await tg.start_soon(lock.acquire)
        await until(lambda: lock.statistics().tasks_waiting == 1)
        lock.release()
        with pytest.raises(WouldBlock):
            lock.acquire_nowait()


async def test_a_cancelled_waiter_leaves_the_queue():
    lock = Lock()
    got = []

    async def take(number: int) -> None:
        async with lock:
            got.append(number)

    async with create_task_group() as tg:
        async with lock:
            with move_on_after(0.02) as scope:
                async with create_task_group() as impatient:
                    await impatient.start_soon(take, 0)
            assert scope.cancelled_caught
            assert lock.statistics().tasks_waiting == 0
            await tg.start_soon(take, 1)
            await until(lambda: lock.statistics().tasks_waiting == 1)
    assert got == [1]


async def test_taking_a_free_lock_is_no_place_for_a_cancellation():
    lock, semaphore = Lock(), Semaphore(1)
    reached = []
    with CancelScope() as scope:
        scope.cancel()
        async with lock, semaphore:
            reached.append(True)
    assert reached == [True]


async def test_waiting_for_a_lock_is_a_place_for_a_cancellation():
    semaphore = Semaphore(0)
    with CancelScope() as scope:
        scope.cancel()
        await semaphore.acquire()
    assert scope.cancelled_caught
    assert semaphore.statistics().tasks_waiting == 0


async def test_wrong_use_of_a_lock():
    lock = Lock()
    with pytest.raises(RuntimeError):
        lock.release()
    async with lock:
        with pytest.raises(RuntimeError):
            await lock.acquire()
        with pytest.raises(RuntimeError):
            lock.acquire_nowait()
        async with create_task_group() as tg:

            async def other() -> None:
                with pytest.raises(WouldBlock):
                    lock.acquire_nowait()
                with pytest.raises(RuntimeError):
                    lock.release()

            await tg.start_soon(other)
    lock.acquire_nowait()
    lock.release()


async def test_a_lock_is_released_by_a_failing_block():
    lock = Lock()
    with pytest.raises(KeyError):
        async with lock:
            raise KeyError
    assert not lock.locked()


async def test_a_semaphore_limits():
    semaphore = Semaphore(3)
    inside = 0
    most = 0

    async def work() -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await sleep(0.005)
            inside -= 1

    async with create_task_group() as tg:
        for _ in range(12):
            await tg.start_soon(work)
    assert 1 <= most <= 3
    assert semaphore.value == 3


async def test_a_semaphore_counts():
    semaphore = Semaphore(1, max_value=2)
    assert semaphore.max_value == 2
    semaphore.acquire_nowait()
    with pytest.raises(WouldBlock):
        semaphore.acquire_nowait()
    semaphore.release()
    semaphore.release()
    assert semaphore.value == 2
    with pytest.raises(ValueError, match="too many times"):
        semaphore.release()


async def test_a_semaphore_checks_its_numbers():
    with pytest.raises(ValueError, match="initial_value"):
        Semaphore(-1)
    with pytest.raises(TypeError):
        Semaphore(1.5)
    with pytest.raises(ValueError, match="max_value"):
        Semaphore(2, max_value=1)


async def test_no_permit_is_lost_when_waiters_give_up():
    semaphore = Semaphore(2)

    async def impatient(number: int) -> None:
        with move_on_after(0.001 * (number % 4)):
            async with semaphore:
                await sleep(0.001)

    for _ in range(5):
        async with create_task_group() as tg:
            for number in range(12):
                await tg.start_soon(impatient, number)
    assert semaphore.value == 2


async def test_a_limiter_limits_and_counts():
    limiter = CapacityLimiter(2)
    assert limiter.total_tokens == 2
    assert limiter.available_tokens == 2
    async with limiter:
        assert limiter.borrowed_tokens == 1
        await limiter.acquire_on_behalf_of("other")
        with pytest.raises(WouldBlock):
            limiter.acquire_on_behalf_of_nowait("third")
        assert limiter.statistics().borrowed_tokens == 2
        assert "other" in limiter.statistics().borrowers
        limiter.release_on_behalf_of("other")
        limiter.acquire_on_behalf_of_nowait("third")
        limiter.release_on_behalf_of("third")
    assert limiter.borrowed_tokens == 0


async def test_raising_the_total_of_a_limiter_lets_waiters_in():
    limiter = CapacityLimiter(1)
    entered = []
    leave = Event()

    async def work(number: int) -> None:
        async with limiter:
            entered.append(number)
            await leave.wait()

    async with create_task_group() as tg:
        for number in range(4):
            await tg.start_soon(work, number)
            await until(lambda number=number: len(entered) + limiter.statistics().tasks_waiting == number + 1)
        assert entered == [0]
        limiter.total_tokens = 3
        await until(lambda: len(entered) == 3)
        limiter.total_tokens = 1
        assert limiter.available_tokens == -2
        leave.set()
    assert sorted(entered) == [0, 1, 2, 3]
    assert limiter.borrowed_tokens == 0


async def test_wrong_use_of_a_limiter():
    limiter = CapacityLimiter(2)
    with pytest.raises(RuntimeError):
        limiter.release()
    async with limiter:
        with pytest.raises(RuntimeError):
            await limiter.acquire()
        with pytest.raises(RuntimeError):
            limiter.acquire_nowait()
    with pytest.raises(TypeError):
        CapacityLimiter(1.5)
    with pytest.raises(ValueError, match="total_tokens"):
        CapacityLimiter(-1)
    assert CapacityLimiter(inf).total_tokens == inf


async def test_a_limiter_forgets_waiters_that_give_up():
    limiter = CapacityLimiter(1)
    async with limiter:
        with move_on_after(0.02) as scope:
            await limiter.acquire_on_behalf_of("impatient")
        assert scope.cancelled_caught
        assert limiter.statistics().tasks_waiting == 0
    assert limiter.borrowed_tokens == 0


async def test_an_event_wakes_everyone():
    event = Event()
    woken = []

    async def wait(number: int) -> None:
        await event.wait()
        woken.append(number)

    async with create_task_group() as tg:
        for number in range(4):
            await tg.start_soon(wait, number)
        await until(lambda: event.statistics().tasks_waiting == 4)
        assert not event.is_set()
        assert not woken
        event.set()
        event.set()
    assert sorted(woken) == [0, 1, 2, 3]
    assert event.is_set()
    await event.wait()


async def test_a_waiter_of_an_event_can_be_cancelled():
    event = Event()
    with move_on_after(0.02) as scope:
        await event.wait()
    assert scope.cancelled_caught
    assert event.statistics().tasks_waiting == 0


async def test_a_condition_notifies_in_order():
    condition = Condition()
    order = []

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            order.append(number)

    async with create_task_group() as tg:
        for number in range(5):
            await tg.start_soon(wait, number)
            await until(lambda number=number: condition.statistics().tasks_waiting == number + 1)
        async with condition:
            condition.notify()
        await until(lambda: len(order) == 1)
        async with condition:
            condition.notify(2)
        await until(lambda: len(order) == 3)
        async with condition:
            condition.notify_all()
            assert len(order) == 3
    # Those notified together race for the lock.
    assert (order[0], sorted(order[1:3]), sorted(order[3:])) == (0, [1, 2], [3, 4])


async def test_wait_for_a_predicate():
    condition = Condition(Lock())
    box = []

    async def fill() -> None:
        for number in range(3):
            await sleep(0.005)
            async with condition:
                box.append(number)
                condition.notify_all()

    async with create_task_group() as tg:
        await tg.start_soon(fill)
        async with condition:
            assert await condition.wait_for(lambda: len(box) == 3 and "full") == "full"
            assert condition.locked()


async def test_a_cancelled_wait_takes_the_lock_again():
    condition = Condition()
    seen = []
    async with condition:
        with move_on_after(0.02) as scope:
            try:
                await condition.wait()
            finally:
                seen.append(condition.locked())
        assert scope.cancelled_caught
    assert seen == [True]
    assert not condition.locked()
    assert condition.statistics().tasks_waiting == 0


async def test_wrong_use_of_a_condition():
    condition = Condition()
    with pytest.raises(RuntimeError):
        condition.notify()
    with pytest.raises(RuntimeError):
        condition.notify_all()
    with pytest.raises(RuntimeError):
        await condition.wait()
    condition.acquire_nowait()
    condition.release()
    assert not condition.locked()


async def test_plain_locks_can_be_nested():
    for mutex in (Mutex(), ProcessMutex()):
        with mutex, mutex:
            pass
        with pytest.raises(KeyError), mutex:
            raise KeyError
