"""What the user's callables are given, what is taken from them, and what `auth=` may be."""

import copy
import io
import pickle
from typing import Any

import httpx
import httpx2
import orjson
import pytest

from pynector import errors
from pynector._http.auth import checked_auth
from pynector._http.callbacks import sent_message, users_code, with_headers
from pynector._http.wire import WireBuilder, WireRequest, redirect
from pynector._messages.headers import Headers
from pynector._messages.http import HttpMessage
from pynector._policies.redirect import next_request


def wire_of(**fields: Any) -> WireRequest:
    return WireBuilder("http://api.example.com").build(HttpMessage("POST", "/a", **fields))


def test_the_request_that_is_shown() -> None:
    wire = wire_of(params={"q": 1}, json=[1], headers={"X-A": "b"})
    message = sent_message(wire, wire.headers)
    assert (message.method, message.url, message.content) == ("POST", "http://api.example.com/a?q=1", b"[1]")
    assert message.headers["x-a"] == "b"
    assert message.headers["content-length"] == "3"
    assert sent_message(wire_of(), []).content == b""


@pytest.mark.parametrize("fields", [{"content": io.BytesIO(b"x")}, {"content": [b"x"]}, {"files": {"f": b"x"}}])
def test_a_streamed_body_is_not_shown_as_an_empty_one(fields: dict[str, Any]) -> None:
    wire = wire_of(**fields)
    with pytest.raises(errors.SerializationError, match="not in memory"):
        _ = sent_message(wire, wire.headers).content


def test_headers_are_replaced() -> None:
    headers = [(b"Host", b"h"), (b"X-A", b"1"), (b"x-a", b"2")]
    assert with_headers(headers, {"X-a": "3", "X-B": "4"}, "it") == [(b"Host", b"h"), (b"X-a", b"3"), (b"X-B", b"4")]
    assert with_headers(headers, {}, "it") == headers
    assert with_headers(headers, Headers({"x-a": "3"}), "it") == [(b"Host", b"h"), (b"x-a", b"3")]
    with pytest.raises(errors.ConfigurationError, match="it returned list: it must return a mapping"):
        with_headers(headers, [("a", "b")], "it")


def test_errors_of_the_users_code_are_marked() -> None:
    for error in (errors.ConnectionError("x"), ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, users_code:
            raise error
        assert caught.value is error
        assert getattr(error, "foreign", None) is (True if isinstance(error, errors.TransportError) else None)


def sign(request: HttpMessage) -> dict[str, str]:
    return {}


@pytest.mark.parametrize("auth", [sign, httpx.DigestAuth("a", "b"), httpx2.NetRCAuth.__new__(httpx2.NetRCAuth)])
def test_what_auth_may_be(auth: Any) -> None:
    assert checked_auth(auth) is auth
    if auth is sign:
        assert checked_auth(auth, "pyreqwest") is auth
    else:
        with pytest.raises(errors.ConfigurationError, match="the engine 'pyreqwest' can't run auth of type"):
            checked_auth(auth, "pyreqwest")


@pytest.mark.parametrize("auth", [httpx.Auth, dict, 3, object(), {"a": "b"}, ("a",), ""])
def test_what_auth_may_not_be(auth: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"give an object of it|give \(user, password\)"):
        checked_auth(auth)


@pytest.mark.parametrize(
    ("start", "target", "trusted"),
    [
        ("http://a.example/x", "/y", True),
        ("http://a.example/x", "http://a.example:80/y", True),
        ("http://a.example/x", "https://a.example/y", True),  # only more secure than before
        ("http://a.example:8080/x", "https://a.example/y", False),
        ("http://a.example/x", "https://a.example:8443/y", False),
        ("http://a.example/x", "https://b.example/y", False),
        ("http://a.example/x", "http://a.example:81/y", False),
    ],
)
def test_who_keeps_the_credentials_on_a_redirect(start: str, target: str, trusted: bool) -> None:
    wire = WireBuilder().build(HttpMessage("GET", start, headers={"Authorization": "x"}))
    there = followed(wire, target)
    assert there.trusted is trusted
    # As it is with the headers that were given.
    assert any(name == b"Authorization" for name, _ in there.headers) is trusted


def test_credentials_do_not_come_back() -> None:
    wire = WireBuilder().build(HttpMessage("GET", "http://a.example/x"))
    assert not followed(followed(wire, "http://b.example/"), "http://a.example/x").trusted


def followed(wire: WireRequest, location: str) -> WireRequest:
    step = next_request(
        method=wire.method,
        url=str(wire.target),
        headers=Headers.from_raw(wire.headers),
        has_body=False,
        status_code=302,
        location=location,
    )
    assert step is not None
    return redirect(wire, step)


def test_a_json_library_is_no_part_of_a_message() -> None:
    plain = HttpMessage.response(status_code=200, content=b'{"a":1}')
    message = HttpMessage.response(status_code=200, content=b'{"a":1}', json_codec=orjson)
    assert message == plain
    for other in (message, copy.copy(message), pickle.loads(pickle.dumps(message))):
        assert other.json() == {"a": 1}
        assert other == plain
    bad = HttpMessage.response(status_code=200, content=b"{", url="/x", json_codec=orjson)
    with pytest.raises(errors.DeserializationError, match=r"the body is not JSON in 200 GET /x: .*it begins with '{'"):
        bad.json()


def test_the_url_of_an_answer_is_made_when_it_is_asked_for() -> None:
    class Lazy:
        made = 0

        def __str__(self) -> str:
            self.made += 1
            return "http://api.example.com/x"

    lazy = Lazy()
    message = HttpMessage.response(status_code=200, url=lazy)
    assert lazy.made == 0
    assert message.url == message.url == "http://api.example.com/x"
    assert lazy.made == 1
    copied = pickle.loads(pickle.dumps(message))
    assert copied.url == "http://api.example.com/x"
    message.url = "/other"
    assert message.url == "/other"
    assert HttpMessage.response(status_code=200, request=HttpMessage(url="/asked")).url == "/asked"
