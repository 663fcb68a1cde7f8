"""The same faults, in the same places, have the same outcomes in both colours."""

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from pynector import AsyncPynector, Outcome, Pynector, RetryPolicy
from servers.faulty import fault
from servers.scripted import Connection, ScriptedServer, http_response

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx", "pyreqwest")]

FAULTS = {"404": 5, "429": 8, "500": 8, "503": 10, "drop": 8, "cut": 6}
REASONS = {"200": "OK", "404": "Not Found", "429": "Too Many Requests", "500": "Oops", "503": "Service Unavailable"}
COUNT = 60


class Script:
    """Does to each attempt what the seed says."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.attempts: Counter[str] = Counter()
        self._mutex = threading.Lock()

    def __call__(self, conn: Connection) -> None:
        while True:
            try:
                path = conn.read_request().split(b" ", 2)[1].decode()
            except EOFError:
                return None
            with self._mutex:
                self.attempts[path] += 1
                attempt = self.attempts[path]
            what = fault(self.seed, path, attempt, FAULTS)
            body = json.dumps({"path": path, "attempt": attempt}).encode()
            if what == "drop":
                return conn.close()
            if what == "cut":
                conn.send(http_response(body)[:-3])
                return conn.close()
            conn.send(http_response(body, f"{what} {REASONS[what]}", b"content-type: application/json"))


class Row(NamedTuple):
    """What an outcome says that has to be the same."""

    index: int
    key: str | None
    state: str
    error: str | None
    status: int | None
    attempts: int
    source: str
    answer: Any


def row(outcome: Outcome[Any]) -> Row:
    error = outcome.error
    return Row(
        outcome.index,
        outcome.key,
        outcome.state,
        None if error is None else type(error).__name__,
        getattr(outcome.value if error is None else error, "status_code", None),
        outcome.attempts,
        outcome.source,
        None if error is not None else outcome.value.json(),
    )


def items(equal: int) -> list[Any]:
    """Requests of all kinds, each of them so many times."""
    made: list[Any] = []
    for n in range(COUNT):
        path = f"/x/{n // equal}"
        if n // equal % 3 == 1:
            made.append(({"method": "POST", "path": path, "json": {"n": 1}}, {"idempotency_key": "the same"}))
        elif n // equal % 3 == 2 and equal == 1:
            made.append({"path": path, "custom_id": f"item-{n}"})
        else:
            made.append({"path": path})
    return made


def client_options(url: str) -> dict[str, Any]:
    return {"base_url": url, "retry": RetryPolicy(max_retries=2, backoff_factor=0, budget=None)}


def blocking(url: str, requests: list[Any], **options: Any) -> list[Row]:
    with Pynector(**client_options(url)) as client, client.stream_batch(requests, **options) as run:
        return sorted(row(outcome) for outcome in run)


def awaiting(url: str, requests: list[Any], on_trio: bool, **options: Any) -> list[Row]:
    async def main() -> list[Row]:
        async with AsyncPynector(**client_options(url)) as client, client.stream_batch(requests, **options) as run:
            return sorted([row(outcome) async for outcome in run])

    return trio.run(main) if on_trio else asyncio.run(main())


def both(seed: int, requests: list[Any], folder: Path | None = None, **options: Any) -> list[list[Row]]:
    """What it comes to in each colour: with a folder twice, with a checkpoint in it."""
    found: list[list[list[Row]]] = []
    for colour in ("blocking", "asyncio", "trio"):
        if folder is not None:
            options["checkpoint"] = folder / f"{seed}-{colour}.jsonl"
        runs = []
        with ScriptedServer(Script(seed), repeat=True) as server:
            for _ in range(1 if folder is None else 2):
                if colour == "blocking":
                    runs.append(blocking(server.url, requests, **options))
                else:
                    runs.append(awaiting(server.url, requests, colour == "trio", **options))
            if folder is not None:
                # The other colour goes on with the file.
                if colour == "blocking":
                    runs.append(awaiting(server.url, requests, False, **options))
                else:
                    runs.append(blocking(server.url, requests, **options))
        found.append(runs)
    assert found[0] == found[1] == found[2]
    return found[0]


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(3, 40))]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_outcomes(seed: int, no_leaks: None) -> None:
    (rows,) = both(seed, items(1), max_concurrency=4)
    assert [each.index for each in rows] == list(range(COUNT))
    assert {"ok", "failed"} <= {each.state for each in rows}
    assert {each.attempts for each in rows} == {1, 2, 3}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_of_an_earlier_run(seed: int, tmp_path: Path, no_leaks: None) -> None:
    first, second, third = both(seed, items(1), tmp_path, max_concurrency=4)
    done = {each.index for each in first if each.state == "ok"}
    assert {each.index for each in second if each.source == "checkpoint"} == done
    assert done <= {each.index for each in third if each.source == "checkpoint"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_duplicates(seed: int, no_leaks: None) -> None:
    (rows,) = both(seed, items(4), max_concurrency=1, dedupe=True)
    assert {each.source for each in rows} == {"network", "duplicate"}
    assert all(each.state == "ok" for each in rows if each.source == "duplicate")
