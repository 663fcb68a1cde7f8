"""HttpMessage: requests, and their bodies."""

import datetime as dt
import io

import pytest

from pynector._messages.body import encode_body
from pynector._messages.headers import Headers
from pynector._messages.http import HttpMessage
from pynector.errors import ConfigurationError, SerializationError


def test_a_request_and_its_fields():
    message = HttpMessage("post", "/users", {"a": 1}, {"X-A": "1"}, json={"b": 2})
    assert (message.method, message.url, message.params) == ("POST", "/users", {"a": 1})
    assert message.headers["x-a"] == "1"
    assert message.json_data == message.json() == {"b": 2}
    assert (message.status_code, message.is_success, message.request, message.history) == (0, False, None, ())
    assert repr(message) == "<HttpMessage POST /users>"
    assert HttpMessage() == HttpMessage("GET", "")


def test_other_names_of_the_fields():
    assert HttpMessage(json_data=[1]).json_data == [1]
    assert HttpMessage(form_data={"a": 1}).form_data == {"a": 1}
    assert HttpMessage.from_mapping({"path": "/", "json_data": 1}) == HttpMessage(url="/", json=1)
    assert HttpMessage.from_mapping({"path": "/", "form_data": {}}) == HttpMessage(url="/", form={})


def test_the_headers_of_a_request_are_its_own():
    headers = Headers({"a": "1"})
    message = HttpMessage(headers=headers)
    headers["a"] = "2"
    assert message.headers["a"] == "1"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"method": "GE T"}, "method: 'GE T' is not an HTTP method"),
        ({"method": ""}, "method: '' is not"),
        ({"method": 7}, "method: expected text such as 'GET', got int"),
        ({"method": ["GET"]}, "method: expected text such as 'GET', got list"),
        ({"url": 7}, "url: expected text, got int"),
        ({"params": 7}, "params: expected a mapping of names to values, or pairs, got int"),
        ({"params": "a=1"}, "params: expected a mapping"),
        ({"headers": 7}, "headers: expected a mapping or pairs of texts, got int"),
        ({"headers": {"a": 1}}, "header 'a'"),
        ({"form": 7}, "form: expected a mapping"),
        ({"form": "a=1"}, "form: expected a mapping"),
        ({"files": b"x"}, "files: expected a mapping of field names to uploads"),
        ({"files": {"a": 7}}, "files.a: expected bytes, text or a binary file, got int"),
        ({"files": {"a-b": ("n",)}}, r"files\['a-b'\]: expected \(filename, content\)"),
        ({"files": {"a": (1, b"")}}, "files.a: the filename and the content type must be text"),
        ({"files": {"a": ("n", b"", 1)}}, "files.a: the filename and the content type must be text"),
        ({"files": [("a",)]}, "files: expected pairs"),
        ({"files": {"a": io.StringIO("x")}}, "files.a: the file is open in text mode"),
        ({"content": {"a": 1}}, r"content: expected bytes, text, .* \(json= sends a value\), got dict"),
        ({"content": 7}, "content: expected bytes"),
        ({"json": 1, "content": b""}, "json and content were given, but a request has one body"),
        ({"form": {}, "json": 1}, "json and form were given"),
        ({"files": {"f": b""}, "content": b""}, "files and content were given"),
        ({"json": 1, "json_data": 1}, "json and json_data are two names of one thing"),
        ({"form": {}, "form_data": {}}, "form and form_data are two names of one thing"),
    ],
)
def test_mistakes_are_named(fields, text):
    with pytest.raises(ConfigurationError, match=text):
        HttpMessage(**fields)
    with pytest.raises(ConfigurationError, match=text):
        HttpMessage.from_mapping(fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"metod": "GET"}, "unknown request key 'metod': did you mean 'method'?"),
        ({"header": {}}, "did you mean 'headers'?"),
        ({"zzzz": 1}, "unknown request key 'zzzz': known are content, files, form"),
        ({1: 1}, "unknown request key 1"),
        ({"path": "/", "url": "/"}, "path and url were given: give one of them"),
        ({"path": None}, "path: expected text, got NoneType"),
        (["/"], "a request: expected a mapping with `path` or `url`, or an HttpMessage, got list"),
        ("/", "a request: expected a mapping .* got str"),
    ],
)
def test_mistakes_in_a_mapping(fields, text):
    with pytest.raises(ConfigurationError, match=text.replace("?", r"\?")):
        HttpMessage.from_mapping(fields)


def test_json_none_is_no_body():
    message = HttpMessage.from_mapping({"path": "/", "json": None})
    assert not message.has_body
    assert encode_body(message) == (None, None)
    assert encode_body(HttpMessage(json=0)) == (b"0", "application/json")
    assert encode_body(HttpMessage(json=False)) == (b"false", "application/json")


