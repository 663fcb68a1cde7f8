"""What is special to one colour of the public concurrency modules, or about both at once."""

import os
import subprocess
import sys
import threading
import time
from contextvars import ContextVar

import pytest

import pynector.concurrency
import pynector.concurrency.sync as blocking
from pynector import concurrency
from pynector.errors import ConfigurationError

LONG = 30.0


def test_both_modules_have_the_same_names():
    assert set(concurrency.__all__) - set(blocking.__all__) == {"run_sync_in_worker"}
    assert set(blocking.__all__) <= set(concurrency.__all__)
    assert all(getattr(blocking, name).__doc__ for name in blocking.__all__)
    assert all(getattr(concurrency, name) is not None for name in concurrency.__all__)
    assert dir(concurrency) == sorted(concurrency.__all__)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        concurrency.Nonsense  # noqa: B018


def test_only_what_is_asked_for_is_imported():
    code = (
        "import sys, pynector.concurrency\n"
        "assert 'anyio' not in sys.modules\n"
        "from pynector.concurrency import create_task_group\n"
        "print('anyio' in sys.modules, 'pynector._async' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True False\n"


def test_the_example_of_the_first_page_as_it_stands_there():
    code = """
import asyncio
from pynector.concurrency import create_task_group

async def task1():
    print("Task 1 started")
    await asyncio.sleep(0.1)
    print("Task 1 completed")

async def task2():
    print("Task 2 started")
    await asyncio.sleep(0.2)
    print("Task 2 completed")

async def main():
    async with create_task_group() as tg:
        await tg.start_soon(task1)
        await tg.start_soon(task2)
        print("All tasks started")

    print("All tasks completed")

asyncio.run(main())
"""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "All tasks started",
        "Task 1 started",
        "Task 2 started",
        "Task 1 completed",
        "Task 2 completed",
        "All tasks completed",
    ]


# --- the wrong colour ---------------------------------------------------------------------------------------


async def open_async() -> int:
    return 1


def open_plain(*args: object) -> int:
    return 1


def async_things():
    pool = concurrency.ConnectionPool(open_async)
    return [pool, pool.acquire(), concurrency.WorkerPool(1)]


def blocking_things():
    pool = blocking.ConnectionPool(open_plain)
    return [pool, pool.acquire(), blocking.WorkerPool(1)]


NAMES = ["ConnectionPool", "ConnectionPool.acquire", "WorkerPool"]


@pytest.mark.parametrize("index", range(3), ids=NAMES)
async def test_the_wrong_kind_of_with_names_the_right_one(index):
    name = NAMES[index]
    with pytest.raises(TypeError) as caught:
        with async_things()[index]:
            pass
    assert str(caught.value) == (
        f"pynector.concurrency.{name} is for async code: use `async with`, "
        f"or pynector.concurrency.sync.{name} in blocking code"
    )
    with pytest.raises(TypeError) as caught:
        async with blocking_things()[index]:
            pass
    assert str(caught.value) == (
        f"pynector.concurrency.sync.{name} is for blocking code: use `with`, "
        f"or pynector.concurrency.{name} in async code"
    )


def test_names_shown_have_no_colour():
    assert repr(blocking.ConnectionPool(open_plain, 3)) == "<ConnectionPool of 3: 0 in use, 0 idle, 0 waiting>"
    assert repr(concurrency.ConnectionPool(open_async, 3)) == "<ConnectionPool of 3: 0 in use, 0 idle, 0 waiting>"
    assert repr(concurrency.WorkerPool(3)) == repr(blocking.WorkerPool(3)) == "<WorkerPool of 3: not started>"


async def test_async_patterns_refuse_plain_functions():
    refusal = r"open_plain is a plain function, .*run_sync_in_worker"
    with pytest.raises(ConfigurationError, match=refusal):
        async with concurrency.ConnectionPool(open_plain).acquire():
            pass
    with pytest.raises(ConfigurationError, match=refusal):
        await concurrency.parallel_requests(open_plain, [1])
    with pytest.raises(ConfigurationError, match=refusal):
        await concurrency.retry_with_timeout(open_plain, retry_on=Exception)
    with pytest.raises(ExceptionGroup) as caught:
        async with concurrency.WorkerPool(1) as workers:
            await workers.submit(open_plain)
    assert isinstance(caught.value.exceptions[0], ConfigurationError)


async def asynchronous(*args: object) -> bool:
    return True


def test_blocking_patterns_refuse_async_functions():
    refusal = "asynchronous is an async function, and blocking code runs plain ones"
    with pytest.raises(ConfigurationError, match=refusal):
        with blocking.ConnectionPool(asynchronous).acquire():
            pass
    with pytest.raises(ConfigurationError, match=refusal):
        blocking.parallel_requests(asynchronous, [1])
    with pytest.raises(ConfigurationError, match=refusal):
        blocking.retry_with_timeout(asynchronous, retry_on=Exception)
    with pytest.raises(ExceptionGroup) as caught:
        with blocking.WorkerPool(1) as workers:
            workers.submit(asynchronous)
    assert isinstance(caught.value.exceptions[0], ConfigurationError)


