"""HttpMessage: requests, responses, bodies, round trips, secrets."""

import copy
import datetime as dt
import io
import json
import pickle
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector import errors
from pynector._messages.body import encode_body
from pynector._messages.headers import Headers
from pynector._messages.http import HttpMessage
from pynector.errors import ConfigurationError, DeserializationError, SerializationError


def reply(content=b"", content_type=None, status=200, **fields):
    headers = {} if content_type is None else {"Content-Type": content_type}
    return HttpMessage.response(status_code=status, headers=headers, content=content, **fields)


# --- requests


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


# --- responses


def test_a_response_and_its_fields():
    request = HttpMessage("DELETE", "https://h/p")
    earlier = reply(status=302)
    message = HttpMessage.response(
        status_code=404,
        headers=Headers.from_raw([(b"A", b"1")]),
        content=b"abc",
        request=request,
        url="https://h/q",
        elapsed=0.25,
        http_version="HTTP/2",
        history=(earlier,),
    )
    assert (message.status_code, message.content, message.text, message.url) == (404, b"abc", "abc", "https://h/q")
    assert (message.method, message.elapsed, message.http_version) == ("DELETE", 0.25, "HTTP/2")
    assert message.request is request
    assert message.history == (earlier,)
    assert message.reason_phrase == "Not Found"
    assert not message.is_success
    assert reply(status=204).is_success
    assert not reply(status=301).is_success
    assert HttpMessage.response(status_code=200, request=request).url == "https://h/p"
    assert reply(status=599).reason_phrase == ""
    assert reply(reason_phrase="Fine").reason_phrase == "Fine"


@pytest.mark.parametrize(
    ("content", "content_type", "text", "encoding"),
    [
        ("é".encode(), None, "é", "utf-8"),
        (b"\xe9", "text/plain; charset=ISO-8859-1", "é", "iso-8859-1"),
        (b"\xe9", 'text/plain; charset="latin-1"; x=1', "é", "latin-1"),
        (b"\xe9", "text/plain", "\ufffd", "utf-8"),
        (b"\xe9a", "text/plain; charset=no-such", "\ufffda", "utf-8"),
        (b"61", "text/plain; charset=hex", "61", "utf-8"),
        (b"a", "text/plain; charset=a\x00b", "a", "utf-8"),
        (b"\xff", "text/plain; charset=idna", "\ufffd", "utf-8"),
        (b"-\xff", "text/plain; charset=punycode", "-\ufffd", "utf-8"),
        (b"\\h", "text/plain; charset=Unicode_Escape", "\\h", "utf-8"),
        ("é".encode("utf-16"), "text/plain; charset=utf-16", "é", "utf-16"),
    ],
)
def test_text(content, content_type, text, encoding):
    raw = [] if content_type is None else [(b"Content-Type", content_type.encode())]
    message = HttpMessage.response(status_code=200, headers=Headers.from_raw(raw), content=content)
    assert message.text == text
    assert message.encoding == encoding
    assert message.text is message.text


def test_json_is_parsed_once():
    message = reply(b'{"a": [1]}')
    assert message.json() == {"a": [1]}
    assert message.json() is message.json()
    assert reply(b"null").json() is None
    assert reply('{"a": "é"}'.encode("utf-16")).json() == {"a": "é"}


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff\xff\xff", b"[" * 100_000, b"1" * 5000])
def test_bad_json_is_a_typed_error(content):
    message = reply(content, "application/json", url="https://me:pw@h/p?token=hunter2")
    with pytest.raises(DeserializationError) as caught:
        message.json()
    error = caught.value
    assert "200 GET https://REDACTED:REDACTED@h/p?token=REDACTED" in str(error)
    assert error.__cause__ is not None
    assert (error.method, error.transient) == ("GET", False)
    assert len(str(error)) < 300


def test_the_snippet_is_short_and_shows_no_secret():
    with pytest.raises(DeserializationError, match="it begins with '<html>'"):
        reply(b"<html>").json()
    with pytest.raises(DeserializationError, match="it is empty"):
        reply(b"").json()
    with pytest.raises(DeserializationError) as caught:
        reply(b'{"access_token": "hunter2", oops').json()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "content_type", "data"),
    [
        (b'{"a":1}', "application/json", {"a": 1}),
        (b'{"a":1}', "application/problem+json; charset=utf-8", {"a": 1}),
        (b'{"a":1}', "Application/JSON", {"a": 1}),
        (b"oops", "application/json", "oops"),
        (b"", "application/json", ""),
        (b'{"a":1}', None, {"a": 1}),
        (b"[1]", "text/plain", [1]),
        (b"[1", "text/plain", "[1"),
        (b"12", "text/plain", "12"),
        (b"12", None, "12"),
        (b"\xff\x00", None, b"\xff\x00"),
        (b"<p>", "text/html", "<p>"),
        (b"<p/>", "application/xml", "<p/>"),
        (b"<p/>", "image/svg+xml", "<p/>"),
        (b"a=1", "application/x-www-form-urlencoded", "a=1"),
        (b"a", "application/x-thing; charset=utf-8", "a"),
        (b"\x89PNG", "image/png", b"\x89PNG"),
        (b'{"a":1}', "application/octet-stream", b'{"a":1}'),
        (b'{"a":1}\n', "application/x-ndjson", '{"a":1}\n'),
    ],
)
def test_the_payload_of_a_response(content, content_type, data):
    message = reply(content, content_type)
    payload = message.get_payload()
    assert payload == {"status_code": 200, "headers": message.headers, "data": data}
    assert type(payload["data"]) is type(data)
    assert message.get_headers() is message.headers