@pytest.mark.parametrize(
    ("fields", "body", "content_type"),
    [
        ({"json": {"a": [1, "é"]}}, '{"a":[1,"é"]}'.encode(), "application/json"),
        (
            {"form": {"a": [1, 2], "b": True, "f": False, "c": None, "d": "x y&é"}},
            b"a=1&a=2&b=true&f=false&c=&d=x+y%26%C3%A9",
            "application/x-www-form-urlencoded",
        ),
        ({"form": [("a", "1"), ("a", 2.5)]}, b"a=1&a=2.5", "application/x-www-form-urlencoded"),
        ({"form": {}}, b"", "application/x-www-form-urlencoded"),
        ({"content": "é"}, "é".encode(), None),
        ({"content": b"\0"}, b"\0", None),
        ({"content": bytearray(b"ab")}, b"ab", None),
        ({"content": memoryview(b"ab")}, b"ab", None),
        ({"content": b""}, b"", None),
        ({}, None, None),
        ({"files": {"a": b"1"}}, None, None),
        ({"files": {"a": b"1"}, "form": {"b": 1}}, None, None),
        ({"content": io.BytesIO(b"x")}, None, None),
        ({"content": io.StringIO("x")}, None, None),
        ({"content": iter([b"x"])}, None, None),
    ],
)
def test_encode_body(fields, body, content_type):
    message = HttpMessage("POST", "/", **fields)
    assert encode_body(message) == (body, content_type)
    assert message.has_body is bool(fields)


SELF: list[object] = []
SELF.append(SELF)
DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            {"items": [0, 1, 2, {"when": dt.datetime(2025, 1, 1, tzinfo=dt.UTC)}]},
            r"json\.items\[3\]\.when: datetime is not JSON",
        ),
        (["ok", 1.5, None, True, ("x",), float("nan")], r"json\[5\]: nan is not JSON"),
        pytest.param(10**5000, "json: it cannot be encoded: Exceeds the limit", id="huge"),
        ([float("nan")], r"json\[0\]: nan is not JSON serialisable"),
        ({"a b": float("inf")}, r"json\['a b'\]: inf is not JSON"),
        ({"a": {1, 2}}, "json.a: set is not JSON"),
        ({"a": b"x"}, "json.a: bytes is not JSON"),
        ({(1, 2): 3}, "json: a key is tuple, not text"),
        ({float("nan"): 3}, "json: the key nan is not JSON"),
        ({"\ud800": 3}, "json: a key holds a lone surrogate"),
        ({"a": "\udfff"}, "json.a: the text holds a lone surrogate"),
        (SELF, r"json\[0\]: the value contains itself"),
        (DEEP, "nested too deeply"),
        (object(), "json: object is not JSON serialisable"),
    ],
)
def test_bad_json_values_are_found(value, text):
    with pytest.raises(SerializationError, match=text) as caught:
        encode_body(HttpMessage(json=value))
    assert len(str(caught.value)) < 200
    assert caught.value.sent is False


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"a": [1, {}]}, r"form\.a\[1\]: dict cannot be sent"),
        ({"a-b": b"x"}, r"form\['a-b'\]: bytes cannot be sent"),
        ([("a", object())], "form.a: object cannot be sent"),
        ([7], r"form: expected pairs \(name, value\), got int"),
        ({"a": "\ud800"}, "form: a text in it cannot be encoded"),
    ],
)
def test_bad_form_values_are_found(form, text):
    with pytest.raises(SerializationError, match=text):
        encode_body(HttpMessage(form=form))


def test_bad_text_content():
    with pytest.raises(SerializationError, match="content: the text holds a lone surrogate"):
        encode_body(HttpMessage(content="\ud800"))


class Pipe:
    def read(self, size=-1):
        return b""


class Unseekable(io.BytesIO):
    def seekable(self):
        return False


async def chunks():
    yield b""


class Repeatable:
    def __aiter__(self):
        return chunks()


@pytest.mark.parametrize(
    ("fields", "replayable", "in_memory"),
    [
        ({}, True, True),
        ({"content": "x"}, True, True),
        ({"files": {"a": b"x"}}, True, True),
        ({"content": [b"x"]}, True, False),
        ({"content": Repeatable()}, True, False),
        ({"content": io.BytesIO(b"x")}, True, False),
        ({"content": Pipe()}, False, False),
        ({"content": Unseekable()}, False, False),
        ({"content": (x for x in [b"x"])}, False, False),
        ({"content": chunks()}, False, False),
        ({"files": {"a": io.BytesIO()}}, True, False),
        ({"files": [("a", ("n", Pipe(), "text/plain"))]}, False, False),
    ],
)
def test_what_can_be_sent_again(fields, replayable, in_memory):
    message = HttpMessage("POST", "/", **fields)
    assert message.is_replayable is replayable
    assert message.in_memory is in_memory


def test_content_of_a_request():
    assert HttpMessage(content="é").content == "é".encode()
    assert HttpMessage(content="é").text == "é"
    assert HttpMessage().content == b""
    with pytest.raises(SerializationError, match="streamed from a BytesIO"):
        _ = HttpMessage(content=io.BytesIO(b"x")).content


def test_replace():
    message = HttpMessage("POST", "/a", {"x": 1}, {"h": "1"}, json=[1])
    other = message.replace(method="put", json_data=None, content=b"x", headers={"h": "2"})
    assert other == HttpMessage("PUT", "/a", {"x": 1}, {"h": "2"}, content=b"x")
    assert message == HttpMessage("POST", "/a", {"x": 1}, {"h": "1"}, json=[1])
    assert message.replace(url="/b", params=None, form_data={}, json_data=None) == HttpMessage(
        "POST", "/b", None, {"h": "1"}, form={}
    )
