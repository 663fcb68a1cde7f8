"""The generator of the blocking twin: golden snippets, what it refuses, and `--check`."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "generate.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pynector_generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = _load()
from _twin import text  # noqa: E402  (the generator puts its own folder on the path)
from _twin.table import Phrase, Table  # noqa: E402

#: The rules of the snippets, so that no change of the project's table touches them.
NAMES = {
    "_async": "_sync",
    "aio": "threads",
    "aclose": "close",
    "aiter": "iter",
    "anext": "next",
    "aiter_bytes": "iter_bytes",
    "enter_async_context": "enter_context",
    "push_async_callback": "callback",
}
DOTTED = {
    "pynector.transports.async": "pynector.transports.sync",
    "pynector.concurrency": "pynector.concurrency.sync",
}
PROSE = (
    Phrase("iterable, or async iterable,", "iterable"),
    Phrase("asynchronous", "blocking"),
    Phrase("async", "", before=r"iterable|iterator|generator|context manager|function"),
    Phrase("async", "blocking", before=r"(?!with\b|for\b|def\b)[a-z]"),
)
CONFIG = """
[tool.ruff]
line-length = 110
target-version = "py311"
src = ["src", "tests"]
"""


def table(**changes: object) -> Table:
    return Table(**{"names": NAMES, "dotted": DOTTED, "prose": PROSE, **changes})


def tree(root: Path, library: dict[str, str], tests: dict[str, str] | None = None) -> Path:
    """A repository with these sources."""
    (root / "pyproject.toml").write_text(CONFIG)
    for folder, files in (
        ("src/pynector/_async", library),
        ("tests/_async", tests or {"test_a.py": "x = 1\n"}),
    ):
        for name, content in files.items():
            file = root / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode())
    return root


def clean(snippet: str) -> str:
    return textwrap.dedent(snippet).lstrip("\n")


# ----------------------------------------------------------------------------------------------------
# What comes out: (source, twin), by name.

GOLDEN: dict[str, tuple[str, str]] = {
    "keywords": (
        """
        async def f(client, items, g):
            async with client as a, client:
                x = await (a)
                y = await (g(x))
                with open(y) as file:
                    file.write(await g(y))
                    return [i async for i in a]
                return [await g(i) async for i in items.aiter_bytes() if await g(y)]


        async def nested(a, b):
            async with a:
                with b:
                    return 1
        """,
        """
        def f(client, items, g):
            with client as a, client:
                x = a
                y = g(x)
                with open(y) as file:
                    file.write(g(y))
                    return list(a)
                return [g(i) for i in items.iter_bytes() if g(y)]


        def nested(a, b):
            with a, b:
                return 1
        """,
    ),
    "classes": (
        """
        from collections.abc import AsyncIterator
        from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager


        class _AsyncBase(AbstractAsyncContextManager["_AsyncBase"]):
            async def __aenter__(self) -> "_AsyncBase":
                return self

            async def __aexit__(self, *exc: object) -> None:
                await self.aclose()

            def __aiter__(self) -> AsyncIterator[int]:
                return self

            async def __anext__(self) -> int:
                raise StopAsyncIteration

            async def aclose(self) -> None:
                async with AsyncExitStack() as stack:
                    await stack.enter_async_context(self)
                    stack.push_async_callback(self.aclose)


        class AsyncHTTPTransport(_AsyncBase):
            @asynccontextmanager
            async def stream(self) -> AsyncIterator[bytes]:
                yield await anext(aiter(self))
        """,
        """
        from collections.abc import Iterator
        from contextlib import AbstractContextManager, ExitStack, contextmanager


        class _Base(AbstractContextManager["_Base"]):
            def __enter__(self) -> "_Base":
                return self

            def __exit__(self, *exc: object) -> None:
                self.close()

            def __iter__(self) -> Iterator[int]:
                return self

            def __next__(self) -> int:
                raise StopIteration

            def close(self) -> None:
                with ExitStack() as stack:
                    stack.enter_context(self)
                    stack.callback(self.close)


        class HTTPTransport(_Base):
            @contextmanager
            def stream(self) -> Iterator[bytes]:
                yield next(iter(self))
        """,
    ),
    "types": (
        """
        import collections.abc
        from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable
        from typing import Any

        Source = AsyncIterable[int] | Iterable[int] | None
        Call = Callable[[int], Awaitable[dict[str, int]]]
        Long = Callable[[int], Coroutine[Any, Any, list[int]]]
        Full = collections.abc.Awaitable[int] | int
        Gen = AsyncGenerator[int, None], AsyncGenerator[int]
        wide: Awaitable[
            # why
            int | None,
        ]


        def check(source: Source) -> bool:
            try:
                if isinstance(source, (AsyncIterable, Iterable)):
                    return True
                return issubclass(type(source), (AsyncIterable, int, Iterable))
            except (StopAsyncIteration, StopIteration):
                return False
        """,
        """
        from collections.abc import Callable, Generator, Iterable

        Source = Iterable[int] | None
        Call = Callable[[int], dict[str, int]]
        Long = Callable[[int], list[int]]
        Full = int
        Gen = Generator[int, None, None], Generator[int]
        wide: (
            # why
            int | None
        )


        def check(source: Source) -> bool:
            try:
                if isinstance(source, Iterable):
                    return True
                return issubclass(type(source), (Iterable, int))
            except StopIteration:
                return False
        """,
    ),
    "imports": (
        """
        from typing import Any

        import httpx

        from pynector._async.later import AsyncLater
        from pynector._concurrency import aio
        from pynector.concurrency import Lock
        from pynector.concurrency.sync import Event

        from .._concurrency.aio.locks import RLock

        X: Any = (httpx.AsyncClient, aio, AsyncLater, Lock, Event, RLock)
        """,
        """
        from typing import Any

        import httpx

        from pynector._concurrency import threads
        from pynector._sync.later import Later
        from pynector.concurrency.sync import Event, Lock

        from .._concurrency.threads.locks import RLock

        X: Any = (httpx.Client, threads, Later, Lock, Event, RLock)
        """,
    ),
    "strings": (
        r'''
        NAMES = "AsyncPynector", "AsyncPynector is closed", 'use AsyncPynector', r"\bAsyncX\b", b"aclose"
        LINES = "first\nAsyncPynector\naclose" "AsyncIterator[bytes]"
        GROUP = "pynector.transports.async"
        TARGETS = "pynector._async.client.AsyncX", "pynector.concurrency.A", "pynector.concurrency.sync.B"


        def f(x, AsyncThing):
            a = f"an AsyncPynector {x.aclose()!r:>{x.aio}} {{aclose}} {AsyncThing['aio']} async client"
            return a + f"""{
                x.aclose
            } {x:{x}}""" + f"aclose" f"{'AsyncPynector'}"
        ''',
        r'''
        NAMES = "Pynector", "Pynector is closed", "use Pynector", r"\bX\b", b"close"
        LINES = "first\nPynector\ncloseIterator[bytes]"
        GROUP = "pynector.transports.sync"
        TARGETS = "pynector._sync.client.X", "pynector.concurrency.sync.A", "pynector.concurrency.sync.B"


        def f(x, Thing):
            a = f"a Pynector {x.close()!r:>{x.threads}} {{close}} {Thing['threads']} blocking client"
            return a + f"""{x.close} {x:{x}}""" + f"close{'Pynector'}"
        ''',
    ),
    "docstring": (
        '''
        """An async client: an asynchronous one.

        An :class:`AsyncPynector` takes an
        async iterable. Async iterables are read lazily, and an
        AsyncHTTPTransport is an AsyncThing. Any iterable, or async iterable, of items.
        Call `await client.aclose()` or ``async with client`` once.

        Example:
            async with AsyncPynector() as client:
                async for chunk in client:  # nothing else
                    await client.request({"path": "/"})

            await client.aclose()

        Args:
            fn: Asynchronous function, say::

                async def fn() -> int:
                    return await other()

        Examples:
            First one request::

                await client.get("/")

            Then many.

            await client.batch_request(requests)

        >>> async with client:
        ...     await client.request(1)
        """

        # It is an
        # async client, an
        # AsyncPynector: see `await x` there.
        x = 1  # an AsyncPynector  # noqa: ASYNC230
        y = 2  # noqa: ASYNC230, F401
        ''',
        '''
        """A blocking client: a blocking one.

        A :class:`Pynector` takes an
        iterable. Iterables are read lazily, and an
        HTTPTransport is a Thing. Any iterable of items.
        Call `client.close()` or ``with client`` once.

        Example:
            with Pynector() as client:
                for chunk in client:  # nothing else
                    client.request({"path": "/"})

            client.close()

        Args:
            fn: Blocking function, say::

                def fn() -> int:
                    return other()

        Examples:
            First one request::

                client.get("/")

            Then many.

            client.batch_request(requests)

        >>> with client:
        ...     client.request(1)
        """

        # It is a
        # blocking client, a
        # Pynector: see `x` there.
        x = 1  # a Pynector
        y = 2  # noqa: F401
        ''',
    ),
    "__init__": (
        """
        from .client import AsyncPynector
        from .outcome import Outcome

        __all__ = ["AsyncPynector", "Outcome"]
        """,
        """
        from .client import Pynector
        from .outcome import Outcome

        __all__ = ["Outcome", "Pynector"]
        """,
    ),
}
TEST_SOURCE = """
import pytest

