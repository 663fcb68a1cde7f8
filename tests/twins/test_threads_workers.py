"""Worker threads: reused, gone after idling, forgotten in a forked child; and what a task leaves behind."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from contextlib import contextmanager

import pytest

from pynector._concurrency.threads import _parking, _workers
from pynector._concurrency.threads.clock import sleep
from pynector._concurrency.threads.locks import CapacityLimiter, Event, Lock, Semaphore
from pynector._concurrency.threads.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.threads.streams import ClosedResourceError, WouldBlock, create_memory_object_stream
from pynector._concurrency.threads.tasks import create_task_group, current_task

LONG = 30.0


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("pynector-worker-")}


def wait_until_idle() -> None:
    with fail_after(LONG):
        while len(_workers.pool.idle) != len(workers()):
            sleep(0.002)


def test_workers_are_named_daemons():
    seen = []
    with create_task_group() as tg:
        tg.start_soon(lambda: seen.append(threading.current_thread()))
    assert seen[0].daemon
    assert seen[0].name.startswith("pynector-worker-")


def test_workers_are_reused_between_groups():
    wait_until_idle()
    seen = set()
    for _ in range(200):
        with create_task_group() as tg:
            tg.start_soon(lambda: seen.add(threading.get_ident()))
    assert len(seen) <= 2 + len(workers())
    before = workers()
    for _ in range(50):
        with create_task_group() as tg:
            tg.start_soon(sleep, 0)
    assert not workers() - before


def test_no_more_workers_than_tasks_at_once():
    wait_until_idle()
    before = len(workers())
    for _ in range(20):
        with create_task_group() as tg:
            for _ in range(10):
                tg.start_soon(sleep, 0.001)
    assert len(workers()) <= max(before, 10)


def test_idle_workers_leave(monkeypatch):
    wait_until_idle()
    monkeypatch.setattr(_workers, "IDLE_SECONDS", 0.05)
    with create_task_group() as tg:
        for _ in range(10):
            tg.start_soon(sleep, 0.01)
    with fail_after(LONG):
        while workers():
            sleep(0.01)
    assert not _workers.pool.idle
    # And they come back.
    done = []
    with create_task_group() as tg:
        tg.start_soon(done.append, 1)
    assert done == [1]


def test_jobs_that_arrive_while_workers_leave_are_run(monkeypatch):
    monkeypatch.setattr(_workers, "IDLE_SECONDS", 0.001)
    done = []
    for round_number in range(150):
        with fail_after(LONG), create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(done.append, 1)
        time.sleep(0.0005 * (round_number % 4))
    assert len(done) == 450


def test_deeply_nested_groups_do_not_starve_each_other():
    reached = []

    def dive(depth: int) -> None:
        if depth:
            with create_task_group() as tg:
                tg.start_soon(dive, depth - 1)
        else:
            reached.append(True)

    with fail_after(LONG):
        dive(60)
    assert reached == [True]


def test_every_task_really_starts():
    barrier = threading.Barrier(40)
    with create_task_group() as tg:
        for _ in range(40):
            tg.start_soon(barrier.wait, LONG)


class Box:
    """Something that can be watched by a weak reference."""


def test_nothing_of_a_finished_task_lives_on():
    box = Box()
    watch = weakref.ref(box)

    def work(box: Box) -> Box:
        return box

    with create_task_group() as tg:
        tg.start_soon(work, box)
    del box
    wait_until_idle()
    assert watch() is None


def test_a_failed_task_leaves_no_cycle():
    gc.collect()
    gc.disable()
    try:
        box = Box()
        watch = weakref.ref(box)

        def work(box: Box) -> None:
            raise ValueError

        with pytest.raises(ExceptionGroup), create_task_group() as tg:
            tg.start_soon(work, box)
        del box, tg
        wait_until_idle()
        assert watch() is None
    finally:
        gc.enable()


def test_without_threads_left_the_group_says_so_and_ends(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_workers, "pool", _workers.pool)
    monkeypatch.setattr(_workers.pool, "idle", type(_workers.pool.idle)())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with fail_after(LONG), pytest.raises(ExceptionGroup) as caught, create_task_group() as tg:
        tg.start_soon(sleep, 0)
    assert "can't start new thread" in str(caught.value.exceptions[0])


def test_a_thread_that_is_not_ours_is_a_task_for_its_life():
    seen = []

    def thread() -> None:
        first = current_task()
        with move_on_after(0.01):
            sleep(LONG)
        seen.append((first, current_task()))

    threads = [threading.Thread(target=thread) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    (a, b), (c, d) = seen
    assert a is b
    assert c is d
    assert a is not c
    assert a is not current_task()


def test_cancelling_from_a_thread_outside():
    with create_task_group() as tg:
        tg.start_soon(sleep, LONG)
        timer = threading.Timer(0.05, tg.cancel_scope.cancel)
        timer.start()
        sleep(LONG)
    timer.join()
    assert tg.cancel_scope.cancelled_caught


def test_a_closing_group_takes_a_task_in_or_turns_it_away():
    """From a thread that does not belong to the group, at any moment."""
    taken = refused = 0
    for number in range(300):
        ran = []
        tg = create_task_group()
        go = threading.Event()
        outcome = []

        def intrude(tg=tg, go=go, ran=ran, outcome=outcome, number=number) -> None:
            go.wait()
            for _ in range(number % 60):
                pass
            try:
                tg.start_soon(ran.append, 1)
            except RuntimeError:
                outcome.append(False)
            else:
                outcome.append(True)

        thread = threading.Thread(target=intrude)
        thread.start()
        with tg:
            tg.start_soon(sleep, 0)
            go.set()
        ran_by_then = len(ran)
        thread.join()
        assert len(ran) == ran_by_then == outcome[0]
        taken += outcome[0]
        refused += not outcome[0]
    assert taken + refused == 300


# --- fork -------------------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@contextmanager
def quiet_fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns about fork in a threaded process
        yield


def in_child(work) -> int:
    with quiet_fork():
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(20)
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
def test_a_child_forked_beside_idle_workers_has_its_own():
    with create_task_group() as tg:
        for _ in range(5):
            tg.start_soon(sleep, 0.01)
    wait_until_idle()
    assert workers()

    def work() -> bool:
        done = []
        with fail_after(10), create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(done.append, 1)
        return len(done) == 5 and len(workers()) <= 5

    assert in_child(work) == 0
    # The parent's workers are still good.
    done = []
    with fail_after(LONG), create_task_group() as tg:
        tg.start_soon(done.append, 1)
    assert done == [1]


@needs_fork
def test_a_child_does_not_wait_for_tasks_of_its_parent():
    code = """
