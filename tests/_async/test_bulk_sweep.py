"""Bulk runs that are left at random moments, with every limit there is: nothing goes on, nothing is held."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pynector import AdaptiveConcurrency, AsyncPynector, CircuitBreaker, Outcome, RateLimit, RetryPolicy, errors
from pynector._async.attempts import Record
from pynector._concurrency.aio.clock import current_time, sleep
from pynector._concurrency.aio.scopes import CancelScope, fail_after, move_on_after
from pynector.testing import LocalServer
from servers.faulty import BROKEN, FaultyApp
from servers.held import held, lanes_of

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx")]

RETRY = RetryPolicy(max_retries=2, backoff_factor=0.002, budget=None)
ENDS = ("break", "raise", "cancel", "timeout", "stop", "input", "all")
KINDS = ("plain", "ordered", "adaptive", "rate", "breaker", "checkpoint", "dedupe", "everything")


class Scenario:
    """What a seed says: the client, the run, and how it ends."""

    def __init__(self, seed: int, folder: Path) -> None:
        rng = self.rng = random.Random(seed)
        self.seed = seed
        self.kind = KINDS[seed % len(KINDS)]
        self.end = rng.choice(ENDS)
        self.count = rng.choice((5, 40, 120))
        self.after = rng.randrange(self.count)
        self.moment = rng.random() * 0.15
        self.lazy = rng.random() < 0.5 or self.end == "input"
        self.requests = [{"path": f"/x/{seed}/{n % 12 if self.has('dedupe') else n}"} for n in range(self.count)]
        self.pulled = 0
        self.client: dict[str, Any] = {"retry": RETRY}
        self.run: dict[str, Any] = {
            "max_concurrency": rng.choice((1, 4, 10)),
            "buffer": rng.choice((0, 3, None)),
            "ordered": self.has("ordered") or rng.random() < 0.3,
        }
        if self.has("adaptive"):
            self.run["max_concurrency"] = rng.choice(("auto", AdaptiveConcurrency(initial=2, maximum=8)))
        if self.has("rate"):
            self.client["rate_limit"] = RateLimit(requests_per_minute=rng.choice((6_000, 60_000)), burst=0.03)
        if self.has("breaker"):
            self.client["circuit_breaker"] = CircuitBreaker(failure_threshold=2, recovery_time=0.01)
        if self.has("checkpoint"):
            self.run["checkpoint"] = folder / f"{seed}.jsonl"
        if self.has("dedupe"):
            self.run["dedupe"] = True
        if self.end == "timeout":
            self.run["timeout"] = self.moment
        if rng.random() < 0.2:
            self.run["item_timeout"] = 0.02
        if rng.random() < 0.2:
            self.run.update(on_error=rng.choice(("drain", "cancel")), max_errors=3)

    def has(self, kind: str) -> bool:
        return self.kind in (kind, "everything")

    def source(self) -> Any:
        return self._lazily() if self.lazy else self.requests

    def _lazily(self) -> Iterator[Any]:
        for n, request in enumerate(self.requests):
            if self.end == "input" and n == self.after:
                raise LookupError("of the input")
            self.pulled += 1
            yield request

    def check(self, outcome: Outcome[Any], app: FaultyApp) -> None:
        """An outcome says what was."""
        assert outcome.request is self.requests[outcome.index]
        path = outcome.request["path"]
        if outcome.state == "ok":
            assert outcome.value.status_code == 200
            assert outcome.value.json()["path"] == path
            assert app.answered[path]
        elif outcome.state == "not_sent":
            assert not app.attempts[path] or self.has("dedupe"), outcome
        elif outcome.state == "failed":
            error = outcome.error
            if isinstance(error, errors.HTTPStatusError):
                seen = [app.fault(path, n + 1) for n in range(app.attempts[path])]
                assert str(error.status_code) in seen, outcome
            else:
                known = (errors.HTTPIncompleteError, errors.CircuitOpenError, errors.TransportError)
                assert isinstance(error, (*known, errors.TimeoutError)), outcome
        else:
            assert isinstance(outcome.error, (errors.TimeoutError, errors.TransportError)), outcome


class Wire:
    """Counts what goes on the wire at this end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._mutex = threading.Lock()
        sending = Record.sending

        def counted(record: Record) -> None:
            with self._mutex:
                self.count += 1
            sending(record)

        monkeypatch.setattr(Record, "sending", counted)


