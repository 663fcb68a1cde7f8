"""The floors of the house: a lower one never imports a higher one, and only the pair touches concurrency."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pynector

ROOT = Path(pynector.__file__).parent

# Lowest first. A name stands for a module or a package; what stands on one line may not import its neighbours there,
# unless it says so.
FLOORS: list[set[str]] = [
    {"_mutex", "_version", "errors"},
    {"_config", "_messages", "_policies"},
    {"_lanes"},
    {"_http", "_options", "_progress", "_registry"},
    {"_checkpoint", "_sdk"},
    {"_concurrency", "_telemetry"},
    {"_async", "_sync"},
    {"transport", "concurrency", "telemetry", "__init__"},
    {"testing", "cli", "__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
MODULES = sorted(ROOT.rglob("*.py"))

CONCURRENCY = {"anyio", "asyncio", "threading", "_thread", "queue", "trio", "concurrent", "multiprocessing", "sniffio"}
MAY_USE_CONCURRENCY = {"_concurrency", "_mutex", "testing", "cli"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, wherever in it, as an absolute name."""
    package = ["pynector", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path: Path) -> None:
    own = part_of(path)
    assert own in FLOOR, f"{own} has no floor yet: give it one in this test"
    for line, name in imports(path):
        if not name.startswith("pynector.") and name != "pynector":
            continue
        other = [*name.split("."), "__init__"][1]
        if other not in FLOOR:
            other = "__init__"  # a public name, through the front door
        if own == "__init__" and other in {"_async", "_sync", "_messages", "_policies", "_version", "errors"}:
            continue
        assert other == own or FLOOR[other] <= FLOOR[own], f"{path}:{line} imports {name}, which is on a higher floor"
        assert {own, other} != {"_async", "_sync"}, f"{path}:{line}: the two colours never import each other"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_pair_touches_concurrency(path: Path) -> None:
    if part_of(path) in MAY_USE_CONCURRENCY:
        return
    for line, name in imports(path):
        assert name.split(".")[0] not in CONCURRENCY, f"{path}:{line} imports {name}: use _concurrency"
        assert name != "time.sleep", f"{path}:{line} imports {name}: use _concurrency"


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pynector", {"httpx", "httpcore", "anyio", "asyncio", "trio", "ssl", "click", "tqdm"}),
        (
            "from pynector import Pynector; Pynector(base_url='http://h')",
            {"httpx", "httpcore", "anyio", "asyncio", "trio"},
        ),
        ("from pynector import AsyncPynector; AsyncPynector(base_url='http://h')", {"httpx", "httpcore", "trio"}),
        (
            "import pynector.concurrency; from pynector.concurrency.sync import *",
            {"httpx", "httpcore", "anyio", "asyncio", "trio"},
        ),
        ("from pynector.concurrency import *", {"httpx", "httpcore", "trio"}),
    ],
)
def test_nothing_is_imported_before_it_is_needed(statement: str, absent: set[str]) -> None:
    loaded = set(run_python(f"import sys; {statement}; print(*sys.modules)").split())
    assert not loaded & absent