import os, signal, sys, warnings
warnings.simplefilter("ignore")
from pynector._concurrency.threads.clock import sleep
from pynector._concurrency.threads.tasks import create_task_group
with create_task_group() as tg:
    tg.start_soon(sleep, 100)
    sleep(0.1)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            tg.start_soon(sleep, 0)
        except RuntimeError:
            print("refused", flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        tg.cancel_scope.cancel()
if pid == 0:
    with create_task_group() as own:
        own.start_soon(sleep, 0.01)
    print("child", flush=True)
    os._exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["refused", "child", "7"], done.stderr


# --- finalisers -------------------------------------------------------------------------------------------


class Finaliser:
    """Does something when the garbage collector finds it: a cycle with a `__del__`."""

    def __init__(self, act) -> None:
        self.act = act
        self.cycle = self

    def __del__(self) -> None:
        self.act()


def test_locks_are_safe_under_finalisers():
    """The collector runs whenever it likes: also in the middle of the primitive that the finaliser uses."""
    lock, semaphore, limiter = Lock(), Semaphore(0), CapacityLimiter(100)
    send, receive = create_memory_object_stream[int](10_000)
    calls = []
    taken = {semaphore: 0, receive: 0}

    def act() -> None:
        semaphore.release()
        send.send_nowait(1)
        limiter.acquire_on_behalf_of_nowait(len(calls))
        limiter.release_on_behalf_of(len(calls))
        CancelScope().cancel()
        Event().set()
        calls.append(1)

    def take() -> None:
        for primitive, operation in ((semaphore, semaphore.acquire_nowait), (receive, receive.receive_nowait)):
            try:
                operation()
            except WouldBlock:
                continue
            taken[primitive] += 1

    def work() -> None:
        for _ in range(500):
            Finaliser(act)
            take()
            with lock:
                limiter.acquire()
                limiter.release()
            with move_on_after(0):
                receive.receive()

    old = gc.get_threshold()
    gc.set_threshold(5, 1000, 1000)
    try:
        with fail_after(LONG):
            work()
    finally:
        gc.set_threshold(*old)
    gc.collect()
    assert len(calls) == 500
    while semaphore.value or send.statistics().current_buffer_used:
        take()
    assert taken == {semaphore: 500, receive: 500}
    assert limiter.borrowed_tokens == 0
    send.close()
    receive.close()


# --- odds and ends ----------------------------------------------------------------------------------------


def test_scopes_left_in_the_wrong_order_are_reported():
    outer, inner = CancelScope(), CancelScope()
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="still open"):
        outer.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="closed with the scope around it"):
        inner.__exit__(None, None, None)
    assert _parking.current().scope is None


