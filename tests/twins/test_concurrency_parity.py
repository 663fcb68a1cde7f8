"""The hand-written pair: the same files, names, signatures and documentation on both sides."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import AsyncIterator
from typing import Self

import anyio
import pytest

import pynector._concurrency.aio
import pynector._concurrency.threads
from pynector._concurrency.aio import clock as aio_clock
from pynector._concurrency.aio import colour as aio_colour
from pynector._concurrency.aio import locks as aio_locks
from pynector._concurrency.aio import tasks as aio_tasks
from pynector._concurrency.threads import colour as threads_colour
from pynector._concurrency.threads import locks as threads_locks
from pynector._concurrency.threads import tasks as threads_tasks
from pynector.errors import ConfigurationError
from servers.hints import checking_names


def public_files(package) -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_")


ASYNC_ONLY = ["workers"]  # blocking code calls blocking code as it is
FILES = [file for file in public_files(pynector._concurrency.aio) if file not in ASYNC_ONLY]


def pairs():
    for file in FILES:
        aio = importlib.import_module(f"pynector._concurrency.aio.{file}")
        threads = importlib.import_module(f"pynector._concurrency.threads.{file}")
        for name in aio.__all__:
            if isinstance(getattr(aio, name), bool):
                continue  # a fact about the colour
            yield pytest.param(getattr(aio, name), getattr(threads, name), id=f"{file}.{name}")


def members(cls: type) -> dict[str, object]:
    """The public names of a class, with `aclose` under its blocking name."""
    found = {name.replace("aclose", "close"): getattr(cls, name) for name in dir(cls) if name[0] != "_"}
    if dataclasses.is_dataclass(cls):
        found |= {field.name: None for field in dataclasses.fields(cls)}
    return found


def documentation(thing: object) -> str:
    """What is written about it, without what has to differ."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r"\n +backend: .*", "", text)  # anyio.run has a choice of loops
    return re.sub(r"\b(async |await |a(?=close\b))", "", text)


def parameters(thing: object) -> list[tuple[str, object, object]]:
    signature = inspect.signature(thing)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


def is_anyio_s(thing: object) -> bool:
    return getattr(thing, "__module__", "").startswith("anyio")


def test_both_sides_have_the_same_files():
    assert FILES == public_files(pynector._concurrency.threads)
    assert set(ASYNC_ONLY) <= set(public_files(pynector._concurrency.aio))
    assert FILES == [
        "alarms",
        "clock",
        "colour",
        "files",
        "foreign",
        "inputs",
        "locks",
        "scopes",
        "sockets",
        "streams",
        "tasks",
    ]


@pytest.mark.parametrize("file", FILES)
def test_both_sides_have_the_same_names(file):
    aio = importlib.import_module(f"pynector._concurrency.aio.{file}")
    threads = importlib.import_module(f"pynector._concurrency.threads.{file}")
    assert aio.__all__ == threads.__all__
    assert all(hasattr(module, name) for module in (aio, threads) for name in aio.__all__)
    # The words about the other colour are each side's own.
    if file != "colour":
        assert documentation(aio).partition("\n")[0] == documentation(threads).partition("\n")[0]


@pytest.mark.parametrize(("aio", "threads"), [*pairs()])
def test_each_name_means_the_same(aio, threads):
    assert inspect.getdoc(threads)
    mine, theirs = (members(thing) if inspect.isclass(thing) else {} for thing in (aio, threads))
    if is_anyio_s(aio):
        # anyio's own, whose words are not ours; what we have, it has.
        assert set(theirs) <= set(mine)
        return
    assert documentation(aio) == documentation(threads)
    if not inspect.isclass(threads):
        own = [each for each in parameters(aio) if each[0] != "backend"]
        assert own == parameters(threads)
    # A lock that is a real one in threads has more names.
    assert set(mine) == set(theirs) or threads is threads_locks.Mutex
    for name, member in mine.items():
        if inspect.isfunction(member) or isinstance(member, property):
            assert inspect.getdoc(theirs[name]), name
            assert documentation(member) == documentation(theirs[name]), name
        if inspect.isfunction(member):
            assert parameters(member) == parameters(theirs[name]), name


@pytest.mark.parametrize(("aio", "threads"), [*pairs()])
def test_type_hints_resolve(aio, threads):
    for thing in (aio, threads):
        if is_anyio_s(thing) or not thing.__module__.startswith("pynector"):
            continue
        names = checking_names(importlib.import_module(thing.__module__))
        functions = [
            value.fget if isinstance(value, property) else value
            for value in (vars(thing).values() if inspect.isclass(thing) else [thing])
        ]
        for function in filter(inspect.isfunction, functions):
            assert isinstance(typing.get_type_hints(function, localns=names), dict)


