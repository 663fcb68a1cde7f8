"""A batch that is stopped: by Ctrl-C, SIGTERM, kill -9, a reader that has gone. Nothing is lost, or paid twice."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pynector.cli.interrupts import Interrupted, Interrupts
from pynector.testing import LocalServer
from servers.batch_files import (
    COMMAND,
    environment,
    read_rows,
    request_line,
    run_batch,
    start_batch,
    statuses,
    write_lines,
)

pytestmark = [
    pytest.mark.usefixtures("no_proxies_around"),
    pytest.mark.skipif(sys.platform == "win32", reason="sends signals"),
]

SECONDS = 30.0


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def wait_until(reached: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SECONDS
    while not reached():
        assert process.poll() is None, "it has ended before"
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Signals


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_at_once_and_what_has_finished_is_written(
    server: LocalServer, tmp_path: Path, out: Path, signum: int, code: int
) -> None:
    lines = [request_line(f"r{n}") for n in range(20)] + [request_line(f"s{n}", "/delay?s=60") for n in range(100)]
    source = write_lines(tmp_path / "in", lines)
    options = (source, "-o", out, "--base-url", server.url, "--max-concurrency", 5, "--resume")
    with start_batch(*options, stderr=subprocess.PIPE) as process:
        # All quick ones are done, and every worker waits for a slow one.
        wait_until(lambda: server.requests.count == 25 and out.read_bytes().count(b"\n") == 20, process)
        interrupted = time.monotonic()
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=SECONDS)
        took = time.monotonic() - interrupted
    assert process.returncode == code
    assert took < 3
    assert statuses(read_rows(out)) == {f"r{n}": 200 for n in range(20)}
    assert stderr.startswith(b"interrupted after 20 rows in ")
    assert stderr.endswith(b"; the same command with --resume goes on\n")
    assert stderr.count(b"\n") == 1
    assert server.requests.count == 25


@pytest.mark.parametrize("by_name", [False, True])
def test_rows_do_not_wait_for_the_next_line(server: LocalServer, tmp_path: Path, out: Path, by_name: bool) -> None:
    """From a pipe that stays open. A row is written once its request is answered, and a line is two pieces."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = (pipe if by_name else "-", "-o", out, "--base-url", server.url)
    with start_batch(*options, stdin=None if by_name else subprocess.PIPE) as process:
        with open(pipe, "wb") if by_name else process.stdin as stream:  # type: ignore[union-attr]
            for number in range(1, 4):
                line = request_line(f"r{number}").encode()
                stream.write(line[:9])
                stream.flush()
                stream.write(line[9:])
                stream.flush()
                wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") == number, process)  # noqa: B023
            stream.write(request_line("last").encode().rstrip())
        assert process.wait(SECONDS) == 0
    assert statuses(read_rows(out)) == dict.fromkeys(["r1", "r2", "r3", "last"], 200)


