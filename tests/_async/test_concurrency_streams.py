"""Memory streams: order, back-pressure, closing, and nothing lost."""

from math import inf

import pytest

from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.aio.streams import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    WouldBlock,
    create_memory_object_stream,
)
from pynector._concurrency.aio.tasks import create_task_group

LONG = 30.0


async def until_waiting(stream: MemoryObjectSendStream, *, send: int = 0, receive: int = 0) -> None:
    with fail_after(LONG):
        while True:
            statistics = stream.statistics()
            if (statistics.tasks_waiting_send, statistics.tasks_waiting_receive) == (send, receive):
                return
            await sleep(0.001)


@pytest.mark.parametrize("size", [0, 1, 7, inf])
async def test_items_come_in_order(size):
    send, receive = create_memory_object_stream[int](size)

    async def produce() -> None:
        async with send:
            for number in range(50):
                await send.send(number)

    async with create_task_group() as tg, receive:
        await tg.start_soon(produce)
        assert [item async for item in receive] == list(range(50))


async def test_a_full_stream_holds_the_sender_back():
    send, receive = create_memory_object_stream[int](2)
    sent = []

    async def produce() -> None:
        for number in range(4):
            await send.send(number)
            sent.append(number)

    async with create_task_group() as tg, send, receive:
        await tg.start_soon(produce)
        await until_waiting(send, send=1)
        assert sent == [0, 1]
        assert send.statistics().current_buffer_used == 2
        assert await receive.receive() == 0
        await until_waiting(send, send=1)
        assert sent == [0, 1, 2]
        assert [await receive.receive() for _ in range(3)] == [1, 2, 3]


async def test_without_waiting():
    send, receive = create_memory_object_stream[str](1)
    async with send, receive:
        with pytest.raises(WouldBlock):
            receive.receive_nowait()
        send.send_nowait("a")
        with pytest.raises(WouldBlock):
            send.send_nowait("b")
        assert receive.receive_nowait() == "a"


async def test_a_waiting_receiver_gets_the_item_at_once():
    send, receive = create_memory_object_stream[str](0)
    got = []

    async def take() -> None:
        got.append(await receive.receive())

    async with send, receive, create_task_group() as tg:
        await tg.start_soon(take)
        await until_waiting(send, receive=1)
        send.send_nowait("now")
    assert got == ["now"]


async def test_the_end_comes_after_the_last_item():
    send, receive = create_memory_object_stream[int](5)
    async with receive:
        async with send:
            await send.send(1)
            await send.send(2)
        assert await receive.receive() == 1
        assert receive.receive_nowait() == 2
        with pytest.raises(EndOfStream):
            await receive.receive()
        with pytest.raises(EndOfStream):
            receive.receive_nowait()
        assert [item async for item in receive] == []


async def test_closing_the_last_sender_wakes_waiting_receivers():
    send, receive = create_memory_object_stream[int](0)
    seen = []

    async def take() -> None:
        try:
            await receive.receive()
        except EndOfStream:
            seen.append("end")

    async with receive, create_task_group() as tg:
        second = send.clone()
        for _ in range(3):
            await tg.start_soon(take)
        await until_waiting(send, receive=3)
        await send.aclose()
        await until_waiting(second, receive=3)
        await second.aclose()
    assert seen == ["end"] * 3


async def test_closing_the_last_receiver_wakes_waiting_senders():
    send, receive = create_memory_object_stream[int](0)
    seen = []

    async def give() -> None:
        try:
            await send.send(1)
        except BrokenResourceError:
            seen.append("broken")

    async with send, create_task_group() as tg:
        second = receive.clone()
        for _ in range(3):
            await tg.start_soon(give)
        await until_waiting(send, send=3)
        await receive.aclose()
        await second.aclose()
    assert seen == ["broken"] * 3


