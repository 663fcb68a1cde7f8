"""The OpenAI Batch file format, read and written: pure functions."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector import Outcome
from pynector.cli import rows
from pynector.cli.job import Server
from pynector.errors import (
    ConnectionRefusedError,
    HTTPIncompleteError,
    TimeoutError,
    TLSError,
    TransportError,
    status_error,
)
from pynector.transport.http import HttpMessage

GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}


def line(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def answer(status: int = 200, content: bytes = b'{"x": 1}', **headers: str) -> HttpMessage:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpMessage.response(
        status_code=status, content=content, headers={"content-type": "application/json"} | named
    )


# Requests


def test_a_line_of_the_batch_api_is_a_request() -> None:
    assert rows.read_request(line()) == rows.Request("a", "POST", "/v1/chat/completions", {"model": "m"})


@pytest.mark.parametrize("method", [*rows.METHODS, "post", "Get"])
def test_methods_in_any_case(method: str) -> None:
    request = rows.read_request(line(method=method))
    assert isinstance(request, rows.Request)
    assert request.method == method.upper()


def test_a_body_may_be_missing_or_an_array_and_unknown_keys_are_ignored() -> None:
    request = rows.read_request(without("body"))
    assert isinstance(request, rows.Request)
    assert request.body is None
    assert rows.read_request(line(body=[1, 2], extra=5)) == rows.Request("a", "POST", GOOD["url"], [1, 2])


@pytest.mark.parametrize(
    ("bad", "code", "said", "custom_id"),
    [
        (b"nonsense", "invalid_json_line", "not JSON", None),
        (b'{"custom_id": "a"', "invalid_json_line", "not JSON", None),
        (b'"\xff"', "invalid_json_line", "UTF-8", None),
        (b"[" * 200_000, "invalid_json_line", "nested", None),
        (b"[1]", "invalid_json_line", "array", None),
        (b"null", "invalid_json_line", "null", None),
        (line(body={"x": float("nan")}), "invalid_json_line", "NaN", None),
        (without("custom_id"), "missing_required_parameter", "custom_id is missing", None),
        (line(custom_id=7), "invalid_custom_id", "number", None),
        (line(custom_id=""), "invalid_custom_id", "''", None),
        (line(custom_id=None), "invalid_custom_id", "null", None),
        (without("method"), "missing_required_parameter", "method is missing", "a"),
        (line(method="FETCH"), "invalid_method", "'FETCH'", "a"),
        (line(method=None), "invalid_method", "null", "a"),
        (without("url"), "missing_required_parameter", "url is missing", "a"),
        (line(url=""), "invalid_url", "''", "a"),
        (line(url=5), "invalid_url", "number", "a"),
        (line(url="ftp://host/x"), "invalid_url", "neither http nor https", "a"),
        (line(body="text"), "invalid_body", "'text'", "a"),
        (line(body=True), "invalid_body", "true or false", "a"),
    ],
)
def test_malformed_lines(bad: bytes, code: str, said: str, custom_id: str | None) -> None:
    malformed = rows.read_request(bad)
    assert isinstance(malformed, rows.Malformed)
    assert (malformed.code, malformed.custom_id) == (code, custom_id)
    assert said in malformed.message


def test_what_is_long_is_not_shown() -> None:
    malformed = rows.read_request(line(body="Bearer sk-1234567890abcdefghij"))
    assert isinstance(malformed, rows.Malformed)
    assert "sk-" not in malformed.message


@given(
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_line_is_a_request_or_malformed(data: bytes) -> None:
    assert isinstance(rows.read_request(data), rows.Request | rows.Malformed)


# Paths


@pytest.mark.parametrize(
    ("base", "url", "joined"),
    [
        ("", "/v1/models", "/v1/models"),
        ("/", "v1/models", "/v1/models"),
        ("/v1", "/v1/models", "/v1/models"),
        ("/v1/", "/v1/models/", "/v1/models/"),
        ("/v1", "/v1", "/v1"),
        ("/v1", "/models", "/v1/models"),
        ("/v1", "/v10/models", "/v1/v10/models"),
        ("/v1beta", "/v1/models", "/v1beta/v1/models"),
        ("/openai/v1", "/v1/models", "/openai/v1/models"),
        ("/openai/v1", "/openai/v1/models", "/openai/v1/models"),
        ("/v1/openai", "/v1/models", "/v1/openai/models"),
        ("/v1", "/v1/v1/models", "/v1/v1/models"),
        ("/v1", "/v1/models?a=/v1&b=c#d", "/v1/models?a=/v1&b=c#d"),
        ("/v1", "/v1?a=b", "/v1?a=b"),
    ],
)
def test_what_both_paths_have_is_not_doubled(base: str, url: str, joined: str) -> None:
    assert rows.join_path(base, url) == joined


def sent(base: str, url: str) -> dict[str, Any]:
    server = Server(base, {"Authorization": "Bearer t", "X-Api-Key": "k", "X-Trace": "1"})
    request = server.request(rows.Request("a", "GET", url, None))
    assert isinstance(request, dict)
    return request


def test_credentials_go_to_the_server_of_the_base_url_alone() -> None:
    private = {"Authorization": "Bearer t", "X-Api-Key": "k"}
    for url in ("/v1/models", "https://api.example.com/other", "HTTPS://API.example.com:443/x"):
        assert sent("https://api.example.com/v1", url)["headers"] == private
    for url in ("https://example.com/x", "http://api.example.com/x", "https://api.example.com:8443/x"):
        assert "headers" not in sent("https://api.example.com/v1", url)
    server = Server("https://api.example.com/v1", private | {"X-Trace": "1"})
    assert server.public == {"X-Trace": "1"}
    assert server.root == "https://api.example.com"
    # Without a base URL nobody can tell whose they are: they are for all.
    assert Server("", private).public == private


@pytest.mark.parametrize(("url", "said"), [("/v1/models", "--base-url"), ("http://[::1/x", "not valid")])
def test_urls_that_lead_nowhere(url: str, said: str) -> None:
    malformed = Server("", {}).request(rows.Request("a", "GET", url, None))
    assert isinstance(malformed, rows.Malformed)
    assert (malformed.custom_id, malformed.code) == ("a", "invalid_url")
    assert said in malformed.message


# Rows


def test_the_row_of_an_answer() -> None:
    row = rows.row_of("a", Outcome(0, value=answer(x_request_id="req_1")))
    assert row.pop("id").startswith("batch_req_")
    assert row == {
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": "req_1", "body": {"x": 1}},
        "error": None,
    }
    assert list(json.loads(rows.dump_row(rows.row_of("a", Outcome(0, value=answer()))))) == [
        "id", "custom_id", "response", "error",
    ]  # fmt: skip


def test_ids_are_unique() -> None:
    assert len({rows.error_row("a", "c", "m")["id"] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("header", ["request_id", "x_request_id", "x_amzn_requestid", "apim_request_id"])
def test_the_request_id_of_the_server(header: str) -> None:
    assert rows.row_of("a", Outcome(0, value=answer(**{header: "r"})))["response"]["request_id"] == "r"


@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_status_is_a_response_and_no_error(status: int) -> None:
    response = answer(status, b'{"error": {"code": "bad"}}')
    row = rows.row_of("a", Outcome(0, error=status_error(response), state="failed", attempts=1))
    assert row["error"] is None
    assert row["response"] == {"status_code": status, "request_id": None, "body": {"error": {"code": "bad"}}}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError("no"), "connection_refused"),
        (TimeoutError("no"), "timeout"),
        (TLSError("no"), "tls"),
        (HTTPIncompleteError("no", partial=b""), "http_incomplete"),
        (OSError("no"), "os"),
    ],
)
def test_what_has_no_answer_is_an_error(error: Exception, code: str) -> None:
    row = rows.row_of("a", Outcome(0, error=error, state="failed"))
    assert (row["response"], row["error"]) == (None, {"code": code, "message": "no"})


def test_a_request_that_the_end_of_the_batch_has_kept_back() -> None:
    for error, code in ((TransportError("no"), "not_sent"), (TimeoutError("no"), "timeout")):
        row = rows.row_of("a", Outcome(0, error=error, state="not_sent"))
        assert row["error"] == {"code": code, "message": "no"}


def test_a_request_that_may_have_been_processed_says_so() -> None:
    row = rows.row_of("a", Outcome(0, error=TimeoutError("no answer"), state="unknown", attempts=1))
    assert row["error"]["message"] == "no answer (it was sent, and may have been processed)"


@pytest.mark.parametrize(
    ("kind", "content", "body"),
    [
        ("application/json", b"[1, 2]", [1, 2]),
        ("application/problem+json", b'{"a": null}', {"a": None}),
        ("application/json", b"{broken", "{broken"),
        ("application/json", b"", None),
        ("text/plain", "gr\u00fc\u00df".encode(), "gr\u00fc\u00df"),
        ("text/plain; charset=latin-1", "gr\u00fc\u00df".encode("latin-1"), "gr\u00fc\u00df"),
        ("text/plain", b'{"a": 1}', {"a": 1}),
        ("image/png", b"\x89PNG", {"content_type": "image/png", "base64": base64.b64encode(b"\x89PNG").decode()}),
    ],
)
def test_bodies(kind: str, content: bytes, body: object) -> None:
    assert rows.body_of(answer(content=content, content_type=kind)) == body


@pytest.mark.parametrize(
    "content", [b'{"a": NaN}', b'{"a": "\\ud800\\u2028"}', b"[" * 900 + b"]" * 900, b'{"a": 1e999}', b'"a\\nb"']
)
def test_every_row_is_one_line_of_json(content: bytes) -> None:
    dumped = rows.dump_row(rows.row_of("a\u2028b", Outcome(0, value=answer(content=content))))
    assert dumped.endswith(b"\n")
    assert len(dumped.decode("ascii").splitlines()) == 1
    read = json.loads(dumped, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read["custom_id"] == "a\u2028b"


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        (rows.row_of("a", Outcome(0, value=answer())), True),
        (rows.row_of("a", Outcome(0, value=answer(304, b""))), True),
        (rows.row_of("a", Outcome(0, error=status_error(answer(500)), state="failed", attempts=1)), False),
        (rows.error_row("a", "timeout", "no"), False),
        ({"custom_id": "a", "response": {"status_code": 200}, "error": {"message": "no"}}, False),  # as vLLM has it
        ({"custom_id": "a"}, False),
    ],
)
def test_rows_are_read_again(row: dict[str, Any], ok: bool) -> None:
    assert rows.read_row(rows.dump_row(row)) == rows.Finished("a", ok)


@pytest.mark.parametrize("torn", [b"", b"{", b'{"custom_id": "a", "resp', b"[]", b'{"custom_id": 1}', b"\xff"])
def test_what_is_no_row(torn: bytes) -> None:
    assert rows.read_row(torn) is None
