"""Files of the batch command, and the command itself in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "pynector", "batch")


def request_line(custom_id: str, url: str = "/echo", body: Any = None, method: str = "POST", **more: Any) -> str:
    """One line of an input."""
    body = {"id": custom_id} if body is None else body
    return json.dumps({"custom_id": custom_id, "method": method, "url": url, "body": body} | more) + "\n"


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """Write an input."""
    path.write_text("".join(lines), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of an output, each of them whole."""
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def statuses(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The status of each row, or the code of its error, by its name, which no other row may have."""
    by_name: dict[str, Any] = {}
    for row in found:
        assert row["custom_id"] not in by_name, f"{row['custom_id']} is there twice"
        response, error = row["response"], row["error"]
        assert (response is None) is (error is not None)
        by_name[row["custom_id"]] = response["status_code"] if error is None else error["code"]
    return by_name


def environment(**more: str) -> dict[str, str]:
    """That of a process: without what would change what it does."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    return inherited | more


def run_batch(*arguments: object, input: str | None = None, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=input, capture_output=True, encoding="utf-8", timeout=60, check=False, env=environment(**more),
    )  # fmt: skip


def start_batch(*arguments: object, **streams: Any) -> "subprocess.Popen[bytes]":
    """Start the command."""
    return subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment(), **streams)
