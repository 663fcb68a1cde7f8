"""Items that need no request: those of an earlier run, and those that are equal to another one."""

from pathlib import Path
from typing import Any

import pytest

from pynector import AsyncPynector, Checkpoint, errors
from pynector._concurrency.aio.clock import sleep
from pynector.testing import LocalServer
from pynector.transport.http import HttpMessage

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.full_beyond("httpx")]


def indexes(number: int) -> list[dict[str, Any]]:
    return [{"path": f"/index/{n}"} for n in range(number)]


async def test_a_run_is_resumed(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    path = tmp_path / "run.jsonl"
    async with AsyncPynector(base_url=server.url) as client:
        got = 0
        async with client.stream_batch(indexes(40), max_concurrency=3, checkpoint=path) as run:
            async for _ in run:
                got += 1
                if got == 15:
                    break
        first = server.requests.count
        assert 15 <= first <= 15 + 9
        for kind in (list, iter):
            async with client.stream_batch(kind(indexes(40)), max_concurrency=3, checkpoint=path) as run:
                outcomes = [outcome async for outcome in run]
            assert sorted(outcome.index for outcome in outcomes) == list(range(40))
            assert all(outcome.value.json()["index"] == outcome.index for outcome in outcomes)
            assert server.requests.count <= 40 + 3
        assert {outcome.source for outcome in outcomes} == {"checkpoint"}
        assert run.summary().sources["checkpoint"] == 40


async def test_what_failed_is_tried_again_if_it_may(server: LocalServer, tmp_path: Path) -> None:
    requests = [{"path": "/items/1"}, {"path": "/status/404"}]
    async with AsyncPynector(base_url=server.url) as client:
        sources = []
        for retry_failed in (True, True, False):
            checkpoint = Checkpoint(tmp_path / "run.jsonl", retry_failed=retry_failed)
            async with client.stream_batch(requests, checkpoint=checkpoint, ordered=True) as run:
                outcomes = [outcome async for outcome in run]
            assert isinstance(outcomes[1].error, errors.HTTPNotFoundError)
            sources.append([outcome.source for outcome in outcomes])
    assert sources == [["network"] * 2, ["checkpoint", "network"], ["checkpoint"] * 2]


async def test_another_job_is_refused(server: LocalServer, tmp_path: Path, no_leaks: None) -> None:
    path = tmp_path / "run.jsonl"
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(2), checkpoint=path) as run:
            assert [outcome.ok async for outcome in run] == [True, True]
    before = path.read_bytes()
    async with AsyncPynector(base_url=f"{server.url}/v2") as client:
        with pytest.raises(errors.CheckpointError, match="another job"):
            async with client.stream_batch(indexes(2), checkpoint=path):
                raise AssertionError
    assert path.read_bytes() == before


async def test_one_run_at_a_time(server: LocalServer, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(indexes(2), checkpoint=path):
            with pytest.raises(errors.CheckpointError, match=r"run\.jsonl"):
                async with client.stream_batch(indexes(2), checkpoint=path):
                    raise AssertionError


async def test_keys_of_items(server: LocalServer, tmp_path: Path) -> None:
    requests = [{"custom_id": f"a-{n}", "path": f"/index/{n}"} for n in range(5)]
    async with AsyncPynector(base_url=server.url) as client:
        result = await client.batch_request(requests)
        assert [outcome.key for outcome in result.outcomes] == [f"a-{n}" for n in range(5)]
        async with client.stream_batch(requests, checkpoint=tmp_path / "a") as run:
            assert {outcome.key async for outcome in run} == {f"a-{n}" for n in range(5)}
        # In another order, and of another shape: known by the key.
        turned = [{"path": f"/index/{n}", "custom_id": f"a-{n}", "params": {"x": 1}} for n in reversed(range(6))]
        async with client.stream_batch(turned, checkpoint=tmp_path / "a") as run:
            outcomes = [outcome async for outcome in run]
        assert [outcome.key for outcome in outcomes if outcome.source == "network"] == ["a-5"]


async def test_a_key_function_is_called_where_the_input_is_read(server: LocalServer, tmp_path: Path) -> None:
    import threading

    threads = set()

    def key(item: dict[str, Any]) -> str:
        threads.add(threading.current_thread())
        return item["path"].rpartition("/")[2]

    async with AsyncPynector(base_url=server.url) as client:
        for _ in range(2):
            async with client.stream_batch(indexes(8), key=key, checkpoint=tmp_path / "a", ordered=True) as run:
                outcomes = [outcome async for outcome in run]
            assert [outcome.key for outcome in outcomes] == [str(n) for n in range(8)]
    assert server.requests.count == 8
    assert threads == {threading.current_thread()}


async def test_a_key_function_that_raises_ends_the_input_there(server: LocalServer) -> None:
    def key(item: dict[str, Any]) -> str:
        if item["path"] == "/index/3":
            raise ValueError("mine")
        return item["path"]

    got = []
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.SourceError, match="item 3"):
            async with client.stream_batch(indexes(8), key=key) as run:
                async for outcome in run:
                    got.append(outcome.key)
    assert sorted(got) == ["/index/0", "/index/1", "/index/2"]


