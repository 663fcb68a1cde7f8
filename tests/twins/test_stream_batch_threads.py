"""Bulk runs where blocking code lives: the caller's own thread, Ctrl-C, inputs that block."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from pynector import Pynector, errors
from pynector._sync.bulk.signal import Signal
from pynector._sync.bulk.source import Handed
from pynector.concurrency.sync import move_on_after, sleep
from pynector.testing import LocalServer


def test_everything_of_the_user_runs_in_his_thread(server: LocalServer, no_leaks: None) -> None:
    seen: list[int] = []

    def source() -> Iterator[dict[str, Any]]:
        try:
            for n in range(30):
                seen.append(threading.get_ident())
                yield {"path": f"/index/{n}"}
        finally:
            seen.append(threading.get_ident())

    with Pynector(base_url=server.url) as client:
        for timeout in (None, 30):
            with client.stream_batch(
                source(), timeout=timeout, progress=lambda done, total: seen.append(threading.get_ident())
            ) as run:
                assert len(list(run)) == 30
    assert len(seen) == 2 * 61
    assert set(seen) == {threading.get_ident()}


def test_a_slow_input_is_sent_item_by_item(server: LocalServer) -> None:
    def source() -> Iterator[dict[str, Any]]:
        for n in range(5):
            assert server.requests.count >= n - 1  # all but the last one may not be there yet
            yield {"path": f"/index/{n}"}
            time.sleep(0.1)

    with Pynector(base_url=server.url) as client:
        with client.stream_batch(source(), max_concurrency=10) as run:
            assert all(outcome.ok for outcome in run)
        server.reset()
        assert len(client.batch_request(source(), max_concurrency=10).ok) == 5


def test_an_input_that_blocks_ends_with_the_deadline(server: LocalServer, no_leaks: None) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield {"path": "/index/0"}
        yield {"path": "/delay?s=30"}
        sleep(30)  # one of ours, which a deadline ends
        yield {"path": "/index/1"}

    started = time.monotonic()
    with Pynector(base_url=server.url) as client:
        with client.stream_batch(source(), timeout=0.3, ordered=True) as run:
            assert [outcome.state for outcome in run] == ["ok", "unknown"]
        results = client.batch_request(source(), timeout=0.3)
        assert [outcome.state for outcome in results.outcomes] == ["ok", "unknown"]
        with move_on_after(0.3) as scope, client.stream_batch(source(), ordered=True) as run:
            list(run)
        assert scope.cancelled_caught
    assert time.monotonic() - started < 10


def test_giving_up_in_the_middle_of_an_input_is_no_end(server: LocalServer, no_leaks: None) -> None:
    """A generator that a cancellation has ended looks like one that has no more items: it is told apart."""

    def source() -> Iterator[dict[str, Any]]:
        yield {"path": "/index/0"}
        sleep(30)
        yield {"path": "/index/1"}

    with Pynector(base_url=server.url) as client, client.stream_batch(source()) as run:
        seen = []
        with move_on_after(0.2) as scope:
            seen += [outcome.index for outcome in run]
        assert scope.cancelled_caught
        with pytest.raises(errors.SourceError, match="a cancellation ended it"):
            for outcome in run:
                seen.append(outcome.index)
        assert seen == [0]


def test_async_input_is_refused(server: LocalServer) -> None:
    async def source() -> Any:
        yield {"path": "/items/1"}

    with Pynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match="AsyncPynector"):
            client.stream_batch(source())


SCRIPT = """
import sys, threading, time
from pynector import Pynector
url = sys.argv[1]
client = Pynector(base_url=url)

def endless():
    try:
        while True:
            yield {{"path": "{path}"}}
    finally:
        print("closed", flush=True)

print("started", flush=True)
try:
    with client.stream_batch({source}, max_concurrency=10, {options}) as run:
        for outcome in run:
            {body}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(130)
"""

CASES = {
    "waiting for answers": ("endless()", "/delay?s=60", "", "pass", 10),
    "a list": ("[{'path': '/delay?s=60'}] * 100", "", "", "pass", 10),
    "in the body": ("endless()", "/items/1", "", "time.sleep(60)", 1),
    "with a deadline": ("endless()", "/delay?s=60", "timeout=100", "pass", 10),
    "busy": ("endless()", "/items/1", "ordered=True", "pass", 100),
}


@pytest.mark.parametrize("case", CASES)
def test_ctrl_c_ends_a_run_and_the_process(server: LocalServer, case: str) -> None:
    source, path, options, body, sent_by_then = CASES[case]
    script = textwrap.dedent(SCRIPT.format(source=source, path=path, options=options, body=body))
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script, server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        deadline = time.monotonic() + 20
        while server.requests.count < sent_by_then and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.requests.count >= sent_by_then
        time.sleep(0.1)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        took = time.monotonic() - sent
    finally:
        process.kill()
        process.wait()
    assert out == ("closed\n" if "endless" in source else "") + "interrupted\n", err
    assert process.returncode == 130
    assert err == ""
    assert took < 5, "far from the second it should take at most"


class SlowList(deque[Any]):
    """The idle workers, with a pause where two threads meet: one is woken that has just seen that it need not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.resting = threading.Event()
        self.chosen = threading.Event()
        self.gone = threading.Event()

    def append(self, item: Any) -> None:
        super().append(item)
        self.resting.set()
        self.chosen.wait(5)

    def pop(self) -> Any:
        item = super().pop()
        self.chosen.set()
        self.gone.wait(0.1)
        return item


def test_a_worker_that_is_woken_while_it_is_awake_can_be_woken_again() -> None:
    handed = Handed(iter("abc"), sized=False, low=-1, news=Signal())
    idle = handed._idle = SlowList()
    got: list[object] = []

    def work() -> None:
        while (job := handed.take()) is not None:
            got.append(job.data)
            idle.gone.set()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    for count in range(1, 4):
        assert idle.resting.wait(5)
        idle.resting.clear()
        assert handed.read()
        handed.wake()
        for _ in range(500):
            if len(got) == count:
                break
            time.sleep(0.01)
        assert len(got) == count, "nobody comes for an item"
    assert not handed.read()
    worker.join(5)
    assert got == ["a", "b", "c"]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_run_is_of_one_process(server: LocalServer, lazy: bool) -> None:
    with Pynector(base_url=server.url) as client:
        requests: list[dict[str, Any]] = [{"path": f"/index/{n}"} for n in range(50)]
        with client.stream_batch(iter(requests) if lazy else requests, max_concurrency=2) as run:
            next(run)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    next(run)
                except RuntimeError as exc:
                    run.__exit__(RuntimeError, exc, None)
                    code = 0 if "of the parent process" in str(exc) and client.get("/index/1").is_success else 2
                finally:
                    os._exit(code)
            assert len(list(run)) == 49
        for _ in range(500):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            time.sleep(0.01)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        assert os.waitstatus_to_exitcode(status) == 0