def test_blocking_pools_refuse_async_callbacks():
    refusal = "asynchronous is an async function"
    with blocking.ConnectionPool(open_plain, 1, health_check=asynchronous) as pool:
        with pool.acquire():
            pass
        with pytest.raises(ConfigurationError, match=refusal), pool.acquire():
            pass
        assert pool.statistics().in_use == 0
    pool = blocking.ConnectionPool(open_plain, 1, close=asynchronous)
    with pytest.raises(ConfigurationError, match=refusal), pool.acquire():
        raise ValueError
    assert pool.statistics().in_use == 0

    class AsyncOnly:
        async def aclose(self) -> None: ...

    pool = blocking.ConnectionPool(AsyncOnly, 1)
    with pytest.raises(ExceptionGroup) as caught, pool, pool.acquire():
        pass
    assert "AsyncOnly can be closed in async code only: give `close=`" in str(caught.value.exceptions)


async def test_async_pools_close_with_what_there_is():
    closed = []

    class Plain:
        def close(self) -> None:
            closed.append("close")

    class Both(Plain):
        async def aclose(self) -> None:
            closed.append("aclose")

    for kind in (Plain, Both):

        async def make(kind=kind) -> Plain:
            return kind()

        async with concurrency.ConnectionPool(make) as pool, pool.acquire():
            pass
    assert closed == ["close", "aclose"]


# --- a pool and fork ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_makes_its_own_connections():
    code = """
import os
from pynector.concurrency.sync import ConnectionPool
closed = []
made = []
def connect():
    made.append(len(made))
    return made[-1]
pool = ConnectionPool(connect, 2, close=closed.append)
with pool.acquire() as held:
    with pool.acquire() as idle:
        pass
    child = os.fork()
    if not child:
        pass
if not child:
    # What was lent before belongs to the parent, as the idle one does.
    assert (pool.statistics().in_use, pool.statistics().idle) == (0, 0), pool
    with pool.acquire() as a, pool.acquire(timeout=10) as b:
        assert (a, b) == (2, 3)
    pool.close()
    assert sorted(closed) == [2, 3], closed
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert pool.statistics().idle == 2
pool.close()
assert sorted(closed) == [0, 1]
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


# --- blocking code called from async code -------------------------------------------------------------------

variable: ContextVar[str] = ContextVar("variable")


async def test_a_blocking_function_runs_in_another_thread():
    variable.set("ours")

    def work(number: int) -> tuple[int, str, bool]:
        seen = variable.get()
        variable.set("theirs")
        return number, seen, threading.current_thread() is threading.main_thread()

    assert await concurrency.run_sync_in_worker(work, 7) == (7, "ours", False)
    assert variable.get() == "ours"


async def test_what_it_raises_comes_bare():
    with pytest.raises(ValueError, match="mine"):
        await concurrency.run_sync_in_worker(fail)
    with pytest.raises(SystemExit):
        await concurrency.run_sync_in_worker(sys.exit, 3)


def fail() -> None:
    raise ValueError("mine")


async def test_a_limiter_bounds_it():
    limiter = concurrency.CapacityLimiter(2)
    running = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    async def call() -> None:
        await concurrency.run_sync_in_worker(work, limiter=limiter)

    async with concurrency.create_task_group() as tg:
        for _ in range(6):
            await tg.start_soon(call)
    assert most == 2


async def test_a_cancellation_reaches_blocking_code_of_ours():
    ended = []

    def work() -> None:
        try:
            blocking.sleep(LONG)
        finally:
            ended.append(True)

    with concurrency.move_on_after(0.05) as scope:
        await concurrency.run_sync_in_worker(work)
        pytest.fail("it was cancelled")
    assert scope.cancelled_caught
    assert ended == [True]


async def test_a_function_that_hears_nothing_is_waited_for():
    gate = threading.Event()
    results = []
    with concurrency.move_on_after(0.03) as scope:
        threading.Timer(0.1, gate.set).start()
        results.append(await concurrency.run_sync_in_worker(gate.wait, LONG))
        await concurrency.checkpoint()
    assert scope.cancelled_caught
    assert results == [True]


async def test_a_function_can_be_abandoned():
    gate = threading.Event()
    ended = threading.Event()

    def work() -> None:
        gate.wait(LONG)
        ended.set()

    with concurrency.move_on_after(0.03) as scope:
        await concurrency.run_sync_in_worker(work, abandon_on_cancel=True)
    assert scope.cancelled_caught
    assert not ended.is_set()
    gate.set()
    assert await concurrency.run_sync_in_worker(ended.wait, LONG)


async def test_an_async_function_needs_no_thread():
    with pytest.raises(TypeError, match="asynchronous is an async function: await it"):
        await concurrency.run_sync_in_worker(asynchronous)


def test_run_and_its_twin():
    assert concurrency.run(asynchronous) is True
    assert blocking.run(open_plain) == 1
    assert pynector.concurrency.run(asynchronous, backend="trio") is True


@pytest.mark.parametrize("critical", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_a_job_leaves_a_worker_pool_bare(critical):
    def job() -> None:
        raise critical

    with pytest.raises(critical):
        with blocking.WorkerPool(2) as workers:
            workers.submit(job)
            blocking.sleep(LONG)
    with pytest.raises(critical):
        with blocking.WorkerPool(2) as workers:
            workers.submit(job)

    async def async_job() -> None:
        raise critical

    async def main() -> None:
        async with concurrency.WorkerPool(2) as pool:
            await pool.submit(async_job)
            await concurrency.sleep(LONG)

    # On asyncio an interrupt ends the whole loop before any group sees it.
    with pytest.raises(critical):
        concurrency.run(main, backend="trio")
