"""Coroutines of a library that knows asyncio only, driven on threads, on asyncio and on trio."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest

from pynector._concurrency._foreign import Feed, OutOfPatienceError
from pynector._concurrency.aio import foreign as aio
from pynector._concurrency.threads import foreign as threads
from pynector._concurrency.threads.scopes import CancelScope, move_on_after
from servers.scripted import Connection, ScriptedServer


class Foreign:
    """As such a library is inside: it waits for a future of the running loop, and sets it from its own thread."""

    def __init__(
        self, result: object = "done", *, delay: float = 0.0, waits: int = 1, gate: threading.Event | None = None
    ) -> None:
        self.result = result
        self.gate = gate
        self.delay = delay
        self.waits = waits
        self.ended_by: BaseException | None = None

    async def run(self) -> Any:
        try:
            for _ in range(self.waits):
                await self.wait(asyncio.get_running_loop())
            if isinstance(self.result, Exception):
                raise self.result
            return self.result
        except BaseException as exc:
            self.ended_by = exc
            raise

    async def wait(self, loop: Any) -> None:
        future = loop.create_future()
        over = threading.Event()

        def finish() -> None:
            if self.gate is not None:
                self.gate.wait()
            over.set()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(wake, future)

        timer = threading.Timer(self.delay, finish)
        timer.daemon = True
        timer.start()
        while not over.is_set():  # wake-ups may be spurious
            await Step(future)


def wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class Step:
    def __init__(self, future: Any) -> None:
        self.future = future

    def __await__(self) -> Iterator[Any]:
        if isinstance(self.future, asyncio.Future):
            return self.future.__await__()
        return iter(self.future)


def both(steps: Coroutine[Any, Any, Any]) -> Any:
    return threads.driver()(steps)


def test_on_a_thread() -> None:
    assert both(Foreign().run()) == "done"
    assert both(Foreign(waits=3, delay=0.01).run()) == "done"
    assert both(Foreign(waits=0).run()) == "done"
    with pytest.raises(ValueError, match="mine"):
        both(Foreign(ValueError("mine")).run())


def test_the_loop_of_this_thread_is_as_it_was() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert both(Foreign(delay=0.01).run()) == "done"  # blocking code in a notebook
        assert asyncio.get_running_loop() is loop

    asyncio.run(main())
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_none_means_to_be_asked_again_at_once() -> None:
    class Again:
        def __await__(self) -> Iterator[None]:
            yield None
            yield None

    async def steps() -> str:
        await Again()
        return "done"

    assert both(steps()) == "done"
    assert anyio.run(lambda: in_async(steps()), backend="trio") == "done"


def test_a_deadline_and_a_cancellation_on_a_thread() -> None:
    slow = Foreign(delay=30)
    started = time.monotonic()
    with move_on_after(0.1) as scope:
        both(slow.run())
    assert scope.cancelled_caught
    assert time.monotonic() - started < 1
    assert isinstance(slow.ended_by, GeneratorExit)
    with CancelScope() as scope:
        threading.Timer(0.1, scope.cancel).start()
        both(Foreign(delay=30).run())
    assert scope.cancelled_caught
    assert time.monotonic() - started < 2


@pytest.mark.needs("pyreqwest")
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_is_prompt() -> None:
    with ScriptedServer(*[silent] * 30) as server:
        code = f"""
import os, signal, threading, time
from pynector import Pynector
threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
client = Pynector(base_url={server.url!r}, engine="pyreqwest", retry=None)
started = time.monotonic()
try:
    client.get("/x")
except KeyboardInterrupt:
    print("interrupted")
try:
    threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    client.batch_request([{{"path": "/x"}}] * 20, max_concurrency=8)
except KeyboardInterrupt:
    print("again" if time.monotonic() - started < 5 else "late")
os._exit(0)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\nagain\n", done.stderr


def silent(conn: Connection) -> None:
    conn.read_request()
    conn.wait()


async def in_async(steps: Coroutine[Any, Any, Any]) -> Any:
    return await aio.driver()(steps)


async def test_in_async_code() -> None:
    assert await in_async(Foreign().run()) == "done"
    assert await in_async(Foreign(waits=3, delay=0.01).run()) == "done"
    with pytest.raises(ValueError, match="mine"):
        await in_async(Foreign(ValueError("mine")).run())


async def test_many_at_once_get_their_own_answers() -> None:
    answers: dict[int, Any] = {}

    async def one(number: int) -> None:
        with anyio.move_on_after(None if number % 3 else 0.02):
            answers[number] = await in_async(Foreign(waits=3, delay=0.001 * (number % 5), result=number).run())

    async with anyio.create_task_group() as group:
        for number in range(300):
            group.start_soon(one, number)
    assert all(key == value for key, value in answers.items())
    assert {number for number in range(300) if number % 3} <= answers.keys()


