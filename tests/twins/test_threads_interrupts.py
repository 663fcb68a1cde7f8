"""Ctrl-C, `KeyboardInterrupt` and `SystemExit` with threads at work."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from pynector._concurrency.threads.clock import sleep
from pynector._concurrency.threads.locks import Event
from pynector._concurrency.threads.scopes import CancelScope
from pynector._concurrency.threads.tasks import create_task_group, run

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

HEADER = """
import socket, sys, threading, time
import httpcore
from pynector._concurrency.threads.clock import *
from pynector._concurrency.threads.locks import *
from pynector._concurrency.threads.scopes import *
from pynector._concurrency.threads.sockets import network_backend
from pynector._concurrency.threads.streams import *
from pynector._concurrency.threads.tasks import *

def ready():
    print("ready", flush=True)
"""


def interrupted(body: str, *, signals: int = 1, seconds: float = 10.0) -> tuple[int, str, str]:
    """Run a script, send Ctrl-C once it says that it is ready; the timeout is the bound."""
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", HEADER + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", line + process.stderr.read()
        for _ in range(signals):
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


WAITS = {
    "lock": "lock = Lock(); lock.acquire()\nwork = lock.acquire",
    "semaphore": "work = Semaphore(0).acquire",
    "limiter": "limiter = CapacityLimiter(1); limiter.acquire()\nwork = limiter.acquire",
    "event": "work = Event().wait",
    "condition": """
condition = Condition()
def work():
    with condition:
        condition.wait()
""",
    "receive": "send, receive = create_memory_object_stream(0)\nwork = receive.receive",
    "send": "send, receive = create_memory_object_stream(0)\ndef work(): send.send(1)",
    "sleep": "def work(): sleep(100)",
    "socket": """
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
def work():
    stream = network_backend(httpcore).connect_tcp("127.0.0.1", port)
    try:
        stream.read(1)
    finally:
        stream.close()
""",
    "nested": """
def work():
    with create_task_group() as inner:
        inner.start_soon(sleep, 100)
        inner.start_soon(sleep, 100)
""",
}

CLOSE_STREAMS = """
if "send" in globals(): send.close(); receive.close()
if "listener" in globals(): listener.close()
"""


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_group_whose_workers_wait(wait):
    code, out, err = interrupted(
        WAITS[wait]
        + """
ended = []
def task():
    try:
        work()
    finally:
        ended.append(True)

started = time.monotonic()
try:
    with create_task_group() as tg:
        for _ in range(8):
            tg.start_soon(task)
        sleep(0.2)
        ready()
except KeyboardInterrupt as error:
    print("interrupted", len(ended), getattr(error, "__notes__", []), time.monotonic() - started < 5)
"""
        + CLOSE_STREAMS
    )
    assert out == "interrupted 8 [] True\n", err
    assert (code, err) == (0, "")


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_reaches_the_main_thread_in_a_wait_of_its_own(wait):
    if wait in {"lock", "limiter"}:
        pytest.skip("the main thread holds it")
    code, out, err = interrupted(
        WAITS[wait]
        + """
ready()
try:
    work()
except KeyboardInterrupt:
    print("interrupted")
"""
        + CLOSE_STREAMS
    )
    assert out == "interrupted\n", err
    assert (code, err) == (0, "")


def test_ctrl_c_leaves_a_stuck_task_behind_and_says_so():
    code, _, err = interrupted(
        """
        def stuck():
            time.sleep(60)

        with create_task_group() as outer:
            outer.start_soon(stuck)
            with create_task_group() as tg:
                tg.start_soon(stuck)
                tg.start_soon(sleep, 60)
                ready()
        """
    )
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert err.count("left to their daemon threads: stuck") == 2


def test_run_makes_the_first_ctrl_c_a_clean_cancel():
    code, out, err = interrupted(
        """
        def main():
            try:
                ready()
                with create_task_group() as tg:
                    tg.start_soon(sleep, 60)
            finally:
                with shield():
                    sleep(0.3)
                    print("cleaned up")
        try:
            run(main)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert out == "cleaned up\ninterrupted\n", err
    assert (code, err) == (0, "")


def test_run_makes_the_second_ctrl_c_the_raw_interrupt():
    code, out, err = interrupted(
        """
        def main():
            with shield():
                ready()
                sleep(60)
        try:
            run(main)
        except KeyboardInterrupt:
            print("interrupted")
        """,
        signals=2,
    )
    assert out == "interrupted\n", err
    assert (code, err) == (0, "")


def test_the_interpreter_does_not_wait_for_a_stuck_worker():
    done = subprocess.run(
        [sys.executable, "-c", HEADER + "from pynector._concurrency.threads._workers import pool\n"
         "class Job:\n    def run(self): time.sleep(60)\n    def finish(self): pass\n"
         "pool.submit(Job()); time.sleep(0.1); print('end')"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_run_gives_back_results_and_errors():
    before = signal.getsignal(signal.SIGINT)
    assert run(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)
    assert signal.getsignal(signal.SIGINT) is before


def test_run_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run(max, 1, 2)))
    thread.start()
    thread.join()
    assert results == [2]


def test_run_refuses_async_functions():
    async def main() -> None: ...

    with pytest.raises(TypeError, match="main is an async function"):
        run(main)


def test_a_task_group_refuses_async_functions():
    async def work() -> None: ...

    with pytest.raises(ExceptionGroup) as caught, create_task_group() as tg:
        tg.start_soon(work)
    assert "work is an async function" in str(caught.value.exceptions[0])


@pytest.mark.parametrize("critical", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_raised_in_a_worker_comes_out_bare(critical):
    ended = []

    def sibling() -> None:
        try:
            sleep(60)
        finally:
            ended.append(True)

    def task() -> None:
        sleep(0.05)
        raise critical

    with pytest.raises(critical):
        with create_task_group() as outer:
            outer.start_soon(sibling)
            with create_task_group() as tg:
                tg.start_soon(sibling)
                tg.start_soon(task)
    assert ended == [True, True]


def test_an_interrupt_hides_other_failures():
    def fail_while_leaving() -> None:
        try:
            sleep(60)
        finally:
            raise ValueError("while leaving")

    with pytest.raises(KeyboardInterrupt), create_task_group() as tg:
        tg.start_soon(fail_while_leaving)
        sleep(0.05)
        raise KeyboardInterrupt


def test_an_interrupt_is_stronger_than_an_exit():
    def task() -> None:
        try:
            sleep(60)
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), create_task_group() as tg:
        tg.start_soon(task)
        sleep(0.05)
        raise SystemExit


def test_a_signal_handler_may_cancel_and_set():
    event = Event()
    scope = CancelScope()
    hits = []

    def on_alarm(number: int, frame: object) -> None:
        hits.append(number)
        scope.cancel()
        event.set()

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with scope:
            sleep(60)
        event.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert scope.cancelled_caught
    assert hits == [signal.SIGALRM]


def test_primitives_survive_a_storm_of_signals():
    """A handler that runs between any two instructions, and uses the same scope and event."""
    events = [Event() for _ in range(200)]
    scope = CancelScope()
    remaining = iter(events)

    def on_alarm(number: int, frame: object) -> None:
        event = next(remaining, None)
        if event is not None:
            event.set()
        scope.deadline = time.monotonic() + 60

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        with scope:
            for event in events:
                event.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(event.is_set() for event in events)
