"""What is kept of answers and errors, and what comes back."""

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector import errors
from pynector._checkpoint.failures import dump_error, load_error
from pynector._checkpoint.format import dump_usage
from pynector._checkpoint.plain import dump_plain, load_plain
from pynector._checkpoint.values import ValueCodec
from pynector._messages.binary import BinaryMessage
from pynector._messages.http import HttpMessage
from pynector._messages.json import JsonMessage
from pynector.errors import ConfigurationError, DeserializationError, SerializationError, status_error

TEXT = st.text(st.characters())  # lone surrogates, too
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary()
PLAIN = st.recursive(
    SCALARS,
    lambda each: (
        st.lists(each, max_size=3)
        | st.lists(each, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.just("$") | st.integers() | st.binary(), each, max_size=3)
    ),
    max_leaves=10,
)


def through_json(value):
    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def kept(value, codec=None, request=None):
    codec = codec or ValueCodec()
    return codec.load(through_json(codec.dump(value)), request)


# --- plain values


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value):
    restored = load_plain(through_json(dump_plain(value)))
    assert restored == value
    assert repr(restored) == repr(value)  # 1, 1.0 and True are equal, and so are 0.0 and -0.0


def test_what_json_lacks():
    assert math.isnan(kept(math.nan))
    assert kept((math.inf, -math.inf, "\ud83d\ude00")) == (math.inf, -math.inf, "\ud83d\ude00")
    assert kept(bytearray(b"\xff")) == b"\xff"


def test_plain_values_stay_readable():
    assert dump_plain({"a": [1, "é", None]}) == {"a": [1, "é", None]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, {1, 2}]}, r"^value\.a\[1\]: a set is no plain value"),
        ({("x",): object()}, r"^value\[\('x',\)\]: a object is no plain value"),
        (object(), "give encode= and decode="),
    ],
)
def test_what_is_not_plain(value, text):
    with pytest.raises(SerializationError, match=text):
        ValueCodec().dump(value)


def test_what_contains_itself():
    value = [1]
    value += [value, value]
    with pytest.raises(SerializationError, match="nested too deeply"):
        ValueCodec().dump(value)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        {},
        {"plain": {"$": "pickle", "value": ""}},
        {"plain": {"$": "bytes", "value": "no base64"}},
        {"plain": {"$": "bytes"}},
        {"plain": {"$": "float", "value": "x"}},
        {"plain": {"$": "dict", "value": [[1]]}},
        {"plain": {"$": "dict", "value": [[[], 1]]}},
        {"message": "HttpMessage", "data": "no base64"},
        {"message": "os.system", "data": ""},
        {"http": "JsonMessage"},
        {"http": "HttpMessage", "status_code": 200},
        {"encoded": 1},
    ],
)
def test_what_was_never_stored(stored):
    with pytest.raises(DeserializationError):
        ValueCodec().load(stored, None)


# --- messages

HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"Content-Type", b"Set-Cookie"]),
        st.binary(max_size=8).filter(lambda value: not set(value) & {*range(32), 127} and value == value.strip(b" \t")),
    ),
    max_size=4,
)
RESPONSES = st.builds(
    HttpMessage.response,
    status_code=st.integers(100, 599),
    headers=HEADERS,
    content=st.binary(),
    url=st.sampled_from(["", "http://h/a?b=c", "https://h:8/é"]),
    elapsed=st.floats(0, 1e6),
    http_version=st.sampled_from(["HTTP/1.1", "HTTP/2"]),
    reason_phrase=st.none() | st.text("abc "),
)


@given(RESPONSES)
def test_a_response_comes_back_equal(response):
    restored = kept(response)
    assert restored == response
    assert restored.headers.raw == response.headers.raw
    assert restored.json_data is None


