"""The blocking client where blocking code lives: scripts, threads, web views, notebooks, forked children."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import flask
import pytest
import trio

from pynector import Pynector, RetryPolicy, errors
from pynector.testing import LocalServer
from servers.scripted import Connection, ScriptedServer
from servers.wsgi import serve_wsgi

TESTS = Path(__file__).parent.parent


def test_shared_by_many_threads(server: LocalServer, no_leaks: None) -> None:
    barrier = threading.Barrier(16)
    with Pynector(base_url=server.url) as client:

        def work(thread: int) -> list[int]:
            barrier.wait()
            return [client.get(f"/index/{thread * 100 + n}").json()["index"] for n in range(25)]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(work, range(16)))
    assert answers == [[thread * 100 + n for n in range(25)] for thread in range(16)]


def test_first_use_by_many_threads_at_once(server: LocalServer, no_leaks: None) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            client = Pynector(base_url=server.url)
            barrier = threading.Barrier(8)

            def work(n: int, client: Pynector = client, barrier: threading.Barrier = barrier) -> int:
                barrier.wait()
                return int(client.get(f"/index/{n}").json()["index"])

            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(work, range(8))) == list(range(8))
            client.close()
    finally:
        sys.setswitchinterval(interval)


def test_in_a_flask_view(server: LocalServer, no_leaks: None) -> None:
    client = Pynector(base_url=server.url)
    app = flask.Flask(__name__)

    @app.get("/sum/<int:first>")
    def sum_of_ids(first: int) -> dict[str, int]:
        results = client.batch_request([{"path": f"/items/{n}"} for n in range(first, first + 5)], max_concurrency=5)
        return {"sum": sum(response.json()["id"] for response in results)}

    with serve_wsgi(app) as url, Pynector(base_url=url) as browser:
        pages = browser.batch_request([{"path": f"/sum/{n}"} for n in range(40)], max_concurrency=8)
    assert [page.json()["sum"] for page in pages] == [5 * n + 10 for n in range(40)]
    client.close()


@pytest.mark.parametrize("run", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)])
def test_inside_a_running_event_loop(server: LocalServer, run: Any, no_leaks: None) -> None:
    async def cell() -> list[int]:
        with Pynector(base_url=server.url) as client:
            assert client.get("/items/3").json()["id"] == 3
            return [r.json()["index"] for r in client.batch_request([{"path": f"/index/{n}"} for n in range(20)])]

    assert run(cell()) == list(range(20))


def test_the_input_is_read_in_the_callers_thread(server: LocalServer, no_leaks: None) -> None:
    here = threading.get_ident()
    seen: list[int] = []

    def source() -> Any:
        for n in range(20):
            seen.append(threading.get_ident())
            yield {"path": f"/index/{n}"}

    with Pynector(base_url=server.url) as client:
        client.batch_request(source(), progress=lambda done, total: seen.append(threading.get_ident()))
    assert set(seen) == {here}


def test_context_variables_reach_the_workers(no_leaks: None) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    all_at_work = threading.Barrier(4, timeout=10)

    class Tenant:
        def connect(self) -> None: ...
        def disconnect(self) -> None: ...
        def send(self, message: Any) -> None: ...
        def receive(self) -> Any: ...
        def request(self, message: Any, *, timeout: float | None) -> str:
            before = tenant.get()
            tenant.set(f"changed by {message}")
            if before == "acme":
                all_at_work.wait()
            return before

    token = tenant.set("acme")
    try:
        with Pynector(Tenant()) as client:  # type: ignore[arg-type]
            results = client.batch_request(range(40), max_concurrency=4)
    finally:
        tenant.reset(token)
    # One copied context per worker: what one sets, no other one sees, and nor does the caller.
    assert results.count("acme") == 4
    assert tenant.get() == "nobody"


def test_async_input_is_refused(server: LocalServer) -> None:
    async def source() -> Any:
        yield {"path": "/items/1"}

    with Pynector(base_url=server.url) as client:
        with pytest.raises(errors.ConfigurationError, match="AsyncPynector"):
            client.batch_request(source())


def test_the_wrong_colour_of_with() -> None:
    async def wrong() -> None:
        async with Pynector(base_url="http://localhost"):
            pass

    with pytest.raises(TypeError, match=r"`async with AsyncPynector\(\.\.\.\)`"):
        asyncio.run(wrong())


def test_cancelling_a_socket_wait_closes_only_its_own_connection(no_leaks: None) -> None:
    def slow(conn: Connection) -> None:
        conn.read_request()
        conn.wait(10)

    def fast(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with ScriptedServer(slow, fast) as scripted, Pynector(base_url=scripted.url, retry=None) as client:
        started = time.monotonic()
        with pytest.raises(errors.TimeoutError):
            client.get("/", timeout=0.2)
        assert time.monotonic() - started < 5
        assert client.get("/").text == "ok"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_with_fresh_connections(server: LocalServer, no_leaks: None) -> None:
    with Pynector(base_url=server.url) as client:
        client.batch_request([{"path": f"/index/{n}"} for n in range(20)], max_concurrency=4)
        before = server.connections.total
        child = os.fork()
        if child == 0:
            status = 1
            try:
                results = client.batch_request([{"path": f"/index/{n}"} for n in range(20)], max_concurrency=4)
                status = 0 if [r.json()["index"] for r in results] == list(range(20)) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert server.connections.total > before
        # The parent's own connections still work, and give the parent's own answers.
        after = server.connections.total
        assert client.get("/index/99").json()["index"] == 99
        assert server.connections.total == after


SCRIPT = """
import sys, threading, time
from pynector import Pynector
url = sys.argv[1]
client = Pynector(base_url=url)
requests = {source}
print("started", flush=True)
try:
    client.batch_request(requests, max_concurrency=20, {options})
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(130)
"""

SOURCES = {
    "workers in a socket": ("[{'path': '/delay?s=60'}] * 100", ""),
    "a lazy input": ("({'path': '/delay?s=60'} for _ in range(100))", ""),
    "waiting to retry": ("[{'path': '/status/503?retry_after=60'}] * 100", ""),
    "with progress": ("[{'path': '/delay?s=60'}] * 100", "progress=lambda done, total: None"),
    "with a deadline": ("[{'path': '/delay?s=60'}] * 100", "timeout=100"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_ctrl_c_ends_a_batch_and_the_process(server: LocalServer, case: str) -> None:
    source, options = SOURCES[case]
    script = textwrap.dedent(SCRIPT.format(source=source, options=options))
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
        # Once one of them was told to wait, all do.
        enough = 1 if case == "waiting to retry" else 20
        while server.requests.count < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.requests.count >= enough
        time.sleep(0.1)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        took = time.monotonic() - sent
    finally:
        process.kill()
        process.wait()
    assert out == "interrupted\n", err
    assert process.returncode == 130
    assert err == ""
    assert took < 5, "far from the second it should take at most"


def test_a_client_that_was_never_closed_is_silent(server: LocalServer) -> None:
    script = (
        "import gc, sys\n"
        "from pynector import Pynector\n"
        "client = Pynector(base_url=sys.argv[1])\n"
        "client.batch_request([{'path': '/items/1'}] * 20)\n"
        "if sys.argv[2] == 'collected':\n"
        "    del client\n"
        "    gc.collect()\n"
    )
    for how in ("collected", "at exit"):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", script, server.url, how],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_retry_wait_ends_with_the_deadline(server: LocalServer) -> None:
    with Pynector(base_url=server.url, retry=RetryPolicy(jitter="none", backoff_factor=30)) as client:
        started = time.monotonic()
        with pytest.raises(errors.HTTPServerError) as caught:
            client.get("/status/503", timeout=5)
        assert time.monotonic() - started < 4
    assert caught.value.attempts == 1


FORKS = """
import os, signal, sys, threading
from pynector import Pynector

