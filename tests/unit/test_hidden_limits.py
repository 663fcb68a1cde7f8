"""What adaptive concurrency and the shared pause make of servers whose limits nobody knows, on virtual time."""

import random

import pytest

from pynector._policies.adaptive import AdaptiveConcurrency
from unit.simulation import (
    AUTO,
    BrokenServer,
    BucketServer,
    FlakyServer,
    InFlightServer,
    Result,
    Simulation,
    SlidingServer,
    WindowServer,
)

SLOW = (0.02, 0.2)
QUICK = (0.02, 0.1)


def check(result: Result, items: int, *, share: float = 0.8, refused: float = 0.08) -> None:
    assert result.done == items
    assert result.early == 0, "sent before the time that the server has named"
    assert result.share >= share
    assert result.refused_late < refused


@pytest.mark.parametrize(("limit", "items"), [(3, 1_000), (20, 5_000), (60, 10_000), (150, 10_000)])
@pytest.mark.parametrize("latency", [SLOW, (0.02, 0.04)])
def test_a_limit_to_the_requests_at_once(limit: int, items: int, latency: tuple[float, float]) -> None:
    check(Simulation(InFlightServer(limit), items=items, latency=latency, seed=1).run(), items)


@pytest.mark.parametrize(("rate", "items"), [(20, 1_000), (100, 5_000), (500, 10_000)])
@pytest.mark.parametrize("retry_after", [None, 0.0, 1.0])
@pytest.mark.parametrize("server", [WindowServer, SlidingServer])
def test_a_limit_to_the_requests_in_a_second(
    server: type[WindowServer], rate: int, items: int, retry_after: float | None
) -> None:
    simulation = Simulation(server(rate), items=items, latency=QUICK, retry_after=retry_after, seed=1)
    check(simulation.run(), items)


@pytest.mark.parametrize(("rate", "items"), [(20, 1_000), (100, 5_000), (500, 10_000)])
@pytest.mark.parametrize("burst", [0.1, 1.0])
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_a_bucket_of_tokens(rate: int, items: int, burst: float, retry_after: float | None) -> None:
    server = BucketServer(rate, burst * rate)
    check(Simulation(server, items=items, latency=QUICK, retry_after=retry_after, seed=1).run(), items, share=0.78)


def test_refusals_that_come_late() -> None:
    for server in (InFlightServer(20), WindowServer(100)):
        check(Simulation(server, items=5_000, latency=QUICK, refusal=0.1, seed=1).run(), 5_000)


@pytest.mark.parametrize("concurrency", [10, 64])
@pytest.mark.parametrize("rate", [20, 100])
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_the_pause_alone_keeps_to_a_limit_in_a_second(concurrency: int, rate: int, retry_after: float | None) -> None:
    # However many workers there are: the pace is learnt.
    simulation = Simulation(
        WindowServer(rate), items=50 * rate, latency=QUICK, concurrency=concurrency, retry_after=retry_after, seed=1
    )
    check(simulation.run(), 50 * rate, refused=0.1)


@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_a_limit_to_the_requests_at_once_is_kept_by_a_fixed_number(retry_after: float | None) -> None:
    # Without an adaptive limit most of them are too many, all the time. They all get through nevertheless.
    simulation = Simulation(
        InFlightServer(3), items=1_000, latency=SLOW, concurrency=64, retry_after=retry_after, seed=1
    )
    check(simulation.run(), 1_000, share=0.3)


def test_refusals_that_mean_nothing_do_not_bring_everything_to_a_halt() -> None:
    result = Simulation(FlakyServer(10, 0.05), items=5_000, latency=QUICK, concurrency=10, seed=1).run()
    check(result, 5_000, share=0.3)


@pytest.mark.parametrize(("concurrency", "items"), [(10, 2_000), (50, 5_000), (AUTO, 10_000)])
@pytest.mark.parametrize(("share", "slower"), [(0.02, 1.3), (0.1, 2.0), (0.3, 4.0)])
def test_refusals_by_chance_cost_hardly_more_than_their_own_waits(
    concurrency: int | AdaptiveConcurrency, items: int, share: float, slower: float
) -> None:
    def seconds(share: float) -> float:
        runs = [
            Simulation(
                FlakyServer(1_000, share, seed), items=items, latency=QUICK, concurrency=concurrency, seed=seed
            ).run()
            for seed in (1, 2, 3)
        ]
        assert all(run.done == items for run in runs)
        return sum(run.seconds for run in runs)

    assert seconds(share) <= slower * seconds(0.0)


def test_a_hidden_limit_is_kept_although_some_are_refused_by_chance() -> None:
    class Both(WindowServer):
        chance = random.Random(5)

        def accepts(self, now: float) -> bool:
            return self.chance.random() >= 0.02 and super().accepts(now)

    check(Simulation(Both(100), items=5_000, latency=QUICK, concurrency=20, seed=1).run(), 5_000, share=0.7)


def test_a_server_that_refuses_everything_for_a_while_is_asked_seldom_and_then_fast_again() -> None:
    server = BrokenServer(50, 3.0, 13.0)
    simulation = Simulation(server, items=6_000, latency=SLOW, seed=1)
    result = simulation.run()
    assert result.done == 6_000
    assert result.longest <= 12
    assert result.requests < 6_300
    # The rest takes seven seconds at full speed, and half an hour at the pace of the probes.
    assert result.seconds < 13.0 + 16.0


def test_the_limit_follows_a_server_that_gets_more_room_or_less() -> None:
    server = InFlightServer(20)
    simulation = Simulation(server, items=30_000, latency=(0.05, 0.06), seed=1)
    limit = simulation.limit
    assert limit is not None
    levels = {}

    def resize(name: str, room: int) -> None:
        levels[name] = limit.limit
        server.limit = room

    simulation.at(8.0, lambda _: resize("before", 80), simulation.nobody)
    simulation.at(28.0, lambda _: resize("wide", 20), simulation.nobody)
    simulation.at(30.0, lambda _: resize("narrow", 20), simulation.nobody)
    assert simulation.run().done == 30_000
    assert 15 <= levels["before"] <= 22
    assert 60 <= levels["wide"] <= 88
    assert 14 <= levels["narrow"] <= 28


def test_the_bounds_hold() -> None:
    bounds = AdaptiveConcurrency(initial=8, minimum=4, maximum=16)
    simulation = Simulation(WindowServer(30), items=1_000, latency=SLOW, concurrency=bounds, seed=1)
    limit = simulation.limit
    assert limit is not None
    assert simulation.run().done == 1_000
    assert {level for _, level in limit.history} <= set(range(4, 17))
    assert limit.in_flight == 0


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [Simulation(WindowServer(50), items=500, latency=QUICK, seed=3).run() for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != Simulation(WindowServer(50), items=500, latency=QUICK, seed=4).run()
