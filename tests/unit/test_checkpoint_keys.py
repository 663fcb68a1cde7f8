"""What an item is known by: canonical forms, keys and fingerprints."""

import hashlib
import io
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynector._checkpoint.canonical import canonical
from pynector._checkpoint.fingerprint import fingerprint
from pynector._checkpoint.keys import ItemKeys, item_key, request_key, split_key
from pynector._checkpoint.table import DigestTable, digest_of
from pynector._config import Secret
from pynector._messages.headers import Headers
from pynector._messages.http import HttpMessage
from pynector._messages.json import JsonMessage
from pynector.errors import ConfigurationError, SerializationError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4), max_leaves=12
)


def typed(value):
    """A form in which values are equal only if they have the same types: in Python 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {key: typed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [typed(each) for each in value]
    return type(value).__name__, repr(value)


def shuffled(value, rng):
    """The same value, its mappings in another order and some of its lists as tuples."""
    if isinstance(value, dict):
        items = [(key, shuffled(each, rng)) for key, each in value.items()]
        rng.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return rng.choice((list, tuple))(shuffled(each, rng) for each in value)
    return value


# --- the canonical form


@given(VALUES, VALUES)
def test_different_values_have_different_forms(one, other):
    assert (canonical(one, http=False) == canonical(other, http=False)) is (typed(one) == typed(other))


@given(VALUES, st.randoms(use_true_random=False))
def test_order_does_not_matter(value, rng):
    assert canonical(value, http=False) == canonical(shuffled(value, rng), http=False)


def test_what_looks_alike_is_told_apart():
    forms = [
        None,
        "",
        b"",
        [],
        {},
        [None],
        [[]],
        {"a": None},
        ["m", ["sa", None]],
        ["l"],
        "l",
        b"l",
        {"1": 0},
        {1: 0},
        {1.5: 0},
        {None: 0},
        {True: 0},
        {("a",): 0},
        "\ud83d\ude00",
        "\U0001f600",
        1,
        1.0,
        True,
        "1",
        float("inf"),
        10**6000,
        10**6000 + 1,
        JsonMessage(1),
        JsonMessage(2),
        HttpMessage(url="/a"),
        [HttpMessage(url="/a")],
        [HttpMessage(url="/b")],
    ]
    assert len({canonical(each, http=False) for each in forms}) == len(forms)


EQUAL_REQUESTS = [
    {"path": "/a", "headers": {"X-One": "1", "x-two": "2"}, "json": {"b": 1, "a": [1, 2]}, "method": "post"},
    {"url": "/a", "headers": {"x-two": "2", "x-one": "1"}, "json_data": {"a": (1, 2), "b": 1}, "method": "POST"},
    {"url": "/a", "headers": [("X-TWO", "2"), (b"x-one", b"1")], "json": {"b": 1, "a": [1, 2]}, "method": "Post"},
    HttpMessage("POST", "/a", headers={"x-one": "1", "x-two": "2"}, json={"a": [1, 2], "b": 1}),
    {
        "path": "/a",
        "headers": Headers([("x-two", "2"), ("X-One", "1")]),
        "json": {"a": [1, 2], "b": 1},
        "method": "POST",
    },
]


@pytest.mark.parametrize("request_data", EQUAL_REQUESTS[1:])
def test_one_request_in_many_spellings(request_data):
    assert request_key(request_data) == request_key(EQUAL_REQUESTS[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "/a"}, {"url": "/a", "method": "get", "headers": None, "json": None}),
        ({"path": "/a"}, HttpMessage(url="/a")),
        ({"path": "/a", "form": {"x": 1}}, {"path": "/a", "form_data": {"x": 1}}),
        ({"path": "/a", "content": "é"}, {"path": "/a", "content": "é".encode()}),
        ({"path": "/a", "params": {"x": 1, "y": 2}}, {"path": "/a", "params": {"y": 2, "x": 1}}),
    ],
)
def test_equal_requests(one, other):
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/b"},
        {"path": "/a", "method": "HEAD"},
        {"path": "/a", "headers": {"x": "1"}},
        {"path": "/a", "params": {"x": 1}},
        {"path": "/a", "content": b""},
        {"path": "/a", "json": {}},
        {"path": "/a", "form": {}},
        {"path": "/a", "files": {"f": b""}},
        HttpMessage.response(status_code=200, url="/a"),
    ],
)
def test_different_requests(other):
    assert canonical({"path": "/a"}) != canonical(other)


def test_repeated_headers_keep_their_order():
    one, other = [("a", "1"), ("A", "2"), ("b", "3")], [("a", "2"), ("a", "1"), ("b", "3")]
    assert canonical({"url": "/", "headers": one}) != canonical({"url": "/", "headers": other})
    assert canonical({"url": "/", "headers": one}) == canonical({"url": "/", "headers": [one[2], *one[:2]]})


def test_two_users_are_two_requests():
    keys = {request_key({"path": "/me", "headers": {"Authorization": f"Bearer {name}"}}) for name in "ab"}
    assert len(keys) == 2


def test_a_mapping_of_another_transport_counts_as_it_is():
    assert canonical({"path": "/a"}) == canonical({"url": "/a"})
    assert canonical({"path": "/a"}, http=False) != canonical({"url": "/a"}, http=False)
    assert canonical({"url": "/", "method": "get"}, http=False) != canonical({"url": "/", "method": "GET"}, http=False)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"path": "/", "content": io.BytesIO(b"x")}, r"^content: a file \(BytesIO\) has no key: .*give key="),
        ({"path": "/", "files": {"f": ("n", io.BytesIO(b"x"))}}, r"^files\.f\[1\]: a file"),
        ({"path": "/", "content": iter([b"x"])}, r"^content: an iterator \(list_iterator\) has no key"),
        ({"path": "/", "headers": iter([("a", "b")])}, r"^headers: an iterator"),
        ({"path": "/", "json": {"a": [1, {"b": print}]}}, r"^json\.a\[1\]\.b: a callable"),
        (HttpMessage(url="/", json={"a": {1, 2}}), r"^json\.a: a value of type set"),
        (object(), r"^a value of type object has no key"),
        ([JsonMessage(1), [HttpMessage(url="/", json=len)]], r"^\[1\]\[0\]\.json: a callable"),
        ([1, JsonMessage], r"^\[1\]: a callable"),
    ],
)
def test_what_has_no_key(data, text):
    with pytest.raises(SerializationError, match=text) as caught:
        request_key(data)
    assert caught.value.sent is False


def test_an_iterator_that_is_refused_was_not_read():
    headers = iter([("a", "b")])
    with pytest.raises(SerializationError):
        canonical({"path": "/", "headers": headers})
    assert list(headers) == [("a", "b")]


def test_what_contains_itself_has_no_key():
    value = []
    value.append(value)
    with pytest.raises(SerializationError, match="nested too deeply"):
        canonical(value)


def test_a_request_that_is_wrong_is_refused_as_such():
    with pytest.raises(ConfigurationError, match="path and url"):
        request_key({"path": "/", "url": "/"})


def test_a_request_key_stays_what_it_is():
    # Files are full of them: with another form no item would be found again.
    data = {"path": "/a", "headers": {"X": "1"}, "json": {"b": [1, None], "a": b"x"}, "method": "put"}
    form = b'["http","PUT","/a",null,[["x","1"]],["m",["sa",["b","78"]],["sb",["l",1,null]]],null,null,null,0]'
    assert canonical(data) == form
    assert request_key(data) == hashlib.sha256(form).hexdigest()[:32]


# --- the key of an item


@pytest.mark.parametrize(
    ("data", "key", "rest"),
    [
        ({"path": "/", "key": "a"}, "a", {"path": "/"}),
        ({"path": "/", "custom_id": 7}, "7", {"path": "/"}),
        ({"path": "/", "custom_id": "b", "key": "a"}, "a", {"path": "/"}),
        ({"path": "/", "custom_id": "b", "key": None}, "b", {"path": "/"}),
        ({"path": "/", "key": None}, None, {"path": "/"}),
    ],
)
def test_a_key_in_a_mapping_is_taken_out(data, key, rest):
    before = dict(data)
    assert split_key(data) == (key, rest)
    assert data == before
    assert split_key(data, take_out=False)[1] is data


@pytest.mark.parametrize("data", [{"path": "/"}, "text", b"bytes", HttpMessage(url="/"), [1], None, object()])
def test_an_item_without_a_key_is_not_copied(data):
    key, rest = split_key(data)
    assert key is None
    assert rest is data


def test_a_key_can_be_an_attribute():
    item = SimpleNamespace(key="a", custom_id="b")
    assert split_key(item) == ("a", item)
    assert split_key(SimpleNamespace(custom_id=3))[0] == "3"
    assert split_key(SimpleNamespace(key=print, custom_id=None))[0] is None


@pytest.mark.parametrize("key", ["", 1.5, True, ["a"], b"a"])
@pytest.mark.parametrize("name", ["key", "custom_id"])
def test_a_key_that_is_none(name, key):
    with pytest.raises(ConfigurationError, match=rf"^item 4: its `{name}` is .*a key"):
        item_key({"path": "/", name: key}, 4)


def test_a_key_function_wins():
    item = {"path": "/users/1", "custom_id": "own"}
    assert item_key(item, 0, lambda data: data["path"]) == "/users/1"
    assert item_key(item, 0, lambda data: len(data)) == "2"
    assert item_key(item, 0) == "own"
    assert item_key({"path": "/users/1"}, 0) == request_key({"url": "/users/1"})
    assert item_key({"path": "/", "key": None}, 0) == request_key({"path": "/"})


@pytest.mark.parametrize("result", [None, "", 1.0, False, ("a",)])
def test_a_key_function_that_returns_no_key(result):
    with pytest.raises(ConfigurationError, match=r"^item 12: what key= returned is"):
        item_key({"path": "/"}, 12, lambda data: result)


def test_a_key_function_that_raises():
    with pytest.raises(ConfigurationError, match=r"^item 12: key= raised KeyError$") as caught:
        item_key({"path": "/"}, 12, lambda data: data["id"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_item_that_needs_a_key_and_has_one():
    assert item_key({"path": "/", "content": iter([b"x"]), "key": "upload"}, 0) == "upload"


def test_a_key_of_the_users_is_given_once():
    keys = ItemKeys()
    assert keys.take({"path": "/", "key": "a"}, 0) == "a"
    assert keys.take({"path": "/", "key": "b"}, 1) == "b"
    with pytest.raises(ConfigurationError, match=r"^item 2: its key 'a' is that of item 0 already"):
        keys.take({"path": "/", "key": "a"}, 2)
    with pytest.raises(ConfigurationError, match=r"^item 3: its key '1' is that of item 0"):
        numbered = ItemKeys(lambda data: 1)
        numbered.take("x", 0)
        numbered.take("y", 3)


def test_equal_requests_are_numbered():
    keys = ItemKeys()
    made = request_key({"path": "/a"})
    taken = [
        keys.take(item, n) for n, item in enumerate([{"path": "/a"}, {"path": "/b"}, {"url": "/a"}, {"path": "/a"}])
    ]
    assert taken == [made, request_key({"path": "/b"}), f"{made}#2", f"{made}#3"]


def test_a_key_function_can_be_called():
    with pytest.raises(ConfigurationError, match="argument `key`: expected a function of an item, got str"):
        ItemKeys("custom_id")


# --- the table


@given(st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 2**60)), max_size=50), st.integers(0, 3))
def test_a_table_is_a_dict(items, collisions):
    table, expected = DigestTable(), {}
    mask = [2**128 - 1, 3, 3 << 64, 0][collisions]  # digests that share a slot, or differ in their upper half alone
    for digest, number in items:
        table.put(digest & mask, number)
        expected[digest & mask] = number
    assert len(table) == len(expected)
    assert {digest: table.get(digest) for digest in expected} == expected
    assert table.get(2**127 + 5) == expected.get(2**127 + 5)


def test_a_table_grows():
    table = DigestTable()
    rng = random.Random(1)
    expected = {rng.getrandbits(128): n for n in range(5000)}
    for digest, number in expected.items():
        table.put(digest, number)
    assert all(table.get(digest) == number for digest, number in expected.items())
    assert len(table) == 5000
    assert table.get(digest_of("other")) is None


# --- the fingerprint of a job

JOB = {
    "transport": "http",
    "base_url": "https://api.example.com/v1",
    "headers": {"Accept": "application/json"},
    "options": {"raise_for_status": True},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"transport": "sdk"},
        {"base_url": "https://api.example.com/v2"},
        {"base_url": "https://api.example.com/v1?page=2"},
        {"headers": {"Accept": "text/plain"}},
        {"headers": {}},
        {"options": {"raise_for_status": False}},
        {"model": "m"},
        {"transport": object()},
    ],
)
def test_another_job_has_another_fingerprint(changed):
    assert fingerprint({**JOB, **changed}) != fingerprint(JOB)


@pytest.mark.parametrize(
    "changed",
    [
        {"base_url": "https://api.example.com/v1/"},
        {"base_url": "https://me:hunter2@api.example.com/v1"},
        {"headers": {"accept": "application/json", "Authorization": "Bearer hunter2", "X-Api-Key": "hunter2"}},
        {"headers": Headers({"ACCEPT": "application/json", "Cookie": "hunter2"})},
        {"options": {"raise_for_status": True, "api_key": "hunter2", "auth": ("me", "hunter2"), "cookies": {"a": "b"}}},
        {"password": "hunter2", "credentials": Secret("hunter2"), "whatever": Secret("hunter2")},
    ],
)
def test_credentials_do_not_count(changed):
    assert fingerprint({**JOB, **changed}) == fingerprint(JOB)


def test_credentials_in_lists_and_parameters_do_not_count():
    job = {"headers": [("a", "1"), ("authorization", "x")], "more": [Secret("x")], "base_url": "http://h/?api_key=x"}
    same = {"headers": [("a", "1"), ("authorization", "y")], "more": [Secret("y")], "base_url": "http://h/?api_key=y"}
    assert fingerprint(job) == fingerprint(same)
    assert fingerprint(job) != fingerprint({**job, "headers": [("a", "2")]})


def test_an_object_counts_by_its_type():
    job = {"options": {"hook": object(), "statuses": frozenset({1, 2, 3})}}
    assert fingerprint(job) == fingerprint({"options": {"hook": object(), "statuses": frozenset({3, 2, 1})}})
    assert fingerprint(job) != fingerprint({"options": {"hook": SimpleNamespace(), "statuses": frozenset({1, 2, 3})}})
