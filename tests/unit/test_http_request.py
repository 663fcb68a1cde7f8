"""From a message to what goes on the wire: URLs, headers, credentials, cookies, bodies."""

import io
import threading
from typing import Any

import pytest

from pynector._http import wire as wire_module
from pynector._http.auth import authorization, from_userinfo
from pynector._http.body import StreamBody, stream_body
from pynector._http.cookies import CookieStore
from pynector._http.url import Origin, Origins, Target, URLBuilder, encode_params, parse_url
from pynector._http.wire import WireBuilder, WireRequest, accept_encoding, redirect
from pynector._messages.headers import Headers
from pynector._messages.http import HttpMessage
from pynector._policies.redirect import RedirectStep
from pynector.errors import ConfigurationError, HTTPRedirectError

# URLs


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("http://h", "/a", "http://h/a"),
        ("http://h", "a", "http://h/a"),
        ("http://h", "", "http://h/"),
        ("http://h/v1", "/users", "http://h/v1/users"),
        ("http://h/v1/", "users", "http://h/v1/users"),
        ("http://h/v1/", "//users", "http://h/v1/users"),
        ("http://h/v1", "", "http://h/v1/"),
        ("http://h/v1", "a/../b", "http://h/v1/b"),
        ("http://h/v1", "./a", "http://h/v1/a"),
        ("http://h/v1", "a.b/c.d", "http://h/v1/a.b/c.d"),
        ("http://h/v1", "users?id=1&x=a b", "http://h/v1/users?id=1&x=a%20b"),
        ("http://h/v1", "?id=1", "http://h/v1/?id=1"),
        ("http://h/v1", "a#part", "http://h/v1/a"),
        ("http://h/v1", "ü/%41%2f", "http://h/v1/%C3%BC/%41%2f"),
        ("http://h/v1", "time:12:30", "http://h/v1/time:12:30"),
        ("http://h/v1", "https://other:8443/x", "https://other:8443/x"),
        ("http://h:80", "/a", "http://h/a"),
        ("https://H.Example:443/", "/a", "https://h.example/a"),
        ("http://[::1]:8080", "/a", "http://[::1]:8080/a"),
        ("http://münchen.example", "/a", "http://xn--mnchen-3ya.example/a"),
        ("http://h.example.", "/a", "http://h.example./a"),
        ("", "http://h", "http://h/"),
    ],
)
def test_paths_are_appended_to_the_base(base: str, path: str, expected: str) -> None:
    assert str(URLBuilder(base).build(path, None).target) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"a": [1, 2], "b": ()}, b"a=1&a=2"),
        ({"a": True, "b": False, "c": None, "d": 1.5}, b"a=true&b=false&c=&d=1.5"),
        ([("a", 1), ("a", "x y&")], b"a=1&a=x+y%26"),
        ({"a": b"\xc3\xbc"}, b"a=%C3%BC"),
        ("?a=1&b=x y\xfc", b"a=1&b=x%20y%C3%BC"),
        (b"a=1", b"a=1"),
        ({}, b""),
    ],
)
def test_params(params: Any, expected: bytes) -> None:
    assert encode_params(params) == expected


def test_params_join_the_query_of_the_url() -> None:
    build = URLBuilder("http://h/v1").build
    assert build("a", {"x": 1}).target.path == b"/v1/a?x=1"
    assert build("a?y=2", {"x": 1}).target.path == b"/v1/a?y=2&x=1"
    assert build("a", {"x": []}).target.path == b"/v1/a"


def test_params_of_the_wrong_type_are_named() -> None:
    with pytest.raises(ConfigurationError, match="query parameter 'when' is of type dict"):
        encode_params({"when": [{}]})  # type: ignore[arg-type]


def test_credentials_are_kept_apart_from_the_target() -> None:
    target, userinfo = parse_url("https://me:s%40crit@h.example/x?api_key=k1")
    assert userinfo == b"me:s%40crit"
    assert target.origin == Origin(b"https", b"h.example", 443)
    assert str(target) == "https://h.example/x?api_key=k1"
    assert target.redacted == "https://h.example/x?api_key=REDACTED"
    builder = URLBuilder("https://me:pw@h/v1")
    assert builder.userinfo == b"me:pw"
    assert builder.base is not None
    assert b"pw" not in builder.base.authority
    assert builder.build("a?b", None).userinfo == b"me:pw"
    assert URLBuilder("").base is None