client = Pynector(base_url=sys.argv[1])
client.get("/items/1")  # a fork while a thread imports a module is more than CPython can take
stop = threading.Event()

def busy():
    while not stop.is_set():
        client.batch_request(({"path": f"/index/{n}"} for n in range(10)), max_concurrency=4)

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
try:
    for _ in range(10):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends a child that hangs
            status = 1
            try:
                results = client.batch_request([{"path": f"/index/{n}"} for n in range(20)], max_concurrency=4)
                status = 0 if [r.json()["index"] for r in results] == list(range(20)) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
finally:
    stop.set()
    for thread in threads:
        thread.join()
client.close()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_fork_in_the_middle_of_everything(server: LocalServer) -> None:
    """Other threads hold every lock there is while the process forks, again and again: no child hangs."""
    # Not measured: coverage has a lock of its own, which such a fork can leave locked for ever.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, server.url],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_no_thread_to_be_had(server: LocalServer, monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    start = threading.Thread.start
    time.sleep(1.5)  # let idle workers of other tests end

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("pynector-worker") and threading.active_count() > 8:
            raise RuntimeError("can't start new thread")
        start(thread)

    def refuse_all(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Pynector(base_url=server.url) as client:
        for requests in ([{"path": "/slow/1?ms=50"}] * 30, iter([{"path": "/slow/1?ms=50"}] * 30)):
            results = client.batch_request(requests, max_concurrency=30)
            assert len(results.ok) == 30  # by as many workers as there are
        monkeypatch.setattr(threading.Thread, "start", refuse_all)
        time.sleep(1.5)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            client.batch_request([{"path": "/items/1"}])