def test_the_payload_of_a_request_makes_the_request_again():
    for message in (
        HttpMessage("PUT", "/a", {"x": 1}, {"h": "1"}, form={"a": 1}, files={"f": b"x"}),
        HttpMessage(json=[1]),
        HttpMessage(content=b"x"),
    ):
        assert HttpMessage.from_mapping(message.get_payload()) == message
    assert HttpMessage(url="/a").get_payload() == {"method": "GET", "url": "/a"}


def test_raise_for_status():
    for status in (200, 204, 304, 399):
        message = reply(status=status)
        assert message.raise_for_status() is message
    message = reply(b'{"why": 1}', status=429, url="https://h/p")
    message.headers["Retry-After"] = "2.5"
    with pytest.raises(errors.HTTPTooManyRequestsError, match="429 Too Many Requests for GET https://h/p") as caught:
        message.raise_for_status()
    assert caught.value.response is message
    assert caught.value.response.json() == {"why": 1}
    assert caught.value.retry_after == 2.5


# --- both


def test_reprs_are_short_and_hide_secrets():
    request = HttpMessage("GET", "https://me:pw@h/p?api_key=k", headers={"Authorization": "Bearer t"})
    response = HttpMessage.response(status_code=200, request=request, content=b"x" * 123)
    assert repr(request) == "<HttpMessage GET https://REDACTED:REDACTED@h/p?api_key=REDACTED>"
    assert repr(response) == "<HttpMessage 200 GET https://REDACTED:REDACTED@h/p?api_key=REDACTED, 123 bytes>"
    assert request.safe_url == response.safe_url


REQUESTS = [
    HttpMessage(),
    HttpMessage("PATCH", "/é", {"a": (1, 2), "b": None}, [("X", "1"), ("x", "\xe9")], json={"t": (1, [2])}),
    HttpMessage(params=[("a", 1), ("a", 2)], form=[("x", "1"), ("x", "2")]),
    HttpMessage(form={"a": [True, 1.5]}, files={"f": b"\xff", "g": ("n.txt", "text", "text/plain"), "h": (None, b"")}),
    HttpMessage(files=[("f", b"1"), ("f", ("n", b"2"))]),
    HttpMessage(content=b"\xff\x00"),
    HttpMessage(content="text"),
    HttpMessage(content=b""),
]
RESPONSES = [
    reply(),
    reply(b"\xff", "image/png", 503, url="https://h/x", elapsed=0.1, http_version="HTTP/2", reason_phrase="Oh"),
    *(HttpMessage.response(status_code=200, request=request, url="/other") for request in REQUESTS),
    HttpMessage.response(status_code=200, history=(reply(status=301), reply(status=302, request=REQUESTS[1]))),
]


@pytest.mark.parametrize("message", REQUESTS + RESPONSES, ids=repr)
def test_round_trips(message):
    for again in (
        HttpMessage.deserialize(message.serialize()),
        pickle.loads(pickle.dumps(message)),
        copy.copy(message),
        copy.deepcopy(message),
    ):
        assert again == message
        assert again.headers.raw == message.headers.raw
        assert again.content == message.content
        assert repr(again) == repr(message)
    assert message != HttpMessage("TRACE", "/nothing/like/it")
    assert message != 7
    json.loads(message.serialize())