@pytest.mark.parametrize(
    "url", ["", "/x", "h/x", "//h/x", "ftp://h", "http://", "http://h:x", "http://a..b", "http://h\n", "http://.h"]
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_url(url)


@pytest.mark.parametrize("base", ["http://h/?q=1", "http://h/v1#top"])
def test_a_base_with_more_than_a_path(base: str) -> None:
    with pytest.raises(ConfigurationError, match="query or a fragment"):
        URLBuilder(base)


def test_a_control_character_in_a_path() -> None:
    with pytest.raises(ConfigurationError, match="control character"):
        URLBuilder("http://h").build("a\r\nHost: evil", None)


# Credentials


def test_authorization() -> None:
    assert authorization(None) is None
    assert authorization("tok.123~+/=") == b"Bearer tok.123~+/="
    assert authorization(("Aladdin", "open sesame")) == b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert authorization((b"\xfc", "")) == b"Basic /Do="
    assert authorization(("ü", b"p:w")) == b"Basic w7w6cDp3"


@pytest.mark.parametrize("auth", ["", "töken", "a\nb", ("user",), ("user", None), ["user", 1, 2], 3, object()])
def test_authorization_that_is_refused(auth: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"auth of type {type(auth).__name__}") as caught:
        authorization(auth)
    assert "user" not in str(caught.value).replace("(user, password)", "")


def test_userinfo() -> None:
    assert from_userinfo(b"me") == b"Basic bWU6"
    assert from_userinfo(b"me:s%40:x") == b"Basic bWU6c0A6eA=="


# Headers


def build(message: HttpMessage, **options: Any) -> WireRequest:
    return WireBuilder("http://h", **options).build(message)


def test_a_plain_request() -> None:
    wire = build(HttpMessage(url="/a"))
    names = [name for name, _ in wire.headers]
    assert names == [b"Host", b"Accept", b"Accept-Encoding", b"Connection", b"User-Agent"]
    assert (wire.method, wire.body, wire.replayable, wire.idempotent) == ("GET", None, True, True)
    assert repr(wire) == "<WireRequest GET http://h/a>"


def test_plain_requests_share_their_headers_and_others_leave_them_alone() -> None:
    builder = WireBuilder("https://api.example.com", Headers({"X-Team": "blue"}))
    plain = builder.build(HttpMessage(url="/a"))
    before = plain.headers.copy()
    posted = builder.build(HttpMessage("POST", "/a", json={"a": 1}))
    elsewhere = builder.build(HttpMessage(url="https://other.example.com/a"))
    keyed = builder.build(HttpMessage(url="/a"))
    keyed.set_header(b"Idempotency-Key", "k")
    assert builder.build(HttpMessage(url="/b")).headers == plain.headers == before
    assert (b"Content-Length", b"7") in posted.headers
    assert elsewhere.headers == [(b"Host", b"other.example.com"), *before[1:]]
    assert keyed.headers == [*before, (b"Idempotency-Key", b"k")]


def test_the_servers_that_are_remembered_are_bounded() -> None:
    origins = Origins(limit=100)
    many = [Origin(b"https", b"%d.example.com" % number, 443) for number in range(250)]
    for origin in many:
        origins.add(origin)
        assert origin in origins
    assert 0 < sum(origin in origins for origin in many) <= 100
    origins.discard(many[-1])
    assert many[-1] not in origins


def test_headers_of_the_user_win_in_any_case() -> None:
    wire = build(
        HttpMessage(url="/a", headers=[("x-a", "own"), ("x-a", "twice"), ("HOST", "virtual"), ("accept", "x/y")]),
        headers=Headers({"X-A": "default", "user-agent": "mine", "X-B": "b"}),
    )
    assert sorted((name.lower(), value) for name, value in wire.headers if name.lower() != b"accept-encoding") == [
        (b"accept", b"x/y"),
        (b"connection", b"keep-alive"),
        (b"host", b"virtual"),
        (b"user-agent", b"mine"),
        (b"x-a", b"own"),
        (b"x-a", b"twice"),
        (b"x-b", b"b"),
    ]


def authorization_of(wire: WireRequest) -> list[bytes]:
    return [value for name, value in wire.headers if name.lower() == b"authorization"]


def test_which_credentials_are_sent() -> None:
    plain = HttpMessage(url="/a")
    own = HttpMessage(url="/a", headers={"authorization": "Own"})
    other = HttpMessage(url="http://x:y@other/a")
    both = HttpMessage(url="http://x:y@other/a", headers={"Authorization": "Own"})
    builder = WireBuilder("http://me:pw@h", authorization=b"Bearer t")
    assert [authorization_of(builder.build(message)) for message in (plain, own, other, both)] == [
        [b"Bearer t"],
        [b"Own"],
        [b"Basic eDp5"],
        [b"Own"],
    ]
    from_base = WireBuilder("http://me:pw@h")
    assert authorization_of(from_base.build(plain)) == [b"Basic bWU6cHc="]
    given = WireBuilder("http://me:pw@h", Headers({"Authorization": "Given"}))
    assert authorization_of(given.build(HttpMessage(url="http://h/a"))) == [b"Given"]


def test_idempotency_keys() -> None:
    wire = build(HttpMessage("POST", "/a"))
    assert not wire.idempotent
    wire.set_header(b"Idempotency-Key", "k1")
    wire.set_header(b"idempotency-key", "k2")
    assert wire.idempotent
    assert [value for name, value in wire.headers if name.lower() == b"idempotency-key"] == [b"k2"]


@pytest.mark.needs("zstandard")
def test_accept_encoding_names_what_can_be_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accept_encoding() == b"gzip, deflate, br, zstd"
    installed = {"brotlicffi"}
    monkeypatch.setattr(wire_module.importlib.util, "find_spec", lambda name: name in installed)
    assert accept_encoding() == b"gzip, deflate, br"
    installed.clear()
    assert accept_encoding() == b"gzip, deflate"


# Redirects


def step(
    url: str, *, method: str = "GET", drop_body: bool = False, drop: frozenset[bytes] = frozenset()
) -> RedirectStep:
    return RedirectStep(method=method, url=url, drop_body=drop_body, drop_headers=drop)


def test_a_redirect_keeps_what_may_be_kept() -> None:
    first = build(HttpMessage("POST", "/a", json={}, headers={"X-A": "1", "X-B": "2"}))
    second = redirect(first, step("http://h/b", method="POST", drop=frozenset({b"x-b"})))
    assert second.body == b"{}"
    assert second.headers[0] == (b"Host", b"h")
    assert not second.redirected
    assert {name.lower() for name, _ in first.headers} - {name.lower() for name, _ in second.headers} == {b"x-b"}
    away = redirect(second, step("https://other/c", drop_body=True))
    assert (away.method, away.body, away.redirected) == ("GET", None, True)
    assert away.headers[0] == (b"Host", b"other")
    assert redirect(away, step("http://h/d")).redirected


def test_redirects_that_cannot_be_followed() -> None:
    consumed = build(HttpMessage("POST", "/a", content=iter([b"x"])))
    with pytest.raises(HTTPRedirectError, match="can't be sent again") as caught:
        redirect(consumed, step("http://h/b", method="POST"))
    assert caught.value.url == "http://h/a"
    with pytest.raises(HTTPRedirectError, match="redirected to not a valid URL"):
        redirect(consumed, step("http://a..b/"))


# Cookies

HOME = Target(Origin(b"http", b"h.example", 80), b"h.example", b"/a/b")
OTHER = Target(Origin(b"http", b"other.example", 80), b"other.example", b"/")
SECURE = Target(Origin(b"https", b"h.example", 443), b"h.example", b"/")


def set_cookie(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"Set-COOKIE", value.encode())]