def test_blocking_code_imports_no_anyio_and_no_asyncio():
    code = (
        "import sys, importlib\n"
        f"for name in {FILES}: importlib.import_module('pynector._concurrency.threads.' + name)\n"
        "print([name for name in ('anyio', 'asyncio', 'trio', 'httpx', 'httpcore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


# --- what only exists because there are two colours -------------------------------------------------------


class AsyncThing(aio_colour.ColourGuard):
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        pass


class MyThing(AsyncThing):
    pass


class Thing(threads_colour.ColourGuard):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass


Thing.__module__ = "pynector.thing"


class MyBlockingThing(Thing):
    pass


async def test_the_wrong_colour_of_with_names_the_right_class():
    with pytest.raises(TypeError) as caught:
        with AsyncThing():
            pass
    assert str(caught.value) == (
        "AsyncThing is for async code: use `async with AsyncThing(...)`, or `with Thing(...)` in blocking code"
    )
    with pytest.raises(TypeError, match=r"`async with MyThing\(...\)`, or `with Thing\(...\)`"):
        with MyThing():
            pass
    with pytest.raises(TypeError) as caught:
        async with Thing():
            pass
    assert str(caught.value) == (
        "Thing is for blocking code: use `with Thing(...)`, or `async with AsyncThing(...)` in async code"
    )
    with pytest.raises(TypeError, match=r"`with MyBlockingThing\(...\)`, or `async with AsyncThing\(...\)`"):
        async with MyBlockingThing():
            pass
    with pytest.raises(TypeError):
        AsyncThing().__exit__(None, None, None)
    with pytest.raises(TypeError):
        Thing().__aexit__(None, None, None)
    async with AsyncThing():
        pass
    with Thing():
        pass


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        yield number


async def test_iterate_takes_what_its_colour_can():
    assert [number async for number in aio_colour.iterate(range(3))] == [0, 1, 2]
    assert [number async for number in aio_colour.iterate(numbers())] == [0, 1, 2]
    assert list(threads_colour.iterate(range(3))) == [0, 1, 2]
    with pytest.raises(ConfigurationError, match="AsyncPynector"):
        threads_colour.iterate(numbers())
    for module in (aio_colour, threads_colour):
        with pytest.raises(TypeError):
            module.iterate(3)


async def test_a_plain_iterable_of_async_code_fails_as_it_fails():
    def broken():
        yield 1
        raise KeyError("broken")

    steps = aio_colour.iterate(broken())
    assert aiter(steps) is steps
    assert await anext(steps) == 1
    with pytest.raises(KeyError):
        await anext(steps)
    with pytest.raises(StopAsyncIteration):
        await anext(steps)


async def test_the_loop_token_stands_for_the_running_loop():
    token = aio_colour.loop_token()
    assert token is aio_colour.loop_token()
    await aio_clock.checkpoint()
    assert token is aio_colour.loop_token()
    assert threads_colour.loop_token() is None
    other = await anyio.to_thread.run_sync(lambda: anyio.run(token_of_this_loop))
    assert other is not token


async def token_of_this_loop() -> object:
    return aio_colour.loop_token()


def test_without_a_loop_there_is_no_token_and_no_task():
    with pytest.raises(RuntimeError, match="no event loop"):
        aio_colour.loop_token()
    with pytest.raises(RuntimeError):
        aio_tasks.current_task()


def test_names_that_are_not_there():
    for module in (aio_colour, threads_colour):
        with pytest.raises(AttributeError, match="Nonsense"):
            module.Nonsense  # noqa: B018


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_run_in_async_code(backend):
    async def double(number: int) -> int:
        await aio_clock.checkpoint()
        return number * 2

    assert aio_tasks.run(double, 21, backend=backend) == 42
    assert threads_tasks.run(lambda number: number * 2, 21) == 42


@pytest.mark.parametrize("critical", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_of_a_task_leaves_the_group_bare_on_trio(critical):
    """On asyncio it ends the whole loop before any group sees it."""

    async def task() -> None:
        raise critical

    async def main() -> str:
        try:
            async with aio_tasks.create_task_group() as outer, aio_tasks.create_task_group() as tg:
                await outer.start_soon(aio_clock.sleep, 60)
                await tg.start_soon(task)
        except critical:
            return "bare"
        return "lost"

    assert anyio.run(main, backend="trio") == "bare"


def test_an_interrupt_comes_before_an_exit():
    group = BaseExceptionGroup("", [ValueError(), SystemExit(1), BaseExceptionGroup("", [KeyboardInterrupt()])])
    assert isinstance(aio_tasks._critical_in(group), KeyboardInterrupt)
    assert isinstance(aio_tasks._critical_in(group.exceptions[2]), KeyboardInterrupt)
    assert aio_tasks._critical_in(ExceptionGroup("", [ValueError()])) is None


async def test_a_permit_granted_to_a_cancelled_task_goes_on():
    """Both in one step of the event loop."""
    for primitive in (aio_locks.Semaphore(0), aio_locks.Lock()):
        if isinstance(primitive, aio_locks.Lock):
            await primitive.acquire()
        async with aio_tasks.create_task_group() as tg:
            await tg.start_soon(primitive.acquire)
            while not primitive.statistics().tasks_waiting:
                await aio_clock.sleep(0.001)
            tg.cancel_scope.cancel()
            primitive.release()
        assert primitive.statistics().tasks_waiting == 0
