"""httpx and its maintained fork, which are used alike: the one of an engine, or the one that is there."""

import importlib
import sys
from types import ModuleType

from ..errors import ConfigurationError


def load(name: str) -> ModuleType:
    """Import a module of httpx or httpx2, and both with it.

    Args:
        name: `httpx`, `httpcore`, `httpx2` or `httpcore2`.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        extra = "httpx2" if name.endswith("2") else "httpx"
        line = "pip install 'pynector[httpx2]'" if extra == "httpx2" else "pip install httpx"
        raise ConfigurationError(f"engine={extra!r} needs the package {name}: {line}") from exc


def loaded() -> ModuleType:
    """One of the two, for what is the same in both: one that is imported already, if any is."""
    return next(iter(loaded_all()), None) or load("httpx")


def loaded_all() -> list[ModuleType]:
    """Those of the two that are imported: whoever has a client of one has imported it."""
    return [module for name in ("httpx", "httpx2") if (module := sys.modules.get(name)) is not None]