async def run_scenario(client: AsyncPynector, scenario: Scenario, app: FaultyApp) -> list[Outcome[Any]]:
    """Read a run until it ends as the scenario has it."""
    outcomes: list[Outcome[Any]] = []
    rng = scenario.rng
    with move_on_after(scenario.moment if scenario.end == "cancel" else 60) as scope:
        try:
            async with client.stream_batch(scenario.source(), **scenario.run) as run:
                async for outcome in run:
                    outcomes.append(outcome)
                    if rng.random() < 0.1:
                        await sleep(0.002)
                    if len(outcomes) > scenario.after:
                        if scenario.end == "raise":
                            raise ZeroDivisionError
                        if scenario.end == "break":
                            break
                        if scenario.end == "stop":
                            run.stop()
        except ZeroDivisionError:
            assert scenario.end == "raise"
        except errors.SourceError as exc:
            assert scenario.end == "input"
            assert isinstance(exc.__cause__, LookupError)
    assert scenario.end == "cancel" or not scope.cancelled_caught, "it hangs"
    for outcome in outcomes:
        scenario.check(outcome, app)
    found = [outcome.index for outcome in outcomes]
    assert len(set(found)) == len(found)
    if scenario.run["ordered"]:
        assert found == list(range(len(found)))
    if scenario.end in ("all", "stop", "timeout") and not scenario.lazy:
        assert sorted(found) == list(range(scenario.count))
    elif scenario.lazy and scenario.end in ("all", "timeout", "input"):
        assert sorted(found) == list(range(scenario.pulled))
    return outcomes


async def assert_over(server: LocalServer, wire: Wire, scenario: Scenario) -> None:
    """Control is back: nothing is sent or read any more, and nobody holds or awaits anything."""
    sent, pulled = wire.count, scenario.pulled
    await sleep(0.03)  # what was on the wire by then has a moment to be seen by the server
    seen = server.requests.count
    await sleep(0.08)
    assert wire.count == sent
    assert server.requests.count == seen
    assert scenario.pulled == pulled
    for lane in lanes_of(server.port):
        assert held(lane) == []


async def assert_resumes(client: AsyncPynector, scenario: Scenario, outcomes: list[Outcome[Any]]) -> None:
    """What was handed out with an answer comes back from the file."""
    answered = {outcome.index for outcome in outcomes if outcome.ok}
    again = {name: scenario.run[name] for name in ("checkpoint", "dedupe") if name in scenario.run}
    async with client.stream_batch(scenario.requests, **again) as run:
        rest = [outcome async for outcome in run]
    assert {outcome.index for outcome in rest if outcome.source == "checkpoint"} >= answered
    assert sorted(outcome.index for outcome in rest) == list(range(scenario.count))


async def sweep(scenario: Scenario, server: LocalServer, app: FaultyApp, wire: Wire) -> None:
    async with AsyncPynector(base_url=server.url, **scenario.client) as client:
        outcomes = await run_scenario(client, scenario, app)
        await assert_over(server, wire, scenario)
        if scenario.has("checkpoint"):
            await assert_resumes(client, scenario, outcomes)
        await sleep(0.02 if scenario.has("breaker") else 0)
        # A probe first, should the circuit be open.
        assert (await client.get("/items/1")).status_code == 200
        with fail_after(20):
            result = await client.batch_request([{"path": f"/index/{n}"} for n in range(12)])
        assert [response.json()["index"] for response in result] == list(range(12))
    ends = current_time() + 5
    while server.connections.open and current_time() < ends:
        await sleep(0.01)
    assert server.connections.open == 0
    lanes = lanes_of(server.port)
    assert len(lanes) == 1
    assert held(lanes[0]) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 108), marks=pytest.mark.full)], ids=["few", "many"])
async def test_left_at_random_moments(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    wire = Wire(monkeypatch)
    for seed in seeds:
        scenario = Scenario(seed, tmp_path)
        app = FaultyApp(seed, 0.03, BROKEN) if scenario.kind == "breaker" else FaultyApp(seed)
        with LocalServer(app, log_size=1) as server:
            try:
                await sweep(scenario, server, app, wire)
            except BaseException as exc:
                exc.add_note(f"seed {seed}: {vars(scenario)}")
                raise


@pytest.mark.full_beyond("httpx", "pyreqwest")
async def test_a_cancellation_that_is_kept_keeps_no_connection(no_leaks: None) -> None:
    """Its traceback has the frames of all that it went through, until a collector comes."""
    kept: list[BaseException] = []
    with LocalServer() as server:
        async with AsyncPynector(base_url=server.url) as client:
            assert (await client.get("/items/1")).status_code == 200
            with CancelScope() as scope:
                scope.cancel()
                try:
                    await client.get("/items/2")
                except BaseException as exc:
                    kept.append(exc)
                    raise
        ends = current_time() + 3
        while server.connections.open and current_time() < ends:
            await sleep(0.01)
        assert server.connections.open == 0
        assert server.requests.count == 1
    assert len(kept) == 1
