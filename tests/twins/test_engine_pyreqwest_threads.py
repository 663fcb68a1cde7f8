"""Requests over pyreqwest in threads that are not the main one: calls that block, each with a client of its own."""

import _thread
import gc
import os
import random
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import Any

import pytest

from pynector import Pynector, errors
from pynector._concurrency.threads._calls import Calls
from pynector._concurrency.threads._exceptions import Cancelled
from pynector._concurrency.threads._parking import Task, current
from pynector._concurrency.threads.clock import current_time
from pynector._concurrency.threads.locks import Event
from pynector._concurrency.threads.scopes import CancelScope, fail_after, move_on_after, shield
from pynector._concurrency.threads.tasks import create_task_group
from pynector._http.settings import EngineSettings
from pynector._sync.engines.pyreqwest import PyreqwestEngine
from pynector.transport.http import HTTPTransport
from servers import inside
from servers.scripted import Connection, ScriptedServer

pytestmark = pytest.mark.timeout(60)


class Server(socketserver.ThreadingTCPServer):
    """Answers `/echo/x` with x, `/slow/x` with x half a second later, `/silent/...` never."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: Counter[str] = Counter()
        self.connections = 0
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def wait_for(self, target: str) -> None:
        deadline = time.monotonic() + 10
        while not self.seen[target]:
            assert time.monotonic() < deadline, f"{target} did not come"
            time.sleep(0.002)

    def handle_error(self, request: Any, client_address: Any) -> None:
        assert isinstance(sys.exception(), OSError)


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: Server

    def handle(self) -> None:
        self.server.connections += 1
        while line := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            self.rfile.read(length)
            target = line.split()[1].decode()
            self.server.seen[target] += 1
            _, kind, content = target.split("/", 2)
            if kind == "silent":
                self.server.over.wait(30)
                return
            if kind == "slow":
                time.sleep(0.5)
            coding = "Content-Encoding: gzip\r\n" if kind == "broken" else ""
            self.wfile.write(f"HTTP/1.1 200 OK\r\n{coding}Content-Length: {len(content)}\r\n\r\n{content}".encode())


@pytest.fixture
def silent_server() -> Iterator[Server]:
    with Server() as server:
        yield server
        server.over.set()
        server.shutdown()


@pytest.fixture
def client(silent_server: Server) -> Iterator[Pynector]:
    with Pynector(base_url=silent_server.url, engine="pyreqwest", retry=None) as client:
        client.get("/echo/first")
        yield client


def engine_of(client: Pynector) -> PyreqwestEngine:
    engine = inside.engine_of(client)
    assert isinstance(engine, PyreqwestEngine)
    return engine


def calls_of(client: Pynector) -> Calls:
    calls = engine_of(client)._blocking
    assert isinstance(calls, Calls)
    return calls


def in_thread(function: Callable[[], Any]) -> Any:
    """What it returns in a thread that is not the main one."""
    done: list[Any] = []

    def run() -> None:
        try:
            done.append((function(), None))
        except BaseException as exc:
            done.append((None, exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    result, error = done[0]
    if error is not None:
        raise error
    return result


def tasks_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))


# Clients


def test_a_client_serves_one_call_after_the_other(client: Pynector, silent_server: Server) -> None:
    assert in_thread(lambda: [client.get(f"/echo/{n}").text for n in range(20)]) == [str(n) for n in range(20)]
    assert len(calls_of(client)._spare) == 1
    # One is that of the main thread, whose Ctrl-C must be prompt. That one is put back by another thread in its time.
    assert silent_server.connections <= 4
    assert calls_of(client).begin() is None


def test_no_more_clients_than_requests_at_once(silent_server: Server) -> None:
    with Pynector(base_url=silent_server.url, engine="pyreqwest", max_connections=4) as client:
        answers = client.batch_request([{"path": f"/echo/{n}"} for n in range(200)], max_concurrency=32)
        assert [answer.text for answer in answers] == [str(n) for n in range(200)]
        assert 1 <= len(calls_of(client)._spare) <= 4


def test_a_client_is_thrown_away_after_an_error(client: Pynector) -> None:
    def broken() -> None:
        with pytest.raises(errors.HTTPProtocolError):
            client.post("/echo/x", content=b"body", headers={"X-Bad": b"\xff"})

    in_thread(lambda: client.get("/echo/x"))
    in_thread(broken)
    assert calls_of(client)._spare == []
    assert in_thread(lambda: client.get("/echo/y").text) == "y"


def test_a_connection_with_a_doubtful_answer_is_not_used_again() -> None:
    def doubtful(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert conn.wait(5)

    def good(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
        conn.wait(5)

    def both() -> str:
        with pytest.raises(errors.HTTPProtocolError):
            client.get("/x")
        return client.get("/y").text

    with (
        ScriptedServer(doubtful, good) as server,
        Pynector(base_url=server.url, engine="pyreqwest", retry=None) as client,
    ):
        assert in_thread(both) == "good"


def test_a_kept_error_keeps_no_connection(client: Pynector) -> None:
    """A client that is thrown away is closed at once, also with the idle connections it has."""

    def script(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
        ended.append(conn.wait(5))

    def work() -> None:
        client.get(f"{server.url}/x")
        with pytest.raises(errors.ConnectionError) as caught:
            client.get(f"http://127.0.0.1:{port}/x")
        kept.append(caught.value)

    kept: list[BaseException] = []
    ended: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as dead:
        port = dead.getsockname()[1]
    with ScriptedServer(script) as server:
        in_thread(work)
        deadline = time.monotonic() + 3
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
    assert ended == [True]
    assert kept


def test_closing_lets_go_of_connections(silent_server: Server, no_leaks: None) -> None:
    client = Pynector(base_url=silent_server.url, engine="pyreqwest")
    client.batch_request([{"path": f"/echo/{n}"} for n in range(100)], max_concurrency=16)
    calls = calls_of(client)
    assert calls._spare
    client.close()
    assert calls._spare == []


def test_a_client_that_comes_back_to_a_closed_engine(silent_server: Server, no_leaks: None) -> None:
    client = Pynector(base_url=silent_server.url, engine="pyreqwest")
    client.get("/echo/first")
    calls = calls_of(client)
    call = in_thread(calls.begin)
    assert call.run(lambda: call.client.get(f"{silent_server.url}/echo/x").build().send().text(), inf) == "x"
    client.close()
    call.keep()
    assert calls._spare == []


# Cancellation


def test_who_is_cancelled_is_free_at_once(client: Pynector, silent_server: Server) -> None:
    scopes: list[CancelScope] = []

    def work() -> float:
        with CancelScope() as scope:
            scopes.append(scope)
            client.get("/silent/x")
        assert scope.cancelled_caught
        return time.monotonic()

    def cancel() -> None:
        silent_server.wait_for("/silent/x")
        times.append(time.monotonic())
        scopes[0].cancel()

    times: list[float] = []
    threading.Thread(target=cancel, daemon=True).start()
    ended = in_thread(work)
    assert ended - times[0] < 1
    assert calls_of(client)._spare == []
    answers = client.batch_request([{"path": f"/echo/{n}"} for n in range(100)], max_concurrency=8)
    assert [answer.text for answer in answers] == [str(n) for n in range(100)]


def test_a_group_is_cancelled(client: Pynector, silent_server: Server) -> None:
    started = time.monotonic()
    with move_on_after(10) as scope, create_task_group() as group:
        for n in range(16):
            group.start_soon(client.get, f"/silent/{n}")
        for n in range(16):
            silent_server.wait_for(f"/silent/{n}")
        group.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert time.monotonic() - started < 5


def test_a_task_that_is_cancelled_already_sends_nothing(client: Pynector, silent_server: Server) -> None:
    def work() -> None:
        with CancelScope() as scope:
            scope.cancel()
            client.get("/echo/never")
        assert scope.cancelled_caught

    in_thread(work)
    assert not silent_server.seen["/echo/never"]


def test_a_shield_holds(client: Pynector) -> None:
    def work() -> str:
        with CancelScope() as scope:
            threading.Timer(0.1, scope.cancel).start()
            with shield():
                return client.get("/slow/x").text
        pytest.fail("cancelled through a shield")

    assert in_thread(work) == "x"


def test_stale_wake_ups_end_no_request(client: Pynector, silent_server: Server) -> None:
    tasks: list[Task] = []

    def work() -> str:
        tasks.append(current())
        with CancelScope(deadline=current_time() + 20):
            return client.post("/slow/once", content=b"body").text

    over = threading.Event()

    def pester() -> None:
        while not over.wait(0.001):
            for task in tasks:
                task.wake()

    pesterer = threading.Thread(target=pester)
    pesterer.start()
    try:
        assert in_thread(work) == "once"
    finally:
        over.set()
        pesterer.join()
    assert silent_server.seen["/slow/once"] == 1


def test_random_cancellations(client: Pynector, silent_server: Server) -> None:
    wrong: list[object] = []
    scopes: dict[int, CancelScope] = {}
    over = threading.Event()
    caught = Counter[bool]()

    def work(number: int) -> None:
        for n in range(25):
            ident = f"{number}-{n}"
            scope = CancelScope()
            try:
                with scope:
                    scopes[number] = scope
                    if (text := client.get(f"/echo/{ident}").text) != ident:
                        wrong.append((ident, text))
            except BaseException as exc:
                wrong.append(exc)
            if scope.cancelled_caught and not scope.cancel_called:
                wrong.append(ident)
            caught[scope.cancelled_caught] += 1

    def cancel() -> None:
        chance = random.Random(7)
        while not over.is_set():
            if scopes:
                scopes[chance.choice(list(scopes))].cancel()
            time.sleep(0.0005)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        cancellers = [threading.Thread(target=cancel) for _ in range(2)]
        for thread in [*workers, *cancellers]:
            thread.start()
        for thread in workers:
            thread.join(40)
        over.set()
        for thread in cancellers:
            thread.join(40)
    finally:
        over.set()
        sys.setswitchinterval(interval)
    assert wrong == []
    assert caught[True], "nothing was cancelled"
    assert caught[False], "everything was cancelled"
    assert caught.total() == 32 * 25
    assert len(calls_of(client)._spare) <= 33
    assert all(count == 1 for count in silent_server.seen.values())


# Deadlines


def test_a_deadline_is_the_requests_own(client: Pynector) -> None:
    def work() -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError), fail_after(0.2):
            client.get("/silent/x")
        return time.monotonic() - started

    assert 0.19 <= in_thread(work) < 2


def test_a_deadline_that_comes_nearer(client: Pynector, silent_server: Server) -> None:
    before = tasks_of_this_process()

    def work() -> float:
        def shorten() -> None:
            silent_server.wait_for("/silent/x")
            scope.deadline = current_time() + 15
            scope.deadline = current_time() + 0.2

        with CancelScope(deadline=current_time() + 20) as scope:
            started = time.monotonic()
            threading.Thread(target=shorten, daemon=True).start()
            client.get("/silent/x")
        assert scope.cancelled_caught
        return time.monotonic() - started

    assert 0.19 <= in_thread(work) < 5
    deadline = time.monotonic() + 5
    while tasks_of_this_process() > before + 1 and time.monotonic() < deadline:  # the server has one more
        time.sleep(0.01)
    assert tasks_of_this_process() <= before + 1


def test_a_deadline_that_came_nearer_and_goes_away(client: Pynector, silent_server: Server) -> None:
    def work() -> str:
        def move() -> None:
            silent_server.wait_for("/slow/x")
            scope.deadline = current_time() + 0.2
            scope.deadline = current_time() + 15

        with CancelScope(deadline=current_time() + 20) as scope:
            threading.Thread(target=move, daemon=True).start()
            return client.get("/slow/x").text
        pytest.fail("the deadline of before has passed")

    assert in_thread(work) == "x"


# The call itself


class Client:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()

    def wait(self) -> None:
        assert self.closed.wait(10)
        raise OSError("closed")


def begin() -> Any:
    calls = Calls(Client)
    call = in_thread(calls.begin)
    return calls, call


def test_a_late_notification_hits_nobody() -> None:
    calls, call = begin()
    with CancelScope() as scope:
        assert call.run(lambda: "done", inf) == "done"
        call.keep()
        scope.cancel()
        call.notify()
    assert not call.client.closed.is_set()
    assert calls._spare == [call.client]


def test_an_answer_that_came_all_the_same_is_kept_and_its_client_is_not() -> None:
    calls, call = begin()

    def answer() -> str:
        scope.cancel()
        return "done"

    client = call.client
    with CancelScope() as scope:
        assert call.run(answer, inf) == "done"
        call.keep()
    assert client.closed.is_set()
    assert calls._spare == []


def test_the_error_of_a_closed_client_is_never_seen() -> None:
    _, call = begin()
    with CancelScope() as scope:
        threading.Timer(0.05, scope.cancel).start()
        with pytest.raises(Cancelled):
            call.run(call.client.wait, inf)
    _, call = begin()
    with pytest.raises(OSError, match="mine"):
        call.run(raising, inf)


def raising() -> None:
    raise OSError("mine")


def test_a_deadline_passes_in_the_moment_of_a_stale_wake_up() -> None:
    _, call = begin()
    task = current()

    def late() -> None:
        scope._deadline = current_time() - 1
        task.wake()
        scope._deadline = inf  # moved, but it had passed
        call.client.wait()

    with CancelScope() as scope:
        call.run(late, inf)
    assert scope.cancelled_caught


def test_a_deadline_that_came_nearer_before_the_call() -> None:
    _, call = begin()
    with move_on_after(0.1) as scope:
        call.run(call.client.wait, inf)
    assert scope.cancelled_caught


def test_one_watcher_for_many_changes() -> None:
    _, call = begin()

    def change() -> None:
        for n in range(50):
            scope.deadline = current_time() + 30 - n / 10
        counts.append(_thread._count())

    counts = [_thread._count()]
    with CancelScope(deadline=current_time() + 60) as scope:
        call.run(change, scope.deadline)
    assert counts[1] <= counts[0] + 1
    deadline = time.monotonic() + 5
    while _thread._count() > counts[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _thread._count() == counts[0]


def test_the_wait_around_it_gets_its_wake_up() -> None:
    _, call = begin()
    _, inner = begin()

    def nested() -> None:
        with shield():
            inner.run(scope.cancel, inf)
        call.client.wait()

    with CancelScope() as scope:
        call.run(nested, inf)
    assert scope.cancelled_caught


def test_waits_after_a_cancelled_call() -> None:
    _, call = begin()
    with CancelScope() as scope:
        threading.Timer(0.05, scope.cancel).start()
        call.run(call.client.wait, inf)
    with move_on_after(0.05) as scope:
        Event().wait()
    assert scope.cancelled_caught


# Others


def test_other_requests_are_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Calls) -> None:
        pytest.fail("such a request takes no blocking call")

    monkeypatch.setattr(Calls, "begin", refuse)
    with socket.create_server(("127.0.0.1", 0)) as dead:
        url = f"127.0.0.1:{dead.getsockname()[1]}"
    for target, options in ((f"https://{url}", {}), (f"http://{url}", {"proxy": f"http://{url}"})):
        with Pynector(base_url=target, engine="pyreqwest", retry=None, **options) as client:
            with pytest.raises(errors.ConnectionError):
                in_thread(lambda client=client: client.get("/x"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_runs_no_destructors(silent_server: Server) -> None:
    engine = PyreqwestEngine(EngineSettings())
    calls = engine._blocking
    assert isinstance(calls, Calls)
    in_thread(lambda: calls.keep(in_thread(calls.begin).client))
    engine.abandon()
    del engine
    gc.collect()
    assert len(calls._spare) == 1


def test_the_interpreter_ends_while_threads_wait_for_answers(silent_server: Server) -> None:
    code = f"""
