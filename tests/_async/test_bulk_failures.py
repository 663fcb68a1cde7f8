"""What fails in a bulk run is one item, or the point where it failed, with an error that says what it was."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, Checkpoint, Outcome, RateLimit, RetryPolicy, errors
from pynector._concurrency.aio.scopes import fail_after
from pynector.testing import LocalServer
from servers.held import held, lanes_of

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx")]

QUICK = RetryPolicy(max_retries=1, backoff_factor=0.001)


def indexes(number: int) -> list[Any]:
    return [{"path": f"/index/{n}"} for n in range(number)]


def nested() -> dict[str, Any]:
    """A value that holds itself."""
    value: dict[str, Any] = {}
    value["self"] = value
    return value


class Sulking(Mapping[str, Any]):
    """A mapping that does not want to be read."""

    def __getitem__(self, name: str) -> Any:
        raise ZeroDivisionError("in the item")

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError("in the item")

    def __len__(self) -> int:
        return 1


class Secretive:
    """An object whose every attribute raises."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise ZeroDivisionError("in the item")


BAD: dict[str, Any] = {
    "json": {"method": "POST", "path": "/echo", "json": {1, 2}},
    "json of itself": {"method": "POST", "path": "/echo", "json": nested()},
    "text": {"method": "POST", "path": "/echo", "json": "\ud800"},
    "method": {"method": "GE T", "path": "/echo"},
    "method of no text": {"method": 7, "path": "/echo"},
    "header": {"path": "/echo", "headers": {"a": "b\r\nc: d"}},
    "headers": {"path": "/echo", "headers": 7},
    "params": {"path": "/echo", "params": object()},
    "path": {"path": 7},
    "field": {"path": "/echo", "pth": 1},
    "nothing": None,
    "number": 7,
    "object": object(),
    "class": dict,
    "list": [1, 2],
    "three": ({"path": "/echo"}, {}, {}),
    "option": ({"path": "/echo"}, {"tiemout": 1}),
    "option of another kind": ({"path": "/echo"}, {7: 1}),
    "option value": ({"path": "/echo"}, {"timeout": "soon"}),
    "sulking": Sulking(),
    "sulking options": ({"path": "/echo"}, Sulking()),
    "secretive": Secretive(),
    "key list": {"path": "/echo", "custom_id": ["a"]},
    "key float": {"path": "/echo", "custom_id": 1.5},
    "key bool": {"path": "/echo", "key": True},
    "key empty": {"path": "/echo", "key": ""},
}
KINDS = ("plain", "checkpoint", "dedupe", "rate")
NOT_OURS = {"sulking", "sulking options", "secretive"}


def options_of(kind: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """For a client, and for a run."""
    client: dict[str, Any] = {"retry": QUICK}
    if kind == "rate":
        client["rate_limit"] = RateLimit(tokens_per_minute=10**9)
    run: dict[str, Any] = {"checkpoint": {"checkpoint": folder / "run.jsonl"}, "dedupe": {"dedupe": True}}.get(kind, {})
    return client, run


def check_error(outcome: Outcome[Any], name: str) -> None:
    assert outcome.state in ("failed", "not_sent"), outcome
    if name in NOT_OURS:
        assert isinstance(outcome.error, (ZeroDivisionError, errors.PynectorError)), outcome
    else:
        assert isinstance(outcome.error, (errors.ConfigurationError, errors.SerializationError)), outcome


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lazy", [False, True])
async def test_items_that_cannot_be_sent(
    server: LocalServer, kind: str, lazy: bool, tmp_path: Path, no_leaks: None
) -> None:
    """Each is one failure, and all others are delivered."""
    requests: list[Any] = []
    for bad in BAD.values():
        requests += [{"path": f"/index/{len(requests)}"}, bad]
    for_client, for_run = options_of(kind, tmp_path)
    async with AsyncPynector(base_url=server.url, **for_client) as client:
        with fail_after(60):
            source = iter(requests) if lazy else requests
            async with client.stream_batch(source, ordered=True, max_concurrency=4, **for_run) as run:
                outcomes = [outcome async for outcome in run]
        assert [outcome.index for outcome in outcomes] == list(range(len(requests)))
        for outcome in outcomes[::2]:
            assert outcome.unwrap().json() == {"index": outcome.index}
        for name, outcome in zip(BAD, outcomes[1::2], strict=True):
            check_error(outcome, name)
        assert (await client.get("/items/1")).status_code == 200
    for lane in lanes_of(server.port):
        assert held(lane) == []


async def test_items_that_cannot_be_sent_in_a_batch(server: LocalServer, no_leaks: None) -> None:
    async with AsyncPynector(base_url=server.url, retry=QUICK) as client:
        result = await client.batch_request([*BAD.values(), *indexes(5)])
    for name, outcome in zip(BAD, result.outcomes, strict=False):
        check_error(outcome, name)
    assert all(outcome.ok for outcome in result.outcomes[len(BAD) :])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [ValueError("mine"), errors.ConnectionError("mine"), StopIteration()])