from pynector import AsyncPynector
from servers.demo import start


@pytest.fixture
async def client(anyio_backend: str):
    async with AsyncPynector(start()) as client:
        yield client


async def test_async_iterable(client, anyio_backend, tmp_path):
    with pytest.raises(TypeError, match=r"AsyncPynector \\(asyncio\\)"):
        await client.request(tmp_path)


class TestMore:
    async def test_more(self, anyio_backend_name="asyncio"):
        await start("async")
"""
TEST_TWIN = """
import pytest

from pynector import Pynector
from servers.demo import start


@pytest.fixture
def client():
    with Pynector(start()) as client:
        yield client


def test_iterable(client, tmp_path):
    with pytest.raises(TypeError, match=r"Pynector \\(asyncio\\)"):
        client.request(tmp_path)


class TestMore:
    def test_more(self):
        start("async")
"""


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = {f"{name}.py": clean(source) for name, (source, _) in GOLDEN.items()}
    library |= {"empty.py": "", "sub/deep/module.py": "X = 1\n"}
    root = tree(tmp_path_factory.mktemp("golden"), library, {"conftest.py": clean(TEST_SOURCE)})
    (root / "src/pynector/__init__.py").touch()
    (root / "tests/servers").mkdir()
    (root / "tests/servers/demo.py").touch()
    return root


@pytest.fixture(scope="module")
def golden(golden_root: Path) -> dict[str, str]:
    twin = generate.build(golden_root, table=table())
    assert twin.problems == []
    assert twin.unused == []
    return {str(path): content.decode() for path, content in twin.files.items()}


@pytest.mark.parametrize("name", GOLDEN)
def test_snippets_become_what_a_person_would_write(golden: dict[str, str], name: str) -> None:
    header, content = golden[f"src/pynector/_sync/{name}.py"].split("\n", 1)
    assert header == f"# Generated by scripts/generate.py from src/pynector/_async/{name}.py. Do not edit."
    assert content == clean(GOLDEN[name][1])


def test_tests_are_converted(golden: dict[str, str]) -> None:
    header, content = golden["tests/_sync/conftest.py"].split("\n", 1)
    assert header == "# Generated by scripts/generate.py from tests/_async/conftest.py. Do not edit."
    assert content == clean(TEST_TWIN)


def test_files_keep_their_places(golden: dict[str, str]) -> None:
    start = "# Generated by scripts/generate.py from src/pynector/_async/"
    assert golden["src/pynector/_sync/empty.py"] == f"{start}empty.py. Do not edit.\n"
    assert golden["src/pynector/_sync/sub/deep/module.py"] == f"{start}sub/deep/module.py. Do not edit.\nX = 1\n"
    assert len(golden) == len(GOLDEN) + 3


def test_the_twin_is_formatted_and_its_imports_are_sorted(golden_root: Path, tmp_path: Path) -> None:
    root = shutil.copytree(golden_root, tmp_path / "root")
    generate.write(root, generate.build(root, table=table()))
    for arguments in (["format", "--check"], ["check", "--select", "I,F401,RUF022"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *arguments,
            "--no-cache",
            "src/pynector/_sync",
            "tests/_sync",
        ]
        result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


# ----------------------------------------------------------------------------------------------------
# What is refused: (source, line, part of the message), by name. Each twin would be silently wrong.

REFUSED: dict[str, tuple[str, int, str]] = {
    "prose_await": ('"""One.\n\nPlease await the transport here.\n"""\n', 3, "'await' would stay"),
    "prose_with": ("x = 1\n# Use async with for that.\n", 2, "'async' would stay"),
    "prose_asyncio": ('X = "runs on asyncio"\n', 1, "'asyncio' would stay"),
    "prose_trio": ("x = 1  # or trio\n", 1, "'trio' would stay"),
    "prose_anyio": ('"""Over anyio."""\n', 1, "'anyio' would stay"),
    "prose_coroutine": ('"""Takes coroutines."""\n', 1, "'coroutines' would stay"),
    "prose_sync": ('"""See SyncThing."""\n', 1, "'SyncThing' would stay"),
    "escaped": (r'X = "first\nawait it"' + "\n", 1, "'await' would stay"),
    "example_comment": ('"""X.\n\nExample:\n    await f()  # await it\n"""\n', 4, "'await' would stay"),
    "f_string_await": ('async def f(x):\n    return f"{await x()}"\n', 2, "in an f-string"),
    "f_string_literal": ('def f(x):\n    return f"{x}await{x}"\n', 2, "in an f-string"),
    "import_anyio": ("x = 1\nimport anyio\n", 2, "'anyio' would stay"),
    "import_from": ("from trio.lowlevel import y\n", 1, "'trio' would stay"),
    "asyncio_name": ("from x import asyncio_loop\n", 1, "'asyncio_loop' would stay"),
    "sync_name": ("class SyncThing: ...\n", 1, "'SyncThing' would stay"),
    "async_name": ("async_run = 1\n", 1, "'async_run' would stay"),
    "unknown_name": ("async def f(x):\n    await x.aread()\n", 2, "'aread' would stay"),
    "is_coroutine": (
        "import inspect\ninspect.iscoroutinefunction(1)\n",
        2,
        "'iscoroutinefunction' would stay",
    ),
    "bare_awaitable": ("from typing import Awaitable\nX = Awaitable\n", 2, "'Awaitable' would stay"),
    "awaited_mock": ("m.assert_awaited_once()\n", 1, "'assert_awaited_once' would stay"),
    "twin_method": (
        "class A:\n    def close(self): ...\n\n    async def aclose(self): ...\n",
        4,
        "'close' would be defined twice",
    ),
    "twin_function": ("def close(): ...\n\n\nasync def aclose(): ...\n", 4, "'close' would be defined twice"),
    "twin_class": ("class Thing: ...\n\n\nclass AsyncThing: ...\n", 4, "would both be 'Thing'"),
    "twin_import": ("from pynector import AsyncPynector, Pynector\n", 1, "would both be 'Pynector'"),
    "twin_listed": ('__all__ = ["AsyncA", "A"]\n', 1, "'A' would be listed twice"),
    "self_assigned": ("close = aclose\n", 1, "'close' would be assigned to itself"),
    "awaits_nothing": ("async def f(x):\n    await x\n", 2, "awaits no call"),
    "await_glued": ("async def f(x):\n    return await(x)\n", 2, "a single space behind `await`"),
    "await_broken": ("async def f(x):\n    return await \\\n        x()\n", 2, "no line break"),
    "stop_in_generator": (
        "async def f():\n    yield 1\n    raise StopAsyncIteration\n",
        3,
        "raised in a generator",
    ),
    "coroutine_of_one": ("from typing import Coroutine\nX = Coroutine[int]\n", 2, "needs 3 argument(s)"),
    "import_of_dotted": ("from pynector import concurrency\n", 1, "import from pynector.concurrency itself"),
    "backend_used": ("def f(anyio_backend):\n    return anyio_backend\n", 2, "may only be a parameter"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tree(tmp_path_factory.mktemp("refused"), {f"{name}.py": case[0] for name, case in REFUSED.items()})
    twin = generate.build(root, table=table())
    assert twin.files == {}
    return list(twin.problems)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_silently_wrong_is_refused_with_file_and_line(refused: list[str], name: str) -> None:
    _, line, message = REFUSED[name]
    mine = [problem for problem in refused if problem.startswith(f"src/pynector/_async/{name}.py:")]
    assert any(problem.startswith(f"src/pynector/_async/{name}.py:{line}: ") for problem in mine), mine
    assert any(message in problem for problem in mine), mine


def test_text_of_tests_may_speak_of_both_colours(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a.py": "x = 1\n"}, {"test_a.py": 'X = "await asyncio"  # under trio\n'})
    twin = generate.build(root, table=table())
    assert twin.problems == []
    assert b'X = "await asyncio"  # under trio\n' in twin.files[PurePosixPath("tests/_sync/test_a.py")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", b"x = 1\r\ny = 2\r\n", "a.py: has CRLF line endings"),
        ("a.py", b"\xef\xbb\xbfx = 1\n", "a.py: begins with a byte order mark"),
        ("a.py", b"# coding: latin-1\nx = 1\n", "a.py: declares the encoding iso-8859-1"),
        ("a.py", b"x = '\xff'\n", "a.py: "),
        ("a.py", b"x = 1\nx = = 2\n", "a.py:2: not valid Python"),
        ("notes.txt", b"", "notes.txt: only Python files can be converted"),
    ],
)
def test_a_file_that_cannot_be_converted_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    root = tree(tmp_path, {"good.py": "x = 1\n"})
    (root / "src/pynector/_async" / name).write_bytes(content)
    problems = generate.build(root, table=table()).problems
    assert len(problems) == 1
    assert problems[0].startswith(f"src/pynector/_async/{message}")


# ----------------------------------------------------------------------------------------------------
# Renaming rules.


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("an AsyncPynector and an `AsyncHTTPTransport`", "a Pynector and an `HTTPTransport`"),
        ("An AsyncSdkTransport, an AsyncUsage, an AsyncIterator", "An SdkTransport, a Usage, an Iterator"),
        ("asynchronous code in an Asynchronous world", "blocking code in a Blocking world"),
        ("async generators", "generators"),
        ("takes an async\n    iterable of them", "takes an\n    iterable of them"),
        ("async-only, is_async, async", "async-only, is_async, async"),
        ("await the transport here", "await the transport here"),
        ("`await the_transport` here", "`the_transport` here"),
        ("```\nawait x\nawait y\n```\nawait z", "```\nx\ny\n```\nawait z"),
        ("aclosed _aclose aclose.", "aclosed _aclose close."),
        (
            "pynector.concurrency, pynector.concurrency.sync",
            "pynector.concurrency.sync, pynector.concurrency.sync",
        ),
        ("my.pynector.concurrency pynector.concurrency_x", "my.pynector.concurrency pynector.concurrency_x"),
    ],
)
def test_text(before: str, after: str) -> None:
    assert text.convert(before, table()) == after
    assert text.convert(after, table()) == after


