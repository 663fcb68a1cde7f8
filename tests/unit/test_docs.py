"""README, CONTRIBUTING and docs: every block is run or checked, and what they say about names is true.

- A `python` block is an example that stands alone. One that awaits at its top level is run on asyncio, on trio and,
  rewritten as the generator rewrites docstrings, as blocking code. Where that rewriting is not enough (the example
  uses an event loop's own names), the next example must be its blocking form.
- A `text` block right behind an example is what it prints.
- A `bash` block must be valid for bash, a `toml` block valid TOML.
- `https://api.example.com` is a local server here, `lines.example.com` port 7000 another one; the addresses of OpenAI
  and Anthropic are those of local servers too, which speak their wire formats.
"""

import ast
import atexit
import contextlib
import importlib
import inspect
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import pynector
from pynector import AdaptiveConcurrency, Checkpoint, CircuitBreaker, RateLimit, RetryBudget, RetryPolicy, errors
from pynector._config import SETTINGS, UNSET
from pynector._messages.fields import REQUEST_KEYS
from pynector._messages.report import RunStats, Summary
from pynector._options import REQUEST_OPTIONS, BatchOptions
from pynector._telemetry import semconv
from pynector.telemetry import configure_telemetry
from pynector.testing import LocalServer
from pynector.transport.http import HTTPTransport
from servers.docs_app import DocsApp, line_server
from servers.markdown import Block, anchors, read_blocks, read_links, read_prose
from servers.provider_server import ProviderServer

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
LANGUAGES = {"python", "bash", "text", "toml"}

BLOCKS = [block for file in FILES for block in read_blocks(ROOT, file)]
EXAMPLES = [block for block in BLOCKS if block.language == "python"]
OUTPUTS = {block.follows: block.text for block in BLOCKS if block.language == "text" and block.follows in EXAMPLES}

API = "https://api.example.com"
LINES = '"lines.example.com", 7000'
EVENT_LOOPS = re.compile(r"\b(?:anyio|asyncio|trio)\b")

sys.path.insert(0, str(ROOT / "scripts"))
import telemetry_tables  # noqa: E402
from _twin import text as twin_text  # noqa: E402
from _twin.table import Table  # noqa: E402


def is_async(block: Block) -> bool:
    """Whether an example awaits at its top level."""
    code = compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return bool(code.co_flags & inspect.CO_COROUTINE)


def rewritten(block: Block) -> str | None:
    """The blocking form of an example, as the generator makes it; None if it needs a hand-written one."""
    blocking = twin_text.convert(block.text, Table())
    return None if EVENT_LOOPS.search(blocking) else blocking


def runs() -> Iterator[Any]:
    """Each example in each colour it has."""
    for block in EXAMPLES:
        if not is_async(block):
            yield pytest.param(block, "blocking", id=f"{block}-blocking")
            continue
        yield pytest.param(block, "asyncio", id=f"{block}-asyncio")
        yield pytest.param(block, "trio", id=f"{block}-trio")
        if rewritten(block) is not None:
            yield pytest.param(block, "rewritten", id=f"{block}-rewritten")


@pytest.fixture
def workplace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    openai_server: ProviderServer,
    anthropic_server: ProviderServer,
) -> None:
    """What the examples find around them: an empty environment, a token, keys, and a few files."""
    for provider in (openai_server, anthropic_server):
        monkeypatch.setenv(f"{provider.name.upper()}_API_KEY", "sk-t0p-s3cret")
        monkeypatch.setenv(f"{provider.name.upper()}_BASE_URL", provider.url)
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("API_TOKEN", "t0p-s3cret")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "users.csv").write_text("id,name\n1,Ada\n2,Grace\n3,Barbara\n", encoding="utf-8")


@pytest.fixture
def telemetry() -> Iterator[None]:
    """What an example sets up ends with it."""
    pytest.importorskip("opentelemetry.sdk")
    from servers.spans import untouched

    loggers = logging.Logger.manager.loggerDict
    handlers = {name: logger.handlers[:] for name, logger in loggers.items() if isinstance(logger, logging.Logger)}
    with untouched():
        yield
    for name, logger in loggers.items():
        if isinstance(logger, logging.Logger):
            logger.handlers[:] = handlers.get(name, [])


@pytest.fixture
def process_end(monkeypatch: pytest.MonkeyPatch) -> contextlib.ExitStack:
    """What an example leaves for the end of its process."""
    stack = contextlib.ExitStack()
    monkeypatch.setattr(atexit, "register", stack.callback)
    return stack


