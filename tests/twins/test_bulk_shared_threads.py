"""One client, one rate limit and one adaptive limit, used by many threads at once, and by a forked child."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pynector import AdaptiveConcurrency, CircuitBreaker, Pynector, RateLimit, RetryPolicy
from pynector.testing import LocalServer
from servers.faulty import FaultyApp
from servers.held import held, lanes_of
from servers.limited import LimitedApp

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

THREADS = 8


def indexes(number: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(number)]


def at_once(work: Callable[[int], None]) -> None:
    """Run it in so many threads, which begin together."""
    start = threading.Barrier(THREADS)

    def begin(number: int) -> None:
        start.wait(10)
        work(number)

    with ThreadPoolExecutor(THREADS, "user") as pool:
        for done in [pool.submit(begin, number) for number in range(THREADS)]:
            done.result(120)


def assert_nothing_held(port: int) -> None:
    lanes = lanes_of(port)
    assert len(lanes) == 1
    assert held(lanes[0]) == []


@pytest.mark.parametrize("rounds", [2, pytest.param(30, marks=pytest.mark.full)])
def test_many_threads_share_one_client(rounds: int, no_leaks: None) -> None:
    """Batches and runs at once, some of them left early: all is right, and all together keep to both limits."""
    app = LimitedApp(most_at_once=6, latency=0.004)
    limit = AdaptiveConcurrency(initial=4, maximum=8)
    total = [0] * THREADS
    with LocalServer(app) as server:
        with Pynector(base_url=server.url, rate_limit=RateLimit(requests_per_minute=24_000, burst=0.1)) as client:

            def work(number: int) -> None:
                rng = random.Random(number)
                for _ in range(rounds):
                    count = rng.randrange(5, 30)
                    requests = [{"path": f"/{number}/{n}"} for n in range(count)]
                    if rng.random() < 0.5:
                        result = client.batch_request(requests if rng.random() < 0.5 else iter(requests), limit)
                        assert [response.json()["path"] for response in result] == [each["path"] for each in requests]
                        total[number] += count
                        continue
                    most = rng.choice((count, rng.randrange(count)))
                    with client.stream_batch(requests, max_concurrency=limit, ordered=rng.random() < 0.5) as run:
                        for outcome in run:
                            assert outcome.unwrap().json()["path"] == f"/{number}/{outcome.index}"
                            total[number] += 1
                            if outcome.index >= most:
                                break

            started = time.monotonic()
            at_once(work)
            elapsed = time.monotonic() - started
            assert_nothing_held(server.port)
            # One limit for all of them: the threads have not eight times as many.
            assert server.peak_in_flight <= 8
            assert app.accepted >= sum(total)
            assert app.accepted + app.refused <= 400 * (elapsed + 0.1) + 8
            assert len(client.batch_request(indexes(10)).ok) == 10


def test_many_threads_leave_at_random_moments(no_leaks: None) -> None:
    app = FaultyApp(7)
    breaker = CircuitBreaker(failure_threshold=4, recovery_time=0.01)
    retry = RetryPolicy(max_retries=2, backoff_factor=0.001, budget=None)
    limits: dict[str, Any] = {
        "rate_limit": RateLimit(requests_per_minute=30_000, burst=0.02),
        "circuit_breaker": breaker,
    }
    with LocalServer(app) as server, Pynector(base_url=server.url, retry=retry, **limits) as client:

        def work(number: int) -> None:
            rng = random.Random(number)
            for turn in range(4):
                requests = [{"path": f"/x/{number}/{turn}/{n}"} for n in range(40)]
                with client.stream_batch(
                    requests, max_concurrency="auto", timeout=rng.choice((None, rng.random() * 0.1)), dedupe=True
                ) as run:
                    for outcome in run:
                        assert outcome.request is requests[outcome.index]
                        if outcome.ok:
                            assert outcome.value.json()["path"] == outcome.request["path"]
                        if rng.random() < 0.02:
                            break

        at_once(work)
        seen = server.requests.count
        time.sleep(0.1)
        assert server.requests.count <= seen + THREADS  # pyreqwest may have had one more of each on its way
        assert_nothing_held(server.port)
        time.sleep(0.02)
        assert client.get("/items/1").status_code == 200
        assert len(client.batch_request(indexes(10)).ok) == 10


@pytest.mark.engines("httpx")  # pyreqwest does not work in a forked child, and says so: that has tests of its own
@pytest.mark.parametrize("seed", range(3))
def test_a_child_that_is_forked_during_a_run(seed: int, no_leaks: None) -> None:
    """It has limits of its own, whatever its parent held and waited for in that moment, and it does not hang."""
    rng = random.Random(seed)
    app = LimitedApp(most_at_once=4, latency=0.01)
    limit = AdaptiveConcurrency(initial=2, maximum=6)
    with LocalServer(app) as server:
        # So few a minute that whoever had to wait for the others' turns would wait for long.
        with Pynector(base_url=server.url, rate_limit=RateLimit(requests_per_minute=6_000, burst=0.1)) as client:

            def work(number: int) -> None:
                with client.stream_batch(indexes(40), max_concurrency=limit) as run:
                    assert {outcome.state for outcome in run} == {"ok"}

            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            children = []
            for _ in range(4):
                time.sleep(rng.random() * 0.1)
                (parents,) = lanes_of(server.port)
                child = os.fork()
                if child == 0:
                    code = 1
                    try:
                        code = in_the_child(client, server.port, parents)
                    finally:
                        os._exit(code)
                children.append(child)
            codes = [wait_for(child) for child in children]
            for thread in threads:
                thread.join(60)
            assert codes == [0] * 4
            assert_nothing_held(server.port)


def in_the_child(client: Pynector, port: int, parents: Any) -> int:
    """What is wrong there; 0 for nothing."""
    result = client.batch_request(indexes(8), AdaptiveConcurrency(initial=2, maximum=6), timeout=20)
    if len(result.ok) != 8:
        return 2
    (own,) = lanes_of(port)
    if own is parents:
        return 3
    return 4 if held(own) else 0


def wait_for(child: int) -> int:
    """The code that a child ends with; one that hangs is killed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
