"""JsonMessage, BinaryMessage and the Message protocol."""

import datetime as dt
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._messages.binary import BinaryMessage
from pynector._messages.http import HttpMessage
from pynector._messages.json import JsonMessage
from pynector._messages.protocol import Message
from pynector.errors import ConfigurationError, DeserializationError, SerializationError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "\\ud" not in ascii(value))
headers = st.dictionaries(st.text("abcé", max_size=5), st.integers() | st.text("xyz"), max_size=3)


@pytest.mark.parametrize("message", [JsonMessage(1), BinaryMessage(b"1"), HttpMessage(url="/")])
def test_the_protocol(message):
    assert isinstance(message, Message)
    assert not isinstance(object(), Message)
    assert type(message).deserialize(message.serialize()) == message
    assert pickle.loads(pickle.dumps(message)) == message
    assert message != object()


@given(json_values, headers)
def test_json_round_trip(payload, headers):
    message = JsonMessage(payload, headers)
    again = JsonMessage.deserialize(message.serialize())
    assert again == message
    assert (again.get_payload(), again.get_headers()) == (payload, headers)


@given(st.binary(), headers)
def test_binary_round_trip(payload, headers):
    message = BinaryMessage(payload, headers)
    again = BinaryMessage.deserialize(message.serialize())
    assert again == message
    assert (again.get_payload(), again.get_headers()) == (payload, headers)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_a_typed_error(data):
    for kind in (JsonMessage, BinaryMessage, HttpMessage):
        try:
            kind.deserialize(data)
        except DeserializationError:
            pass


def test_json_form():
    assert JsonMessage({"a": 1}, {"b": "é"}).serialize() == '{"headers":{"b":"é"},"payload":{"a":1}}'.encode()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "message: not JSON"),
        (b"{", "message: not JSON"),
        (b"\xff\xfe\xfd", "message: not JSON"),
        (b"[]", "message: expected a JSON object, got list"),
        (b'{"payload": 1}', "message.headers: expected an object, got nothing"),
        (b'{"payload": 1, "headers": []}', "message.headers: expected an object, got list"),
        (b'{"headers": {}}', "message.payload: it is missing"),
        (b"[" * 100_000, "message: not JSON"),
    ],
)
def test_bad_json(data, text):
    with pytest.raises(DeserializationError, match=text):
        JsonMessage.deserialize(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "0 bytes are too few"),
        (b"\0\0\0", "3 bytes are too few"),
        (b"\0\0\0\3{}", "should end at byte 7, but there are only 6"),
        (b"\xff\xff\xff\xff{}", "should end at byte 4294967299"),
        (b"\0\0\0\1{", "headers: not JSON"),
        (b"\0\0\0\0", "headers: not JSON"),
        (b"\0\0\0\2[]", "headers: expected a JSON object, got list"),
    ],
)
def test_bad_binary(data, text):
    with pytest.raises(DeserializationError, match=text):
        BinaryMessage.deserialize(data)


def test_what_cannot_be_serialised_is_named():
    with pytest.raises(SerializationError, match=r"message\.payload\.when: date is not JSON serialisable"):
        JsonMessage({"when": dt.date(2025, 1, 1)}).serialize()
    with pytest.raises(SerializationError, match=r"headers\.x: bytes is not JSON"):
        BinaryMessage(b"", {"x": b""}).serialize()
    with pytest.raises(ConfigurationError, match="payload: expected bytes, got str"):
        BinaryMessage("text")


def test_reprs_are_short_and_show_no_content():
    assert repr(JsonMessage({"password": "x"}, {"a": 1})) == "<JsonMessage dict, 1 headers>"
    assert repr(BinaryMessage(b"12", {})) == "<BinaryMessage 2 bytes, 0 headers>"
    assert BinaryMessage(bytearray(b"1")).payload == b"1"


@pytest.mark.parametrize("kind", [JsonMessage, BinaryMessage, HttpMessage])
@pytest.mark.parametrize("data", ["text", None, 3])
def test_what_is_no_bytes_is_no_message(kind, data):
    with pytest.raises(DeserializationError):
        kind.deserialize(data)


def test_headers_are_a_mapping():
    for make in (lambda: JsonMessage(1, 3), lambda: BinaryMessage(b"", ["a"])):
        with pytest.raises(ConfigurationError, match="headers: expected a mapping of names to values, got"):
            make()