import threading, time
from pynector import Pynector
client = Pynector(base_url={silent_server.url!r}, engine="pyreqwest", retry=None)
client.get("/echo/x")
def work():
    while True:
        client.get("/echo/x")
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
threading.Thread(target=client.get, args=("/silent/x",), daemon=True).start()
time.sleep(0.5)
print("well")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("well\n", "", 0)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_a_batch_at_once(silent_server: Server) -> None:
    code = f"""
import os, signal, threading, time
from pynector import Pynector
client = Pynector(base_url={silent_server.url!r}, engine="pyreqwest", retry=None, timeout=None)
client.get("/echo/x")
times = []
def interrupt():
    times.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.5, interrupt).start()
try:
    client.batch_request([{{"path": f"/silent/{{n}}"}} for n in range(40)], max_concurrency=8)
except KeyboardInterrupt:
    print("at once" if time.monotonic() - times[0] < 3 else "late")
print(client.get("/echo/still").text)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("at once\nstill\n", 0), done.stderr


# As with the driver


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(status: int) -> None:
    def script(conn: Connection) -> None:
        for _ in range(2):
            conn.read_request()
            conn.send(b"HTTP/1.1 %d Well\r\nX: y\r\n\r\n" % status)
        conn.wait(5)

    with ScriptedServer(script) as server, Pynector(base_url=server.url, engine="pyreqwest", retry=None) as client:
        answers = in_thread(lambda: [client.get("/x"), client.get("/x")])
    assert [(answer.status_code, answer.content) for answer in answers] == [(status, b"")] * 2


def test_errors_are_those_of_the_driver() -> None:
    def reset(conn: Connection) -> None:
        conn.read_request()
        conn.reset()

    def half(conn: Connection) -> None:
        conn.read_request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    def silent(conn: Connection) -> None:
        conn.read_request()
        conn.wait(5)

    def outcome(send: Callable[[], Any]) -> tuple[object, ...]:
        with pytest.raises(errors.PynectorError) as caught:
            send()
        exc: Any = caught.value
        return type(exc), str(exc), exc.sent, exc.transient, exc.stale

    for script in (reset, half, silent):
        with (
            ScriptedServer(script, repeat=True) as server,
            HTTPTransport(server.url, engine="pyreqwest", max_retries=0, timeout=0.3) as transport,
        ):
            send = partial(transport.request, {"path": "/x"})
            driven = outcome(send)
            assert in_thread(partial(outcome, send)) == driven
    with socket.create_server(("127.0.0.1", 0)) as dead:
        url = f"http://127.0.0.1:{dead.getsockname()[1]}"
    with Pynector(base_url=url, engine="pyreqwest", retry=None) as client:
        driven = outcome(lambda: client.get("/x"))
        assert in_thread(lambda: outcome(lambda: client.get("/x"))) == driven
        assert driven[2] is False