def test_wakes_that_come_together_share_one_of_the_loop() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        wakes = 0
        real = loop.call_soon_threadsafe

        def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return real(*args, **kwargs)

        drive = aio.driver()
        release = threading.Event()
        tasks = [asyncio.create_task(in_driver(drive, Foreign(gate=release).run())) for _ in range(50)]
        await asyncio.sleep(0.05)
        loop.call_soon_threadsafe = counting  # type: ignore[method-assign]
        release.set()
        time.sleep(0.2)  # the loop is busy, as in a full batch
        assert await asyncio.gather(*tasks) == ["done"] * 50
        return wakes

    assert asyncio.run(main()) == 1


async def in_driver(drive: Any, steps: Coroutine[Any, Any, Any]) -> Any:
    return await drive(steps)


async def test_a_scope_in_async_code() -> None:
    slow = Foreign(delay=30)
    started = time.monotonic()
    with anyio.move_on_after(0.1) as scope:
        await in_async(slow.run())
    assert scope.cancelled_caught
    assert time.monotonic() - started < 1
    assert isinstance(slow.ended_by, GeneratorExit)


def test_the_cancellation_of_a_task_is_its_own() -> None:
    class Renames(Foreign):
        async def run(self) -> Any:
            try:
                return await super().run()
            except BaseException:
                raise asyncio.CancelledError("somebody else's") from None

    async def main() -> None:
        task = asyncio.create_task(in_async(Renames(delay=30).run()))
        await asyncio.sleep(0.05)
        task.cancel("mine")
        with pytest.raises(asyncio.CancelledError, match="mine"):
            await task

    asyncio.run(main())


def test_what_has_nothing_to_wait_for() -> None:
    async def ready() -> int:
        return 1

    for colour in (aio, threads):
        assert colour.finished(ready()) == 1
        with pytest.raises(RuntimeError, match="has to wait"):
            colour.finished(both_wait())


async def both_wait() -> None:
    class Never:
        def __await__(self) -> Iterator[int]:
            yield 1

    await Never()


# Feeds


class Uploader:
    """Takes an upload as pyreqwest does: a thread asks the loop for a task of every step, with a lock held."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.taken: list[bytes] = []
        self.error: BaseException | None = None
        self.end = object()
        self.loop: Any = None
        self.future: Any = None
        self.over = False
        self.lock = threading.Lock()

    def pull(self) -> None:
        iterator = aiter(self.feed.stream)
        while True:
            ready = threading.Event()
            tasks: list[Any] = []

            step = anext(iterator, self.end)

            def create(step: Any = step, tasks: list[Any] = tasks, done: Any = ready) -> None:
                with self.lock:
                    task = self.loop.create_task(step)
                    tasks.append(task)
                    task.add_done_callback(lambda task: self.locked(done))

            self.loop.call_soon_threadsafe(create, context=None)
            assert ready.wait(20)
            try:
                chunk = tasks[0].result()
            except Exception as exc:
                self.error = exc
                break
            if chunk is self.end:
                break
            self.taken.append(chunk)
        self.over = True
        self.loop.call_soon_threadsafe(wake, self.future)

    def locked(self, done: threading.Event) -> None:
        assert self.lock.acquire(timeout=5), "served while its task was made"
        self.lock.release()
        done.set()

    async def run(self) -> list[bytes]:
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()
        threading.Thread(target=self.pull, daemon=True).start()
        while not self.over:
            await Step(self.future)
        return self.taken


def test_a_feed_on_a_thread() -> None:
    feed = Feed()
    seen = []

    def source() -> Iterator[bytes]:
        for n in range(5):
            seen.append(threading.get_ident())
            yield b"%d" % n
            yield b""

    uploader = Uploader(feed)
    with move_on_after(10):
        assert threads.drive_feeding(uploader.run(), feed, source()) == [b"0", b"1", b"2", b"3", b"4"]
    assert set(seen) == {threading.get_ident()}
    assert feed.exhausted


async def test_a_feed_in_async_code() -> None:
    async def source() -> Any:
        for n in range(5):
            await anyio.sleep(0)
            yield b"%d" % n

    feed = Feed()
    chunks = source()
    with anyio.fail_after(10):
        assert await aio.drive_feeding(Uploader(feed).run(), feed, chunks) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_source_that_fails() -> None:
    def source() -> Iterator[bytes]:
        yield b"one"
        raise ValueError("mine")

    feed = Feed()
    uploader = Uploader(feed)
    with pytest.raises(ValueError, match="mine"):
        threads.drive_feeding(uploader.run(), feed, source())
    # The foreign side is told, or it would wait for ever.
    deadline = time.monotonic() + 5
    while uploader.error is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(uploader.error, ConnectionAbortedError)


def test_nobody_asks_for_a_chunk() -> None:
    feed = Feed()
    started = time.monotonic()
    with pytest.raises(OutOfPatienceError):
        threads.drive_feeding(Foreign(delay=30).run(), feed, iter([b"x"]), 0.1)
    assert time.monotonic() - started < 2


async def test_nobody_asks_for_a_chunk_in_async_code() -> None:
    async def source() -> Any:
        yield b"x"

    chunks = source()
    with pytest.raises(OutOfPatienceError):
        await aio.drive_feeding(Foreign(delay=30).run(), Feed(), chunks, 0.1)
    await chunks.aclose()
