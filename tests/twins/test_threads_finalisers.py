"""A finaliser may run wherever Python lets one in: here it runs at each of these places in turn, in every primitive.

The garbage collector and signal handlers come in between two bytecodes, after a call, at the start of a function, or on
the way back of a loop. A trace function stands in for them, so that no place is left to chance.
"""

import dis
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

import pytest

import pynector._concurrency.threads
from pynector._concurrency.threads.clock import checkpoint, sleep
from pynector._concurrency.threads.locks import CapacityLimiter, Condition, Event, Lock, Semaphore, WouldBlock
from pynector._concurrency.threads.scopes import CancelScope, move_on_after
from pynector._concurrency.threads.streams import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    create_memory_object_stream,
)
from pynector._concurrency.threads.tasks import create_task_group

OURS = str(Path(pynector._concurrency.threads.__file__).parent.parent)
LETS_IN = ("CALL", "JUMP_BACKWARD", "BUILD", "BEFORE_WITH", "LIST")
PATIENCE = 0.005  # a wait that the finaliser does not end
LONG = 20.0


@cache
def openings(code: CodeType) -> frozenset[int]:
    """Where in a function something else may come in: the instructions that follow such a one."""
    found = set()
    opens = False
    for instruction in dis.get_instructions(code):
        if opens:
            found.add(instruction.offset)
        opens = instruction.opname.startswith(LETS_IN)
    return frozenset(found)


