"""The `pynector` command: run for real, in a process of its own wherever that is what matters."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import pynector
from pynector.cli import commands, demo
from pynector.testing import LocalServer

CLIENTS = ["AsyncPynector", "Pynector"]
PLAIN = {"FORCE_COLOR": None, "TTY_COMPATIBLE": None, "COLUMNS": None}  # what would change the look of the output
MODULE = (sys.executable, "-m", "pynector")


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if name not in PLAIN}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=60, check=False, env=inherited | environment
    )


def rows(table: str) -> dict[str, list[str]]:
    lines = [line.split() for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines if line and line[0] in CLIENTS}


@pytest.fixture
def invoke() -> Iterator[Any]:
    """Run the command in this process, where parts of it can be broken."""
    logger = logging.getLogger("asyncio")
    level = logger.level

    def invoke(*arguments: str, **environment: str) -> Result:
        runner = CliRunner(env=PLAIN | environment)
        return runner.invoke(commands.pynector, ["demo", "--requests", "40", *arguments], color=True)

    yield invoke
    logger.setLevel(level)


@pytest.mark.needs("rich")
def test_demo_prints_one_row_per_client_and_the_verdict() -> None:
    result = run(
        sys.executable, "-X", "dev", "-W", "error", "-m", "pynector", "demo", "--requests", "200", PYTHONUTF8="1"
    )
    assert result.returncode == 0, result.stderr
    header = next(line.split() for line in result.stdout.splitlines() if line.startswith("client"))
    assert header == ["client", "requests", "ok", "retried", "failed", "req/s", "p50", "p95", "p99", "stream"]
    table = rows(result.stdout)
    assert list(table) == CLIENTS
    for requests, ok, retried, failed, *figures, size, unit in table.values():
        # Ten failed with 503 at first; ten more were put off by a 429, which is no retry.
        assert [requests, ok, retried, failed, size, unit] == ["200", "200", "10", "0", "16.0", "MB"]
        throughput, p50, p95, p99 = (int(figure.replace(",", "")) for figure in figures)
        assert throughput > 0
        assert 0 < p50 <= p95 <= p99
        assert p99 >= 1000  # one of the 200 was asked to wait for a second, and with it all that came after
    assert "✓ Both clients got identical answers, byte for byte.\n" in result.stdout
    assert "200 requests per client, 50 at once" in result.stdout
    # One bar each, from its first step to its last, and nothing else: no warning, no log line.
    steps = result.stderr.replace("\r", "\n").splitlines()
    assert {step.strip().partition(":")[0] for step in steps if step} == set(CLIENTS)
    assert sum("200/200" in step for step in steps) == 2
    assert len(steps) < 10


@pytest.mark.needs("rich")
def test_json_is_all_there_is_on_stdout() -> None:
    result = run(
        *MODULE, "demo", "--json", "--requests", "60", "--concurrency", "7",
        # Neither the environment's proxy nor its settings may change what the demo shows.
        HTTP_PROXY="http://127.0.0.1:9", PYNECTOR_MAX_RETRIES="0", PYNECTOR_TIMEOUT="0.001",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["version"] == pynector.__version__
    assert (report["requests"], report["concurrency"]) == (60, 7)
    assert (report["identical"], report["differences"], report["failures"]) == (True, [], [])
    assert [client["client"] for client in report["clients"]] == CLIENTS
    for client in report["clients"]:
        assert (client["requests"], client["ok"], client["failed"]) == (60, 60, 0)
        assert (client["retried"], client["retries"]) == (3, 4)
        assert client["status_codes"] == {"200": 60}
        assert client["stream"]["bytes"] == 16_000_000
        latency = client["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        assert client["seconds"] >= 1
        assert client["requests_per_second"] == pytest.approx(60 / client["seconds"], rel=0.01)
    assert "60/60" in result.stderr


def test_the_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("pynector")
    version = f"pynector, version {pynector.__version__}\n"
    for command in ((str(script),), MODULE, (*MODULE, "demo")):
        result = run(*command, "--version")
        assert (result.returncode, result.stdout, result.stderr) == (0, version, "")


@pytest.mark.parametrize("missing", ["click", "rich", "tqdm"])
def test_without_the_extra_one_line_tells_how_to_get_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from pynector.cli import main; main()"
    result = run(sys.executable, "-c", code, "demo")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "pynector needs the extra: pip install 'pynector[cli]'\n"


@pytest.mark.needs("rich")
def test_a_missing_module_that_is_not_of_the_extra_is_not_hidden() -> None:
    code = "import sys; sys.modules['httpx'] = sys.modules['anyio'] = None; from pynector.cli import main; main()"
    result = run(sys.executable, "-c", code, "demo")
    assert result.returncode == 1
    assert "ModuleNotFoundError: import of anyio halted" in result.stderr


@pytest.mark.needs("rich")
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("client", CLIENTS)
def test_ctrl_c_ends_it_at_once(client: str) -> None:
    bar = b"\r" + client.rjust(len(CLIENTS[0])).encode()
    command = (*MODULE, "demo", "--requests", "10000" if client == CLIENTS[0] else "500")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            shown = b""
            while bar not in shown:  # the bar is there: this client has its engine, and sends
                assert process.poll() is None, shown
                shown += os.read(process.stderr.fileno(), 4096)
            time.sleep(0.3)
            interrupted = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            took = time.monotonic() - interrupted
        finally:
            process.kill()
    assert process.returncode == 130
    assert took < 3
    assert out == b""
    assert (shown + err).endswith(b"\ninterrupted\n")
    assert b"Traceback" not in err


@pytest.mark.needs("rich")
def test_ctrl_c_while_it_loads_is_no_traceback() -> None:
    code = """