async def test_an_input_that_raises_in_the_middle(
    server: LocalServer, kind: str, error: Exception, tmp_path: Path, no_leaks: None
) -> None:
    class Source:
        """An iterator: a generator would turn a StopIteration into something else."""

        def __init__(self) -> None:
            self.left = iter(indexes(9))

        def __iter__(self) -> "Source":
            return self

        def __next__(self) -> Any:
            found = next(self.left, None)
            if found is None:
                raise error
            return found

    for_client, for_run = options_of(kind, tmp_path)
    found: list[int] = []
    async with AsyncPynector(base_url=server.url, **for_client) as client:
        async with client.stream_batch(Source(), max_concurrency=4, **for_run) as run:
            try:
                async for outcome in run:
                    assert outcome.ok
                    found.append(outcome.index)
            except errors.SourceError as exc:
                assert exc.__cause__ is error
                assert "after 9 items" in str(exc)
            else:
                assert isinstance(error, StopIteration)
        assert sorted(found) == list(range(9))
        if not for_run:
            try:
                outcomes = (await client.batch_request(Source())).outcomes
            except errors.SourceError as exc:
                outcomes = exc.outcomes
            assert [outcome.state for outcome in outcomes] == ["ok"] * 9


@pytest.mark.parametrize("what", ["raises", "raises ours", "text", "negative"])
async def test_a_count_of_tokens_that_goes_wrong(server: LocalServer, what: str, no_leaks: None) -> None:
    """Of one item it is that item's failure, and nothing is tried again for it."""
    calls: list[str] = []
    mutex = threading.Lock()

    def count_tokens(data: Any) -> Any:
        with mutex:
            calls.append(data.url)
        if data.url != "/index/3":
            return 10
        if what == "raises":
            raise ValueError("mine")
        if what == "raises ours":
            raise errors.ConnectionError("mine", transient=True, sent=False)
        return "many" if what == "text" else -1

    limit = RateLimit(tokens_per_minute=10**9, count_tokens=count_tokens)
    async with AsyncPynector(base_url=server.url, rate_limit=limit, retry=QUICK) as client:
        result = await client.batch_request(indexes(8), max_concurrency=2)
        assert [outcome.ok for outcome in result.outcomes] == [n != 3 for n in range(8)]
        failed = result.outcomes[3]
        assert isinstance(failed.error, errors.ConfigurationError)
        assert "count_tokens" in str(failed.error)
        assert failed.state == "failed"
        assert sorted(calls) == [f"/index/{n}" for n in range(8)]
        assert server.requests.count == 7
    assert [held(lane) for lane in lanes_of(server.port)] == [[]]


@pytest.mark.parametrize("made", [None, ["a"], {}, 1.5, True, "", b"a"])
@pytest.mark.parametrize("kind", ["plain", "checkpoint"])
async def test_a_key_function_that_returns_no_key(
    server: LocalServer, made: Any, kind: str, tmp_path: Path, no_leaks: None
) -> None:
    def key(item: Any) -> Any:
        return made if item["path"] == "/index/4" else item["path"]

    _, for_run = options_of(kind, tmp_path)
    found = []
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.SourceError, match="item 4") as caught:
            async with client.stream_batch(indexes(8), key=key, **for_run) as run:
                async for outcome in run:
                    found.append(outcome.index)
    assert isinstance(caught.value.__cause__, errors.ConfigurationError)
    assert sorted(found) == [0, 1, 2, 3]


@pytest.mark.parametrize("when", ["request", "response"])
async def test_a_hook_that_raises(server: LocalServer, when: str, no_leaks: None) -> None:
    """It is the user's own error, and the request is not tried again for it."""

    def hook(message: Any) -> None:
        if "/index/3" in str(getattr(message, "url", "")):
            raise errors.ConnectionError("mine", transient=True, sent=False)

    async with AsyncPynector(base_url=server.url, event_hooks={when: [hook]}, retry=QUICK) as client:
        result = await client.batch_request(indexes(8))
    assert [outcome.ok for outcome in result.outcomes] == [n != 3 for n in range(8)]
    assert isinstance(result[3], errors.ConnectionError)
    assert server.requests.count == (8 if when == "response" else 7)


@pytest.mark.parametrize("raises", [ValueError, OSError, RecursionError])
async def test_answers_that_cannot_be_kept(
    server: LocalServer, raises: type[Exception], tmp_path: Path, no_leaks: None
) -> None:
    """They were paid for: what was asked is delivered, and the run ends there."""

    class Odd:
        """An answer of a kind that nobody knows."""

    class Transport:
        async def connect(self) -> None: ...

        async def disconnect(self) -> None: ...

        async def send(self, message: Any) -> None: ...

        def receive(self) -> Any: ...

        async def request(self, message: Any, *, timeout: float | None) -> Any:
            return Odd()

    def encode(value: Any) -> Any:
        raise raises("mine")

    asked = []
    async with AsyncPynector(Transport()) as client:
        checkpoint = Checkpoint(tmp_path / "run.jsonl", encode=encode, decode=encode)
        with pytest.raises(errors.CheckpointError, match=f"encode= raised {raises.__name__}"):
            async with client.stream_batch(
                [f"q{n}" for n in range(20)], max_concurrency=2, checkpoint=checkpoint
            ) as run:
                async for outcome in run:
                    asked.append(outcome.state)
    assert len(asked) == 20
    assert 1 <= asked.count("ok") <= 3
    assert set(asked) == {"ok", "not_sent"}


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_progress_callback_loses_no_outcome(server: LocalServer, ordered: bool, no_leaks: None) -> None:
    """It raises where the outcome is asked for; asked again, all of them come."""
    calls = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise KeyError("mine")

    found: list[int] = []
    failures = 0
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(20), progress=progress, ordered=ordered) as run:
            while len(found) < 20:
                try:
                    found.append((await anext(run)).index)
                except errors.PynectorError as exc:
                    assert isinstance(exc.__cause__, KeyError)
                    failures += 1
    assert sorted(found) == list(range(20))
    assert failures == calls // 3 > 5
