"""The blocking client of language models where blocking code lives: many threads, forks, calls that are cancelled."""

import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pynector import Pynector, RateLimit
from pynector._concurrency.threads._parking import Task
from pynector.concurrency.sync import CancelScope
from servers.leaks import LeakCheck
from servers.provider_server import ProviderServer

pytestmark = pytest.mark.needs("openai", "anthropic")

THREADS = 32
EACH = 4


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def client_of(provider: ProviderServer, **options: Any) -> Pynector:
    return Pynector(**provider.options(**options), retry=None)


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(THREADS)

    def together(thread: int) -> Any:
        barrier.wait()
        return work(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(together, range(THREADS)))


def test_one_client_for_many_threads(provider: ProviderServer, restless: None, no_leaks: None) -> None:
    """Its first use too is by all of them at once."""
    with client_of(provider) as client:

        def work(thread: int) -> list[str]:
            texts = []
            for n in range(EACH):
                if (thread + n) % 2:
                    texts.append(client.request(f"{thread} and {n}").text)
                else:
                    with client.stream(f"{thread} and {n}") as answer:
                        texts.append("".join(answer))
            return texts

        answers = in_threads(work)
    assert answers == [[f"echo: {thread} and {n}" for n in range(EACH)] for thread in range(THREADS)]
    assert provider.app.count() == THREADS * EACH


def test_threads_and_clients_of_one_key_share_a_limit(provider: ProviderServer, restless: None) -> None:
    limit = RateLimit(requests_per_minute=6_000, burst=0.01)
    options = provider.options()
    with Pynector(**options, rate_limit=limit) as first, Pynector(**options, rate_limit=limit) as second:
        first.request("warm")
        started = time.monotonic()
        in_threads(lambda thread: [(first, second)[(thread + n) % 2].request(f"{thread} {n}") for n in range(2)])
        took = time.monotonic() - started
    # 64 requests at 100 in a second; two limits would let them go in half of that.
    assert took > 0.6
    assert provider.app.count() == 1 + 2 * THREADS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child(provider: ProviderServer, no_leaks: None) -> None:
    with client_of(provider) as client:
        client.batch_request([f"warm {n}" for n in range(8)], max_concurrency=4)
        before = provider.server.connections.total
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            status = 1
            try:
                texts = [client.request(f"child {n}").text for n in range(3)]
                texts += [message.text for message in client.batch_request(["child 3", "child 4"])]
                with client.stream("child 5") as answer:
                    texts.append("".join(answer))
                status = 0 if texts == [f"echo: child {n}" for n in range(6)] else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        after = provider.server.connections.total
        assert after > before
        # The parent's own connections still work, and give the parent's own answers.
        assert client.request("parent").text == "echo: parent"
        with client.stream("parent again") as answer:
            assert "".join(answer) == "echo: parent again"
        assert provider.server.connections.total == after


def test_a_stream_that_is_dropped_in_another_thread(provider: ProviderServer, no_leaks: None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with client_of(provider) as client:

            def work(thread: int) -> str:
                answer = client.stream(f"{thread} two three four five six").__enter__()
                return str(next(answer))

            assert set(in_threads(work)) == {"echo:"}
            gc.collect()
            assert client.request("after").text == "echo: after"
    assert [each for each in caught if not issubclass(each.category, ResourceWarning)] == []


class Moment:
    """Cancels a scope as soon as the thread has come to a given one of its waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._thread = threading.get_ident()
        self._scope: CancelScope | None = None
        self._left = 0
        limit = Task.limit

        def counted(task: Task) -> float:
            if self._scope is not None and threading.get_ident() == self._thread:
                self._left -= 1
                if self._left == 0:
                    self._scope.cancel()
            return limit(task)

        monkeypatch.setattr(Task, "limit", counted)

    def come(self, scope: CancelScope, number: int) -> None:
        self._scope, self._left = scope, number

    def passed(self) -> bool:
        """Whether the moment came; from here on there is none."""
        self._scope = None
        return self._left <= 0


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "not connected"])
@pytest.mark.parametrize("how", ["plain", "streamed", "left"])
def test_cancelled_at_every_wait(
    provider: ProviderServer, how: str, warm: bool, monkeypatch: pytest.MonkeyPatch, no_leaks: None
) -> None:
    with client_of(provider) as client:
        client.request("the SDK is imported")
        check = LeakCheck()
        for number in range(1, 200):
            with client_of(provider) as other:
                if warm:
                    other.request("there is a connection")
                text = f"{how} {warm} {number} and so on"
                moment = Moment(monkeypatch)
                with CancelScope() as scope:
                    moment.come(scope, number)
                    ask(other, how, text)
                passed = moment.passed()
                monkeypatch.undo()
                assert provider.app.count(text) <= 1
                # Its own answer, and not that of the one before.
                assert other.request(f"after {number}").text == f"echo: after {number}"
                with other.stream(f"after all {number}") as answer:
                    assert "".join(answer) == f"echo: after all {number}"
            if not passed:
                break
        assert 1 < number < 199
        assert check.wait(2) == []


def ask(client: Pynector, how: str, text: str) -> None:
    if how == "plain":
        assert client.request(text).text == f"echo: {text}"
        return
    with client.stream(text) as answer:
        for piece in answer:
            assert piece
            if how == "left":
                break
