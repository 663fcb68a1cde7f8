"""Tasks, scopes, streams and locks on threads, against `concurrent.futures`, `queue` and `threading`."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from time import perf_counter

from pynector._concurrency.threads.clock import sleep
from pynector._concurrency.threads.locks import CapacityLimiter, Event, Lock, Semaphore
from pynector._concurrency.threads.scopes import CancelScope, fail_after
from pynector._concurrency.threads.streams import create_memory_object_stream
from pynector._concurrency.threads.tasks import create_task_group

from .measure import Plan, Row, Run, compare

BURST = 32
WAITERS = 64


def nothing() -> None:
    pass


def one_task_each(count: int) -> float:
    started = perf_counter()
    for _ in range(count):
        with create_task_group() as tg:
            tg.start_soon(nothing)
    return perf_counter() - started


def start_each(count: int) -> float:
    def work(*, task_status: object) -> None:
        task_status.started()

    with create_task_group() as tg:
        started = perf_counter()
        for _ in range(count):
            tg.start(work)
        return perf_counter() - started


def burst(count: int) -> float:
    started = perf_counter()
    for _ in range(0, count, BURST):
        with create_task_group() as tg:
            for _ in range(BURST):
                tg.start_soon(nothing)
    return perf_counter() - started


def executor_one(executor: ThreadPoolExecutor) -> Run:
    def run(count: int) -> float:
        started = perf_counter()
        for _ in range(count):
            executor.submit(nothing).result()
        return perf_counter() - started

    return run


def executor_burst(executor: ThreadPoolExecutor) -> Run:
    def run(count: int) -> float:
        started = perf_counter()
        for _ in range(0, count, BURST):
            wait([executor.submit(nothing) for _ in range(BURST)])
        return perf_counter() - started

    return run


def thread_one(count: int) -> float:
    started = perf_counter()
    for _ in range(count):
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()
    return perf_counter() - started


def entering(make: Callable[[], AbstractContextManager[object]]) -> Run:
    """A new context manager each time."""

    def run(count: int) -> float:
        turns = range(count)
        started = perf_counter()
        for _ in turns:
            with make():
                pass
        return perf_counter() - started

    return run


def using(manager: AbstractContextManager[object]) -> Run:
    """The same context manager each time."""

    def run(count: int) -> float:
        turns = range(count)
        started = perf_counter()
        for _ in turns:
            with manager:
                pass
        return perf_counter() - started

    return run


def in_one_thread(put: Callable[[int], object], get: Callable[[], object]) -> Run:
    def run(count: int) -> float:
        turns = range(count)
        started = perf_counter()
        for number in turns:
            put(number)
            get()
        return perf_counter() - started

    return run


def between_threads(make: Callable[[], tuple[Callable[[int], object], Callable[[], object]]]) -> Run:
    """One thread gives, this one takes."""

    def run(count: int) -> float:
        put, get = make()

        def produce() -> None:
            for number in range(count):
                put(number)

        producer = threading.Thread(target=produce)
        started = perf_counter()
        producer.start()
        for _ in range(count):
            get()
        taken = perf_counter() - started
        producer.join()
        return taken

    return run


def stream(size: int) -> tuple[Callable[[int], object], Callable[[], object]]:
    send, receive = create_memory_object_stream[int](size)
    _open.extend((send, receive))
    return send.send, receive.receive


_open: list[AbstractContextManager[object]] = []


def plain_queue(size: int) -> tuple[Callable[[int], object], Callable[[], object]]:
    items: queue.Queue[int] = queue.Queue(size)
    return items.put, items.get


def contended(manager: AbstractContextManager[object]) -> Run:
    """Four threads want the same thing."""

    def run(count: int) -> float:
        def work() -> None:
            for _ in range(count // 4):
                with manager:
                    pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        started = perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return perf_counter() - started

    return run


def cancelling(count: int) -> float:
    """From the call of `cancel` until every task is gone, `count` times."""
    taken = 0.0
    for _ in range(count):
        with create_task_group() as tg:
            event = Event()
            for _ in range(WAITERS):
                tg.start_soon(event.wait)
            while event.statistics().tasks_waiting < WAITERS:
                sleep(0.001)
            started = perf_counter()
            tg.cancel_scope.cancel()
        taken += perf_counter() - started
    return taken


def setting_threading_event(count: int) -> float:
    taken = 0.0
    for _ in range(count):
        event = threading.Event()
        threads = [threading.Thread(target=event.wait) for _ in range(WAITERS)]
        for thread in threads:
            thread.start()
        started = perf_counter()
        event.set()
        for thread in threads:
            thread.join()
        taken += perf_counter() - started
    return taken


def limiter(count: int) -> float:
    return using(CapacityLimiter(4))(count)


def rows(plan: Plan) -> Iterator[Row]:
    executor = ThreadPoolExecutor(BURST)
    wait([executor.submit(sleep, 0.05) for _ in range(BURST)])
    pool = "ThreadPoolExecutor"
    put, get = stream(100)
    their_put, their_get = plain_queue(100)
    suite: list[tuple[str, int, dict[str, Run], dict[str, float], float | None]] = [
        (
            "threads: group with one task",
            2000,
            {"ours": one_task_each, pool: executor_one(executor), "Thread": thread_one},
            {pool: 1.1},
            None,
        ),
        ("threads: start() of a task", 2000, {"ours": start_each, pool: executor_one(executor)}, {}, None),
        (
            f"threads: task in a burst of {BURST}",
            6400,
            {"ours": burst, pool: executor_burst(executor)},
            {pool: 1.0},
            None,
        ),
        ("threads: CancelScope()", 50_000, {"ours": entering(CancelScope), "Lock": using(threading.Lock())}, {}, None),
        (
            "threads: fail_after(60)",
            50_000,
            {"ours": entering(lambda: fail_after(60)), "Lock": using(threading.Lock())},
            {},
            None,
        ),
        (
            "threads: stream item, one thread",
            30_000,
            {"ours": in_one_thread(put, get), "queue.Queue": in_one_thread(their_put, their_get)},
            {"queue.Queue": 1.0},
            None,
        ),
        (
            "threads: stream item, to another thread",
            20_000,
            {
                "ours": between_threads(lambda: stream(100)),
                "queue.Queue": between_threads(lambda: plain_queue(100)),
            },
            {"queue.Queue": 1.0},
            None,
        ),
        (
            "threads: free Lock",
            100_000,
            {"ours": using(Lock()), "RLock": using(threading.RLock()), "Semaphore": using(threading.Semaphore(1))},
            {"RLock": 2.5, "Semaphore": 1.0},
            None,
        ),
        (
            "threads: free Semaphore",
            100_000,
            {"ours": using(Semaphore(1)), "Semaphore": using(threading.Semaphore(1))},
            {"Semaphore": 1.0},
            None,
        ),
        (
            "threads: free CapacityLimiter",
            50_000,
            {"ours": limiter, "Semaphore": using(threading.Semaphore(4))},
            {},
            None,
        ),
        (
            "threads: Lock, four threads",
            20_000,
            {"ours": contended(Lock()), "RLock": contended(threading.RLock())},
            {},
            None,
        ),
        (
            f"threads: cancel {WAITERS} blocked tasks",
            5,
            {"ours": cancelling, "threading.Event.set + join": setting_threading_event},
            {},
            0.010,
        ),
    ]
    try:
        for name, count, contestants, goal, limit in suite:
            if plan.wants(name):
                yield compare(plan, name, count, contestants, goal=goal, limit=limit)
    finally:
        executor.shutdown()
        for end in _open:
            end.__exit__(None, None, None)
        _open.clear()
