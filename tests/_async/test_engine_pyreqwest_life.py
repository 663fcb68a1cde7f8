"""The engine `pyreqwest`: what ends an exchange, its connections, its end and that of the process."""

import gc
import subprocess
import sys
import time
from typing import Any

import pytest

from pynector import AsyncPynector, errors
from pynector._concurrency.aio.clock import sleep
from pynector._concurrency.aio.scopes import CancelScope, fail_after, move_on_after
from pynector._concurrency.aio.tasks import create_task_group
from pynector.testing import LocalServer
from servers.scripted import Connection, ScriptedServer
from servers.scripts import OK, good, silent

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.engines("pyreqwest")]


def client_of(url: str, **options: Any) -> AsyncPynector:
    return AsyncPynector(base_url=url, engine="pyreqwest", **{"retry": None, **options})


# Cancellation and deadlines


async def test_a_scope_that_is_cancelled_is_left_at_once(no_leaks: None) -> None:
    with ScriptedServer(silent, good, silent) as server:
        async with client_of(server.url, max_connections=1) as client:
            started = time.monotonic()
            with move_on_after(0.2) as scope:
                await client.get("/x")
            assert scope.cancelled_caught
            assert 0.15 < time.monotonic() - started < 1
            # Its permit is free, although nothing has come back; its exchange ended with the deadline.
            assert (await client.get("/y", headers={"Connection": "close"})).content == b"good"
            with pytest.raises(TimeoutError):
                with fail_after(0.2):
                    await client.get("/silent")


async def test_cancelling_a_group(no_leaks: None) -> None:
    with ScriptedServer(silent, silent, silent) as server:
        async with client_of(server.url, timeout=1) as client:
            started = time.monotonic()
            async with create_task_group() as group:
                for _ in range(3):
                    await group.start_soon(client.get, "/x")
                while len(server.requests) < 3:
                    await sleep(0.01)
                started = time.monotonic()
                group.cancel_scope.cancel()
            assert time.monotonic() - started < 0.5


async def test_the_deadline_of_the_caller_ends_the_exchange(no_leaks: None) -> None:
    with ScriptedServer(silent) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.TimeoutError):
                await client.get("/x", timeout=0.3)
            started = time.monotonic()
            while not server.connections[0].closed and time.monotonic() - started < 3:
                await sleep(0.01)
            assert time.monotonic() - started < 1


async def test_a_cancelled_task_sends_nothing(no_leaks: None) -> None:
    with ScriptedServer(good) as server:
        async with client_of(server.url) as client:
            with CancelScope() as scope:
                scope.cancel()
                await client.get("/x")
            assert scope.cancelled_caught
        assert server.requests == []


async def test_interim_answers_without_end_end_with_the_deadline(no_leaks: None) -> None:
    def script(conn: Connection) -> None:
        conn.read_request()
        try:
            while not conn.wait(0.001):
                conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        except OSError:
            pass

    with ScriptedServer(script) as server:
        async with client_of(server.url) as client:
            with pytest.raises(errors.TimeoutError):
                await client.get("/", timeout=0.4)


# Its life


async def test_a_client_that_is_not_closed_is_collected_silently(server: LocalServer, no_leaks: None) -> None:
    client = client_of(server.url)
    await client.get("/items/1")
    del client
    gc.collect()


async def test_permits_are_given_in_order(no_leaks: None) -> None:
    def slow(conn: Connection) -> None:
        try:
            while True:
                conn.read_request()
                conn.wait(0.03)
                conn.send(OK)
        except EOFError:
            pass

    order: list[int] = []
    with ScriptedServer(slow, slow, slow) as server:
        async with client_of(server.url, max_connections=1) as client:

            async def one(number: int) -> None:
                await client.get("/x")
                order.append(number)

            async with create_task_group() as group:
                for number in range(4):
                    await group.start_soon(one, number)
                    await sleep(0.01)
    assert order == [0, 1, 2, 3]


async def test_idle_connections_are_kept_beside_those_in_use(server: LocalServer, no_leaks: None) -> None:
    with LocalServer() as other:
        async with client_of("", max_connections=1) as client:
            for _ in range(3):
                for site in (server, other):
                    await client.get(f"{site.url}/items/1")
            assert server.connections.total == other.connections.total == 1
            assert server.connections.open == other.connections.open == 1


async def test_closing_ends_idle_connections_whoever_keeps_a_traceback(no_leaks: None) -> None:
    ended: list[bool] = []
    kept: list[BaseException] = []

    def quick(conn: Connection) -> None:
        conn.read_request()
        conn.send(OK)
        ended.append(conn.wait(5))

    with ScriptedServer(silent, quick) as server:
        async with client_of(server.url, timeout=1, keepalive_expiry=60) as client:

            async def cut_short() -> None:
                try:
                    await client.get("/x")
                except BaseException as error:
                    kept.append(error)
                    raise

            async with create_task_group() as group:
                await group.start_soon(cut_short)
                while not server.requests:
                    await sleep(0.01)
                await client.get("/y")
                group.cancel_scope.cancel()
        with move_on_after(6):
            while not ended:
                await sleep(0.01)
        assert ended == [True]
    assert kept[0].__traceback__ is not None


async def test_it_does_not_survive_a_fork_and_says_so(server: LocalServer) -> None:
    code = f"""
import os, sys, traceback
from pynector import Pynector, errors

client = Pynector(base_url={server.url!r}, engine="pyreqwest", retry=None)
assert client.get("/items/1").json()["id"] == 1
for attempt in (client.get, Pynector(base_url={server.url!r}, engine="pyreqwest").get):
    if not os.fork():
        try:
            attempt("/items/1")
        except errors.ConfigurationError as error:
            os._exit(0 if "fork" in str(error) and "engine='httpx'" in str(error) else 1)
        except BaseException:
            traceback.print_exc()
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
if not os.fork():
    sys.exit(0)  # the end of the child with all it does
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert client.get("/items/2").json()["id"] == 2
print("well")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "well\n", done.stderr
    assert done.returncode == 0


async def test_the_interpreter_ends_while_an_exchange_goes_on() -> None:
    with ScriptedServer(silent) as server:
        code = f"""
from pynector import Pynector, errors
client = Pynector(base_url={server.url!r}, engine="pyreqwest", retry=None)
try:
    client.get("/x", timeout=0.2)
except errors.TimeoutError:
    print("well")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("well\n", "", 0)
