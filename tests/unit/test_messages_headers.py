"""Headers: case, repeats, order, latin-1, injection, secrets."""

import copy
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._messages.headers import Headers
from pynector.errors import ConfigurationError

RAW = [(b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a=1, b"), (b"X-A", b"1"), (b"set-cookie", b"c=2")]


@pytest.mark.parametrize(
    "given",
    [
        {"Content-Type": "text/plain", "X-A": "1"},
        {b"Content-Type": b"text/plain", b"X-A": b"1"},
        [("Content-Type", "text/plain"), ("X-A", "1")],
        ((b"Content-Type", b"text/plain"), [b"X-A", b"1"]),
        Headers({"Content-Type": "text/plain", "X-A": "1"}),
        iter([("Content-Type", "text/plain"), ("X-A", "1")]),
    ],
)
def test_what_is_accepted(given):
    headers = Headers(given)
    assert headers.raw == [(b"Content-Type", b"text/plain"), (b"X-A", b"1")]
    assert headers["CONTENT-TYPE"] == headers.get("content-type") == "text/plain"
    assert isinstance(headers, Mapping)


def test_repeats_are_kept_in_order():
    headers = Headers.from_raw(RAW)
    assert headers.get_list("Set-Cookie") == ["a=1, b", "c=2"]
    assert headers["set-cookie"] == headers.get("set-cookie") == "a=1, b, c=2"
    assert headers.multi_items() == [
        ("content-type", "text/plain"),
        ("set-cookie", "a=1, b"),
        ("x-a", "1"),
        ("set-cookie", "c=2"),
    ]
    assert list(headers) == ["content-type", "set-cookie", "x-a"]
    assert len(headers) == 3
    assert dict(headers)["x-a"] == "1"


def test_a_list_in_a_mapping_is_repeated():
    assert Headers({"Accept": ["a/b", "c/d"]}).get_list("accept") == ["a/b", "c/d"]


def test_what_is_not_there():
    headers = Headers({"A": "1"})
    assert headers.get("b") is None
    assert headers.get("b", "x") == "x"
    assert headers.get_list("b") == []
    assert "b" not in headers
    assert 3 not in headers
    with pytest.raises(KeyError):
        headers["b"]
    with pytest.raises(KeyError):
        del headers["b"]
    assert not Headers()
    assert headers


def test_changing():
    raw = list(RAW)
    headers = Headers.from_raw(raw)
    assert headers["x-a"] == "1"
    headers["X-a"] = "2"
    assert headers.get_list("x-a") == ["2"]
    del headers["SET-COOKIE"]
    assert "set-cookie" not in headers
    headers.add("X-A", "3")
    assert headers["x-a"] == "2, 3"
    headers.update({"x-a": "4"}, b="5")
    assert headers.multi_items() == [("content-type", "text/plain"), ("x-a", "4"), ("b", "5")]
    headers.update([("c", "1"), ("c", "2")])
    assert headers.get_list("c") == ["1", "2"]
    assert raw == RAW, "what a parser handed over is never changed"


def test_raw_and_lists_are_copies():
    headers = Headers({"a": "1"})
    headers.raw.append((b"b", b"2"))
    headers.get_list("a").append("2")
    assert headers.multi_items() == [("a", "1")]


def test_copy_and_merge_leave_the_original():
    headers = Headers({"a": "1", "b": "2"})
    other = headers.copy()
    other["a"] = "3"
    merged = headers.merge([("B", "4"), ("B", "5")])
    assert headers.multi_items() == [("a", "1"), ("b", "2")]
    assert merged.multi_items() == [("a", "1"), ("b", "4"), ("b", "5")]
    assert headers.merge(None) == headers
    assert copy.copy(headers) == headers == copy.deepcopy(headers)


def test_equality():
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers == Headers([("b", "2"), ("a", "1"), ("A", "3")])
    assert headers != Headers([("a", "3"), ("a", "1"), ("b", "2")])
    assert headers == {"a": ["1", "3"], "b": "2"}
    assert headers != {"a": 1}
    assert headers != 3
    with pytest.raises(TypeError):
        hash(headers)


def test_pickle():
    headers = Headers.from_raw(RAW)
    assert pickle.loads(pickle.dumps(headers)).raw == RAW


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "SET-COOKIE",
        "x-api-key",
        "Api-Key",
        "X-Auth-Token",
        "X-Amz-Security-Token",
        "x-goog-api-key",
        "X-Client-Secret",
    ],
)
def test_secrets_are_not_shown(name):
    headers = Headers({name: "hunter2", "Accept": "*/*"})
    assert "hunter2" not in repr(headers)
    assert "'*/*'" in repr(headers)
    assert headers[name] == "hunter2"


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-RateLimit-Remaining-Tokens", "ETag", "WWW-Authenticate"])
def test_what_is_no_secret_is_shown(name):
    assert "shown" in repr(Headers({name: "shown"}))


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", b"a\r\nb", "a\x7f", "a\x0bb"])
def test_injection_is_refused(value):
    with pytest.raises(ConfigurationError, match="'X-Test'") as caught:
        Headers({"X-Test": value})
    assert "Evil" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="x-test"):
        Headers()["x-test"] = value


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "a\x00", "é", b"\xe9", "a\n"])
def test_bad_names_are_refused(name):
    with pytest.raises(ConfigurationError, match="not a valid name"):
        Headers([(name, "1")])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"a": 1}, "header 'a': the value must be text, not int"),
        ({"a": None}, "not NoneType"),
        ({1: "a"}, "a name must be text, not int"),
        ("a: b", "expected a mapping or pairs of texts, got str"),
        (7, "got int"),
        (["ab"], r"headers\[0\]: expected a pair"),
        ([("a", "b", "c")], r"headers\[0\]"),
        ({"a": "日本"}, "header 'a': the value has characters outside latin-1"),
    ],
)
def test_wrong_types_are_named(given, text):
    with pytest.raises(ConfigurationError, match=text) as caught:
        Headers(given)
    assert caught.value.__cause__ is None
    assert "日本" not in str(caught.value)