def test_a_store_without_cookies_says_nothing() -> None:
    store = CookieStore()
    assert store.header("GET", HOME) is None
    store.store("GET", HOME, [(b"Content-Type", b"x/y")])
    assert store.header("GET", HOME) is None


def test_cookies_go_where_they_belong() -> None:
    store = CookieStore()
    store.store("GET", HOME, [*set_cookie("a=1; Path=/"), *set_cookie("b=2; Path=/a"), *set_cookie("c=3; Secure")])
    value = store.header("GET", HOME)
    assert value is not None
    assert sorted(value.split(b"; ")) == [b"a=1", b"b=2"]
    assert store.header("GET", OTHER) is None
    assert store.header("GET", SECURE) == b"a=1"
    store.store("GET", HOME, set_cookie("a=; Path=/; Max-Age=0"))
    assert store.header("GET", SECURE) is None


def test_given_cookies_go_to_the_hosts_that_are_asked() -> None:
    store = CookieStore({"k": "v"})
    assert store.header("GET", HOME) == b"k=v"
    assert store.header("GET", OTHER, redirected=True) is None
    assert store.header("GET", OTHER) == b"k=v"
    local = Target(Origin(b"http", b"localhost", 80), b"localhost", b"/")
    assert store.header("GET", local) == b"k=v"
    store.store("GET", HOME, set_cookie("k=new; Path=/"))
    assert store.header("GET", HOME) == b"k=new"


