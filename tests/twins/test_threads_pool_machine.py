"""The connection pool on threads against a model: who has which connection, who waits for one, and what is closed.

The model of a call is a generator that does what the call should do, and stops where its thread should be: in the
queue, or in a function of the user's. Such a function answers at once, or later, when a rule says what.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

from pynector._concurrency.threads.locks import Event
from pynector._concurrency.threads.scopes import CancelScope
from pynector.concurrency.sync import ConnectionPool
from pynector.errors import ClosedError, TimeoutError
from twins.test_threads_machines import BUSY, CANCELLED, DONE, LONG, QUICK, WORKERS, Machine, late

POOL = sys.modules[ConnectionPool.__module__]

GOOD = "good"
BAD = "bad"
FAILS = "fails"
LATER = "later"  # the function waits for a rule that gives one of the others

ANSWERS = {"make": [GOOD, FAILS], "check": [GOOD, BAD, FAILS], "close": [GOOD, FAILS]}
manners = st.fixed_dictionaries(
    {
        "make": st.sampled_from([GOOD, GOOD, GOOD, FAILS, LATER, LATER]),
        "check": st.sampled_from([GOOD, GOOD, BAD, FAILS, LATER, LATER]),
        "close": st.sampled_from([GOOD, GOOD, FAILS, LATER, LATER]),
    }
)

Call = Generator[None, object, object]


class Connection:
    """One that is or may be made, how it answers, and what the pool really did to it."""

    def __init__(self, number: int, manners: dict[str, str]) -> None:
        self.number = number
        self.manners = manners
        self.made_at = 0.0  # in the model
        self.makes = 0
        self.closings = 0

    def __repr__(self) -> str:
        return f"#{self.number}"


class Gate:
    """Where a thread stands in a function of the user's."""

    def __init__(self, place: tuple[str, Connection]) -> None:
        self.place = place
        self.event = Event()
        self.answer = GOOD