import sys
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "tqdm":
            raise KeyboardInterrupt
sys.meta_path.insert(0, CtrlC())
from pynector.cli import main
main()
"""
    result = run(sys.executable, "-c", code, "demo")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.needs("rich")
def test_what_stays_failed_is_told(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = demo.options
    monkeypatch.setattr(demo, "options", lambda plan: options(plan) | {"retry": None})
    monkeypatch.setattr(demo.Plan, "stream", lambda plan: {"path": "/status/404"})
    result = invoke()
    assert result.exit_code == 1
    table = rows(result.stdout)
    assert [row[:4] for row in table.values()] == [["40", "36", "0", "4"]] * 2
    assert [row[-2:] for row in table.values()] == [["0.0", "MB"]] * 2
    assert "AsyncPynector, request 14: HTTPServerError: 503 Service Unavailable for GET http:" in result.stdout
    assert "and 5 more" in result.stdout  # 2 * (4 requests + 1 stream), 5 of them shown
    assert "✗ Both clients got identical answers, but something failed." in result.stdout


@pytest.mark.needs("rich")
def test_answers_that_differ_are_told(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # What failed at first for the one client does not fail any more for the other, and the answers tell so.
    monkeypatch.setattr(LocalServer, "reset", lambda server: None)
    result = invoke("--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["identical"] is False
    assert [line.partition(":")[0] for line in report["differences"]] == [f"request {n}" for n in (14, 19, 34, 39)]
    assert [client["retried"] for client in report["clients"]] == [2, 0]
    assert report["failures"] == []


@pytest.mark.needs("rich")
def test_streams_that_differ_are_told(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([1000, 999])
    monkeypatch.setattr(demo.Plan, "stream", lambda plan: {"path": "/big", "params": {"bytes": next(sizes)}})
    result = invoke()
    assert result.exit_code == 1
    assert "stream: AsyncPynector read 1000 bytes, Pynector 999, and not the same ones" in result.stdout
    assert "✗ The two clients got different answers." in result.stdout


@pytest.mark.needs("rich")
def test_the_table_is_coloured_and_fits_into_a_small_terminal(invoke: Any) -> None:
    result = invoke(FORCE_COLOR="1", COLUMNS="80", TERM="xterm-256color")
    assert result.exit_code == 0
    plain = re.sub("\x1b\\[[0-9;]*m", "", result.stdout)
    assert plain != result.stdout
    assert max(map(len, plain.splitlines())) <= 80
    assert [row[:2] for row in rows(plain).values()] == [["40", "40"]] * 2
    assert "…" not in plain


@pytest.mark.needs("rich")
def test_large_figures_fit_into_a_small_terminal_too(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = demo.compare

    def slowly(plan: demo.Plan, bar: demo.Bar) -> demo.Comparison:
        found = compare(plan, bar)
        large: dict[str, Any] = {"total": 10_000, "ok": 10_000, "latency_p50": 1.5, "latency_p95": 2, "latency_p99": 60}
        first, second = (replace(run, summary=replace(run.summary, **large)) for run in found.runs)
        return demo.Comparison(plan, (first, second))

    monkeypatch.setattr(demo, "compare", slowly)
    shown = invoke(FORCE_COLOR="1", COLUMNS="80", TERM="xterm-256color").stdout
    lines = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 80
    table = rows("\n".join(lines))
    assert list(table) == CLIENTS
    for row in table.values():
        assert row[:2] + row[-5:-2] == ["10,000", "10,000", "1,500", "2,000", "60,000"]


@pytest.mark.parametrize("bad", [("--requests", "0"), ("--concurrency", "0"), ("--concurrency", "401"), ("--x",)])
def test_a_bad_option_is_refused(bad: tuple[str, ...]) -> None:
    result = CliRunner().invoke(commands.pynector, ["demo", *bad])
    assert result.exit_code == 2
    assert bad[0] in result.stderr


def test_the_plan_is_the_same_every_time() -> None:
    batch = demo.Plan(requests=1000).batch()
    assert batch == demo.Plan(requests=1000).batch()
    kinds = [request["path"].split("/")[1] for request in batch]
    assert {kind: kinds.count(kind) for kind in sorted(set(kinds))} == {
        "echo": 50,
        "flaky": 100,
        "items": 800,
        "slow": 50,
    }
    assert sum(request.get("params", {}).get("retry_after") == 1 for request in batch) == 1