def test_given_cookies_are_there_for_every_thread() -> None:
    def ask(store: CookieStore, gate: threading.Barrier, seen: list[int]) -> None:
        gate.wait()
        seen.append((store.header("GET", HOME) or b"").count(b"=v"))

    for _ in range(20):
        shared = CookieStore({f"k{number}": "v" for number in range(10)}), threading.Barrier(4), []
        threads = [threading.Thread(target=ask, args=shared) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shared[2] == [10] * 4


def test_cookies_join_those_of_the_message() -> None:
    builder = WireBuilder("http://h.example", cookies=CookieStore({"k": "v"}))
    wire = builder.build(HttpMessage(url="/", headers={"cookie": "own=1"}))
    assert dict(builder.with_cookies(wire))[b"Cookie"] == b"own=1; k=v"
    without = WireBuilder("http://h.example")
    plain = without.build(HttpMessage(url="/"))
    assert without.with_cookies(plain) is plain.headers
    without.store_cookies(plain, set_cookie("a=1"))
    empty = WireBuilder("http://h.example", cookies=CookieStore())
    assert empty.with_cookies(plain) is plain.headers


# Bodies


def body_of(message: HttpMessage) -> StreamBody:
    body = stream_body(message)
    assert body is not None
    return body


@pytest.mark.parametrize("content", [None, b"x", "x"])
def test_what_is_in_memory_is_not_streamed(content: Any) -> None:
    assert stream_body(HttpMessage("POST", "/", content=content)) is None


def test_a_file_is_read_as_often_as_it_is_sent() -> None:
    file = io.BytesIO(b"." * 5 + b"x" * 70_000)
    file.seek(5)
    body = body_of(HttpMessage("POST", "/", content=file))
    assert (body.length, body.replayable) == (70_000, True)
    source: Any = body.source
    for _ in range(2):
        chunks = list(source)
        assert [len(chunk) for chunk in chunks] == [65_536, 4_464]


def test_a_text_file_has_no_length_in_bytes() -> None:
    body = body_of(HttpMessage("POST", "/", content=io.StringIO("zwölf")))
    assert (body.length, body.replayable) == (None, True)
    source: Any = body.source
    assert b"".join(source) == "zwölf".encode()


def test_iterables_and_iterators() -> None:
    assert body_of(HttpMessage("POST", "/", content=[b"a"])).replayable
    assert not body_of(HttpMessage("POST", "/", content=iter([b"a"]))).replayable


def test_framing_headers() -> None:
    def framing(message: HttpMessage) -> dict[bytes, bytes]:
        return {
            name: value
            for name, value in build(message).headers
            if name in (b"Content-Type", b"Content-Length", b"Transfer-Encoding")
        }

    assert framing(HttpMessage("POST", "/")) == {b"Content-Length": b"0"}
    assert framing(HttpMessage("DELETE", "/")) == {}
    assert framing(HttpMessage("POST", "/", content=iter([b"a"]))) == {b"Transfer-Encoding": b"chunked"}
    assert framing(HttpMessage("POST", "/", json=[])) == {
        b"Content-Type": b"application/json",
        b"Content-Length": b"2",
    }
    assert framing(HttpMessage("POST", "/", content=[b"a"], headers={"Transfer-Encoding": "chunked"})) == {
        b"Transfer-Encoding": b"chunked"
    }