async def test_two_items_with_one_key_are_refused(server: LocalServer, tmp_path: Path) -> None:
    requests = [{"custom_id": "a", "path": "/index/1"}, {"custom_id": "a", "path": "/index/2"}]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, checkpoint=tmp_path / "a", ordered=True, max_concurrency=1) as run:
            outcomes = [outcome async for outcome in run]
    assert [outcome.state for outcome in outcomes] == ["ok", "failed"]
    assert isinstance(outcomes[1].error, errors.ConfigurationError)


async def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    from pynector._checkpoint import file

    written = 0
    real = file.os.write

    def full(fd: int, data: bytes) -> int:
        nonlocal written
        if b'"key"' in data:
            written += 1
            if written > 5:
                raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(file.os, "write", full)
    outcomes = []
    async with AsyncPynector(base_url=server.url) as client:
        with pytest.raises(errors.CheckpointError, match="No space left"):
            async with client.stream_batch(indexes(40), max_concurrency=2, checkpoint=tmp_path / "a") as run:
                async for outcome in run:
                    outcomes.append(outcome)
    assert sorted(outcome.index for outcome in outcomes) == list(range(40))
    assert 6 <= sum(outcome.ok for outcome in outcomes) <= 8
    assert server.requests.count <= 8


async def test_equal_requests_share_one_call(server: LocalServer, no_leaks: None) -> None:
    requests: list[Any] = [{"path": f"/slow/{n % 7}?ms=20"} for n in range(100)]
    requests += [HttpMessage(url="/slow/3?ms=20"), ({"path": "/slow/4?ms=20"}, {"idempotency_key": "k"})]
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=4, dedupe=True) as run:
            outcomes = [outcome async for outcome in run]
    assert server.requests.count == 8
    outcomes.sort(key=lambda outcome: outcome.index)
    assert [outcome.index for outcome in outcomes] == list(range(102))
    assert all(outcome.value.json()["id"] == n % 7 for n, outcome in enumerate(outcomes[:100]))
    assert sum(outcome.source == "network" for outcome in outcomes) == 8
    assert sum(outcome.source == "duplicate" for outcome in outcomes) == 94


async def test_equal_requests_that_fail(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/status/404"}] * 10
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=3, dedupe=True) as run:
            outcomes = [outcome async for outcome in run]
    assert len(outcomes) == 10
    assert all(isinstance(outcome.error, errors.HTTPNotFoundError) for outcome in outcomes)
    assert server.requests.count <= 10


async def test_leaving_while_equal_requests_wait(server: LocalServer, no_leaks: None) -> None:
    requests = [{"path": "/delay?s=20"}] * 10
    async with AsyncPynector(base_url=server.url) as client:
        async with client.stream_batch(requests, max_concurrency=3, dedupe=True, timeout=0.3) as run:
            outcomes = [outcome async for outcome in run]
        assert sorted(outcome.index for outcome in outcomes) == list(range(10))
        assert {outcome.state for outcome in outcomes} <= {"unknown", "not_sent"}
        async with client.stream_batch([{"path": "/delay?s=1"}] * 10, max_concurrency=3, dedupe=True):
            await sleep(0.1)
    assert server.requests.count == 2
