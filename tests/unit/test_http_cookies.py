"""Which server gets which cookie, and what a refused header may show."""

import traceback

import h11
import httpcore

from pynector._http.cookies import CookieStore
from pynector._http.failures import translate
from pynector._http.url import parse_url
from pynector._http.wire import WireBuilder
from pynector._messages.http import HttpMessage
from pynector.errors import HTTPProtocolError

SECRET = "s3cr3t-value"


def test_a_cookie_without_a_domain_belongs_to_its_host_alone() -> None:
    home, below = parse_url("http://h.example/").target, parse_url("http://sub.h.example/").target
    store = CookieStore({"given": "1"})
    assert store.header("GET", home) == b"given=1"
    store.store("GET", home, [(b"Set-Cookie", b"own=2"), (b"Set-Cookie", b"wide=3; Domain=h.example")])
    assert store.header("GET", below, redirected=True) == b"wide=3"
    home_value = store.header("GET", home)
    assert home_value is not None
    assert sorted(home_value.split(b"; ")) == [b"given=1", b"own=2", b"wide=3"]


def test_cookies_of_hosts_that_are_numbers() -> None:
    for url in ("http://[::1]:8080/", "http://127.0.0.1:8080/"):
        target = parse_url(url).target
        store = CookieStore({"given": "1"})
        store.store("GET", target, [(b"Set-Cookie", b"own=2")])
        value = store.header("GET", target)
        assert value is not None
        assert sorted(value.split(b"; ")) == [b"given=1", b"own=2"]


def test_a_header_that_was_refused_below_is_not_shown() -> None:
    wire = WireBuilder("http://h").build(HttpMessage(url="/"))
    try:
        try:
            h11.Request(method="GET", target="/", headers=[("Host", "h"), ("Cookie", f"a={SECRET}\n")])
        except h11.LocalProtocolError as exc:
            assert SECRET in str(exc)
            raise httpcore.LocalProtocolError(str(exc)) from exc
    except httpcore.LocalProtocolError as exc:
        error = translate(exc, wire)
        assert isinstance(error, HTTPProtocolError)
        error.__cause__ = exc
    assert str(error).startswith("Illegal header value: GET http://h/")
    shown = "".join(traceback.format_exception(error))
    assert "h11._util.LocalProtocolError: Illegal header value\n" in shown
    # All that is left is the source line of this test, which names a variable.
    assert SECRET not in shown
