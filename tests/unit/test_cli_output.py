"""The output of a batch: begun, gone on with, locked, and never left with half a row."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pynector.cli.output import FileOutput, OutputError, digest, open_output
from pynector.testing import LocalServer
from servers.batch_files import COMMAND, environment, read_rows, request_line, run_batch, statuses, write_lines

pytestmark = pytest.mark.usefixtures("no_proxies_around")


def row(custom_id: str, status: int = 200, **more: Any) -> bytes:
    response = {"status_code": status, "request_id": None, "body": {"n": custom_id}}
    data = {"id": f"batch_req_{custom_id}", "custom_id": custom_id, "response": response, "error": None} | more
    return json.dumps(data).encode() + b"\n"


FAILED = row("failed", response=None, error={"code": "timeout", "message": "no"})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def resumed(out: Path, content: bytes) -> FileOutput:
    out.write_bytes(content)
    output = FileOutput(str(out), resume=True)
    output.close()
    return output


# Beginning


def test_rows_are_there_as_soon_as_they_are_written(out: Path) -> None:
    output = FileOutput(str(out), resume=False)
    output.write(row("a"))
    assert out.read_bytes() == row("a")
    output.write(row("b"))
    assert out.read_bytes() == row("a") + row("b")
    output.close()
    output.close()


@pytest.mark.parametrize("resume", [True, False])
def test_an_empty_file_is_begun(out: Path, resume: bool) -> None:
    out.touch()
    output = FileOutput(str(out), resume=resume)
    assert output.done == set()
    output.close()


def test_rows_are_not_overwritten(out: Path) -> None:
    out.write_bytes(row("a"))
    with pytest.raises(OutputError, match="is not empty: add --resume"):
        FileOutput(str(out), resume=False)
    assert out.read_bytes() == row("a")


# Going on


@pytest.mark.parametrize(
    ("content", "kept", "done"),
    [
        (row("a") + row("b"), row("a") + row("b"), {"a", "b"}),
        (row("a") + row("b")[:-9], row("a"), {"a"}),
        (row("a")[:20], b"", set()),
        (row("a") + row("b")[:-1], row("a") + row("b"), {"a", "b"}),  # whole, but for the end of the line
        (row("a") + FAILED + row("b"), row("a") + row("b"), {"a", "b"}),
        (row("a") + FAILED + row("b")[:-1], row("a") + row("b"), {"a", "b"}),
        (row("a") + FAILED + row("b")[:-9], row("a"), {"a"}),
        (FAILED, b"", set()),
        (row("a", 500) + row("b", 404) + row("c", 201), row("c", 201), {"c"}),
        (row("a") + row("b") + row("a"), row("a") + row("b"), {"a", "b"}),
        (row("a") + b"\n\n" + row("b"), row("a") + row("b"), {"a", "b"}),
    ],
)
def test_what_succeeded_stays(out: Path, content: bytes, kept: bytes, done: set[str]) -> None:
    output = resumed(out, content)
    assert out.read_bytes() == kept
    assert output.done == set(map(digest, done))
    assert os.listdir(out.parent) == [out.name]


@pytest.mark.parametrize(
    "content",
    [
        b"some notes",
        b"some notes\n",
        row("a") + b"nonsense\n" + row("b"),
        row("a")[:30] + b"\n",
        b"[]\n",
        FAILED + b"x\n",
    ],
)
def test_what_is_no_output_is_left_alone(out: Path, content: bytes) -> None:
    out.write_bytes(content)
    with pytest.raises(OutputError, match="no row of a batch output; is it the right file"):
        FileOutput(str(out), resume=True)
    assert out.read_bytes() == content
    assert os.listdir(out.parent) == [out.name]


def test_rows_come_behind_those_that_stayed(out: Path) -> None:
    out.write_bytes(row("a") + FAILED + row("b")[:40])
    output = FileOutput(str(out), resume=True)
    output.write(row("failed"))
    output.close()
    assert out.read_bytes() == row("a") + row("failed")


def test_the_new_file_is_as_the_old_one_was(out: Path, tmp_path: Path) -> None:
    real = tmp_path / "real" / "rows"
    real.parent.mkdir()
    real.write_bytes(row("a") + FAILED)
    real.chmod(0o640)
    out.symlink_to(real)
    FileOutput(str(out), resume=True).close()
    assert out.is_symlink()
    assert real.read_bytes() == row("a")
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_large_output_is_copied_whole(out: Path) -> None:
    large = b"".join(row(f"r{n}", body="x" * 1000) for n in range(3000))
    assert len(large) > 3_000_000
    output = resumed(out, large + FAILED + row("last"))
    assert out.read_bytes() == large + row("last")
    assert len(output.done) == 3001


def test_of_what_is_done_only_digests_are_kept(out: Path) -> None:
    names = [f"{n}-{'x' * 500}" for n in range(2000)]
    out.write_bytes(b"".join(map(row, names)))
    tracemalloc.start()
    try:
        output = FileOutput(str(out), resume=True)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    output.close()
    assert len(output.done) == 2000
    assert kept < 2000 * 200


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_whatever_fails_on_the_way_the_old_rows_stay(out: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    content = row("a") + FAILED + row("b")
    out.write_bytes(content)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        FileOutput(str(out), resume=True)
    assert out.read_bytes() == content
    assert os.listdir(out.parent) == [out.name]


def test_a_copy_of_a_run_that_was_killed_is_begun_anew(out: Path) -> None:
    copy = out.with_name(f".{out.name}.resuming")
    copy.write_bytes(b"half")
    resumed(out, row("a") + FAILED)
    assert out.read_bytes() == row("a")
    assert not copy.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_leaves_no_half_row(out: Path) -> None:
    output = FileOutput(str(out), resume=False)
    output.write(row("a"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(row("a")) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            output.write(row("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert out.read_bytes() == row("a")
    output.write(row("c"))
    output.close()
    assert out.read_bytes() == row("a") + row("c")


def test_a_pipe_is_an_output(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        output = open_output(str(pipe), resume=False)
        output.write(b"row\n")
        assert os.read(reader, 100) == b"row\n"
        output.close()
        assert not output.resumable
        with pytest.raises(OutputError, match="nothing to resume"):
            open_output(str(pipe), resume=True)
    finally:
        os.close(reader)


# One at a time


def test_two_runs_do_not_write_one_file(out: Path) -> None:
    first = FileOutput(str(out), resume=False)
    with pytest.raises(OutputError, match="is being written by another run"):
        FileOutput(str(out), resume=True)
    first.close()
    FileOutput(str(out), resume=True).close()


def test_the_lock_goes_over_to_the_new_file(out: Path) -> None:
    out.write_bytes(row("a") + FAILED)
    first = FileOutput(str(out), resume=True)
    with pytest.raises(OutputError, match="another run"):
        FileOutput(str(out), resume=True)
    first.write(row("b"))
    first.close()
    assert out.read_bytes() == row("a") + row("b")


def test_who_has_opened_the_old_file_takes_the_new_one(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out.write_bytes(row("a") + FAILED)
    lock = FileOutput._lock
    swapped = []

    def swap_first(self: FileOutput, file: int) -> None:
        if not swapped:
            # Between our open and our lock, another run has come and gone.
            swapped.append(os.stat(out).st_ino)
            FileOutput(str(out), resume=True).close()
        lock(self, file)

    monkeypatch.setattr(FileOutput, "_lock", swap_first)
    output = FileOutput(str(out), resume=True)
    output.write(row("b"))
    output.close()
    assert os.stat(out).st_ino != swapped[0]
    assert out.read_bytes() == row("a") + row("b")


# The command


def test_resume_sends_what_has_not_succeeded(tmp_path: Path, out: Path) -> None:
    with LocalServer() as server:
        lines = [request_line(f"r{n}", f"/echo/{n}") for n in range(20)]
        lines += [
            request_line("flaky", "/flaky/k?fail=1&status=500"),
            request_line("gone", "/status/404"),
            "nonsense\n",
        ]
        source = write_lines(tmp_path / "in", lines)
        options = ("-o", out, "--base-url", server.url, "--max-retries", 0, "--resume")
        first = run_batch(source, *options)  # no output yet: from nothing
        assert first.returncode == 1
        assert server.requests.count == 22
        first_rows = {row["custom_id"]: row for row in read_rows(out)}
        assert len(first_rows) == 23
        with out.open("ab") as file:
            file.write(b'{"id": "batch_req_torn", "custom_id": "r7", "respo')

        second = run_batch(source, *options)
        assert second.returncode == 1
        assert server.requests.count == 24  # the two that had failed
        rows = read_rows(out)
        assert statuses(rows) == {f"r{n}": 200 for n in range(20)} | {
            "flaky": 200, "gone": 404, "line-23": "invalid_json_line",
        }  # fmt: skip
        assert "20 skipped, done before" in second.stderr
        assert second.stderr.startswith("line 23: ")
        kept = [row for row in rows if row["custom_id"].startswith("r")]
        assert kept == [row for name, row in first_rows.items() if name.startswith("r")]

        fixed = write_lines(tmp_path / "fixed", lines[:-2])
        third = run_batch(fixed, *options)
        assert third.returncode == 0
        assert server.requests.count == 24
        assert statuses(read_rows(out)) == {f"r{n}": 200 for n in range(20)} | {"flaky": 200}


def test_a_name_that_is_done_and_stands_twice(server: LocalServer, tmp_path: Path, out: Path) -> None:
    out.write_bytes(row("a"))
    source = write_lines(tmp_path / "in", [request_line("a"), request_line("a"), request_line("b", method="NO")])
    done = run_batch(source, "-o", out, "--base-url", server.url, "--resume")
    assert done.returncode == 1
    assert statuses(read_rows(out)) == {"a": 200, "line-2": "duplicate_custom_id", "b": "invalid_method"}
    assert server.requests.count == 0


@pytest.mark.parametrize("content", [row("a"), b"some notes\n"])
def test_a_file_that_must_not_be_changed(server: LocalServer, tmp_path: Path, out: Path, content: bytes) -> None:
    out.write_bytes(content)
    source = write_lines(tmp_path / "in", [request_line("a")])
    resume = () if content == row("a") else ("--resume",)
    done = run_batch(source, "-o", out, "--base-url", server.url, *resume)
    assert (done.returncode, out.read_bytes(), server.requests.count) == (2, content, 0)
    assert "Traceback" not in done.stderr


def test_a_second_run_is_refused(server: LocalServer, tmp_path: Path, out: Path) -> None:
    source = write_lines(tmp_path / "in", [request_line("a")])
    first = FileOutput(str(out), resume=False)
    done = run_batch(source, "-o", out, "--base-url", server.url, "--resume")
    first.close()
    assert (done.returncode, server.requests.count) == (2, 0)
    assert "is being written by another run" in done.stderr


def test_a_full_disk_ends_the_run(server: LocalServer, tmp_path: Path, out: Path) -> None:
    source = write_lines(tmp_path / "in", [request_line(f"r{n}") for n in range(200)])
    code = """
import resource, signal, sys
from pynector.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, -1))
try:
    main()
finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *COMMAND[3:], source, "-o", out, "--base-url", server.url],
        capture_output=True, encoding="utf-8", timeout=60, check=False, env=environment(),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("stopped after ")
    assert "File too large; the same command with --resume goes on\n" in done.stderr
    assert 0 < len(read_rows(out)) < 20
    assert server.requests.count < 40
