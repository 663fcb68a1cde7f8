"""Random deadlines and cancellations, with threads switched as often as Python can."""

import random
import sys
import threading

import pytest

from pynector._concurrency.threads.clock import sleep
from pynector._concurrency.threads.locks import CapacityLimiter, Condition, Event, Lock, Semaphore
from pynector._concurrency.threads.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.threads.streams import (
    EndOfStream,
    MemoryObjectReceiveStream,
    MemoryObjectSendStream,
    create_memory_object_stream,
)
from pynector._concurrency.threads.tasks import create_task_group

LONG = 60.0

tiers = pytest.mark.parametrize("seed", [*range(2), *(pytest.param(n, marks=pytest.mark.full) for n in range(2, 60))])


@pytest.fixture(autouse=True)
def rapid_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(count: int, work, *args) -> None:
    with fail_after(LONG), create_task_group() as tg:
        for number in range(count):
            tg.start_soon(work, number, *args)


@tiers
def test_locks(seed):
    lock, semaphore, limiter = Lock(), Semaphore(2), CapacityLimiter(2)
    inside = {lock: 0, semaphore: 0, limiter: 0}
    guard = threading.Lock()
    limits = {lock: 1, semaphore: 2, limiter: 2}

    def work(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        for _ in range(60):
            primitive = rng.choice([lock, semaphore, limiter])
            with move_on_after(rng.choice([None, 0, 1e-5, 1e-4, 1e-3])), primitive:
                with guard:
                    inside[primitive] += 1
                    assert inside[primitive] <= limits[primitive]
                try:
                    if rng.random() < 0.3:
                        sleep(1e-5)
                finally:
                    with guard:
                        inside[primitive] -= 1

    in_threads(8, work)
    assert not lock.locked()
    assert semaphore.value == 2
    assert limiter.borrowed_tokens == 0
    for primitive in (lock, semaphore, limiter):
        assert primitive.statistics().tasks_waiting == 0


@tiers
@pytest.mark.parametrize("size", [0, 2])
def test_streams_lose_and_repeat_nothing(seed, size):
    send, receive = create_memory_object_stream[int](size)
    sent, got = [], []

    def produce(number: int, end: MemoryObjectSendStream) -> None:
        rng = random.Random(f"{seed} s {number}")
        with end as mine:
            for item in range(number * 1000, number * 1000 + 60):
                with move_on_after(rng.choice([None, 1e-5, 1e-4, 1e-3])):
                    mine.send(item)
                    sent.append(item)

    def consume(number: int, end: MemoryObjectReceiveStream) -> None:
        rng = random.Random(f"{seed} r {number}")
        with end as mine:
            while True:
                with move_on_after(rng.choice([None, 1e-5, 1e-4, 1e-3])):
                    try:
                        got.append(mine.receive())
                    except EndOfStream:
                        return

    with fail_after(LONG), create_task_group() as tg:
        with send, receive:
            for number in range(4):
                tg.start_soon(consume, number, receive.clone())
                tg.start_soon(produce, number, send.clone())
    assert sorted(got) == sorted(sent)


@tiers
def test_conditions_and_events(seed):
    condition = Condition()
    tickets = []
    finished = Event()
    taken = []

    def consume(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        while not finished.is_set():
            with move_on_after(rng.choice([1e-4, 1e-3, 1e-2])), condition:
                condition.wait_for(lambda: tickets or finished.is_set())
                if tickets:
                    taken.append(tickets.pop())

    with fail_after(LONG), create_task_group() as tg:
        for number in range(5):
            tg.start_soon(consume, number)
        for ticket in range(60):
            with condition:
                tickets.append(ticket)
                condition.notify()
        while len(taken) < 60:
            sleep(0.001)
        finished.set()
        with condition:
            condition.notify_all()
    assert sorted(taken) == list(range(60))


@tiers
def test_nested_groups_and_cancellation(seed):
    rng = random.Random(seed)
    running = set()

    def leaf(key: object) -> None:
        running.add(key)
        try:
            sleep(LONG)
        finally:
            running.discard(key)

    def branch(depth: int) -> None:
        with create_task_group() as tg:
            for _ in range(2):
                if depth:
                    tg.start_soon(branch, depth - 1)
                else:
                    tg.start_soon(leaf, object())

    for _ in range(8):
        with fail_after(LONG):
            with CancelScope() as scope:
                with create_task_group() as tg:
                    tg.start_soon(branch, 2)
                    timer = threading.Timer(rng.random() * 0.01, scope.cancel)
                    timer.start()
            timer.join()
            assert scope.cancelled_caught
            assert not running


@tiers
def test_the_first_failure_ends_everything(seed):
    rng = random.Random(seed)

    def fail(delay: float) -> None:
        sleep(delay)
        raise ValueError(delay)

    for _ in range(10):
        with fail_after(LONG), pytest.raises(ExceptionGroup) as caught, create_task_group() as tg:
            for _ in range(6):
                tg.start_soon(sleep, LONG)
                tg.start_soon(fail, rng.random() * 0.003)
        assert all(type(error) is ValueError for error in caught.value.exceptions)


@tiers
def test_start_and_cancel(seed):
    rng = random.Random(seed)
    alive = []

    def service(*, task_status) -> None:
        alive.append(True)
        try:
            sleep(rng.random() * 0.001)
            task_status.started(42)
            sleep(LONG)
        finally:
            alive.pop()

    for _ in range(15):
        with fail_after(LONG), create_task_group() as tg:
            with move_on_after(rng.random() * 0.002) as scope:
                assert tg.start(service) == 42
            if scope.cancelled_caught:
                sleep(0)
            tg.cancel_scope.cancel()
        assert not alive