def test_equality_sees_every_field():
    one = {
        "status_code": 200,
        "headers": {"a": "1"},
        "content": b"1",
        "url": "/",
        "elapsed": 1.0,
        "http_version": "HTTP/2",
    }
    other = {
        "status_code": 201,
        "headers": {"a": "2"},
        "content": b"2",
        "url": "/x",
        "elapsed": 2.0,
        "http_version": "HTTP/3",
    }
    other |= {"http_version": "HTTP/3", "request": HttpMessage(), "history": (reply(),), "reason_phrase": "Hm"}
    for name, value in other.items():
        assert HttpMessage.response(**one) != HttpMessage.response(**(one | {name: value})), name
    with pytest.raises(TypeError):
        hash(HttpMessage())


@given(st.binary(max_size=30), st.integers(100, 599), st.lists(st.tuples(st.just(b"x-a"), st.binary(max_size=5))))
def test_any_response_survives_pickle(content, status, raw):
    message = HttpMessage.response(status_code=status, headers=Headers.from_raw(raw), content=content)
    again = pickle.loads(pickle.dumps(message))
    assert again == message
    assert again.headers.raw == raw


@pytest.mark.parametrize("fields", [{"content": io.BytesIO(b"x")}, {"files": {"f": ("n", io.BytesIO(b"x"))}}])
def test_uploads_stay_behind(fields):
    request = HttpMessage("POST", "/up", **fields)
    with pytest.raises(SerializationError, match="cannot be pickled"):
        pickle.dumps(request)
    with pytest.raises(SerializationError, match="cannot be serialised"):
        request.serialize()
    assert copy.copy(request) == request
    response = HttpMessage.response(status_code=404, request=request)
    for again in (pickle.loads(pickle.dumps(response)), HttpMessage.deserialize(response.serialize())):
        assert again.request == HttpMessage("POST", "/up")
    error = pickle.loads(pickle.dumps(errors.status_error(response)))
    assert error.response.request == HttpMessage("POST", "/up")


def test_what_cannot_be_serialised_is_named():
    with pytest.raises(SerializationError, match=r"message\.json\.a: set is not JSON serialisable"):
        HttpMessage(json={"a": {1}}).serialize()


GOOD = json.loads(RESPONSES[1].serialize())
ASK = json.loads(REQUESTS[1].serialize())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("[]", "message: expected an object, got list"),
        ("{", "message: not JSON"),
        ({}, "message.type: expected 'request' or 'response', got None"),
        (GOOD | {"status_code": "200"}, "message.status_code: expected int, got str"),
        (GOOD | {"status_code": True}, "message.status_code: expected int, got bool"),
        (GOOD | {"elapsed": None}, "message.elapsed: expected int or float, got NoneType"),
        (GOOD | {"headers": {}}, "message.headers: expected list, got dict"),
        (GOOD | {"headers": [["a\n", "b"]]}, "message: header 'a.n': not a valid name"),
        (GOOD | {"content": "text"}, "message.content: expected base64 in an object"),
        (GOOD | {"content": {"base64": "*"}}, "message.content.base64: "),
        (GOOD | {"content": {}}, "message.content: expected text, or an object with base64"),
        (GOOD | {"request": 7}, "message.request: expected an object, got int"),
        (GOOD | {"request": {"type": "x"}}, "message.request.type: "),
        (GOOD | {"history": [7]}, r"message.history\[0\]: expected an object"),
        (ASK | {"method": "GE T"}, "message: method: 'GE T' is not"),
        (ASK | {"url": 7}, "message.url: expected str, got int"),
        (ASK | {"params": 7}, "message: params: expected"),
        (ASK | {"files": 7}, "message.files: expected an object or a list of pairs"),
        (ASK | {"files": {"f": 7}}, "message.files.f: expected text"),
    ],
)
def test_bad_envelopes(data, text):
    with pytest.raises(DeserializationError, match=text):
        HttpMessage.deserialize((data if isinstance(data, str) else json.dumps(data)).encode())


class Special(HttpMessage):
    """A message type of a user."""

    __slots__ = ()


def test_subclasses_stay_themselves():
    for message in (Special("PUT", "/"), Special.response(status_code=200), Special.from_mapping({"path": "/"})):
        for again in (
            pickle.loads(pickle.dumps(message)),
            Special.deserialize(message.serialize()),
            copy.copy(message),
        ):
            assert type(again) is Special
            assert again == message


def test_type_hints_resolve():
    for thing in (HttpMessage, HttpMessage.__init__, HttpMessage.from_mapping, HttpMessage.response, encode_body):
        assert typing.get_type_hints(thing)
