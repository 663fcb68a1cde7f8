"""`pynector request` against real servers."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pynector.cli import commands
from pynector.testing import LocalServer
from servers.batch_files import environment

pytestmark = pytest.mark.usefixtures("no_proxies_around")


def invoke(*arguments: object, input: str | bytes | None = None, **variables: str) -> Result:
    runner = CliRunner(env={"PYNECTOR_MAX_RETRIES": "0"} | variables)
    return runner.invoke(commands.pynector, ["request", *map(str, arguments)], input=input)


def echoed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer | {"headers": dict(answer["headers"])}


def test_it_prints_the_body_as_it_came(server: LocalServer) -> None:
    result = invoke("get", f"{server.url}/items/7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes == b'{"id":7,"name":"item 7"}'


def test_parameters_headers_and_a_key(server: LocalServer) -> None:
    answer = echoed(
        invoke(
            "DELETE", f"{server.url}/echo?a=1", "--param", "b=x y&z", "--param", "b=2", "-H", "X-Trace: 7",
            "-H", "accept: text/plain", "--api-key-env", "KEY", KEY="s3cret",
        )
    )  # fmt: skip
    assert (answer["method"], answer["target"]) == ("DELETE", "/echo?a=1&b=x+y%26z&b=2")
    headers = answer["headers"]
    assert (headers["x-trace"], headers["accept"], headers["authorization"]) == ("7", "text/plain", "Bearer s3cret")


@pytest.mark.parametrize("way", ["text", "file", "stdin"])
@pytest.mark.parametrize("option", ["--json", "--data"])
def test_bodies(server: LocalServer, tmp_path: Path, way: str, option: str) -> None:
    body = '{"price": 1.10, "name": "gr\u00fc\u00df"}'
    (tmp_path / "body").write_text(body, encoding="utf-8")
    value = {"text": body, "file": f"@{tmp_path / 'body'}", "stdin": "-"}[way]
    answer = echoed(invoke("POST", f"{server.url}/echo", option, value, input=body))
    assert answer["text"] == body
    assert answer["headers"].get("content-type") == ("application/json" if option == "--json" else None)


def test_a_content_type_that_was_given_stays(server: LocalServer) -> None:
    answer = echoed(invoke("POST", f"{server.url}/echo", "--json", "{}", "-H", "content-type: application/ld+json"))
    assert answer["headers"]["content-type"] == "application/ld+json"


def test_the_head_comes_first_if_it_is_wanted(server: LocalServer) -> None:
    result = invoke("GET", f"{server.url}/status/204", "--include")
    head, _, body = result.stdout_bytes.partition(b"\r\n\r\n")
    assert (result.exit_code, body) == (0, b"")
    assert head.startswith(b"HTTP/1.1 204 No Content\r\n")


def test_a_body_goes_to_a_file(server: LocalServer, tmp_path: Path) -> None:
    result = invoke("GET", f"{server.url}/big?bytes=100000", "-o", tmp_path / "big")
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "big").read_bytes() == bytes(n % 256 for n in range(100_000))
    refused = invoke("GET", f"{server.url}/items/1", "-o", tmp_path / "nowhere" / "file")
    assert refused.exit_code == 1
    assert refused.stderr.endswith("nowhere/file: No such file or directory\n")


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_status_prints_the_body_and_the_reason(server: LocalServer, status: int) -> None:
    result = invoke("GET", f"{server.url}/status/{status}?body=why")
    assert (result.exit_code, result.stdout) == (1, "why")
    assert result.stderr.startswith(f"{status} ")
    assert result.stderr.count("\n") == 1


def test_no_answer_is_one_line() -> None:
    result = invoke("GET", "http://127.0.0.1:1/x?token=s3cret")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "127.0.0.1:1" in result.stderr
    assert "s3cret" not in result.stderr


def test_a_timeout(server: LocalServer) -> None:
    started = time.monotonic()
    result = invoke("GET", f"{server.url}/delay?s=30", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "no answer within 0.2 s" in result.stderr
    assert time.monotonic() - started < 5


def test_retries_of_what_is_safe_to_repeat(server: LocalServer) -> None:
    assert invoke("GET", f"{server.url}/flaky/get?fail=1&status=500", "--max-retries", 1).exit_code == 0
    assert invoke("POST", f"{server.url}/flaky/post?fail=1&status=500", "--max-retries", 1).exit_code == 1
    assert server.requests.count == 3


@pytest.mark.needs("pyreqwest")
@pytest.mark.parametrize("other", ["httpx2", "pyreqwest"])
def test_other_engines(server: LocalServer, other: str) -> None:
    assert json.loads(invoke("GET", f"{server.url}/items/1", "--engine", other).stdout)["id"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("GET",), "Missing argument 'URL'"),
        (("GET", "example.com"), "absolute http(s) URL"),
        (("GET", "ftp://example.com"), "http or https"),
        (("G T", "http://x"), "method"),
        (("POST", "http://x", "--json", "{"), "--json: this is not JSON"),
        (("POST", "http://x", "--json", "1", "--data", "1"), "one body"),
        (("POST", "http://x", "--data", "@nowhere"), "nowhere: No such file"),
        (("GET", "http://x", "--param", "novalue"), "NAME=VALUE"),
        (("GET", "http://x", "--header", "s3cret"), "'Name: value'"),
        (("GET", "http://x", "--api-key-env", "NO_SUCH"), "NO_SUCH is not set"),
        (("GET", "http://x", "--api-key-env", "ODD"), "holds what no header can"),
        (("GET", "http://x", "--timeout", "nan"), "above 0"),
    ],
)
def test_wrong_calls(arguments: tuple[str, ...], said: str) -> None:
    result = invoke(*arguments, ODD="s3cret\nX: y")
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert "s3cret" not in result.output


def on_a_terminal(*arguments: str) -> str:
    """What it prints there."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pynector", "request", *arguments]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment()) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # Linux says so when the other end is closed
            pass
        finally:
            os.close(ours)
        process.wait(30)
    return shown.decode().replace("\r\n", "\n")


def test_on_a_terminal_json_is_indented(server: LocalServer) -> None:
    assert on_a_terminal("GET", f"{server.url}/items/1") == '{\n  "id": 1,\n  "name": "item 1"\n}\n'
    assert on_a_terminal("GET", f"{server.url}/status/200?body=plain") == "plain\n"
    assert on_a_terminal("GET", f"{server.url}/big?bytes=300") == "(300 bytes, not text: add -o FILE)\n"
    assert on_a_terminal("HEAD", f"{server.url}/items/1") == ""


def test_ctrl_c(server: LocalServer) -> None:
    command = [sys.executable, "-m", "pynector", "request", "GET", f"{server.url}/delay?s=60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment()) as process:
        deadline = time.monotonic() + 30
        while not server.requests.count and time.monotonic() < deadline:
            time.sleep(0.01)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert time.monotonic() - interrupted < 3
    assert (process.returncode, stderr) == (130, b"interrupted\n")
