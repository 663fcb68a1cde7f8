"""What the other files leave open: fairness, streams that close at every moment, errors while cancelling."""

import pytest

from pynector._concurrency.aio.clock import checkpoint, current_time, sleep
from pynector._concurrency.aio.locks import CapacityLimiter, Condition, Event, Lock, Semaphore, WouldBlock
from pynector._concurrency.aio.scopes import CancelScope, fail_after, get_cancelled_exc_class, move_on_after, shield
from pynector._concurrency.aio.streams import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    create_memory_object_stream,
)
from pynector._concurrency.aio.tasks import create_task_group

LONG = 30.0


async def until_waiting(primitive: CapacityLimiter | Condition | Lock | Semaphore, number: int) -> None:
    with fail_after(LONG):
        while primitive.statistics().tasks_waiting != number:
            await sleep(0.001)


async def test_a_limiter_is_fair():
    limiter = CapacityLimiter(1)
    served = []

    async def work(number: int) -> None:
        async with limiter:
            served.append(number)

    async with create_task_group() as tg:
        async with limiter:
            for number in range(6):
                await tg.start_soon(work, number)
                await until_waiting(limiter, number + 1)
    assert served == list(range(6))


async def test_a_limiter_with_no_tokens_holds_everyone_until_it_has_some():
    limiter = CapacityLimiter(0)
    served = []

    async def work(number: int) -> None:
        async with limiter:
            served.append(number)

    async with create_task_group() as tg:
        await tg.start_soon(work, 1)
        await until_waiting(limiter, 1)
        with pytest.raises(WouldBlock):
            limiter.acquire_nowait()
        assert not served
        limiter.total_tokens = 1
    assert served == [1]
    assert limiter.available_tokens == 1
    with pytest.raises(ValueError, match="total_tokens"):
        limiter.total_tokens = -1


async def test_a_token_is_returned_once_and_asked_for_once():
    limiter = CapacityLimiter(1)
    await limiter.acquire()
    limiter.release()
    with pytest.raises(RuntimeError, match="isn't holding"):
        limiter.release()
    with pytest.raises(RuntimeError, match="isn't holding"):
        limiter.release_on_behalf_of("nobody")
    limiter.acquire_on_behalf_of_nowait("somebody")
    async with create_task_group() as tg:
        await tg.start_soon(limiter.acquire_on_behalf_of, "twice")
        await until_waiting(limiter, 1)
        with pytest.raises(RuntimeError, match="already waiting"):
            await limiter.acquire_on_behalf_of("twice")
        limiter.release_on_behalf_of("somebody")
    limiter.release_on_behalf_of("twice")
    assert limiter.borrowed_tokens == 0


async def test_a_cancelled_borrower_gives_way_to_the_next():
    limiter = CapacityLimiter(1)
    served = []

    async def work(number: int, patience: float) -> None:
        with move_on_after(patience):
            async with limiter:
                served.append(number)

    async with create_task_group() as tg:
        async with limiter:
            for number, patience in enumerate([LONG, 0.02, LONG, 0.02, LONG]):
                await tg.start_soon(work, number, patience)
                await sleep(0.002)
            await until_waiting(limiter, 3)
    assert sorted(served) == [0, 2, 4]
    assert limiter.borrowed_tokens == 0


async def test_taking_a_token_is_a_place_for_a_cancellation():
    limiter = CapacityLimiter(1)
    with CancelScope() as scope:
        scope.cancel()
        await limiter.acquire()
    assert scope.cancelled_caught
    assert limiter.borrowed_tokens == 0


async def test_a_condition_wakes_the_longest_waiting_first():
    condition = Condition()
    woken = []

    async def wait(number: int) -> None:
        async with condition:
            await condition.wait()
            woken.append(number)

    async with create_task_group() as tg:
        for number in range(5):
            await tg.start_soon(wait, number)
            await until_waiting(condition, number + 1)
        for number in range(5):
            async with condition:
                condition.notify()
            with fail_after(LONG):
                while len(woken) <= number:
                    await sleep(0.001)
    assert woken == list(range(5))


async def test_a_notification_of_a_cancelled_waiter_is_not_lost():
    condition = Condition()
    woken = []

    async def wait(number: int, scope: CancelScope) -> None:
        with scope:
            async with condition:
                await condition.wait()
                woken.append(number)

    async with create_task_group() as tg:
        scopes = [CancelScope() for _ in range(3)]
        for number, scope in enumerate(scopes):
            await tg.start_soon(wait, number, scope)
            await until_waiting(condition, number + 1)
        async with condition:
            scopes[0].cancel()
            condition.notify(2)
        with fail_after(LONG):
            while len(woken) < 2:
                await sleep(0.001)
        tg.cancel_scope.cancel()
    assert len(woken) == 2