def test_an_unused_entry_is_reported(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a.py": "aclose = 1\n"}, {"test_a.py": "# see old.place, an english word\n"})
    rules = {"dotted": {"old.place": "new.place"}, "prose": (Phrase("english word", "other"),)}
    assert generate.build(root, table=table(names={"aclose": "close"}, **rules)).unused == []
    rules = {"dotted": {"old.places": "new.place"}, "prose": (Phrase("english words", "other"),)}
    unused = generate.build(root, table=table(names={"aclose": "close", "aread": "read"}, **rules)).unused
    assert [problem.split(" is used by no source", 1)[0] for problem in unused] == [
        "name entry 'aread'",
        "dotted entry 'old.places'",
        "prose entry 'english words' (before='')",
    ]


def test_a_result_must_not_be_a_key() -> None:
    with pytest.raises(ValueError, match="renamed twice: b is a result and a key"):
        Table(names={"a": "b", "b": "c"})
    with pytest.raises(ValueError, match=r"'a\.b' is not an identifier"):
        Table(names={"a.b": "c"})


# ----------------------------------------------------------------------------------------------------
# The command.


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository with an up-to-date twin."""
    monkeypatch.setattr(generate, "Table", lambda: table(names={"aclose": "close"}, dotted={}, prose=()))
    library = {
        "__init__.py": "",
        "client.py": "async def aclose() -> None: ...\n",
        "engines/one.py": "x = 1\n",
    }
    root = tree(tmp_path, library)
    assert generate.main(["--root", str(root)]) == 0
    return root


def check(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    capsys.readouterr()
    code = generate.main(["--check", "--root", str(root)])
    output = capsys.readouterr()
    return code, output.err.splitlines(), output.out.strip()


def test_check_passes_on_what_was_just_generated(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(repository, capsys) == (0, [], "generate: 4 files are up to date")


def test_a_second_run_writes_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = repository / "src/pynector/_sync/client.py"
    before = file.stat().st_mtime_ns
    capsys.readouterr()
    assert generate.main(["--root", str(repository)]) == 0
    assert capsys.readouterr().out == "generate: 0 files written, 4 unchanged, 0 removed\n"
    assert file.stat().st_mtime_ns == before


def _edit(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"close", b"shut"))


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n")


def _crlf(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def _link(file: Path) -> None:
    copy = file.parents[3] / "copy.py"
    file.rename(copy)
    file.symlink_to(copy)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edit, "src/pynector/_sync/client.py:2: differs"),
        (_truncate, "src/pynector/_sync/client.py:2: differs"),
        (_empty, "src/pynector/_sync/client.py:1: differs"),
        (_append, "src/pynector/_sync/client.py:3: differs"),
        (_crlf, "src/pynector/_sync/client.py:1: differs"),
        (Path.unlink, "src/pynector/_sync/client.py: missing"),
        (_link, "src/pynector/_sync/client.py: missing"),
    ],
)
def test_check_fails_on_a_damaged_file_and_a_run_repairs_it(
    repository: Path, capsys: pytest.CaptureFixture[str], damage, message: str
) -> None:
    damage(repository / "src/pynector/_sync/client.py")
    code, problems, summary = check(repository, capsys)
    assert (code, summary) == (1, "generate: 1 problem(s)")
    assert problems == [problems[0]]
    assert problems[0].startswith(message)
    assert generate.main(["--root", str(repository)]) == 0
    assert check(repository, capsys)[0] == 0


@pytest.mark.parametrize("name", ["src/pynector/_sync/extra.py", "tests/_sync/deep/extra.py", "tests/_sync/data.txt"])
def test_check_fails_on_an_extra_file(repository: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    extra = repository / name
    extra.parent.mkdir(exist_ok=True)
    extra.write_text("x = 1\n")
    code, problems, _ = check(repository, capsys)
    assert code == 1
    assert problems == [f"{name}: no source produces it: remove it, or run scripts/generate.py"]
    # It was not generated, so somebody may want it: it is not removed.
    assert generate.main(["--root", str(repository)]) == 1
    assert f"not generated, so it is not removed: move or delete {name}" in capsys.readouterr().err
    assert extra.exists()


def test_a_stale_file_fails_the_check_and_goes_with_the_next_run(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "src/pynector/_async/engines/one.py").unlink()
    (repository / "src/pynector/_sync/engines/__pycache__").mkdir()
    (repository / "src/pynector/_sync/engines/__pycache__/one.pyc").touch()
    code, problems, _ = check(repository, capsys)
    assert code == 1
    assert [problem.split(":")[0] for problem in problems] == ["src/pynector/_sync/engines/one.py"]
    assert generate.main(["--root", str(repository)]) == 0
    assert capsys.readouterr().out == "generate: 0 files written, 3 unchanged, 1 removed\n"
    assert not (repository / "src/pynector/_sync/engines").exists()
    assert (repository / "src/pynector/_sync/client.py").exists()


def test_check_fails_on_a_changed_source_and_on_a_new_one(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "src/pynector/_async/client.py").write_text("async def aclose() -> int: ...\n")
    (repository / "tests/_async/test_new.py").write_text("y = 1\n")
    code, problems, _ = check(repository, capsys)
    assert code == 1
    assert [problem.split(": ")[0] for problem in problems] == [
        "src/pynector/_sync/client.py:2",
        "tests/_sync/test_new.py",
    ]


@pytest.mark.parametrize("options", [[], ["--check"]])
@pytest.mark.parametrize("folder", ["src/pynector/_async", "tests/_async"])
def test_an_empty_input_fails(
    repository: Path, capsys: pytest.CaptureFixture[str], folder: str, options: list[str]
) -> None:
    shutil.rmtree(repository / folder)
    (repository / folder / "__pycache__").mkdir(parents=True)
    (repository / folder / "__pycache__/client.pyc").touch()
    capsys.readouterr()
    assert generate.main([*options, "--root", str(repository)]) == 1
    assert f"{folder}: no source found" in capsys.readouterr().err.splitlines()
    assert (repository / "src/pynector/_sync/client.py").exists()


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_an_unused_entry_fails(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(
        generate, "Table", lambda: table(names={"aclose": "close", "aread": "read"}, dotted={}, prose=())
    )
    capsys.readouterr()
    assert generate.main([*options, "--root", str(repository)]) == 1
    assert capsys.readouterr().err.startswith("name entry 'aread' is used by no source")


def test_a_problem_leaves_the_twin_alone(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "src/pynector/_async/client.py").write_text("import anyio\n\naclose = 1\n")
    capsys.readouterr()
    assert generate.main(["--root", str(repository)]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("src/pynector/_async/client.py:1: the name 'anyio' would stay in the twin")
    assert output.out == "generate: 1 problem(s), nothing written\n"
    assert "def close" in (repository / "src/pynector/_sync/client.py").read_text()


def test_what_ruff_cannot_mend_is_a_problem(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "src/pynector/_async/__init__.py").write_text("from .client import unused\n")
    code, problems, _ = check(repository, capsys)
    assert code == 1
    assert problems[0].startswith("ruff check: src/pynector/_sync/__init__.py:1:")
    assert "F401" in problems[0]


# ----------------------------------------------------------------------------------------------------
# The same bytes everywhere.

DRIVER = """
import importlib.util, json, sys
from pathlib import Path

script, root, rules = sys.argv[1:]
spec = importlib.util.spec_from_file_location("pynector_generate", script)
generate = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)
table = None
if rules:
    names, dotted, prose = json.loads(rules)
    from _twin.table import Phrase
    table = generate.Table(names, dotted, tuple(Phrase(*phrase) for phrase in prose))
