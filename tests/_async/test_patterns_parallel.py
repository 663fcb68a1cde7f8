"""parallel_requests: in order, bounded, lazy, and the first failure ends it."""

import itertools

import pytest

from pynector.concurrency import Event, get_cancelled_exc_class, move_on_after, parallel_requests, sleep
from pynector.errors import ConfigurationError

LONG = 30.0


async def double(number: int) -> int:
    await sleep(0.001 * (number % 3))
    return number * 2


async def numbers(count: int):
    for number in range(count):
        await sleep(0)
        yield number


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_results_are_in_the_order_of_the_items(limit):
    assert await parallel_requests(double, range(20), max_concurrency=limit) == [2 * n for n in range(20)]


async def test_any_iterable_will_do():
    assert await parallel_requests(double, []) == []
    assert await parallel_requests(double, (n for n in range(3))) == [0, 2, 4]
    assert await parallel_requests(double, numbers(3)) == [0, 2, 4]
    assert await parallel_requests(double, {5: None}) == [10]


async def test_no_more_at_once_than_allowed():
    running = most = 0

    async def work(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await sleep(0.01)
        running -= 1

    await parallel_requests(work, range(12), 4)
    assert most == 4


async def test_calls_run_at_the_same_time():
    arrived = [Event(), Event()]

    async def meet(number: int) -> None:
        arrived[number].set()
        await arrived[1 - number].wait()

    with move_on_after(LONG) as scope:
        await parallel_requests(meet, [0, 1], 2)
    assert not scope.cancelled_caught


async def test_an_endless_input_is_read_no_further_than_needed():
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield number

    async def work(number: int) -> None:
        await sleep(0.001)
        if number == 20:
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        await parallel_requests(work, endless(), 4)
    assert len(read) <= 20 + 2 * 4 + 1


async def test_the_first_failure_cancels_the_others_and_comes_bare():
    cancelled = []
    ready = Event()

    async def work(number: int) -> None:
        if number == 2:
            await ready.wait()
            raise KeyError("two")
        if number == 1:
            ready.set()
        try:
            await sleep(LONG)
        except get_cancelled_exc_class():
            cancelled.append(number)
            raise

    with pytest.raises(KeyError, match="two") as caught:
        await parallel_requests(work, range(100), 3)
    assert sorted(cancelled) == [0, 1]
    assert caught.value.__cause__ is None


async def test_exceptions_as_results():
    async def work(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return await double(number)

    results = await parallel_requests(work, range(4), 2, return_exceptions=True)
    assert results[::2] == [0, 4]
    assert [repr(error) for error in results[1::2]] == ["ValueError(1)", "ValueError(3)"]


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_an_input_that_fails_ends_it(return_exceptions):
    def broken():
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        await parallel_requests(double, broken(), return_exceptions=return_exceptions)


async def test_a_deadline_around_it_ends_it():
    ended = []

    async def work(number: int) -> None:
        try:
            await sleep(LONG)
        finally:
            ended.append(number)

    with move_on_after(0.03) as scope:
        await parallel_requests(work, itertools.count(), 3)
    assert scope.cancelled_caught
    assert sorted(ended) == [0, 1, 2]


@pytest.mark.parametrize("ticks", range(25))
async def test_a_cancellation_at_any_moment_ends_all_calls(ticks):
    running = 0

    async def work(number: int) -> None:
        nonlocal running
        running += 1
        try:
            await sleep(0)
            await sleep(0)
        finally:
            running -= 1

    def ending(scope):
        for number in itertools.count():
            if number == ticks:
                scope.cancel()
            yield number

    with move_on_after(LONG) as scope:
        await parallel_requests(work, ending(scope), 1 + ticks % 3)
    assert scope.cancelled_caught
    assert running == 0


@pytest.mark.parametrize("limit", [0, -1, 1.5, "3", True, None])
async def test_bad_limits(limit):
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        await parallel_requests(double, [1], limit)


async def test_what_cannot_be_iterated_over():
    with pytest.raises(TypeError):
        await parallel_requests(double, 3)


async def test_nothing_is_left(no_leaks):
    await parallel_requests(double, range(5), 5)
