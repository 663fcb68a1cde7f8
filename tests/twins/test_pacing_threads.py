"""What requests hold while they are held back, in both colours at once: given back whatever happens, and never lost."""

import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from pynector import AdaptiveConcurrency, CircuitBreaker, RateLimit
from pynector import _lanes as lanes
from pynector._async.attempts import Record as AsyncRecord
from pynector._async.pacing import AsyncPacer
from pynector._concurrency.threads.scopes import CancelScope
from pynector._concurrency.threads.tasks import create_task_group
from pynector._http.lanes import LaneFinder
from pynector._http.wire import WireBuilder, WireRequest
from pynector._lanes import Lane, lane_of
from pynector._messages.http import HttpMessage
from pynector._policies.retry import Failure
from pynector._sync.attempts import Record
from pynector._sync.pacing import Pacer
from pynector.concurrency.sync import sleep

RATE = RateLimit(requests_per_minute=60 * 400, burst=0.005)
BREAKER = CircuitBreaker(failure_threshold=3, recovery_time=0.01)
ADAPTIVE = AdaptiveConcurrency(initial=2, maximum=3)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Answer:
    def __init__(self, status: int) -> None:
        self.status_code = status


class Server:
    """Stands for a transport of either colour; some answers are failures, some refusals."""

    def __init__(self, lane: Lane, statuses: tuple[int, ...] = (200,)) -> None:
        self.lane = lane
        self.statuses = statuses
        self.mutex = threading.Lock()
        self.count = 0
        self.now = 0
        self.peak = 0

    def payload(self, prepared: object) -> object:
        return None

    def judge(self, prepared: object, answer: Answer) -> Failure | None:
        return None if answer.status_code < 400 else Failure(status=answer.status_code)

    def excuse(self, prepared: object, error: Exception) -> Failure | None:
        return None

    def begin(self, record: Any) -> int:
        record.sending()
        with self.mutex:
            self.count += 1
            self.now += 1
            self.peak = max(self.peak, self.now)
            status = self.statuses[self.count % len(self.statuses)]
        if status == 429:
            with self.lane.mutex:
                self.lane.pause.refused(time.monotonic(), retry_after=0.005, refusals=1, rand=0.5)
                self.lane.paused = True
        return status

    def end(self) -> None:
        with self.mutex:
            self.now -= 1


class Async(Server):
    async def attempt(self, prepared: object, record: Any) -> Answer:
        status = self.begin(record)
        try:
            await anyio.sleep(0.001)
            return Answer(status)
        finally:
            self.end()


class Blocking(Server):
    def attempt(self, prepared: object, record: Any) -> Answer:
        status = self.begin(record)
        try:
            sleep(0.001)
            return Answer(status)
        finally:
            self.end()


def check_empty(lane: Lane, *pacers: Any) -> None:
    """Nobody waits in a lane, or holds anything of it."""
    assert not lane.ring
    assert not any(lane.queues.values())
    assert all(limit.in_flight == 0 for limit in lane.queues)
    assert all(limiter.waiting == 0 and limiter.head is None for limiter in lane._limiters.values())
    assert not any(breaker._probing for breaker in lane._breakers.values())
    assert all(pacer.held == 0 and not pacer.crowd for pacer in pacers)


STATUSES = (200, 500, 500, 500, 429, 200, 529, 200)