async def test_a_semaphore_of_many_is_fair():
    semaphore = Semaphore(0)
    served = []

    async def work(number: int) -> None:
        await semaphore.acquire()
        served.append(number)

    async with create_task_group() as tg:
        for number in range(6):
            await tg.start_soon(work, number)
            await until_waiting(semaphore, number + 1)
        for number in range(6):
            semaphore.release()
            with fail_after(LONG):
                while len(served) <= number:
                    await sleep(0.001)
    assert served == list(range(6))


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("moment", range(12))
async def test_streams_that_close_at_every_moment(size, moment):
    """Whatever was sent was received, or is lost only when every receiver has gone."""
    send, receive = create_memory_object_stream[int](size)
    sent, got, ends = [], [], []

    async def produce(stream: MemoryObjectSendStream, first: int) -> None:
        try:
            for item in range(first, first + 40):
                await stream.send(item)
                sent.append(item)
        except (BrokenResourceError, ClosedResourceError) as error:
            ends.append(type(error))

    async def consume(stream: MemoryObjectReceiveStream) -> None:
        try:
            while True:
                got.append(await stream.receive())
        except (EndOfStream, ClosedResourceError) as error:
            ends.append(type(error))

    producers = [send.clone() for _ in range(3)]
    consumers = [receive.clone() for _ in range(3)]
    send.close()
    receive.close()
    with fail_after(LONG):
        async with create_task_group() as tg:
            for number, (producer, consumer) in enumerate(zip(producers, consumers, strict=True)):
                await tg.start_soon(produce, producer, number * 1000)
                await tg.start_soon(consume, consumer)
            while len(got) < moment * 8:
                await sleep(0)
            # One of the receivers and one of the senders goes, then all senders; the last receivers drain.
            consumers[moment % 3].close()
            producers[(moment + 1) % 3].close()
            await sleep(0)
            for producer in producers:
                producer.close()
    for consumer in consumers:
        consumer.close()
    assert sorted(got) == sorted(sent)
    assert len(got) == len(set(got))
    assert ends.count(EndOfStream) >= 2


async def test_receivers_that_go_turn_senders_away():
    send, receive = create_memory_object_stream[int](1)
    refused = []

    async def produce(stream: MemoryObjectSendStream) -> None:
        async with stream:
            with pytest.raises(BrokenResourceError):
                while True:
                    await stream.send(1)
            refused.append(True)

    with fail_after(LONG):
        async with create_task_group() as tg:
            async with send:
                for _ in range(4):
                    await tg.start_soon(produce, send.clone())
            async with receive:
                for _ in range(10):
                    await receive.receive()
    assert refused == [True] * 4


async def test_errors_of_several_tasks_while_cancelling_all_come_out():
    async def stubborn(number: int) -> None:
        try:
            await sleep(LONG)
        except get_cancelled_exc_class():
            with shield():
                await sleep(0.01)
            raise KeyError(number) from None

    with pytest.raises(ExceptionGroup) as caught:
        async with create_task_group() as tg:
            for number in range(4):
                await tg.start_soon(stubborn, number)
            await sleep(0.02)
            tg.cancel_scope.cancel()
    assert sorted(error.args[0] for error in caught.value.exceptions) == [0, 1, 2, 3]


async def test_except_star_takes_the_group_apart_with_its_tracebacks():
    async def fails(error: Exception) -> None:
        await checkpoint()
        raise error

    lines = []
    try:
        async with create_task_group() as tg:
            await tg.start_soon(fails, ValueError("a"))
            try:
                await sleep(LONG)
            finally:
                raise OSError("b")
    except* ValueError as group:
        traceback = group.exceptions[0].__traceback__
        while traceback is not None:
            lines.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
    except* OSError as group:
        lines.append(str(group.exceptions[0]))
    assert lines[-2:] == ["fails", "b"]


async def test_deadlines_shorten_on_the_way_in_and_come_back_on_the_way_out():
    started = current_time()
    with move_on_after(LONG) as outer:
        async with create_task_group() as tg:
            with move_on_after(0.03) as inner:
                with move_on_after(LONG):
                    with shield():
                        await sleep(0.05)
                    await sleep(LONG)
            assert inner.cancelled_caught
            await tg.start_soon(sleep, 0.01)
    assert not outer.cancelled_caught
    assert current_time() - started < LONG / 2


async def test_nested_scopes_of_tasks_in_groups_of_tasks_end_from_the_outside():
    depth = 6
    entered = []
    everyone = Event()

    async def dive(level: int) -> None:
        with move_on_after(LONG):
            async with create_task_group() as tg:
                if level:
                    await tg.start_soon(dive, level - 1)
                entered.append(level)
                if len(entered) == depth:
                    everyone.set()
                await sleep(LONG)

    with fail_after(LONG), CancelScope() as scope:
        async with create_task_group() as tg:
            await tg.start_soon(dive, depth - 1)
            await everyone.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert len(entered) == depth
