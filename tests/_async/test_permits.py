"""Permits for requests on the wire: of an engine, and of a host."""

import pytest

from pynector._async.engines.permits import AsyncPermits
from pynector._http.url import Origin
from pynector.concurrency import create_task_group, fail_after, move_on_after, sleep
from pynector.errors import ConnectionTimeoutError

LONG = 20.0


def origin(number: int) -> Origin:
    return Origin(b"http", b"host-%d.test" % number, 80)


async def use(permits: AsyncPermits, number: int, seconds: float) -> None:
    await permits.acquire(origin(number))
    try:
        await sleep(seconds)
    finally:
        permits.release(origin(number))


async def test_who_waits_behind_one_that_waits_for_other_hosts_is_patient() -> None:
    permits = AsyncPermits(2, 1, 0.6)
    async with create_task_group() as tasks:
        for number in range(10):
            await tasks.start_soon(use, permits, number, 0.2)
        await sleep(0.01)
        # The first of them has its turn after a second, the second one even later: permits come back all the time.
        await tasks.start_soon(use, permits, 99, 0.2)
        await sleep(0.01)
        await tasks.start_soon(use, permits, 99, 0.0)
    assert not permits._hosts


async def test_permits_of_other_hosts_that_come_back_are_no_comfort() -> None:
    permits = AsyncPermits(3, 1, 0.2)
    await permits.acquire(origin(0))
    async with create_task_group() as tasks:
        for number in range(1, 20):
            await tasks.start_soon(use, permits, number, 0.05)
        with fail_after(LONG), pytest.raises(ConnectionTimeoutError, match=r"all 1 connections to host-0\.test"):
            await permits.acquire(origin(0))
        tasks.cancel_scope.cancel()
    permits.release(origin(0))
    assert not permits._hosts


async def test_no_permit_is_lost_whenever_its_owner_gives_up() -> None:
    permits = AsyncPermits(2, 1, None)
    async with create_task_group() as tasks:
        for number in range(60):
            await tasks.start_soon(give_up_soon, permits, number % 3, 0.001 * (number % 7))
    # All of them are back, those of the hosts too.
    assert not permits._hosts
    with fail_after(LONG):
        await permits.acquire(origin(0))
        await permits.acquire(origin(1))
    with move_on_after(0.02) as scope:
        await permits.acquire(origin(2))
    assert scope.cancelled_caught
    permits.release(origin(0))
    permits.release(origin(1))
    assert not permits._hosts


async def give_up_soon(permits: AsyncPermits, number: int, seconds: float) -> None:
    with move_on_after(seconds):
        await use(permits, number, 0.002)
