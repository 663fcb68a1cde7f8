"""`pynector batch` against real servers: what it sends, writes, says and exits with."""

import json
import re
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from pynector.cli import commands
from pynector.testing import LocalServer
from pynector.testing._wire import ServerRequest, ServerResponse
from servers.batch_files import read_rows, request_line, run_batch, statuses, write_lines
from servers.scripted import Connection, ScriptedServer, http_response

pytestmark = pytest.mark.usefixtures("no_proxies_around")


def invoke(*arguments: object, input: bytes | None = None, **environment: str) -> Result:
    runner = CliRunner(env={"PYNECTOR_MAX_RETRIES": "0"} | environment)
    return runner.invoke(commands.pynector, ["batch", *map(str, arguments)], input=input)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "in.jsonl", [request_line(f"r{n}", f"/echo/{n}") for n in range(30)])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


# What is sent, and what is written


def test_a_batch_file_runs_as_it_is(server: LocalServer, source: Path, out: Path) -> None:
    done = run_batch(source, "-o", out, "--base-url", server.url, "--header", "X-Trace: 7", "--max-concurrency", 4)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"30 rows in [\d.]+ s \([\d.]+/s\), 30 ok, 0 failed, 200 x 30\n", done.stderr)
    rows = read_rows(out)
    assert statuses(rows) == {f"r{n}": 200 for n in range(30)}
    assert len({row["id"] for row in rows}) == 30
    for row in rows:
        assert list(row) == ["id", "custom_id", "response", "error"]
        assert list(row["response"]) == ["status_code", "request_id", "body"]
        echoed = row["response"]["body"]
        assert (echoed["method"], echoed["path"]) == ("POST", f"/echo/{row['custom_id'][1:]}")
        assert json.loads(echoed["text"]) == {"id": row["custom_id"]}
        sent = dict(echoed["headers"])
        assert (sent["x-trace"], sent["content-type"]) == ("7", "application/json")
    assert server.peak_in_flight <= 4
    assert server.requests.count == 30


@pytest.mark.needs("pyreqwest")
@pytest.mark.parametrize("other", ["httpx2", "pyreqwest"])
def test_other_engines(server: LocalServer, source: Path, out: Path, other: str) -> None:
    done = run_batch(source, "-o", out, "--base-url", server.url, "--engine", other)
    assert done.returncode == 0, done.stderr
    assert statuses(read_rows(out)) == {f"r{n}": 200 for n in range(30)}


def test_from_standard_input_to_standard_output(server: LocalServer) -> None:
    lines = "\ufeff" + request_line("a") + "\n  \r\n" + request_line("b").rstrip()
    done = run_batch("-", "-o", "-", "--base-url", server.url, input=lines)
    assert done.returncode == 0, done.stderr
    assert statuses(map(json.loads, done.stdout.splitlines())) == {"a": 200, "b": 200}


def test_a_prefix_that_both_have_is_not_doubled(server: LocalServer, tmp_path: Path, out: Path) -> None:
    lines = [request_line("a", "/echo/v1/chat"), request_line("b", "/v1/chat?x=1"), request_line("c", "/chat")]
    done = invoke(write_lines(tmp_path / "in", lines), "-o", out, "--base-url", f"{server.url}/echo/v1/")
    assert done.exit_code == 0, done.stderr
    assert {row["custom_id"]: row["response"]["body"]["target"] for row in read_rows(out)} == {
        "a": "/echo/v1/chat", "b": "/echo/v1/chat?x=1", "c": "/echo/v1/chat",
    }  # fmt: skip