class PoolMachine(Machine):
    """Never more than so many, first come first served, and everything that was opened is closed once."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = {worker.thread: number for number, worker in enumerate(self.crew)}
        self.now = 0.0
        # Its time is the machine's, and nothing is given up because a run is slow.
        clock = SimpleNamespace(monotonic=lambda: self.now)
        self.patches = [patch.object(POOL, "time", clock), patch.object(POOL, "_CLOSING", 10 * LONG)]
        for each in self.patches:
            each.start()
        # What is.
        self.gates: dict[int, Gate] = {}
        self.borrowed: dict[Connection, object] = {}
        self.candidates: dict[int, Connection] = {}
        self.pools: list[ConnectionPool[Connection]] = []
        # What should be.
        self.calls: dict[int, Call] = {}
        self.places: dict[int, tuple[str, Connection]] = {}
        self.cancelled: set[int] = set()
        self.queue: deque[int] = deque()
        self.idle_ones: list[Connection] = []
        self.lent: list[Connection] = []
        self.in_use = 0
        self.made: list[Connection] = []
        self.gone: list[Connection] = []
        self.closed = False

    @initialize(
        most=st.integers(1, 3),
        checks=st.sampled_from([True, True, False]),
        max_age=st.none() | st.integers(1, 4),
        life=st.sampled_from([2, 5, 10, 100]),
    )
    def make(self, most: int, checks: bool, max_age: int | None, life: int) -> None:
        self.life = life  # so many calls until it may be closed: then there is nothing left to do
        self.most = self.free = most
        self.checks = checks
        self.max_age = max_age
        self.pool = ConnectionPool(
            self.connect,
            most,
            close=self.disconnect,
            health_check=self.check if checks else None,
            max_age=max_age,
        )
        self.pools.append(self.pool)

    # What the pool calls.

    def answer(self, what: str, connection: Connection) -> str:
        answer = connection.manners[what]
        if answer == LATER:
            number = self.numbers[threading.current_thread()]
            self.gates[number] = gate = Gate((what, connection))
            try:
                gate.event.wait()
            finally:
                del self.gates[number]
            answer = gate.answer
        if answer == FAILS:
            raise OSError(what)
        return answer

    def connect(self) -> Connection:
        candidate = self.candidates[self.numbers[threading.current_thread()]]
        self.answer("make", candidate)
        candidate.makes += 1
        return candidate

    def check(self, connection: Connection) -> bool | None:
        return (None if connection.number % 2 else True) if self.answer("check", connection) == GOOD else False

    def disconnect(self, connection: Connection) -> None:
        connection.closings += 1
        self.answer("close", connection)

    # What the workers call.

    def borrow(self, timeout: float | None) -> Connection:
        loan = self.pool.acquire(timeout=timeout)
        connection = loan.__enter__()
        self.borrowed[connection] = loan
        return connection

    def bring_back(self, connection: Connection, *, clean: bool = True) -> None:
        error = None if clean else ValueError("the block's")
        assert not self.borrowed.pop(connection).__exit__(error and ValueError, error, None)

    # What they should do.

    def meeting(self, number: int, what: str, connection: Connection) -> Call:
        answer: object = connection.manners[what]
        if answer == LATER:
            if number in self.cancelled and what != "close":
                return CANCELLED
            self.places[number] = (what, connection)
            answer = yield
            del self.places[number]
        if what == "close":
            self.gone.append(connection)
        return answer

    def borrowing(self, number: int, hurry: bool) -> Call:
        if self.closed:
            return ClosedError
        if self.free:
            self.free -= 1
        elif number in self.cancelled:
            return CANCELLED
        elif hurry:
            return TimeoutError
        else:
            self.queue.append(number)
            if (yield) == CANCELLED:
                self.queue.remove(number)
                return CANCELLED
        if self.closed:
            self.hand_on()
            return ClosedError
        self.in_use += 1
        outcome = yield from self.finding(number)
        if isinstance(outcome, Connection):
            self.lent.append(outcome)
        else:
            self.in_use -= 1
            self.hand_on()
        return outcome

    def finding(self, number: int) -> Call:
        while self.idle_ones:
            connection = self.idle_ones.pop()
            verdict: object = GOOD
            if self.is_old(connection):
                verdict = BAD
            elif self.checks:
                verdict = yield from self.meeting(number, "check", connection)
            if verdict == GOOD:
                return connection
            yield from self.meeting(number, "close", connection)
            if verdict == CANCELLED:
                return CANCELLED
        candidate = self.candidates[number]
        answer = yield from self.meeting(number, "make", candidate)
        if answer != GOOD:
            return OSError if answer == FAILS else answer
        candidate.made_at = self.now
        self.made.append(candidate)
        return candidate

    def bringing_back(self, number: int, connection: Connection, clean: bool) -> Call:
        self.in_use -= 1
        if clean and not self.closed and not self.is_old(connection):
            self.idle_ones.append(connection)
        else:
            yield from self.meeting(number, "close", connection)
        self.hand_on()
        return DONE

    def closing(self, number: int) -> Call:
        if not self.closed:
            self.closed = True
            self.hand_on()
        outcome: object = DONE
        while self.idle_ones:
            if (yield from self.meeting(number, "close", self.idle_ones.pop())) == FAILS:
                outcome = ExceptionGroup
        return outcome

    def is_old(self, connection: Connection) -> bool:
        return self.max_age is not None and self.now - connection.made_at >= self.max_age

    def hand_on(self) -> None:
        if self.queue:
            self.advance(self.queue.popleft())
        else:
            self.free += 1

    def advance(self, number: int, answer: object = None) -> None:
        self.expected[number] = BUSY
        try:
            self.calls[number].send(answer)
        except StopIteration as end:
            self.expected[number] = end.value
            del self.calls[number]

    # The rules.

    def start(self, number: int, model: Call, call: Callable[[], object], *, late: bool) -> None:
        self.life -= 1
        self.calls[number] = model
        (self.cancelled.add if late else self.cancelled.discard)(number)
        self.advance(number)
        self.do(number, call, late=late)
        self.settle()

    def settle(self) -> None:
        """Wait until everyone is done with the right outcome, or waits in the right place."""
        self.until(
            lambda: (
                [worker.outcome for worker in self.crew] == self.expected
                and {number: gate.place for number, gate in self.gates.copy().items()} == self.places
                and self.pool.statistics().tasks_waiting == len(self.queue)
            )
        )

    def draw_idle(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from([number for number in range(WORKERS) if self.idle(number)]))

    @precondition(lambda self: any(map(self.idle, range(WORKERS))))
    @rule(data=st.data(), late=late, hurry=st.sampled_from([False, False, False, True]), manners=manners)
    def acquire(self, data: st.DataObject, late: bool, hurry: bool, manners: dict[str, str]) -> None:
        number = self.draw_idle(data)
        # The time of who gets a connection must not be up before.
        hurry = hurry and not self.free
        self.candidates[number] = Connection(len(self.made), manners)
        self.start(number, self.borrowing(number, hurry), lambda: self.borrow(0.001 if hurry else 10 * LONG), late=late)

    @precondition(lambda self: self.lent and any(map(self.idle, range(WORKERS))))
    @rule(data=st.data(), clean=st.sampled_from([True, True, False]), late=late)
    def give_back(self, data: st.DataObject, clean: bool, late: bool) -> None:
        number = self.draw_idle(data)
        connection = data.draw(st.sampled_from(self.lent))
        self.lent.remove(connection)
        self.start(
            number,
            self.bringing_back(number, connection, clean),
            lambda: self.bring_back(connection, clean=clean),
            late=late,
        )

    @precondition(lambda self: self.places)
    @rule(data=st.data())
    def answer_now(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.places)))
        answer = data.draw(st.sampled_from(ANSWERS[self.places[number][0]]))
        gate = self.gates[number]
        gate.answer = answer
        self.advance(number, answer)
        gate.event.set()
        self.settle()

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.calls)))
        self.cancelled.add(number)
        # A connection is closed in any case.
        if number not in self.places or self.places[number][0] != "close":
            self.advance(number, CANCELLED)
        self.crew[number].scope.cancel()
        self.settle()

    @precondition(lambda self: self.idle_ones or self.lent)
    @rule(data=st.data(), manners=manners)
    def change(self, data: st.DataObject, manners: dict[str, str]) -> None:
        data.draw(st.sampled_from([*self.idle_ones, *self.lent])).manners = manners

    @rule(seconds=st.integers(1, 3))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.life <= 0 and any(map(self.idle, range(WORKERS))))
    @rule(data=st.data(), late=late)
    def close(self, data: st.DataObject, late: bool) -> None:
        number = self.draw_idle(data)
        self.start(number, self.closing(number), self.pool.close, late=late)

    @invariant()
    def same_statistics(self) -> None:
        now = self.pool.statistics()
        assert (now.max_connections, now.in_use, now.idle, now.tasks_waiting) == (
            self.most,
            self.in_use,
            len(self.idle_ones),
            len(self.queue),
        )
        assert set(self.borrowed) == set(self.lent)
        assert now.in_use + now.idle <= self.most

    @invariant()
    def never_too_many(self) -> None:
        under_way = [connection for what, connection in self.places.values() if what == "make"]
        assert len(self.made) + len(under_way) - len(self.gone) <= self.most

    @invariant()
    def each_made_and_closed_once(self) -> None:
        assert [connection.makes for connection in self.made] == [1] * len(self.made)
        being_closed = [connection for what, connection in self.places.values() if what == "close"]
        closed = {*self.gone, *being_closed}
        assert len(closed) == len(self.gone) + len(being_closed)
        assert [connection.closings for connection in self.made] == [each in closed for each in self.made]

    # The end.

    def free_everyone(self) -> None:
        for gate in list(self.gates.values()):
            gate.event.set()

    def teardown(self) -> None:
        try:
            super().teardown()
            for pool in self.pools:
                self.leave(pool)
        finally:
            for each in self.patches:
                each.stop()

    def leave(self, pool: ConnectionPool[Connection]) -> None:
        """Whatever happened before, nobody waits, all may be lent again, and nothing stays open."""
        seen = {*self.made, *self.candidates.values()}
        for connection in seen:
            connection.manners = dict.fromkeys(ANSWERS, GOOD)
        for connection in list(self.borrowed):
            self.bring_back(connection)
        now = pool.statistics()
        assert (now.in_use, now.tasks_waiting) == (0, 0)
        if not self.closed:
            me = threading.current_thread()
            self.numbers[me] = WORKERS
            for _ in range(self.most):
                self.candidates[WORKERS] = Connection(-1, dict.fromkeys(ANSWERS, GOOD))
                seen.add(self.candidates[WORKERS])
                with CancelScope(deadline=0):  # a permit that is free is taken even now
                    self.borrow(None)
            assert len(self.borrowed) == pool.statistics().in_use == self.most
            with CancelScope() as scope:
                scope.cancel()
                self.borrow(None)
            assert scope.cancelled_caught
            for connection in list(self.borrowed):
                self.bring_back(connection)
        pool.close()
        assert [connection.closings for connection in seen] == [connection.makes for connection in seen]
        assert pool.statistics().idle == 0


BRIEF = settings(QUICK, max_examples=100, stateful_step_count=50)
THOROUGH = settings(QUICK, max_examples=700, stateful_step_count=80)


def test_a_few_runs():
    run_state_machine_as_test(PoolMachine, settings=BRIEF)


@pytest.mark.full
def test_many_runs():
    run_state_machine_as_test(PoolMachine, settings=THOROUGH)