async def test_use_after_close():
    send, receive = create_memory_object_stream[int](1)
    await receive.aclose()
    await receive.aclose()
    with pytest.raises(BrokenResourceError):
        await send.send(1)
    with pytest.raises(BrokenResourceError):
        send.send_nowait(1)
    with pytest.raises(ClosedResourceError):
        await receive.receive()
    with pytest.raises(ClosedResourceError):
        receive.receive_nowait()
    with pytest.raises(ClosedResourceError):
        receive.clone()
    await send.aclose()
    send.close()
    with pytest.raises(ClosedResourceError):
        await send.send(1)
    with pytest.raises(ClosedResourceError):
        send.clone()


async def test_clones_share_the_items():
    send, receive = create_memory_object_stream[int](3)
    other = receive.clone()
    assert isinstance(other, MemoryObjectReceiveStream)
    assert send.statistics().open_receive_streams == 2
    async with send, receive, other:
        for number in range(3):
            send.send_nowait(number)
        assert [receive.receive_nowait(), other.receive_nowait(), receive.receive_nowait()] == [0, 1, 2]


async def test_statistics():
    send, receive = create_memory_object_stream[int](4)
    with send, receive:
        send.send_nowait(1)
        assert send.statistics() == receive.statistics()
        assert tuple(send.statistics()) == (1, 4, 1, 1, 0, 0)


async def test_bad_sizes():
    with pytest.raises(ValueError, match="negative"):
        create_memory_object_stream[int](-1)
    with pytest.raises(ValueError, match="integer"):
        create_memory_object_stream[int](1.5)


async def test_a_cancelled_receiver_takes_no_item():
    send, receive = create_memory_object_stream[int](1)
    async with send, receive:
        with move_on_after(0.02) as scope:
            await receive.receive()
        assert scope.cancelled_caught
        assert send.statistics().tasks_waiting_receive == 0
        await send.send(1)
        assert await receive.receive() == 1


async def test_a_cancelled_sender_leaves_no_item():
    send, receive = create_memory_object_stream[int](0)
    async with send, receive:
        with move_on_after(0.02) as scope:
            await send.send(1)
        assert scope.cancelled_caught
        assert send.statistics().tasks_waiting_send == 0
        with pytest.raises(WouldBlock):
            receive.receive_nowait()


async def test_sending_and_receiving_are_places_for_a_cancellation():
    send, receive = create_memory_object_stream[int](2)
    async with send, receive:
        with CancelScope() as scope:
            scope.cancel()
            await send.send(1)
        assert scope.cancelled_caught
        send.send_nowait(2)
        with CancelScope() as scope:
            scope.cancel()
            await receive.receive()
        assert scope.cancelled_caught
        assert receive.receive_nowait() == 2


@pytest.mark.parametrize("size", [0, 3, inf])
async def test_many_producers_and_consumers(size):
    send, receive = create_memory_object_stream[int](size)
    got = []

    async def produce(stream: MemoryObjectSendStream, first: int) -> None:
        async with stream:
            for number in range(first, first + 50):
                await stream.send(number)

    async def consume(stream: MemoryObjectReceiveStream) -> None:
        async with stream:
            async for item in stream:
                got.append(item)

    with fail_after(LONG):
        async with create_task_group() as tg:
            async with send, receive:
                for number in range(6):
                    await tg.start_soon(produce, send.clone(), number * 50)
                    await tg.start_soon(consume, receive.clone())
    assert sorted(got) == list(range(300))


async def test_impatient_receivers_lose_nothing():
    send, receive = create_memory_object_stream[int](0)
    got = []

    async def consume(stream: MemoryObjectReceiveStream) -> None:
        async with stream:
            while True:
                with move_on_after(0.001):
                    try:
                        got.append(await stream.receive())
                    except EndOfStream:
                        return

    with fail_after(LONG):
        async with create_task_group() as tg:
            async with send, receive:
                for _ in range(4):
                    await tg.start_soon(consume, receive.clone())
                for number in range(100):
                    await send.send(number)
                    if number % 10 == 0:
                        await sleep(0.002)
    assert sorted(got) == list(range(100))
