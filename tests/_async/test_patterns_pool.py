"""ConnectionPool: never too many, healthy ones only, first come first served, and nothing left behind."""

import builtins
import sys

import pytest

from pynector.concurrency import (
    ConnectionPool,
    Event,
    create_task_group,
    fail_after,
    get_cancelled_exc_class,
    move_on_after,
    sleep,
)
from pynector.errors import ClosedError, ConfigurationError, TimeoutError

LONG = 30.0


class Ledger:
    """Makes connections, and knows which of them are open."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.open: set[Connection] = set()
        self.most_open = 0

    async def connect(self) -> "Connection":
        await sleep(0)
        await sleep(0)
        connection = Connection(self, len(self.made))
        self.made.append(connection)
        self.open.add(connection)
        self.most_open = max(self.most_open, len(self.open))
        return connection


class Connection:
    def __init__(self, ledger: Ledger, number: int) -> None:
        self.ledger = ledger
        self.number = number
        self.well = True
        self.in_use = False

    async def aclose(self) -> None:
        await sleep(0)
        self.ledger.open.remove(self)


async def is_well(connection: Connection) -> bool:
    await sleep(0)
    return connection.well


async def until_waiting(pool: ConnectionPool, count: int) -> None:
    with fail_after(LONG):
        while pool.statistics().tasks_waiting < count:
            await sleep(0.001)


async def test_a_connection_is_made_once_and_lent_again():
    ledger = Ledger()
    async with ConnectionPool(ledger.connect, 2) as pool:
        async with pool.acquire() as first:
            pass
        async with pool.acquire() as second:
            assert second is first
            async with pool.acquire() as third:
                assert third is not first
        # What was used last is lent first.
        async with pool.acquire() as fourth:
            assert fourth is first
        assert len(ledger.open) == 2
    assert not ledger.open


async def test_the_number_holds_while_many_want_one():
    ledger = Ledger()
    most_in_use = 0
    served = []

    async def use(pool: ConnectionPool, number: int) -> None:
        nonlocal most_in_use
        async with pool.acquire() as connection:
            assert not connection.in_use
            connection.in_use = True
            most_in_use = max(most_in_use, pool.statistics().in_use)
            await sleep(0.001)
            connection.in_use = False
            served.append(number)

    async with ConnectionPool(ledger.connect, 3) as pool:
        async with create_task_group() as tg:
            for number in range(20):
                await tg.start_soon(use, pool, number)
        assert pool.statistics().in_use == 0
        assert pool.statistics().idle == len(ledger.open)
    assert sorted(served) == list(range(20))
    assert ledger.most_open <= 3
    assert most_in_use == 3
    assert not ledger.open


async def test_who_comes_first_is_served_first():
    order = []

    async def use(pool: ConnectionPool, number: int) -> None:
        async with pool.acquire():
            order.append(number)

    async with ConnectionPool(Ledger().connect, 1) as pool, create_task_group() as tg:
        async with pool.acquire():
            for number in range(4):
                await tg.start_soon(use, pool, number)
                await until_waiting(pool, number + 1)
            assert order == []
    assert order == [0, 1, 2, 3]


async def test_an_unwell_connection_is_closed_and_another_one_lent():
    ledger = Ledger()
    async with ConnectionPool(ledger.connect, 2, health_check=is_well) as pool:
        async with pool.acquire() as first, pool.acquire() as second:
            first.well = False
        async with pool.acquire() as third:
            assert third is second
            assert ledger.open == {second}
        second.well = False
        async with pool.acquire() as fourth:
            assert fourth not in (first, second)
            assert ledger.open == {fourth}
    assert ledger.most_open == 2


@pytest.mark.parametrize("verdict", [True, None, False, OSError("gone")])
async def test_what_a_health_check_may_say(verdict):
    async def check(connection: Connection) -> object:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    ledger = Ledger()
    async with ConnectionPool(ledger.connect, 1, health_check=check) as pool:
        for _ in range(3):
            async with pool.acquire():
                pass
    assert len(ledger.made) == (1 if verdict in (True, None) else 3)
    assert not ledger.open


async def test_a_plain_function_may_check_and_close():
    closed = []
    ledger = Ledger()
    pool = ConnectionPool(ledger.connect, 1, health_check=lambda each: each.well, close=closed.append)
    async with pool:
        async with pool.acquire() as first:
            first.well = False
        async with pool.acquire() as second:
            assert closed == [first]
    assert closed == [first, second]


async def test_an_old_connection_is_not_lent_again():
    ledger = Ledger()
    async with ConnectionPool(ledger.connect, 1, max_age=0.05) as pool:
        async with pool.acquire() as first:
            pass
        await sleep(0.06)
        async with pool.acquire() as second:
            assert second is not first
            assert ledger.open == {second}
            await sleep(0.06)
        assert not ledger.open  # its time was up when it came back
    assert ledger.most_open == 1


async def test_after_an_exception_or_a_cancellation_the_connection_is_closed():
    ledger = Ledger()
    async with ConnectionPool(ledger.connect, 1) as pool:
        with pytest.raises(ValueError, match="mine"):
            async with pool.acquire():
                raise ValueError("mine")
        assert not ledger.open
        with move_on_after(0.02) as scope:
            async with pool.acquire():
                await sleep(LONG)
        assert scope.cancelled_caught
        assert not ledger.open
        async with pool.acquire() as third:
            assert third.number == 2


async def test_waiting_ends_in_time():
    ledger = Ledger()
    async with ConnectionPool(ledger.connect, 1, timeout=0.02) as pool:
        async with pool.acquire() as only:
            with pytest.raises(TimeoutError, match=r"no connection was to be had within 0.02 s: .*1 in use") as caught:
                async with pool.acquire():
                    pytest.fail("there is only one")
            assert isinstance(caught.value, builtins.TimeoutError)
            with pytest.raises(TimeoutError, match=r"within 0.03 s"):
                async with pool.acquire(timeout=0.03):
                    pytest.fail("there is only one")
            assert pool.statistics().tasks_waiting == 0
        async with pool.acquire(timeout=None) as again:
            assert again is only


async def test_making_a_connection_counts_as_waiting():
    async def connect() -> None:
        await sleep(LONG)

    async with ConnectionPool(connect, 1, timeout=0.02) as pool:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with pool.acquire():
                    pytest.fail("it takes too long")
        assert pool.statistics().in_use == 0


async def test_the_time_of_the_body_does_not_count():
    async with ConnectionPool(Ledger().connect, 1, timeout=0.02) as pool:
        async with pool.acquire():
            await sleep(0.05)


async def test_a_factory_that_fails_takes_no_place():
    ledger = Ledger()
    down = True

    async def connect() -> Connection:
        if down:
            raise OSError("down")
        return await ledger.connect()

    async with ConnectionPool(connect, 1) as pool:
        for _ in range(3):
            with pytest.raises(OSError, match="down"):
                async with pool.acquire():
                    pytest.fail("it is down")
        down = False
        async with pool.acquire() as connection:
            assert connection.number == 0


async def test_closing_turns_everyone_away():
    ledger = Ledger()
    refused = []

    async def wait(pool: ConnectionPool) -> None:
        try:
            async with pool.acquire():
                pytest.fail("it is closed")
        except ClosedError as error:
            refused.append(str(error))

    pool = ConnectionPool(ledger.connect, 2)
    with fail_after(LONG):
        async with create_task_group() as tg:
            async with pool.acquire() as first:
                async with pool.acquire():
                    for number in range(3):
                        await tg.start_soon(wait, pool)
                        await until_waiting(pool, number + 1)
                    await pool.aclose()
                    while len(refused) < 3:
                        await sleep(0.001)
                # It came back to a closed pool.
                assert ledger.open == {first}
    assert not ledger.open
    assert refused == ["this ConnectionPool is closed"] * 3
    await pool.aclose()
    with pytest.raises(ClosedError):
        async with pool.acquire():
            pytest.fail("it is closed")
    with pytest.raises(ClosedError):
        async with pool:
            pytest.fail("it is closed")
    assert repr(pool) == "<ConnectionPool of 2: closed>"


async def fail_to_close(connection: Connection) -> None:
    await connection.aclose()
    raise OSError(f"number {connection.number}")


async def test_closing_tries_all_and_tells_what_failed():
    ledger = Ledger()
    pool = ConnectionPool(ledger.connect, 2, close=fail_to_close)
    with pytest.raises(ExceptionGroup, match="did not close") as caught:
        async with pool:
            async with pool.acquire(), pool.acquire():
                pass
    assert sorted(str(error) for error in caught.value.exceptions) == ["number 0", "number 1"]
    assert not ledger.open


async def test_the_error_of_the_body_comes_before_those_of_closing():
    ledger = Ledger()
    pool = ConnectionPool(ledger.connect, 2, close=fail_to_close)
    with pytest.raises(ValueError, match="mine"):
        async with pool:
            async with pool.acquire():
                async with pool.acquire():
                    pass
                raise ValueError("mine")
    assert not ledger.open


async def test_a_connection_that_does_not_close_is_given_up(monkeypatch):
    monkeypatch.setattr(sys.modules[ConnectionPool.__module__], "_CLOSING", 0.02)

    async def close(connection: Connection) -> None:
        await sleep(LONG)

    with pytest.raises(ExceptionGroup) as caught:
        async with ConnectionPool(Ledger().connect, 1, close=close) as pool:
            async with pool.acquire():
                pass
    assert str(caught.value.exceptions[0]) == "a Connection did not close within 0.02 s"


async def test_what_cannot_be_closed_needs_no_closing():
    async def connect() -> int:
        return 7

    async with ConnectionPool(connect) as pool:
        async with pool.acquire() as connection:
            assert connection == 7


async def test_a_loan_is_for_one_block():
    async with ConnectionPool(Ledger().connect) as pool:
        loan = pool.acquire()
        async with loan:
            pass
        with pytest.raises(RuntimeError, match="call acquire"):
            async with loan:
                pytest.fail("it was used")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"factory": None}, "argument `factory`: expected a function, got NoneType"),
        ({"max_connections": 0}, "argument `max_connections`: 0 is not accepted"),
        ({"max_connections": True}, "argument `max_connections`: True is not accepted"),
        ({"close": 3}, "argument `close`: expected a function, got int"),
        ({"health_check": "ping"}, "argument `health_check`: expected a function, got str"),
        ({"max_age": -1}, "argument `max_age`: -1 is not accepted"),
        ({"timeout": 0}, "argument `timeout`: 0 is not accepted"),
    ],
)
async def test_bad_arguments(arguments, text):
    with pytest.raises(ConfigurationError) as caught:
        ConnectionPool(**{"factory": Ledger().connect, **arguments})
    assert str(caught.value).startswith(text)


async def test_a_bad_timeout_of_a_loan():
    with pytest.raises(ConfigurationError, match="timeout"):
        ConnectionPool(Ledger().connect).acquire(timeout=-1)


@pytest.mark.parametrize("ticks", range(40))
async def test_a_cancellation_at_any_moment_leaks_nothing(ticks):
    ledger = Ledger()
    interrupted = []

    async def use(pool: ConnectionPool, number: int) -> None:
        try:
            while True:
                async with pool.acquire() as connection:
                    await sleep(0)
                    connection.well = number != 1
        except get_cancelled_exc_class():
            interrupted.append(number)
            raise

    pool = ConnectionPool(ledger.connect, 2, health_check=is_well)
    async with create_task_group() as tg:
        for number in range(4):
            await tg.start_soon(use, pool, number)
        for _ in range(ticks):
            await sleep(0)
        tg.cancel_scope.cancel()
    assert pool.statistics().in_use == 0
    assert pool.statistics().tasks_waiting == 0
    assert pool.statistics().idle == len(ledger.open)
    # All of it can be lent again.
    with fail_after(LONG):
        async with pool.acquire(), pool.acquire():
            assert len(ledger.open) == 2
    await pool.aclose()
    assert not ledger.open
    assert ledger.most_open <= 2


async def test_nothing_is_left(no_leaks):
    async with ConnectionPool(Ledger().connect, 2) as pool, create_task_group() as tg:

        async def use() -> None:
            async with pool.acquire():
                await sleep(0.001)

        done = Event()
        for _ in range(6):
            await tg.start_soon(use)
        done.set()
