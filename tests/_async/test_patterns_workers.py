"""WorkerPool: a bounded queue, everything accepted is done, and no error is lost."""

import pytest

from pynector.concurrency import (
    CancelScope,
    Event,
    WorkerPool,
    create_task_group,
    current_effective_deadline,
    current_time,
    fail_after,
    get_cancelled_exc_class,
    move_on_after,
    sleep,
)
from pynector.errors import ClosedError, ConfigurationError

LONG = 30.0


class Jobs:
    """Jobs that tell what became of them."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.cancelled: list[int] = []
        self.running = 0
        self.most = 0
        self.gate = Event()

    async def quick(self, number: int) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await sleep(0.002)
        self.running -= 1
        self.done.append(number)

    async def gated(self, number: int) -> None:
        self.running += 1
        try:
            await self.gate.wait()
        except get_cancelled_exc_class():
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1
        self.done.append(number)

    async def until_running(self, count: int) -> None:
        with fail_after(LONG):
            while self.running < count:
                await sleep(0.001)


async def fail(number: int) -> None:
    await sleep(0)
    raise ValueError(number)


async def test_everything_accepted_is_done_by_so_many_at_once():
    jobs = Jobs()
    async with WorkerPool(3, 5) as pool:
        for number in range(30):
            await pool.submit(jobs.quick, number)
    assert sorted(jobs.done) == list(range(30))
    assert jobs.most == 3


async def test_start_returns_and_stop_drains():
    jobs = Jobs()
    pool = WorkerPool(num_workers=2, queue_size=10)
    assert repr(pool) == "<WorkerPool of 2: not started>"
    with fail_after(LONG):
        await pool.start()
        for number in range(8):
            await pool.submit(jobs.gated, number)
        await jobs.until_running(2)
        assert repr(pool) == "<WorkerPool of 2: 6 jobs waiting>"
        jobs.gate.set()
        await pool.stop()
    assert sorted(jobs.done) == list(range(8))
    assert repr(pool) == "<WorkerPool of 2: stopped>"
    await pool.stop()


async def test_a_full_queue_holds_the_producer_back():
    jobs = Jobs()
    async with WorkerPool(2, 3) as pool:
        for number in range(2):
            await pool.submit(jobs.gated, number)
        await jobs.until_running(2)
        for number in range(2, 5):
            await pool.submit(jobs.gated, number)
        with move_on_after(0.03) as scope:
            await pool.submit(jobs.gated, 5)
        assert scope.cancelled_caught
        jobs.gate.set()
        await pool.submit(jobs.gated, 6)
    assert sorted(jobs.done) == [0, 1, 2, 3, 4, 6]


async def test_without_a_queue_jobs_go_to_free_workers_only():
    jobs = Jobs()
    async with WorkerPool(1, 0) as pool:
        await pool.submit(jobs.gated, 0)
        with move_on_after(0.03) as scope:
            await pool.submit(jobs.gated, 1)
        assert scope.cancelled_caught
        jobs.gate.set()
        await pool.submit(jobs.quick, 2)
    assert jobs.done == [0, 2]


async def test_errors_are_kept_and_raised_together(capfd):
    jobs = Jobs()
    with pytest.raises(ExceptionGroup, match="jobs of a WorkerPool failed") as caught:
        async with WorkerPool(2) as pool:
            for number in range(6):
                await pool.submit(fail if number % 2 else jobs.quick, number)
    assert sorted(error.args[0] for error in caught.value.exceptions) == [1, 3, 5]
    assert all(type(error) is ValueError and error.__traceback__ for error in caught.value.exceptions)
    # The workers went on.
    assert sorted(jobs.done) == [0, 2, 4]
    assert capfd.readouterr() == ("", "")


async def test_errors_go_to_on_error():
    errors = []
    async with WorkerPool(2, on_error=errors.append) as pool:
        for number in range(4):
            await pool.submit(fail, number)
    assert sorted(error.args[0] for error in errors) == [0, 1, 2, 3]


async def test_on_error_may_take_its_time():
    errors = []

    async def note(error: Exception) -> None:
        await sleep(0)
        errors.append(error)

    async with WorkerPool(2, on_error=note) as pool:
        await pool.submit(fail, 1)
    assert [error.args for error in errors] == [(1,)]


async def test_what_on_error_raises_is_kept():
    def refuse(error: Exception) -> None:
        raise KeyError(*error.args)

    with pytest.raises(ExceptionGroup) as caught:
        async with WorkerPool(1, on_error=refuse) as pool:
            await pool.submit(fail, 1)
    assert [repr(error) for error in caught.value.exceptions] == ["KeyError(1)"]
    assert isinstance(caught.value.exceptions[0].__context__, ValueError)


async def test_an_error_of_the_body_cancels_the_jobs_and_comes_bare():
    jobs = Jobs()
    with pytest.raises(KeyError, match="mine"):
        async with WorkerPool(2) as pool:
            for number in range(5):
                await pool.submit(jobs.gated, number)
            await jobs.until_running(2)
            raise KeyError("mine")
    assert sorted(jobs.cancelled) == [0, 1]
    assert not jobs.done
    with pytest.raises(ClosedError):
        await pool.submit(jobs.gated, 6)


async def test_an_error_of_the_body_does_not_hide_those_of_jobs():
    done = Event()
    with pytest.raises(ExceptionGroup, match="and so did jobs") as caught:
        async with WorkerPool(1) as pool:
            await pool.submit(fail, 1)
            await pool.submit(set_event, done)
            await done.wait()
            raise KeyError("mine")
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError]


async def set_event(event: Event) -> None:
    event.set()


async def test_a_cancelled_body_cancels_the_jobs():
    jobs = Jobs()
    with move_on_after(LONG) as scope:
        async with WorkerPool(2) as pool:
            for number in range(3):
                await pool.submit(jobs.gated, number)
            await jobs.until_running(2)
            scope.cancel()
            await sleep(LONG)
    assert scope.cancelled_caught
    assert sorted(jobs.cancelled) == [0, 1]


async def test_a_deadline_reaches_the_jobs_and_the_draining():
    jobs = Jobs()
    deadlines = []

    async def look() -> None:
        deadlines.append(current_effective_deadline() - current_time())

    with move_on_after(0.05) as scope:
        async with WorkerPool(2) as pool:
            await pool.submit(look)
            await pool.submit(jobs.gated, 0)
    assert scope.cancelled_caught
    assert jobs.cancelled == [0]
    assert deadlines
    assert deadlines[0] <= 0.05


async def test_who_waits_for_room_when_the_pool_is_stopped_gets_through():
    jobs = Jobs()
    async with create_task_group() as tg:
        async with WorkerPool(1, 1) as pool:
            await pool.submit(jobs.gated, 0)
            await jobs.until_running(1)
            await pool.submit(jobs.gated, 1)

            async def release() -> None:
                await sleep(0.03)
                jobs.gate.set()

            await tg.start_soon(pool.submit, jobs.gated, 2)
            await sleep(0.02)
            await tg.start_soon(release)
    assert jobs.done == [0, 1, 2]


async def test_started_in_a_group_and_stopped_elsewhere():
    jobs = Jobs()
    pool = WorkerPool(2)

    async def produce_and_stop() -> None:
        for number in range(5):
            await pool.submit(jobs.quick, number)
        await pool.stop()
        jobs.gate.set()

    async with create_task_group() as tg:
        with CancelScope():
            await pool.start(tg)
        await tg.start_soon(produce_and_stop)
        await jobs.gate.wait()
        assert sorted(jobs.done) == list(range(5))


async def test_errors_do_not_end_the_group_it_was_started_in():
    pool = WorkerPool(2)
    async with create_task_group() as tg:
        await pool.start(tg)
        await pool.submit(fail, 1)
        with pytest.raises(ExceptionGroup):
            await pool.stop()


async def test_with_its_group_the_pool_ends():
    jobs = Jobs()
    pool = WorkerPool(2, 1)
    refused = []

    async def wait_for_room() -> None:
        with CancelScope(shield=True):
            try:
                await pool.submit(jobs.gated, 9)
            except ClosedError:
                refused.append(True)

    with fail_after(LONG):
        async with create_task_group() as others, create_task_group() as tg:
            await pool.start(tg)
            for number in range(3):
                await pool.submit(jobs.gated, number)
            await jobs.until_running(2)
            await others.start_soon(wait_for_room)
            await sleep(0.02)
            tg.cancel_scope.cancel()
    assert sorted(jobs.cancelled) == [0, 1]
    assert refused == [True]
    with pytest.raises(ClosedError):
        await pool.submit(jobs.gated, 4)
    await pool.stop()


async def test_a_stop_that_is_cancelled_cancels_the_jobs():
    jobs = Jobs()
    pool = WorkerPool(1)
    async with create_task_group() as tg:
        await pool.start(tg)
        await pool.submit(jobs.gated, 0)
        await jobs.until_running(1)
        with move_on_after(0.02) as scope:
            await pool.stop()
        assert scope.cancelled_caught
    assert jobs.cancelled == [0]


async def test_started_in_a_group_that_has_ended():
    async with create_task_group() as tg:
        pass
    pool = WorkerPool(3)
    with pytest.raises(RuntimeError, match="not active"):
        await pool.start(tg)
    with pytest.raises(ClosedError):
        await pool.submit(fail, 1)
    await pool.stop()


async def test_bad_use():
    pool = WorkerPool(1)
    await pool.stop()
    with pytest.raises(ClosedError, match="not running"):
        await pool.submit(fail, 1)
    async with pool:
        with pytest.raises(RuntimeError, match="started before"):
            await pool.start()
        with pytest.raises(ConfigurationError, match="expected a function, got str"):
            await pool.submit("fail")
    with pytest.raises(ClosedError, match="was stopped"):
        await pool.submit(fail, 1)
    with pytest.raises(RuntimeError, match="started before"):
        async with pool:
            pytest.fail("it was used")


async def test_only_its_own_task_stops_it():
    errors = []
    refused = []

    async def stop() -> None:
        try:
            await pool.stop()
        except RuntimeError as error:
            refused.append(str(error))

    async with WorkerPool(1, on_error=errors.append) as pool:
        await pool.submit(pool.stop)
        async with create_task_group() as tg:
            await tg.start_soon(stop)
    assert "a job cannot stop" in str(errors[0])
    assert "in the task that started it" in refused[0]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_workers": 0}, "num_workers"),
        ({"num_workers": 1.5}, "num_workers"),
        ({"num_workers": 1, "queue_size": -1}, "queue_size"),
        ({"num_workers": 1, "queue_size": False}, "queue_size"),
        ({"num_workers": 1, "queue_size": 0.0}, "queue_size"),
        ({"num_workers": 1, "on_error": "print"}, "on_error"),
    ],
    ids=repr,
)
async def test_bad_arguments(arguments, name):
    with pytest.raises(ConfigurationError, match=f"argument `{name}`"):
        WorkerPool(**arguments)


@pytest.mark.parametrize("ticks", range(25))
async def test_a_cancellation_at_any_moment_leaves_no_job(ticks):
    running = 0

    async def job() -> None:
        nonlocal running
        running += 1
        try:
            await sleep(0)
            await sleep(0)
        finally:
            running -= 1

    async def produce() -> None:
        async with WorkerPool(2, ticks % 3) as pool:
            while True:
                await pool.submit(job)

    async with create_task_group() as tg:
        await tg.start_soon(produce)
        for _ in range(ticks):
            await sleep(0)
        tg.cancel_scope.cancel()
    assert running == 0


async def test_nothing_is_left(no_leaks):
    jobs = Jobs()
    async with WorkerPool(4) as pool:
        await pool.submit(jobs.quick, 1)