def test_latin_1_survives():
    headers = Headers({"a": "é ü", "b": "x"})
    assert headers.raw[0] == (b"a", b"\xe9 \xfc")
    assert headers["a"] == "é ü"
    assert Headers([(b"a", "日本".encode())]).raw == [(b"a", "日本".encode())]


def test_space_around_a_value_is_no_part_of_it():
    assert Headers({"a": " \t1 2\t "})["a"] == "1 2"
    assert Headers({"a": ""})["a"] == ""


names = st.text("abcXYZ-_0123", min_size=1, max_size=8)
values = st.binary(max_size=12)


@given(st.lists(st.tuples(names.map(str.encode), values)))
def test_what_came_from_the_wire_is_all_there(raw):
    headers = Headers.from_raw(raw)
    assert headers.raw == raw
    assert [(n.encode(), v.encode("latin-1")) for n, v in headers.multi_items()] == [(n.lower(), v) for n, v in raw]
    for name in headers:
        assert headers.get_list(name) == [v.decode("latin-1") for n, v in raw if n.decode().lower() == name]


@given(st.text(max_size=20))
def test_any_text_is_kept_or_refused(text):
    try:
        headers = Headers({"x": text})
    except ConfigurationError:
        return
    assert headers["x"] == text.strip(" \t")
    assert not set(headers.raw[0][1]) & {0, 10, 13}


def test_late_headers_are_converted_when_they_are_asked_for():
    asked = []

    def source():
        asked.append(1)
        return [(b"A", b"1"), (b"a", b"2")]

    late = Headers.from_source(source)
    assert not asked
    assert late["a"] == "1, 2"
    assert (late.get_list("A"), late.raw, bool(late), len(late)) == (["1", "2"], [(b"A", b"1"), (b"a", b"2")], True, 1)
    assert len(asked) == 1
    assert Headers.from_source(source) == late
    assert pickle.loads(pickle.dumps(Headers.from_source(source))) == late
    assert copy.copy(Headers.from_source(source)) == late
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = late.nonsense