twin = generate.build(Path(root), table=table)
files = {str(path): content.decode() for path, content in twin.files.items()}
print(json.dumps([files, twin.problems, twin.unused]))
"""


def _drive(python: str, root: Path, *, seed: int = 0, own_table: bool = False) -> list[object]:
    rules = "" if own_table else json.dumps([NAMES, DOTTED, list(map(dataclasses.astuple, PROSE))])
    result = subprocess.run(
        [python, "-c", DRIVER, str(SCRIPT), str(root), rules],
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    output: list[object] = json.loads(result.stdout)
    return output


def _other_pythons() -> list[str]:
    """One interpreter of every other supported version, on the path or installed by pyenv."""
    found = []
    for minor in range(11, 15):
        installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python"))
        for python in [shutil.which(f"python3.{minor}"), *map(str, installed)]:
            # A shim of a version manager may be there without the interpreter.
            works = python and subprocess.run([python, "-c", "import venv"], capture_output=True, check=False)
            if python and works and works.returncode == 0 and minor != sys.version_info.minor:
                found.append(python)
                break
    return found


def _generates(python: str) -> bool:
    command = [python, "-c", "import tokenize_rt, ruff, unasync"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_two_runs_give_the_same_bytes(golden: dict[str, str], golden_root: Path) -> None:
    for seed in (1, 2):
        assert _drive(sys.executable, golden_root, seed=seed) == [golden, [], []]


def test_every_interpreter_that_can_generate_gives_the_same_bytes(golden: dict[str, str], golden_root: Path) -> None:
    for python in filter(_generates, [sys.executable, *_other_pythons()]):
        assert _drive(python, golden_root) == [golden, [], []], python


@pytest.mark.full
def test_every_interpreter_gives_the_same_bytes(golden: dict[str, str], golden_root: Path, tmp_path: Path) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    pythons = _other_pythons()
    if not pythons:
        pytest.skip("no other interpreter found")
    mine = _drive(sys.executable, ROOT, own_table=True)
    for number, python in enumerate(pythons):
        home = tmp_path / str(number)
        subprocess.run([python, "-m", "venv", str(home)], check=True)
        own = str(home / ("Scripts" if os.name == "nt" else "bin") / "python")
        subprocess.run([own, "-m", "pip", "install", "--quiet", *groups["generate"]], check=True)
        assert _drive(own, golden_root) == [golden, [], []], python
        assert _drive(own, ROOT, own_table=True) == mine, python
