"""The primitives on threads against simple models: one step at a time, each thread parked or done before the next."""

import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from queue import SimpleQueue

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pynector._concurrency.threads.locks import CapacityLimiter, Condition, Lock, Semaphore, WouldBlock
from pynector._concurrency.threads.scopes import CancelScope
from pynector._concurrency.threads.streams import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    create_memory_object_stream,
)
from pynector._concurrency.threads.tasks import current_task

LONG = 10.0
WORKERS = 4

BUSY = "busy"
DONE = "done"
CANCELLED = "cancelled"

workers = st.integers(0, WORKERS - 1)
late = st.booleans()  # whether the scope around the call is cancelled already


class Worker:
    """A thread that does one thing at a time, and can be cancelled in it."""

    def __init__(self, number: int) -> None:
        self.outcome: object = DONE
        self.task: object = None
        self.scope = CancelScope()
        self.inbox: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self.run, name=f"machine-{number}", daemon=True)
        self.thread.start()

    def run(self) -> None:
        self.task = current_task()
        while (call := self.inbox.get()) is not None:
            scope, outcome = self.scope, None
            try:
                with scope:
                    outcome = call()
            except Exception as error:
                outcome = type(error)
            self.outcome = CANCELLED if scope.cancelled_caught else DONE if outcome is None else outcome


class Machine(RuleBasedStateMachine):
    """What every machine has: workers, what the model says about each, and the wait until both agree."""

    def __init__(self) -> None:
        super().__init__()
        self.crew = [Worker(number) for number in range(WORKERS)]
        self.expected: list[object] = [DONE] * WORKERS
        self.until(lambda: all(worker.task for worker in self.crew))

    # What a machine says about itself.

    def waiting(self) -> int:
        """How many tasks wait, as the primitive tells."""
        raise NotImplementedError

    def free_everyone(self) -> None:
        """Called repeatedly at the end, after a cancellation of everyone: let go of what is held."""

    # What it uses.

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < end, f"model: {self.expected}; real: {[w.outcome for w in self.crew]}"
            time.sleep(0.00005)

    def idle(self, number: int) -> bool:
        return self.expected[number] != BUSY

    def do(self, number: int, call: Callable[[], object], *, late: bool = False) -> None:
        worker = self.crew[number]
        worker.scope = CancelScope()
        if late:
            worker.scope.cancel()
        worker.outcome = BUSY
        worker.inbox.put(call)

    def settle(self) -> None:
        """Wait until what the model says has come true: who is done, with what outcome, and how many wait."""
        busy = self.expected.count(BUSY)
        self.until(lambda: [w.outcome for w in self.crew] == self.expected and self.waiting() == busy)

    def teardown(self) -> None:
        end = time.monotonic() + LONG
        while any(worker.outcome == BUSY for worker in self.crew):
            assert time.monotonic() < end, "a thread is stuck"
            for worker in self.crew:
                worker.scope.cancel()
            self.free_everyone()
            time.sleep(0.0001)
        for worker in self.crew:
            worker.inbox.put(None)
            worker.thread.join(LONG)
            assert not worker.thread.is_alive()