@pytest.mark.parametrize("place", ["input", "connect"])
def test_it_ends_whatever_it_waits_for(tmp_path: Path, out: Path, place: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with start_batch("-", "-o", out, "--base-url", url, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            if place == "connect":
                process.stdin.write(request_line("a").encode() * 20)
                process.stdin.flush()
            wait_until(out.exists, process)
            time.sleep(0.3)
            interrupted = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 130
            assert time.monotonic() - interrupted < 3
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()


def test_a_signal_waits_for_the_end_of_a_held_block() -> None:
    seen = []
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted) as caught, interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            seen.append("the rest of the block")
        assert (caught.value.signum, caught.value.exit_code) == (signal.SIGTERM, 143)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    assert seen == ["the rest of the block"]
    with pytest.raises(KeyboardInterrupt) as plain:
        signal.raise_signal(signal.SIGINT)
    assert type(plain.value) is KeyboardInterrupt


def test_another_thread_has_no_signals() -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with Interrupts() as interrupts, interrupts.held():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failed == []


# A reader that has gone


def test_a_reader_that_has_enough_is_no_error(server: LocalServer, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in", [request_line(f"r{n}", body={"x": "y" * 2000}) for n in range(2000)])
    command = [*COMMAND, str(source), "-o", "-", "--base-url", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"id": "batch_req_')
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(SECONDS) == 1
    assert stderr == b""
    assert server.requests.count < 2000


# kill -9


def kill_and_resume(server: LocalServer, tmp_path: Path, out: Path, seed: int, *, kills: int) -> tuple[int, int]:
    """Kill a batch at random moments until it has been killed so often or is done, then let it end.

    Returns:
        How many rounds there were, and how many requests.
    """
    rand = random.Random(seed)
    items, concurrency = 400, 8
    names = [f"r{n}" for n in range(items)]
    # Every tenth fails at first: its row is written, and must be gone in the end.
    urls = [f"/flaky/{n}?fail=1&status=500" if n % 10 == 3 else f"/slow/{n}?ms=5" for n in range(items)]
    source = write_lines(tmp_path / "in", map(request_line, names, urls))
    options = (source, "-o", out, "--base-url", server.url, "--max-concurrency", concurrency, "--max-retries", 0)
    rounds = killed_early = 0
    while rounds < kills:
        rounds += 1
        with start_batch(*options, "--resume", stderr=subprocess.DEVNULL) as process:
            # Some before the first request, most in the middle.
            aim = server.requests.count + rand.choice([0, rand.randrange(1, items // kills + 30)])
            while server.requests.count < aim and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rand.random() * 0.02)
            killed_early += process.poll() is None
            process.kill()
    assert killed_early > kills / 2
    for _ in range(3):  # what failed in one run succeeds in the next one
        rounds += 1
        ended = run_batch(*options, "--resume")
        if ended.returncode == 0:
            break
    assert ended.returncode == 0, ended.stderr
    assert statuses(read_rows(out)) == dict.fromkeys(names, 200)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in", "out.jsonl"]
    # 40 of them have to be sent twice; beyond that, each round may cost what was under way when it was killed.
    sent = server.requests.count
    assert sent <= items + items // 10 + rounds * concurrency
    return rounds, sent


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_and_resumed(tmp_path: Path, out: Path, seed: int) -> None:
    with LocalServer() as server:
        kill_and_resume(server, tmp_path, out, seed, kills=5)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_killed_in_twenty_rounds(tmp_path: Path, out: Path, seed: int) -> None:
    with LocalServer() as server:
        rounds, sent = kill_and_resume(server, tmp_path, out, seed, kills=20)
    print(f"seed {seed}: {rounds} rounds, {sent} requests")


@pytest.mark.full
def test_killed_while_rows_are_written_as_fast_as_can_be(tmp_path: Path, out: Path) -> None:
    """Large rows, killed while the file grows: where a torn row is likely."""
    rand = random.Random(7)
    items, concurrency = 600, 4
    names = [f"r{n}" for n in range(items)]
    ends: Counter[bool] = Counter()
    with LocalServer() as server:
        source = write_lines(tmp_path / "in", (request_line(name, body={"x": "y" * 200_000}) for name in names))
        options = (source, "-o", out, "--base-url", server.url, "--max-concurrency", concurrency, "--resume")
        for _ in range(20):
            with start_batch(*options, stderr=subprocess.DEVNULL) as process:
                sent = server.requests.count
                wait_until(lambda: server.requests.count > sent + 5, process)  # noqa: B023
                time.sleep(rand.random() * 0.05)
                process.kill()
            ends[not out.exists() or out.read_bytes()[-1:] in (b"", b"\n")] += 1
        assert run_batch(*options).returncode == 0
        assert statuses(read_rows(out)) == dict.fromkeys(names, 200)
        assert server.requests.count <= items + 20 * concurrency
        print(f"20 rounds, {server.requests.count} requests, {ends[False]} torn rows")


def test_a_worker_that_is_stuck_does_not_hold_it_up(tmp_path: Path, out: Path) -> None:
    """Looking up a name is a call that no thread can be interrupted in."""
    code = """
import socket, sys, time
from pynector.cli import main
socket.getaddrinfo = lambda *arguments, **options: time.sleep(60)
main()
"""
    source = write_lines(tmp_path / "in", [request_line("a", "http://somewhere.test/")])
    command = [sys.executable, "-c", code, *COMMAND[3:], str(source), "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        wait_until(out.exists, process)
        time.sleep(0.7)
        interrupted = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert time.monotonic() - interrupted < 3
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