class Intruder:
    """Calls a function at the n-th opening in our code that this thread comes by."""

    def __init__(self, act: Callable[[], object], number: int) -> None:
        self.act = act
        self.left = number
        self.acted = False

    def trace(self, frame: FrameType, event: str, arg: object) -> object:
        if event == "call":
            if not frame.f_code.co_filename.startswith(OURS):
                return None
            frame.f_trace_opcodes = True
            self.come_by()  # the start of a function is one
        elif event == "opcode" and frame.f_lasti in openings(frame.f_code):
            self.come_by()
        return self.trace

    def come_by(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.acted:
            self.acted = True
            self.act()  # tracing is off meanwhile

    def watch(self, operation: Callable[[], object]) -> object:
        before = sys.gettrace()
        # From 3.12 on, whether opcodes are traced at all is settled when tracing starts.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self.trace)
        try:
            return operation()
        finally:
            sys.settrace(before)


def everywhere(
    case: Callable[[], tuple[Callable[[], object], Callable[[], object], Callable[[object], object]]],
) -> int:
    """Try a case with the finaliser at each opening, until there are no more; gives how many there were."""
    # From 3.13 on, a function that was never traced before shows no opcodes in its first run.
    operation, act, check = case()
    result = Intruder(act, sys.maxsize).watch(operation)
    act()
    check(result)
    number = 0
    while True:
        operation, act, check = case()
        intruder = Intruder(act, number)
        result = intruder.watch(operation)
        if not intruder.acted:
            act()
            check(result)
            return number
        check(result)
        number += 1


def a_semaphore_that_is_waited_for():
    semaphore = Semaphore(0)

    def operation() -> bool:
        with move_on_after(PATIENCE):
            semaphore.acquire()
            return True
        return False

    def check(taken: object) -> None:
        assert semaphore.value + bool(taken) == 1
        assert semaphore.statistics().tasks_waiting == 0

    return operation, semaphore.release, check


def a_semaphore_and_a_finaliser_that_waits_itself():
    """The wait inside must not keep the wake-up that is meant for the one around it."""
    semaphore, inner = Semaphore(0), Semaphore(0)
    # Lets the operation end where the finaliser does not run; it cannot wake a task that has its permit already.
    end = threading.Timer(0.02, semaphore.release)

    def operation() -> float:
        started = time.monotonic()
        end.start()
        with move_on_after(LONG):
            semaphore.acquire()
        return time.monotonic() - started

    def act() -> None:
        semaphore.release()
        with suppress(WouldBlock):
            semaphore.acquire_nowait()  # nobody waited yet
            semaphore.release()
        timer = threading.Timer(0.002, inner.release)
        timer.start()
        with CancelScope(shield=True):
            inner.acquire()
        timer.join()

    def check(taken: object) -> None:
        end.join()
        assert taken < LONG / 2, "the wake-up is lost"
        assert semaphore.value == 1

    return operation, act, check


def a_free_semaphore():
    semaphore = Semaphore(1)

    def operation() -> None:
        with semaphore:
            pass

    def act() -> None:
        with suppress(WouldBlock):
            semaphore.acquire_nowait()
            semaphore.release()
        semaphore.release()

    return operation, act, lambda _: semaphore.value == 2 or pytest.fail("a permit is lost")


def a_free_lock():
    lock = Lock()

    def operation() -> None:
        with lock:
            pass
        lock.acquire()
        lock.release()

    def act() -> None:
        with suppress(WouldBlock, RuntimeError):
            lock.acquire_nowait()
            lock.release()

    def check(_: object) -> None:
        assert not lock.locked()
        lock.acquire_nowait()

    return operation, act, check


def a_free_limiter():
    limiter = CapacityLimiter(2)

    def operation() -> None:
        with limiter:
            pass

    def act() -> None:
        limiter.acquire_on_behalf_of_nowait("finaliser")
        limiter.statistics()
        limiter.release_on_behalf_of("finaliser")
        limiter.total_tokens = 3

    return operation, act, lambda _: limiter.available_tokens == 3 or pytest.fail("a token is lost")


def a_limiter_that_is_waited_for():
    limiter = CapacityLimiter(1)
    limiter.acquire_on_behalf_of("other")

    def operation() -> bool:
        with move_on_after(PATIENCE):
            limiter.acquire()
            return True
        return False

    def check(taken: object) -> None:
        assert limiter.borrowed_tokens == bool(taken)
        assert limiter.statistics().tasks_waiting == 0

    return operation, lambda: limiter.release_on_behalf_of("other"), check


def an_event():
    event = Event()

    def operation() -> bool:
        with move_on_after(PATIENCE):
            event.wait()
            return True
        return False

    def check(_: object) -> None:
        assert event.is_set()
        assert event.statistics().tasks_waiting == 0

    return operation, event.set, check


def an_event_that_is_set_twice():
    event = Event()
    return event.set, event.set, lambda _: event.is_set() or pytest.fail("not set")


def a_scope():
    scope = CancelScope(deadline=time.monotonic() + LONG)

    def operation() -> bool:
        with scope:
            with move_on_after(PATIENCE):
                sleep(LONG)
            checkpoint()
        return True

    def act() -> None:
        scope.cancel()
        with CancelScope(shield=True, deadline=time.monotonic() + 1):
            checkpoint()

    return operation, act, lambda _: scope.cancel_called or pytest.fail("not cancelled")


def a_cancelled_condition():
    condition = Condition()
    scope = CancelScope()

    def operation() -> None:
        with condition, move_on_after(PATIENCE), scope:
            condition.wait()

    def check(_: object) -> None:
        assert not condition.locked()
        assert condition.statistics().tasks_waiting == 0

    return operation, scope.cancel, check


def a_group():
    group = create_task_group()
    ran = []

    def operation() -> None:
        with group:
            group.start_soon(ran.append, 1)
            group.start(lambda task_status: task_status.started())

    def act() -> None:
        group.cancel_scope.cancel()
        with CancelScope(shield=True), create_task_group() as own:
            own.start_soon(ran.append, 2)

    def check(_: object) -> None:
        assert 2 in ran
        assert not group._tasks

    return operation, act, check


def a_stream(size: int):
    """Both ends on this thread, and a finaliser that sends and receives as well."""
    send, receive = create_memory_object_stream[int](size)
    sent, got = [], []

    def put(item: int) -> None:
        with suppress(WouldBlock):
            send.send_nowait(item)
            sent.append(item)

    def take() -> None:
        with suppress(WouldBlock):
            got.append(receive.receive_nowait())

    def operation() -> None:
        put(1)
        with move_on_after(PATIENCE):
            send.send(2)
            sent.append(2)
        take()
        with move_on_after(PATIENCE):
            got.append(receive.receive())

    def act() -> None:
        take()
        put(3)

    def check(_: object) -> None:
        while receive.statistics().current_buffer_used:
            take()
        assert sorted(got) == sorted(sent)
        assert receive.statistics()[4:] == (0, 0)
        send.close()
        receive.close()

    return operation, act, check


def a_stream_with_a_waiting_sender(size: int, close: bool = False):
    send, receive = create_memory_object_stream[int](size)
    got = []
    refused = []

    def give() -> None:
        try:
            for item in range(size + 1):
                send.send(item)
        except BrokenResourceError:
            refused.append(True)

    thread = threading.Thread(target=give)
    thread.start()
    while not send.statistics().tasks_waiting_send:
        time.sleep(0.0001)

    def take() -> None:
        with suppress(WouldBlock, ClosedResourceError):
            got.append(receive.receive_nowait())

    def check(_: object) -> None:
        take()
        thread.join(LONG)
        assert not thread.is_alive()
        assert close or sorted(got) == list(range(size + 1)), "an item is lost"
        assert len(got) == len(set(got))
        send.close()
        receive.close()

    return take, receive.close if close else take, check


def a_stream_with_a_waiting_receiver(close: bool):
    send, receive = create_memory_object_stream[int](1)
    got = []

    def collect() -> None:
        with suppress(EndOfStream):
            got.append(receive.receive())

    thread = threading.Thread(target=collect)
    thread.start()
    while not send.statistics().tasks_waiting_receive:
        time.sleep(0.0001)
    sent = []

    def put() -> None:
        with suppress(WouldBlock, ClosedResourceError):
            send.send_nowait(len(sent))
            sent.append(len(sent))

    def check(_: object) -> None:
        thread.join(LONG)
        assert not thread.is_alive()
        with suppress(WouldBlock, EndOfStream):
            got.append(receive.receive_nowait())
        assert len(got) == len(sent)
        send.close()
        receive.close()

    return put, send.close if close else put, check


CASES = {
    "free semaphore": a_free_semaphore,
    "semaphore": a_semaphore_that_is_waited_for,
    "semaphore, waiting finaliser": a_semaphore_and_a_finaliser_that_waits_itself,
    "free lock": a_free_lock,
    "free limiter": a_free_limiter,
    "limiter": a_limiter_that_is_waited_for,
    "event": an_event,
    "event twice": an_event_that_is_set_twice,
    "scope": a_scope,
    "condition": a_cancelled_condition,
    "group": a_group,
    "stream 0": lambda: a_stream(0),
    "stream 1": lambda: a_stream(1),
    "stream 2": lambda: a_stream(2),
    "waiting sender 0": lambda: a_stream_with_a_waiting_sender(0),
    "waiting sender 1": lambda: a_stream_with_a_waiting_sender(1),
    "waiting sender, close": lambda: a_stream_with_a_waiting_sender(1, close=True),
    "waiting receiver": lambda: a_stream_with_a_waiting_receiver(False),
    "waiting receiver, close": lambda: a_stream_with_a_waiting_receiver(True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_finaliser_at_every_place(case):
    assert everywhere(CASES[case]) > 0