@pytest.mark.parametrize("each", [False, True])
async def test_cancelled_at_every_step(each: bool) -> None:
    """All at once, or one and the others go on."""
    for steps in range(60):
        lane = Lane()
        server = Async(lane, STATUSES)
        pacer = AsyncPacer(rate_limit=RATE, breaker=BREAKER, adaptive=ADAPTIVE, bulk=True)
        done = 0

        async def run(
            scope: anyio.CancelScope, pacer: AsyncPacer = pacer, server: Async = server, lane: Lane = lane
        ) -> None:
            nonlocal done
            with scope:
                for _ in range(3):
                    try:
                        await pacer.attempt(server, lane, None, AsyncRecord())  # type: ignore[arg-type]
                    except lanes.CircuitOpenError:
                        await anyio.sleep(0.002)
                done += 1

        scopes = [anyio.CancelScope() for _ in range(6)]
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for scope in scopes:
                    group.start_soon(run, scope)
                for _ in range(steps % 20):
                    await anyio.lowlevel.checkpoint()
                await anyio.sleep(steps // 20 * 0.003)
                for scope in scopes[:3] if each else scopes:
                    scope.cancel()
        assert done >= 3 or not each
        check_empty(lane, pacer)


def test_cancelled_from_another_thread(quick_switches: None) -> None:
    for round_ in range(30):
        lane = Lane()
        server = Blocking(lane, STATUSES)
        pacer = Pacer(rate_limit=RATE, breaker=BREAKER, adaptive=ADAPTIVE, bulk=True)
        scopes = [CancelScope() for _ in range(6)]

        def run(scope: CancelScope, pacer: Pacer = pacer, server: Blocking = server, lane: Lane = lane) -> None:
            with scope:
                for _ in range(3):
                    try:
                        pacer.attempt(server, lane, None, Record())  # type: ignore[arg-type]
                    except lanes.CircuitOpenError:
                        sleep(0.002)

        with create_task_group() as group:
            for scope in scopes:
                group.start_soon(run, scope)
            time.sleep(round_ % 15 * 0.0006)
            for scope in scopes[:: 1 + round_ % 2]:
                scope.cancel()
        check_empty(lane, pacer)


def test_two_loops_and_threads_share_one_limit(quick_switches: None) -> None:
    """Whoever gives a place back wakes the next one, on whatever loop or thread that is."""
    lane = Lane()
    servers: list[Server] = []
    shared = Async(lane)
    policy = AdaptiveConcurrency(initial=2, minimum=2, maximum=2)
    rate = RateLimit(requests_per_minute=60 * 5000)
    failures: list[BaseException] = []

    async def in_a_loop() -> None:
        pacer = AsyncPacer(rate_limit=rate, adaptive=policy)
        server = Async(lane)
        servers.append(server)

        async def run() -> None:
            for _ in range(30):
                with anyio.move_on_after(0.05 if shared.count % 7 == 0 else 20):
                    await pacer.attempt(server, lane, None, AsyncRecord())  # type: ignore[arg-type]

        with anyio.fail_after(40):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(run)

    def in_threads() -> None:
        pacer = Pacer(rate_limit=rate, adaptive=policy)
        server = Blocking(lane)
        servers.append(server)

        def run() -> None:
            for _ in range(30):
                pacer.attempt(server, lane, None, Record())  # type: ignore[arg-type]

        with create_task_group() as group:
            for _ in range(4):
                group.start_soon(run)

    def guarded(fn: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                fn()
            except BaseException as error:
                failures.append(error)

        return run

    threads = [
        threading.Thread(target=guarded(fn), daemon=True)
        for fn in (
            lambda: anyio.run(in_a_loop),
            lambda: anyio.run(in_a_loop),
            lambda: anyio.run(in_a_loop, backend="trio"),
            in_threads,
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert sum(server.count for server in servers) >= 4 * 4 * 30 - 20
    check_empty(lane)


def test_a_loop_that_ended_is_no_trouble() -> None:
    """Its tasks were cancelled, and have rung for the others."""
    lane = Lane()
    slow = RateLimit(requests_per_minute=60 * 20, burst=0.01)

    async def given_up() -> None:
        pacer = AsyncPacer(rate_limit=slow)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(pacer.attempt, Async(lane), lane, None, AsyncRecord())
            await anyio.sleep(0.02)
            group.cancel_scope.cancel()

    pacer = Pacer(rate_limit=slow)
    thread = threading.Thread(target=anyio.run, args=(given_up,))
    thread.start()
    time.sleep(0.01)
    started = time.monotonic()
    pacer.attempt(Blocking(lane), lane, None, Record())  # type: ignore[arg-type]
    assert time.monotonic() - started < 5
    thread.join(10)
    check_empty(lane, pacer)


# The lanes of the process


@pytest.fixture
def few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes.forget_lanes()
    monkeypatch.setattr(lanes, "_MANY", 100)
    monkeypatch.setattr(lanes, "_MOST", 200)


def test_a_crawl_is_forgotten(few_lanes: None) -> None:
    started = time.perf_counter()
    for number in range(20_000):
        lane_of(("origin", number))
    assert time.perf_counter() - started < 5
    assert len(lanes._lanes.kept) == 200
    gc.collect()
    assert len(lanes._lanes.alive) == 200


def test_what_somebody_holds_is_never_there_twice(few_lanes: None) -> None:
    held = lane_of("held")
    used = lane_of("used")
    for number in range(1000):
        lane_of(number)
        lane_of("used")
    assert "held" not in lanes._lanes.kept
    assert lane_of("held") is held
    assert lane_of("used") is used
    assert "used" in lanes._lanes.kept


def test_what_was_not_used_for_long_is_forgotten(few_lanes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(150):
        lane_of(number)
    assert len(lanes._lanes.kept) == 150
    later = time.monotonic() + 601
    monkeypatch.setattr(lanes, "monotonic", lambda: later)
    lane_of("new")
    assert len(lanes._lanes.kept) == 100


def test_a_run_through_many_servers_holds_none_of_them() -> None:
    pacer = Pacer(adaptive=ADAPTIVE, bulk=True)
    for _ in range(50):
        lane = Lane()
        pacer.attempt(Blocking(lane), lane, None, Record())  # type: ignore[arg-type]
        gone = weakref.ref(lane)
        del lane
    gc.collect()
    assert gone() is None
    assert pacer.limit_history(0.0) == []
    assert pacer.concurrency(50) == 2


def test_policies_made_for_each_client_do_not_pile_up() -> None:
    lane = Lane()
    for number in range(1000):
        lane.limiter(RateLimit(tokens_per_minute=100, count_tokens=lambda data, number=number: number))
    assert len(lane._limiters) <= 64


def wire() -> WireRequest:
    return WireBuilder("http://h").build(HttpMessage())


class Signer:
    def __call__(self, message: HttpMessage) -> dict[str, str]:
        return {}


def test_who_signs_is_not_taken_for_another_one() -> None:
    """Though it may be where the other one was in memory."""
    seen = []
    for _ in range(50):
        signer = Signer()
        seen.append(LaneFinder(signer).find(wire()))
        assert LaneFinder(signer).find(wire()) is seen[-1]
        del signer
    assert len({id(lane) for lane in seen}) == 50


def test_answers_of_any_kind_give_back_what_was_held() -> None:
    class Odd:
        @property
        def status_code(self) -> int:
            raise ValueError("mine")

        usage = property(status_code.fget)
        headers = property(status_code.fget)

    class Text:
        status_code = "200 OK"
        content = "usage"
        headers = {"x-ratelimit-limit-requests": 5}

        def json(self) -> object:
            return []

    limit = RateLimit(requests_per_minute=60_000, tokens_per_minute=60_000, learn_headers=True)
    for answer in (Odd(), Text(), None, 3, "text", {"usage": {}}):
        lane = Lane()
        server = Blocking(lane)
        server.attempt = lambda prepared, record, answer=answer: answer  # type: ignore[method-assign]
        server.judge = lambda prepared, answer: None  # type: ignore[method-assign]
        pacer = Pacer(rate_limit=limit, breaker=BREAKER, adaptive=ADAPTIVE)
        assert pacer.attempt(server, lane, None, Record()) is answer  # type: ignore[arg-type]
        check_empty(lane, pacer)
