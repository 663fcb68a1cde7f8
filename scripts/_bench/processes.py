"""A process of its own for each measurement, so that nobody inherits another's memory, modules or threads."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parents[1]


class Failed(Exception):
    """A measurement ended in an error."""


def run(*arguments: str, timeout: float = 900) -> Any:
    """Run Python with `arguments` in a process that knows the modules of the bench.

    Args:
        *arguments: Such as `-m`, a module, and its arguments.
        timeout: Seconds until the process is killed.

    Returns:
        The JSON on the last line it printed.

    Raises:
        Failed: It ended in an error, or not at all.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment(),
            cwd=SCRIPTS,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {timeout:g} s") from None
    if done.returncode != 0:
        raise Failed((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """That of this process without what would send requests elsewhere or change a contestant."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("PYNECTOR_", "COV", "PYTHONWARNINGS"))
    }
    path = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Where a measurement was taken, and the versions of `packages` that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": versions,
    }