class LockMachine(Machine):
    """A lock has one owner, and is handed over in the order of asking."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()
        self.owner: int | None = None
        self.queue: deque[int] = deque()

    def waiting(self) -> int:
        return self.lock.statistics().tasks_waiting

    def free_everyone(self) -> None:
        for number, worker in enumerate(self.crew):
            if worker.outcome != BUSY and self.lock._owner is worker.task:
                self.do(number, self.lock.release)

    @precondition(lambda self: any(map(self.idle, range(WORKERS))))
    @rule(number=workers, late=late, nowait=st.booleans())
    def acquire(self, number: int, late: bool, nowait: bool) -> None:
        if not self.idle(number):
            return
        if self.owner == number:
            self.expected[number] = RuntimeError
        elif self.owner is None:
            self.owner = number
            self.expected[number] = DONE
        elif nowait:
            self.expected[number] = WouldBlock
        elif late:
            self.expected[number] = CANCELLED
        else:
            self.queue.append(number)
            self.expected[number] = BUSY
        self.do(number, self.lock.acquire_nowait if nowait else self.lock.acquire, late=late)
        self.settle()

    @rule(number=workers, late=late)
    def release(self, number: int, late: bool) -> None:
        if not self.idle(number):
            return
        if self.owner == number:
            self.expected[number] = DONE
            self.owner = self.queue.popleft() if self.queue else None
            if self.owner is not None:
                self.expected[self.owner] = DONE
        else:
            self.expected[number] = RuntimeError
        self.do(number, self.lock.release, late=late)
        self.settle()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.queue)))
        self.queue.remove(number)
        self.expected[number] = CANCELLED
        self.crew[number].scope.cancel()
        self.settle()

    @invariant()
    def same_owner(self) -> None:
        assert self.lock._owner is (None if self.owner is None else self.crew[self.owner].task)
        assert self.lock.locked() == (self.owner is not None)


class SemaphoreMachine(Machine):
    """A semaphore never has more permits out than it was given, and hands them over in the order of asking."""

    @initialize(value=st.integers(0, 2), more=st.none() | st.integers(0, 2))
    def make(self, value: int, more: int | None) -> None:
        self.most = None if more is None else value + more
        self.semaphore = Semaphore(value, max_value=self.most)
        self.value = value
        self.queue: deque[int] = deque()

    def waiting(self) -> int:
        return self.semaphore.statistics().tasks_waiting

    @rule(number=workers, late=late, nowait=st.booleans())
    def acquire(self, number: int, late: bool, nowait: bool) -> None:
        if not self.idle(number):
            return
        if self.value:
            self.value -= 1
            self.expected[number] = DONE
        elif nowait:
            self.expected[number] = WouldBlock
        elif late:
            self.expected[number] = CANCELLED
        else:
            self.queue.append(number)
            self.expected[number] = BUSY
        self.do(number, self.semaphore.acquire_nowait if nowait else self.semaphore.acquire, late=late)
        self.settle()

    @rule(number=workers, late=late)
    def release(self, number: int, late: bool) -> None:
        if not self.idle(number):
            return
        self.expected[number] = DONE
        if self.most is not None and self.value >= self.most:
            self.expected[number] = ValueError
        elif self.queue:
            self.expected[self.queue.popleft()] = DONE
        else:
            self.value += 1
        self.do(number, self.semaphore.release, late=late)
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.queue)
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.queue)))
        self.queue.remove(number)
        self.expected[number] = CANCELLED
        self.crew[number].scope.cancel()
        self.settle()

    @invariant()
    def same_value(self) -> None:
        if hasattr(self, "semaphore"):
            assert self.semaphore.value == self.value


class LimiterMachine(Machine):
    """A limiter lends each borrower one token, in the order of asking, and its total may change at any time."""

    @initialize(total=st.integers(0, 3))
    def make(self, total: int) -> None:
        self.limiter = CapacityLimiter(total)
        self.total: float = total
        self.borrowers: set[object] = set()
        self.queue: deque[tuple[int, object]] = deque()

    def waiting(self) -> int:
        return self.limiter.statistics().tasks_waiting

    def hand_out(self) -> None:
        while self.queue and len(self.borrowers) < self.total:
            number, borrower = self.queue.popleft()
            self.borrowers.add(borrower)
            self.expected[number] = DONE

    def as_borrower(self, number: int, other: str | None) -> object:
        return other or self.crew[number].task

    @rule(number=workers, other=st.sampled_from([None, None, "a", "b"]), late=late, nowait=st.booleans())
    def acquire(self, number: int, other: str | None, late: bool, nowait: bool) -> None:
        if not self.idle(number):
            return
        borrower = self.as_borrower(number, other)
        known = borrower in self.borrowers or any(borrower == waiting for _, waiting in self.queue)
        if late and not nowait:
            self.expected[number] = CANCELLED
        elif known:
            self.expected[number] = RuntimeError
        elif not self.queue and len(self.borrowers) < self.total:
            self.borrowers.add(borrower)
            self.expected[number] = DONE
        elif nowait:
            self.expected[number] = WouldBlock
        else:
            self.queue.append((number, borrower))
            self.expected[number] = BUSY
        limiter = self.limiter
        if other is None:
            self.do(number, limiter.acquire_nowait if nowait else limiter.acquire, late=late)
        else:
            call = limiter.acquire_on_behalf_of_nowait if nowait else limiter.acquire_on_behalf_of
            self.do(number, lambda: call(other), late=late)
        self.settle()

    @rule(number=workers, other=st.sampled_from([None, None, "a", "b"]), late=late)
    def release(self, number: int, other: str | None, late: bool) -> None:
        if not self.idle(number):
            return
        borrower = self.as_borrower(number, other)
        if borrower in self.borrowers:
            self.borrowers.remove(borrower)
            self.expected[number] = DONE
            self.hand_out()
        else:
            self.expected[number] = RuntimeError
        call = self.limiter.release if other is None else lambda: self.limiter.release_on_behalf_of(other)
        self.do(number, call, late=late)
        self.settle()

    @rule(total=st.integers(0, 4) | st.just(inf))
    def change_total(self, total: float) -> None:
        self.total = total
        self.hand_out()
        self.limiter.total_tokens = total
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.queue)
    def cancel(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.queue) - 1))
        number, _ = self.queue[position]
        del self.queue[position]
        self.expected[number] = CANCELLED
        self.crew[number].scope.cancel()
        self.settle()

    @invariant()
    def same_statistics(self) -> None:
        if not hasattr(self, "limiter"):
            return
        statistics = self.limiter.statistics()
        assert set(statistics.borrowers) == self.borrowers
        assert statistics.borrowed_tokens == self.limiter.borrowed_tokens == len(self.borrowers)
        assert statistics.total_tokens == self.limiter.total_tokens == self.total
        assert self.limiter.available_tokens == self.total - len(self.borrowers)


class ConditionMachine(Machine):
    """A notified task, and a cancelled one, has the lock again before its wait ends."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()
        self.condition = Condition(self.lock)
        self.owner: int | None = None
        self.asleep: deque[int] = deque()
        # Those who want the lock. Threads that were woken together arrive in any order: a set is one arrival.
        self.queue: deque[set[int]] = deque()
        self.ends: dict[int, object] = {}

    def waiting(self) -> int:
        return self.condition.statistics().tasks_waiting + self.lock.statistics().tasks_waiting

    def free_everyone(self) -> None:
        for number, worker in enumerate(self.crew):
            if worker.outcome != BUSY and self.lock._owner is worker.task:
                self.do(number, self.lock.release)

    def settle(self) -> None:
        """The same, and each of them waits where it should."""
        self.until(
            lambda: (
                [worker.outcome for worker in self.crew] == self.expected
                and self.condition.statistics().tasks_waiting == len(self.asleep)
                and self.lock.statistics().tasks_waiting == sum(map(len, self.queue))
            )
        )

    def let_go(self) -> Callable[[], object]:
        """The owner releases the lock; gives what brings the model up to date, once it has happened."""
        self.owner = None
        if not self.queue:
            return lambda: None
        arrived = self.queue[0]

        def update() -> None:
            tasks = {self.crew[number].task: number for number in arrived}
            self.until(lambda: self.lock._owner in tasks)
            self.owner = owner = tasks[self.lock._owner]
            arrived.remove(owner)
            if not arrived:
                self.queue.popleft()
            self.expected[owner] = self.ends.pop(owner)

        return update

    @rule(number=workers, late=late)
    def acquire(self, number: int, late: bool) -> None:
        if not self.idle(number):
            return
        if self.owner == number:
            self.expected[number] = RuntimeError
        elif self.owner is None:
            self.owner = number
            self.expected[number] = DONE
        elif late:
            self.expected[number] = CANCELLED
        else:
            self.queue.append({number})
            self.ends[number] = DONE
            self.expected[number] = BUSY
        self.do(number, self.condition.acquire, late=late)
        self.settle()

    @rule(number=workers, late=late)
    def release(self, number: int, late: bool) -> None:
        if not self.idle(number):
            return
        update: Callable[[], object] = lambda: None  # noqa: E731
        if self.owner == number:
            self.expected[number] = DONE
            update = self.let_go()
        else:
            self.expected[number] = RuntimeError
        self.do(number, self.condition.release, late=late)
        update()
        self.settle()

    @rule(number=workers, late=late)
    def wait(self, number: int, late: bool) -> None:
        if not self.idle(number):
            return
        update: Callable[[], object] = lambda: None  # noqa: E731
        if late:
            self.expected[number] = CANCELLED
        elif self.owner != number:
            self.expected[number] = RuntimeError
        else:
            self.asleep.append(number)
            self.expected[number] = BUSY
            update = self.let_go()
        self.do(number, self.condition.wait, late=late)
        update()
        self.settle()

    @rule(number=workers, n=st.integers(0, 3) | st.none(), late=late)
    def notify(self, number: int, n: int | None, late: bool) -> None:
        if not self.idle(number):
            return
        if self.owner == number:
            self.expected[number] = DONE
            woken = {self.asleep.popleft() for _ in range(len(self.asleep) if n is None else min(n, len(self.asleep)))}
            if woken:
                self.queue.append(woken)
                self.ends |= dict.fromkeys(woken, DONE)
        else:
            self.expected[number] = RuntimeError
        self.do(number, self.condition.notify_all if n is None else lambda: self.condition.notify(n), late=late)
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: self.asleep)
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.asleep)))
        self.asleep.remove(number)
        if self.owner is None:
            self.owner = number
            self.expected[number] = CANCELLED
        else:
            self.queue.append({number})
            self.ends[number] = CANCELLED
        self.crew[number].scope.cancel()
        self.settle()

    @invariant()
    def same_owner(self) -> None:
        assert self.lock._owner is (None if self.owner is None else self.crew[self.owner].task)


