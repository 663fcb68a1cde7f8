"""HttpMessage: responses, and what they share with requests: copies, equality, round trips, no secrets."""

import copy
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
from pynector.errors import DeserializationError, SerializationError


def reply(content=b"", content_type=None, status=200, **fields):
    headers = {} if content_type is None else {"Content-Type": content_type}
    return HttpMessage.response(status_code=status, headers=headers, content=content, **fields)


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