@pytest.mark.parametrize(("block", "colour"), [*runs()])
def test_example(
    block: Block,
    colour: str,
    workplace: None,
    process_end: contextlib.ExitStack,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "pynector.telemetry" in block.text:
        request.getfixturevalue("telemetry")
    source = block.text if colour != "rewritten" else rewritten(block)
    assert source is not None
    with LocalServer(DocsApp()) as server, line_server() as port, process_end:
        source = source.replace(API, server.url).replace(LINES, f'"127.0.0.1", {port}')
        run(source, block, colour)
        printed = capsys.readouterr().out.replace(server.url, API)
    if block in OUTPUTS:
        shown = OUTPUTS[block]
        assert printed == (twin_text.convert(shown, Table()) if colour == "rewritten" else shown)


def run(source: str, block: Block, colour: str) -> None:
    """Run an example as the file would run it, with the line numbers of the document."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if colour in ("asyncio", "trio") else 0
    code = compile("\n" * block.line + source, str(ROOT / block.file), "exec", flags, dont_inherit=True)
    names: dict[str, Any] = {"__name__": "__main__"}
    if not flags:
        exec(code, names)
        return

    async def main() -> None:
        await eval(code, names)

    anyio.run(main, backend=colour)


def test_there_are_examples_in_every_guide() -> None:
    guides = {
        "README.md",
        "docs/bulk.md",
        "docs/client.md",
        "docs/transport.md",
        "docs/http_transport.md",
        "docs/sdk_transport.md",
        "docs/concurrency.md",
    }
    assert guides <= {block.file for block in EXAMPLES if is_async(block)}
    assert guides - {"docs/http_transport.md", "docs/sdk_transport.md"} <= {
        block.file for block in EXAMPLES if not is_async(block)
    }


@pytest.mark.parametrize("block", [b for b in EXAMPLES if is_async(b) and rewritten(b) is None], ids=str)
def test_a_hand_written_blocking_form_follows(block: Block) -> None:
    later = [each for each in EXAMPLES if each.file == block.file and each.index > block.index]
    assert later, f"{block} has no blocking form behind it"
    assert not is_async(later[0]), f"{block} has no blocking form behind it"
    assert OUTPUTS.get(block) == OUTPUTS.get(later[0])


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_is_of_a_known_language(block: Block) -> None:
    assert block.language in LANGUAGES
    if block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True, timeout=30)
    elif block.language == "toml":
        tomllib.loads(block.text)


def test_links_lead_somewhere() -> None:
    broken = []
    for file in FILES:
        for line, target in read_links(ROOT, file):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            linked = (ROOT / file).parent / path if path else ROOT / file
            if not linked.exists():
                broken.append(f"{file}:{line}: {target}")
            elif anchor and anchor not in anchors(ROOT, str(linked.resolve().relative_to(ROOT))):
                broken.append(f"{file}:{line}: {target}")
    assert not broken


def test_named_modules_and_names_exist() -> None:
    """`pynector.x` and `pynector.x.Y` in prose can be imported."""
    unknown = []
    for file in FILES:
        for line, prose in read_prose(ROOT, file):
            for name in re.findall(r"`(pynector(?:\.[A-Za-z_]\w*)+)`", prose):
                if name not in (*LOGGERS, *ENTRY_POINT_GROUPS, *EMITTED) and not importable(name):
                    unknown.append(f"{file}:{line}: {name}")
    assert not unknown


EMITTED = {*semconv.SPANS, *semconv.ATTRIBUTES, *(metric.name for metric in semconv.METRICS)}
LOGGERS = ("pynector.attempts", "pynector.http")
ENTRY_POINT_GROUPS = (
    "pynector.transports.async",
    "pynector.transports.sync",
    "pynector.adapters.async",
    "pynector.adapters.sync",
)


def importable(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        return hasattr(importlib.import_module(module), attribute)
    return True


# The two commands of the README


def command(word: str) -> str:
    """The first line of the README that has `word` in it."""
    return next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if word in line)


@pytest.mark.parametrize("word", ["demo", "nox"])
def test_command_is_one_line_in_a_block_of_its_own(word: str) -> None:
    assert [b.language for b in BLOCKS if b.file == "README.md" and b.text == command(word) + "\n"] == ["bash"]


ONCE = pytest.mark.skipif(sys.version_info >= (3, 12), reason="runs all tests again: once is enough")


@pytest.mark.full
@pytest.mark.parametrize(("word", "minutes"), [("demo", 5), pytest.param("nox", 30, marks=ONCE)])
def test_command_works_in_a_fresh_copy(word: str, minutes: int, tmp_path: Path) -> None:
    left_out = (".git", ".*cache", ".venv", ".nox", ".hypothesis", ".coverage*", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(*left_out))
    ours = ("PYNECTOR_", "PYTHON", "COV", "PYTEST_", "NOX", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        ["bash", "-c", command(word)],
        cwd=tmp_path / "copy",
        env=environment,
        timeout=60 * minutes,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]


# What the documents say about names and defaults is what the code says


def table(file: str, head: str) -> dict[str, list[str]]:
    """The table of a document whose first column is headed so: the other cells, by the name in the first one."""
    rows: dict[str, list[str]] = {}
    inside = False
    for _, line in read_prose(ROOT, file):
        first, *others = [cell.strip() for cell in line.strip("|").split("|")]
        inside = line.startswith("|") and (inside or first == head)
        if inside and first.startswith("`"):
            rows |= {name.strip("`"): others for name in first.split(" or ")}
    assert rows, f"{file} has no table headed {head!r}"
    return rows


def default(value: object) -> str:
    """A default as the tables show it."""
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def test_arguments_of_the_http_transport() -> None:
    arguments = table("docs/http_transport.md", "Argument")
    parameters = inspect.signature(HTTPTransport).parameters
    assert list(arguments) == list(parameters)
    for name, parameter in parameters.items():
        if name != "message_type":
            assert arguments[name][0] == default(parameter.default), name


def test_arguments_of_the_client() -> None:
    arguments = table("docs/client.md", "Argument of a client")
    parameters = dict(inspect.signature(pynector.Pynector).parameters)
    del parameters["transport_options"]
    assert list(arguments) == list(parameters)
    for name, parameter in parameters.items():
        if parameter.default is not UNSET:
            assert arguments[name][0] == default(parameter.default), name


@pytest.mark.parametrize(("column", "name"), [(0, "batch_request"), (1, "stream_batch")])
def test_arguments_of_a_batch(column: int, name: str) -> None:
    arguments = table("docs/bulk.md", "Argument of a batch")
    arguments = {argument: row for argument, row in arguments.items() if row[column] != "no"}
    parameters = dict(inspect.signature(getattr(pynector.Pynector, name)).parameters)
    del parameters["self"], parameters["options"]
    assert arguments.keys() == parameters.keys() | BatchOptions.__annotations__.keys()
    for argument, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            assert arguments[argument][column] == default(parameter.default), argument


@pytest.mark.parametrize("policy", [AdaptiveConcurrency, Checkpoint, CircuitBreaker, RateLimit, RetryBudget])
def test_fields_of_the_policies(policy: Any) -> None:
    fields = table("docs/bulk.md", f"Field of `{policy.__name__}`")
    parameters = inspect.signature(policy).parameters
    assert list(fields) == list(parameters)
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            assert fields[name][0] == default(parameter.default), name


def test_keys_of_a_request_and_options_of_a_call() -> None:
    assert table("docs/client.md", "Key").keys() == REQUEST_KEYS - {"json_data", "form_data"}
    assert table("docs/client.md", "Option").keys() == REQUEST_OPTIONS


def test_settings() -> None:
    settings = table("docs/client.md", "Variable")
    assert {variable: row[:2] for variable, row in settings.items()} == {
        setting.variable: [f"`{name}`", default(setting.default)] for name, setting in SETTINGS.items()
    }


def test_fields_of_the_retry_policy() -> None:
    fields = table("docs/client.md", "Field of `RetryPolicy`")
    assert list(fields) == list(RetryPolicy.__dataclass_fields__)
    statuses = {int(status) for status in re.findall(r"\d{3}", fields.pop("retry_statuses")[0])}
    assert statuses == RetryPolicy().retry_statuses
    for name, row in fields.items():
        assert row[0] == default(getattr(RetryPolicy(), name)), name


@pytest.mark.parametrize(("head", "figures"), [("Field of `run.stats`", RunStats), ("Field of a summary", Summary)])
def test_fields_of_the_figures(head: str, figures: type[RunStats | Summary]) -> None:
    named = [name for row in table("docs/bulk.md", head) for name in re.findall(r"\w+", row)]
    assert sorted(named) == sorted(figures.__dataclass_fields__)


def test_tree_of_errors() -> None:
    """Each class stands below its own base, two spaces further in."""
    tree = next(b for b in BLOCKS if b.file == "docs/http_transport.md" and b.text.startswith("PynectorError\n"))
    bases: list[type[BaseException]] = [Exception]
    named = set()
    for line in tree.text.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        error = getattr(errors, name)
        assert error.__bases__[0] is bases[depth], name
        bases[depth + 1 :] = [error]
        named.add(name)
    # What no built-in transport raises yet is not in the tree.
    assert {error for error in errors.__all__ if error.startswith("HTTP")} <= named


def test_arguments_of_configure_telemetry() -> None:
    arguments = table("docs/observability.md", "Argument")
    parameters = inspect.signature(configure_telemetry).parameters
    assert list(arguments) == list(parameters)
    for name, parameter in parameters.items():
        assert arguments[name][0] == default(parameter.default), name


def test_tables_of_what_is_emitted() -> None:
    """Run scripts/telemetry_tables.py where this fails."""
    assert telemetry_tables.updated(page := telemetry_tables.FILE.read_text(encoding="utf-8")) == page
