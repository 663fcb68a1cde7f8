"""Running the tests without our extras: which of them can't be, since what they are about is not installed."""

import ast
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

WITHOUT_EXTRAS = os.environ.get("PYNECTOR_TESTS_WITHOUT_EXTRAS") == "1"
"""Whether what is not installed is left out. Everywhere else it is a failure."""


@cache
def is_installed(name: str) -> bool:
    """Whether a package or a module is there."""
    package, _, rest = name.partition(".")
    found = find_spec(package)
    if found is None or found.origin is not None or not rest:
        return found is not None
    # A namespace, such as `opentelemetry`: what is in it comes from packages of their own.
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_left_out(path: Path) -> bool:
    """Whether a file of tests imports what is not installed."""
    return WITHOUT_EXTRAS and path.suffix == ".py" and not all(map(is_installed, _imports(path)))


def leave_out(items: list[pytest.Item]) -> None:
    """Take out the tests that say by the mark `needs("package", ...)` that they can't be run here."""
    if WITHOUT_EXTRAS:
        items[:] = [item for item in items if all(map(is_installed, _needs(item)))]


def _needs(item: pytest.Item) -> set[str]:
    return {package for mark in item.iter_markers("needs") for package in mark.args}


@cache
def _imports(path: Path) -> frozenset[str]:
    """What a file imports when it is imported, and what the files of ours do that it imports."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["servers." + (node.module or "")] if node.level else [node.module or ""]
        for name in names:
            package, _, rest = name.partition(".")
            own = TESTS / "servers" / f"{rest}.py"
            if package != "servers":
                found.add(name)
            elif own.exists():
                found |= _imports(own)
        # The engine in Rust is a module of ours that can't be imported without its package.
        found |= {"pyreqwest"} & {name.rpartition(".")[2] for name in names}
    return frozenset(found)