def test_absolute_urls_get_no_credentials_of_another_server(server: LocalServer, tmp_path: Path, out: Path) -> None:
    with LocalServer() as elsewhere:
        lines = [request_line("away", f"{elsewhere.url}/echo"), request_line("home", f"{server.url}/echo")]
        done = run_batch(
            write_lines(tmp_path / "in", lines), "-o", out, "--base-url", server.url,
            "-H", "X-Trace: 7", "-H", "Cookie: c00kie", "--api-key-env", "KEY", KEY="s3cret",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = {row["custom_id"]: dict(row["response"]["body"]["headers"]) for row in read_rows(out)}
    assert (sent["home"]["authorization"], sent["home"]["cookie"]) == ("Bearer s3cret", "c00kie")
    assert sent["away"].keys() & {"authorization", "cookie", "x-trace"} == {"x-trace"}
    assert "s3cret" not in done.stdout + done.stderr
    assert "c00kie" not in done.stdout + done.stderr


def test_without_a_base_url_absolute_ones_are_enough(server: LocalServer, tmp_path: Path, out: Path) -> None:
    lines = [request_line("a", f"{server.url}/echo", method="GET"), request_line("b", "/echo")]
    done = invoke(write_lines(tmp_path / "in", lines), "-o", out, "-H", "Authorization: Bearer t")
    assert done.exit_code == 1
    rows = {row["custom_id"]: row for row in read_rows(out)}
    assert dict(rows["a"]["response"]["body"]["headers"])["authorization"] == "Bearer t"
    assert rows["b"]["error"] == {
        "code": "invalid_url", "message": "line 2: url is a path, and there is no --base-url",
    }  # fmt: skip


def test_answers_that_are_no_success(tmp_path: Path, out: Path) -> None:
    def app(request: ServerRequest) -> ServerResponse | None:
        if request.path == "/image":
            return ServerResponse(200, (("content-type", "image/png"), ("x-request-id", "req_1")), b"\x89PNG")
        return None

    lines = [request_line(path, path, method="GET") for path in ("/items/1", "/status/404", "/status/500", "/image")]
    lines += [request_line("refused", "http://127.0.0.1:1/"), request_line("slow", "/delay?s=30")]
    with LocalServer(app) as server:
        done = invoke(write_lines(tmp_path / "in", lines), "-o", out, "--base-url", server.url, "--timeout", "0.5")
    assert done.exit_code == 1
    rows = read_rows(out)
    assert statuses(rows) == {
        "/items/1": 200, "/status/404": 404, "/status/500": 500, "/image": 200,
        "refused": "connection_refused", "slow": "timeout",
    }  # fmt: skip
    found = {row["custom_id"]: row for row in rows}
    assert found["/image"]["response"] == {
        "status_code": 200, "request_id": "req_1",
        "body": {"content_type": "image/png", "base64": "iVBORw=="},
    }  # fmt: skip
    assert found["slow"]["error"]["message"].endswith("(it was sent, and may have been processed)")
    assert ", 2 ok, 4 failed, " in done.stderr
    assert done.stderr.endswith("200 x 2, 404 x 1, 500 x 1, connection_refused x 1, timeout x 1\n")


def test_posts_are_sent_again(tmp_path: Path, out: Path) -> None:
    # 500 tells not whether the request was processed: elsewhere only what is idempotent is repeated then.
    with LocalServer() as server:
        lines = [request_line("a", "/flaky/x?fail=2&status=500")]
        done = invoke(write_lines(tmp_path / "in", lines), "-o", out, "--base-url", server.url, "--max-retries", 2)
        assert server.requests.count == 3
    assert done.exit_code == 0, done.stderr
    assert "2 retries, 200 x 1\n" in done.stderr


def test_no_retries(tmp_path: Path, out: Path, server: LocalServer) -> None:
    source = write_lines(tmp_path / "in", [request_line("a", "/flaky/y?fail=1")])
    done = invoke(source, "-o", out, "--base-url", server.url, "--max-retries", 0, PYNECTOR_MAX_RETRIES="5")
    assert (done.exit_code, server.requests.count) == (1, 1)


def test_refused_credentials_end_it(tmp_path: Path, out: Path) -> None:
    with LocalServer(lambda request: ServerResponse.json({}, 401)) as refusing:
        source = write_lines(tmp_path / "in", [request_line(f"r{n}") for n in range(500)])
        done = invoke(source, "-o", out, "--base-url", refusing.url, "--max-concurrency", 4)
        assert refusing.requests.count <= 8
    assert done.exit_code == 1
    assert done.stderr.startswith("stopped after ")
    assert "401" in done.stderr
    assert "the same command with --resume goes on" in done.stderr
    assert set(statuses(read_rows(out)).values()) <= {401, "not_sent"}
    with LocalServer() as accepting:
        done = invoke(source, "-o", out, "--base-url", accepting.url, "--resume")
        assert (done.exit_code, accepting.requests.count) == (0, 500)
    assert statuses(read_rows(out)) == {f"r{n}": 200 for n in range(500)}


# Limits


def test_as_many_requests_as_the_limit_lets_go(server: LocalServer, source: Path, out: Path) -> None:
    started = time.monotonic()
    done = invoke(source, "-o", out, "--base-url", server.url, "--rpm", 900, "--tpm", 1_000_000)
    assert (done.exit_code, server.requests.count) == (0, 30)
    # 15 in a second, of which no more than a second's worth may go at once.
    assert time.monotonic() - started > 0.9


def test_the_concurrency_is_found_out(source: Path, out: Path) -> None:
    most = 6

    def app(request: ServerRequest) -> ServerResponse | None:
        busy = server.in_flight > most
        return ServerResponse.json({}, 429, [("retry-after", "0")]) if busy else None

    lines = [request_line(f"r{n}", f"/slow/{n}?ms=20") for n in range(200)]
    with LocalServer(app) as server:
        options = ("--base-url", server.url, "--max-concurrency", "auto", "--max-retries", 3)
        done = invoke(write_lines(source, lines), "-o", out, *options)
        assert server.requests.count < 300
    assert done.exit_code == 0, done.stderr
    assert statuses(read_rows(out)) == {f"r{n}": 200 for n in range(200)}


# Malformed lines


def test_malformed_lines_are_told_and_become_rows(server: LocalServer, tmp_path: Path, out: Path) -> None:
    lines = [
        request_line("a"),
        "nonsense\n",
        "\n",
        request_line("a", "/items/1"),
        json.dumps({"method": "GET", "url": "/items/1"}) + "\n",
        request_line("bad", method="FETCH"),
        request_line("line-2"),
        request_line("b"),
        '{"custom_id": "torn", "met',
    ]
    done = invoke(write_lines(tmp_path / "in", lines), "-o", out, "--base-url", server.url)
    assert done.exit_code == 1
    rows = read_rows(out)
    assert statuses(rows) == {
        "a": 200, "b": 200, "bad": "invalid_method",
        "line-2": "invalid_json_line", "line-4": "duplicate_custom_id", "line-5": "missing_required_parameter",
        "line-7": "duplicate_custom_id", "line-9": "invalid_json_line",
    }  # fmt: skip
    told = [line for line in done.stderr.splitlines() if line.startswith("line ")]
    assert told == [row["error"]["message"] for row in rows if row["error"]]
    assert [line.partition(":")[0] for line in told] == [f"line {n}" for n in (2, 4, 5, 6, 7, 9)]
    assert "2 ok, 6 failed, 6 malformed" in done.stderr
    assert server.requests.count == 2


def test_a_body_that_can_not_be_sent_fails_alone(server: LocalServer, tmp_path: Path, out: Path) -> None:
    lines = [request_line("a", body={"x": 1}).replace("1}", "1e999}"), request_line("b")]
    done = invoke(write_lines(tmp_path / "in", lines), "-o", out, "--base-url", server.url)
    assert done.exit_code == 1
    assert statuses(read_rows(out)) == {"a": "serialization", "b": 200}


def test_no_lines_at_all(server: LocalServer, tmp_path: Path, out: Path) -> None:
    done = invoke(write_lines(tmp_path / "in", ["\n"]), "-o", out, "--base-url", server.url)
    assert (done.exit_code, out.read_text()) == (0, "")


# Laziness


def test_lines_are_read_as_they_are_needed(tmp_path: Path, out: Path) -> None:
    """With one request on the wire at a time, what the server sees is how far the input was read by then."""
    read: list[int] = []

    def script(conn: Connection) -> None:
        for _ in range(50):
            conn.read_request()
            read.append(len(source.seen))
            conn.send(http_response(b"{}"))
        conn.wait()

    class Source:
        """An endless file that counts its lines."""

        def __init__(self) -> None:
            self.seen: list[str] = []

        def __iter__(self) -> "Source":
            return self

        def __next__(self) -> bytes:
            if len(self.seen) == 50:
                raise StopIteration
            self.seen.append(f"r{len(self.seen)}")
            return request_line(self.seen[-1]).encode()

    source = Source()
    from pynector import Pynector
    from pynector.cli.interrupts import Interrupts
    from pynector.cli.job import Job, Server
    from pynector.cli.output import FileOutput

    with ScriptedServer(script, repeat=True) as server, Pynector(base_url=server.url, max_connections=1) as client:
        job = Job(
            source, Server(server.url, {}), FileOutput(str(out), resume=False),
            interrupts=Interrupts(), complain=pytest.fail, progress=lambda count: None,
        )  # fmt: skip
        with client.stream_batch(job.requests(), max_concurrency=3, buffer=0) as run:
            job.consume(run)
    assert len(read_rows(out)) == 50
    assert [seen - number for number, seen in enumerate(read) if seen - number > 3] == []
    assert job.tally.ok == 50
    assert job.exhausted


# Wrong calls


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'INPUT'"),
        (("IN",), "Missing option '-o'"),
        (("nowhere", "-o", "OUT"), "No such file"),
        (("IN", "-o", "nowhere/out"), "No such file"),
        (("IN", "-o", "IN"), "is the input as well"),
        (("IN", "-o", "OUT", "--base-url", "ftp://x"), "http:// or https://"),
        (("IN", "-o", "OUT", "--base-url", "http://x?a=b"), "without a query"),
        (("IN", "-o", "OUT", "--header", "s3cret"), "'Name: value'"),
        (("IN", "-o", "OUT", "--header", "X: s3cret\a"), "character"),
        (("IN", "-o", "OUT", "--header", "X y: s3cret"), "character"),
        (("IN", "-o", "OUT", "--api-key-env", "NO_SUCH"), "NO_SUCH is not set"),
        (("IN", "-o", "OUT", "--max-concurrency", "0"), "'auto'"),
        (("IN", "-o", "OUT", "--max-concurrency", "many"), "'auto'"),
        (("IN", "-o", "OUT", "--rpm", "0"), "--rpm"),
        (("IN", "-o", "OUT", "--tpm", "x"), "--tpm"),
        (("IN", "-o", "OUT", "--max-retries", "-1"), "--max-retries"),
        (("IN", "-o", "OUT", "--timeout", "0"), "above 0"),
        (("IN", "-o", "OUT", "--engine", "curl"), "--engine"),
        (("IN", "-o", "-", "--resume"), "--resume needs an output file"),
        (("IN", "-o", "/dev/null", "--resume"), "nothing to resume"),
        (("IN", "-o", "OUT", "--no-such"), "--no-such"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], said: str, source: Path, out: Path) -> None:
    places = {"IN": str(source), "OUT": str(out)}
    before = source.read_bytes()
    result = invoke(*(places.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", " ")
    assert "s3cret" not in result.output
    assert "Traceback" not in result.output
    assert not out.exists()
    assert source.read_bytes() == before


def test_an_engine_that_is_not_installed(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyreqwest", None)
    monkeypatch.setitem(sys.modules, "pyreqwest.client", None)
    result = invoke(source, "-o", out, "--engine", "pyreqwest")
    assert result.exit_code == 2
    assert "pynector[fast]" in result.stderr


def test_dev_null_is_an_output(server: LocalServer, source: Path) -> None:
    assert invoke(source, "-o", "/dev/null", "--base-url", server.url).exit_code == 0
    assert server.requests.count == 30


# What is shown


@pytest.mark.needs("tqdm")
def test_a_bar_only_when_asked_for_if_there_is_no_terminal(server: LocalServer, source: Path, out: Path) -> None:
    done = run_batch(source, "-o", out, "--base-url", server.url, "--progress")
    assert done.returncode == 0
    assert "30/30" in done.stderr


def test_without_tqdm_it_works_as_well(
    server: LocalServer, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert invoke(source, "-o", out, "--base-url", server.url).exit_code == 0
    out.unlink()
    wanted = invoke(source, "-o", out, "--base-url", server.url, "--progress")
    assert wanted.exit_code == 2
    assert "--progress needs tqdm" in wanted.stderr


def test_help_explains_every_option() -> None:
    for command in (commands.pynector, *commands.pynector.commands.values()):
        text = CliRunner().invoke(command, ["--help"]).stdout
        assert "\\b" not in text
        text = " ".join(text.split())
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{command.name} {parameter.name} is not explained"
                assert " ".join(parameter.help.split()) in text
    for name in ("batch", "request"):
        text = CliRunner().invoke(commands.pynector, [name, "--help"]).stdout
        assert "Example:" in text
        assert "\n  Exit codes:\n    0    " in text  # kept line by line, as written


def test_the_documentation_has_every_option() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    told = {
        name for line in text.splitlines() if line.startswith("| `-") for name in re.findall("`(--?[A-Za-z-]+)`", line)
    }
    batch = commands.pynector.commands["batch"]
    known = {name for option in batch.params for name in (*option.opts, *option.secondary_opts) if name[0] == "-"}
    assert told == known