def test_an_interrupt_repairs_the_order_of_scopes():
    with pytest.raises(KeyboardInterrupt):
        with CancelScope():
            CancelScope(deadline=0).__enter__()
            raise KeyboardInterrupt
    sleep(0.001)
    assert _parking.current().scope is None


def test_a_scope_is_left_in_the_task_that_entered_it():
    scope = CancelScope()
    scope.__enter__()
    with pytest.raises(ExceptionGroup) as caught, create_task_group() as tg:
        tg.start_soon(scope.__exit__, None, None, None)
    assert "in the task that entered it" in str(caught.value.exceptions[0])
    # The group above was opened inside the scope, and both are closed now.
    scope.__exit__(None, None, None)
    assert _parking.current().scope is None


def test_the_main_thread_of_windows_looks_up_now_and_then(monkeypatch):
    monkeypatch.setattr(_parking, "_SLICE", 0.01)
    seen = []

    def thread() -> None:
        monkeypatch.setattr(threading, "main_thread", threading.current_thread)
        task = _parking.current()
        started = time.monotonic()
        task.hold(LONG)
        task.hold(float("inf"))
        seen.append((type(task).__name__, time.monotonic() - started))
        with move_on_after(0.05) as scope:
            sleep(LONG)
        seen.append(scope.cancelled_caught)

    other = threading.Thread(target=thread)
    other.start()
    other.join()
    (name, seconds), caught = seen
    assert name == "_SlicedTask"
    assert seconds < LONG / 2
    assert caught


def test_closing_an_end_wakes_those_who_wait_on_it():
    send, receive = create_memory_object_stream[int](0)
    other_receive, other_send = receive.clone(), send.clone()
    seen = []

    def take() -> None:
        with pytest.raises(ClosedResourceError):
            receive.receive()
        seen.append("receive")

    def give() -> None:
        with pytest.raises(ClosedResourceError):
            send.send(1)
        seen.append("send")

    with create_task_group() as tg:
        tg.start_soon(take)
        while not send.statistics().tasks_waiting_receive:
            sleep(0.001)
        receive.close()
    with create_task_group() as tg:
        tg.start_soon(give)
        while not send.statistics().tasks_waiting_send:
            sleep(0.001)
        send.close()
    assert seen == ["receive", "send"]
    # The clones go on.
    with other_receive, other_send, create_task_group() as tg:
        tg.start_soon(other_send.send, 1)
        assert other_receive.receive() == 1


def test_an_unclosed_stream_warns():
    with pytest.warns(ResourceWarning, match="Unclosed <MemoryObjectSendStream"):
        create_memory_object_stream[int](0)[1].close()


def test_very_long_waits_are_no_overflow():
    with move_on_after(1e18) as scope:
        event = Event()
        with create_task_group() as tg:
            tg.start_soon(event.wait)
            event.set()
        assert scope.deadline > 1e17
    with move_on_after(0.02):
        sleep(1e18)
    with pytest.raises(ValueError, match="NaN"):
        sleep(float("nan"))