class StreamMachine(Machine):
    """Items come out once, in order, and closing an end ends the waits that nobody can end any more."""

    @initialize(size=st.sampled_from([0, 1, 2, inf]))
    def make(self, size: float) -> None:
        send, receive = create_memory_object_stream[int](size)
        self.size = size
        self.ends = {"send": [send, send.clone()], "receive": [receive, receive.clone()]}
        self.open = {"send": [True, True], "receive": [True, True]}
        self.buffer: deque[int] = deque()
        self.queue: dict[str, deque[tuple[int, int, int]]] = {"send": deque(), "receive": deque()}
        self.items = 0

    def waiting(self) -> int:
        statistics = self.ends["send"][0].statistics()
        return statistics.tasks_waiting_send + statistics.tasks_waiting_receive

    def teardown(self) -> None:
        super().teardown()
        for end in (*self.ends["send"], *self.ends["receive"]):
            end.close()

    @rule(number=workers, end=st.integers(0, 1), late=late, nowait=st.booleans())
    def send(self, number: int, end: int, late: bool, nowait: bool) -> None:
        if not self.idle(number):
            return
        self.items += 1
        item = self.items
        receivers = self.queue["receive"]
        if late and not nowait:
            self.expected[number] = CANCELLED
        elif not self.open["send"][end]:
            self.expected[number] = ClosedResourceError
        elif not any(self.open["receive"]):
            self.expected[number] = BrokenResourceError
        elif receivers:
            self.expected[number] = DONE
            self.expected[receivers.popleft()[0]] = item
        elif len(self.buffer) < self.size:
            self.expected[number] = DONE
            self.buffer.append(item)
        elif nowait:
            self.expected[number] = WouldBlock
        else:
            self.expected[number] = BUSY
            self.queue["send"].append((number, end, item))
        stream = self.ends["send"][end]
        self.do(number, lambda: (stream.send_nowait if nowait else stream.send)(item), late=late)
        self.settle()

    @rule(number=workers, end=st.integers(0, 1), late=late, nowait=st.booleans())
    def receive(self, number: int, end: int, late: bool, nowait: bool) -> None:
        if not self.idle(number):
            return
        senders = self.queue["send"]
        if late and not nowait:
            self.expected[number] = CANCELLED
        elif not self.open["receive"][end]:
            self.expected[number] = ClosedResourceError
        elif self.buffer or senders:
            if senders:
                sender, _, item = senders.popleft()
                self.buffer.append(item)
                self.expected[sender] = DONE
            self.expected[number] = self.buffer.popleft()
        elif not any(self.open["send"]):
            self.expected[number] = EndOfStream
        elif nowait:
            self.expected[number] = WouldBlock
        else:
            self.expected[number] = BUSY
            self.queue["receive"].append((number, end, 0))
        stream = self.ends["receive"][end]
        self.do(number, stream.receive_nowait if nowait else stream.receive, late=late)
        self.settle()

    @rule(side=st.sampled_from(["send", "receive"]), end=st.integers(0, 1), sure=st.integers(0, 3))
    def close(self, side: str, end: int, sure: int) -> None:
        if sure:  # not too often, or there is nothing left to do
            return
        self.open[side][end] = False
        other = "receive" if side == "send" else "send"
        for waiter in [waiter for waiter in self.queue[side] if waiter[1] == end]:
            self.queue[side].remove(waiter)
            self.expected[waiter[0]] = ClosedResourceError
        if not any(self.open[side]):
            for number, _, _ in self.queue[other]:
                self.expected[number] = EndOfStream if side == "send" else BrokenResourceError
            self.queue[other].clear()
        self.ends[side][end].close()
        self.settle()

    @rule(data=st.data())
    @precondition(lambda self: any(self.queue.values()))
    def cancel(self, data: st.DataObject) -> None:
        side, waiter = data.draw(st.sampled_from([(side, each) for side in self.queue for each in self.queue[side]]))
        self.queue[side].remove(waiter)
        self.expected[waiter[0]] = CANCELLED
        self.crew[waiter[0]].scope.cancel()
        self.settle()

    @invariant()
    def same_statistics(self) -> None:
        if not hasattr(self, "ends"):
            return
        statistics = self.ends["receive"][1].statistics()
        assert tuple(statistics) == (
            len(self.buffer),
            self.size,
            sum(self.open["send"]),
            sum(self.open["receive"]),
            len(self.queue["send"]),
            len(self.queue["receive"]),
        )


MACHINES = [LockMachine, SemaphoreMachine, LimiterMachine, ConditionMachine, StreamMachine]
QUICK = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
THOROUGH = settings(QUICK, max_examples=400, stateful_step_count=60)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_few_runs(machine):
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.full
@pytest.mark.parametrize("machine", MACHINES)
def test_many_runs(machine):
    run_state_machine_as_test(machine, settings=THOROUGH)