def test_a_response_comes_back_with_its_item_as_request():
    sent = HttpMessage("POST", "http://h/a", headers={"authorization": "Bearer hunter2"}, json={"a": 1})
    hop = HttpMessage.response(status_code=302, request=sent)
    response = HttpMessage.response(
        status_code=200, content=b'{"b": 2}', request=sent, url="http://h/b?token=hunter2", history=(hop,)
    )
    stored = ValueCodec().dump(response)
    assert "hunter2" not in str(stored)

    restored = kept(response, request={"path": "/a", "method": "POST", "key": "k"})
    assert (restored.request.method, restored.request.url) == ("POST", "/a")
    assert (restored.method, restored.url, restored.history) == ("POST", "http://h/b?token=REDACTED", ())
    assert restored.json() == {"b": 2}
    assert kept(response, request=sent).request is sent
    assert kept(response, request="a prompt").request is None
    assert kept(response, request={"path": 1}).request is None
    assert restored.raise_for_status() is restored


def test_the_text_of_a_response_can_be_read_in_the_file():
    stored = ValueCodec().dump(HttpMessage.response(status_code=200, content="é".encode()))
    assert stored["content"] == "é"


@pytest.mark.parametrize(
    "message",
    [JsonMessage({"a": 1}, {"h": "x"}), BinaryMessage(b"\x00\xff", {"h": 1}), HttpMessage("PUT", "/a", json=[1])],
)
def test_other_messages_of_ours(message):
    restored = kept(message)
    assert restored == message
    assert type(restored) is type(message)


class Text(str):
    __slots__ = ()

    def serialize(self):
        return self.encode()

    @classmethod
    def deserialize(cls, data):
        return cls(data.decode())


class Answer(HttpMessage):
    pass


def test_messages_of_the_users():
    codec = ValueCodec(message_types=[Text, Answer])
    assert type(kept(Text("a"), codec)) is Text
    answer = kept(Answer.response(status_code=204), codec)
    assert type(answer) is Answer
    assert answer.status_code == 204
    with pytest.raises(SerializationError, match="a Answer is no plain value"):
        ValueCodec().dump(Answer.response(status_code=204))
    with pytest.raises(DeserializationError, match="it is a Text, and no message type of that name is known here"):
        ValueCodec().load(codec.dump(Text("a")), None)


# --- functions of the user's


@dataclass
class Point:
    x: int
    y: int


def test_encode_and_decode():
    codec = ValueCodec(lambda point: (point.x, point.y), lambda pair: Point(*pair))
    assert kept(Point(1, 2), codec) == Point(1, 2)
    with pytest.raises(DeserializationError, match="give decode="):
        ValueCodec().load(codec.dump(Point(1, 2)), None)


class Model:
    """As pydantic's."""

    def __init__(self, x):
        self.x = x

    def model_dump(self, *, mode):
        assert mode == "json"
        return {"x": self.x}

    @classmethod
    def model_validate(cls, fields):
        return cls(**fields)


def test_a_model_needs_decode():
    with pytest.raises(SerializationError, match="a Model can be kept in a checkpoint only with decode="):
        ValueCodec().dump(Model(1))
    codec = ValueCodec(decode=Model.model_validate)
    assert kept(Model(1), codec).x == 1
    assert kept([1], codec) == [1]  # decode is for what was encoded


def test_functions_that_fail():
    with pytest.raises(SerializationError, match=r"encode= raised AttributeError") as caught:
        ValueCodec(lambda value: value.x, lambda value: value).dump(1)
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(SerializationError, match=r"value: a object is no plain value"):
        ValueCodec(lambda value: object(), lambda value: value).dump(1)
    with pytest.raises(DeserializationError, match=r"decode= raised ZeroDivisionError"):
        kept(1, ValueCodec(lambda value: value, lambda value: 1 / 0))


@pytest.mark.parametrize(
    ("functions", "text"),
    [
        ({"encode": str}, "give both"),
        ({"encode": 1, "decode": str}, "argument `encode`: expected a function, got int"),
        ({"decode": "json"}, "argument `decode`: expected a function, got str"),
    ],
)
def test_functions_that_are_none(functions, text):
    with pytest.raises(ConfigurationError, match=text):
        ValueCodec(**functions)


# --- errors


def kept_error(error, request=None):
    codec = ValueCodec()
    return load_error(through_json(dump_error(error, codec)), codec, request)


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_comes_back_as_what_it_was(name):
    error = getattr(errors, name)("it failed")
    restored = kept_error(error)
    assert type(restored) is type(error)
    assert str(restored) == "it failed"
    assert vars(restored) == vars(error)


def test_a_status_error_comes_back_with_its_response():
    sent = HttpMessage("GET", "http://h/a", headers={"authorization": "hunter2"})
    response = HttpMessage.response(
        status_code=429, headers={"retry-after": "7"}, content=b"\xffslow", request=sent, http_version="HTTP/2"
    )
    error = status_error(response, retry_after=7.0, attempts=3, elapsed=1.5)
    error.add_note("a note")
    assert "hunter2" not in str(dump_error(error, ValueCodec()))
    restored = kept_error(error, sent)
    assert type(restored) is errors.HTTPTooManyRequestsError
    assert restored.response == response
    assert restored.__notes__ == ["a note"]
    fields = {name: value for name, value in vars(error).items() if name != "response"}
    assert {name: getattr(restored, name) for name in fields} == fields


def test_the_fields_of_other_errors():
    error = errors.HTTPIncompleteError("cut", partial=b"\x00\xff", attempts=2, sent=True)
    assert kept_error(error).partial == b"\x00\xff"
    error = errors.ConnectionTimeoutError("late", phase="connect")
    restored = kept_error(error)
    assert (restored.phase, restored.sent, restored.transient) == ("connect", False, True)
    error = errors.RateLimitError("slow", provider="openai", status_code=429, code="x", request_id="r", retry_after=1.0)
    assert vars(kept_error(error)) == vars(error)


class OwnError(errors.HTTPProtocolError):
    def __init__(self, a, b):
        super().__init__(f"{a} {b}")
        self.secret = "hunter2"


class Silent(Exception):
    def __str__(self):
        raise RuntimeError


def test_errors_that_are_not_ours():
    restored = kept_error(OwnError("x", "y"))
    assert (type(restored), str(restored)) == (errors.HTTPProtocolError, "x y")
    assert not hasattr(restored, "secret")
    restored = kept_error(ValueError("bad api_key=hunter2"))
    assert (type(restored), str(restored)) == (errors.TransportError, "ValueError: bad api_key=REDACTED")
    assert restored.attempts == 0
    assert str(kept_error(Silent())) == "Silent: "


def test_a_field_that_cannot_be_kept_is_left_out():
    error = errors.TransportError("failed", attempts=2)
    error.url = object()
    error.response = object()
    restored = kept_error(error)
    assert (restored.attempts, restored.url) == (2, None)


def test_an_error_of_a_newer_version():
    codec = ValueCodec()
    restored = load_error({"type": "NewError", "message": "m", "fields": {"attempts": 2, "new": 1}}, codec, None)
    assert (type(restored), str(restored), restored.attempts) == (errors.TransportError, "m", 2)
    assert type(load_error({"type": "__import__", "message": "m"}, codec, None)) is errors.TransportError


@pytest.mark.parametrize("stored", [None, {}, {"type": 1}, {"type": "TransportError", "fields": [1]}])
def test_what_was_never_an_error(stored):
    with pytest.raises(DeserializationError):
        load_error(stored, ValueCodec(), None)


# --- usage


class Tokens(NamedTuple):
    input: int
    output: int


def test_usage_by_its_fields():
    assert dump_usage(None) is None
    assert dump_usage({"a": 1}) == {"a": 1}
    assert dump_usage(Point(1, 2)) == {"x": 1, "y": 2}
    assert dump_usage(Tokens(3, 4)) == {"input": 3, "output": 4}
    with pytest.raises(SerializationError, match="usage: a object is no plain value"):
        dump_usage(object())
