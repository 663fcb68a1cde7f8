"""The exception tree: its shape, its fields, pickling and copying."""

import builtins
import copy
import inspect
import pickle
import subprocess
import sys
import threading

import pytest

from pynector import errors
from pynector._messages.http import HttpMessage

# Name: (bases, in this order). A builtin is written with its module.
TREE = {
    "PynectorError": ["builtins.Exception"],
    "ConfigurationError": ["PynectorError", "builtins.ValueError"],
    "ClosedError": ["PynectorError"],
    "WrongLoopError": ["PynectorError"],
    "SourceError": ["PynectorError"],
    "CheckpointError": ["PynectorError"],
    "TimeoutError": ["PynectorError", "builtins.TimeoutError"],
    "TransportError": ["PynectorError"],
    "ConnectionError": ["TransportError", "builtins.ConnectionError"],
    "ConnectionTimeoutError": ["ConnectionError", "builtins.TimeoutError"],
    "ConnectionRefusedError": ["ConnectionError", "builtins.ConnectionRefusedError"],
    "TLSError": ["ConnectionError"],
    "MessageError": ["TransportError"],
    "SerializationError": ["MessageError"],
    "DeserializationError": ["MessageError"],
    "TransportSpecificError": ["TransportError"],
    "HTTPTransportError": ["TransportSpecificError"],
    "HTTPStatusError": ["HTTPTransportError"],
    "HTTPClientError": ["HTTPStatusError"],
    "HTTPUnauthorizedError": ["HTTPClientError"],
    "HTTPForbiddenError": ["HTTPClientError"],
    "HTTPNotFoundError": ["HTTPClientError"],
    "HTTPTimeoutError": ["HTTPClientError"],
    "HTTPTooManyRequestsError": ["HTTPClientError"],
    "HTTPServerError": ["HTTPStatusError"],
    "HTTPProtocolError": ["HTTPTransportError"],
    "HTTPIncompleteError": ["HTTPTransportError"],
    "HTTPDecodeError": ["HTTPTransportError"],
    "HTTPProxyError": ["HTTPTransportError"],
    "HTTPRedirectError": ["HTTPTransportError"],
    "ResponseTooLargeError": ["HTTPTransportError"],
    "CircuitOpenError": ["HTTPTransportError"],
    "SdkTransportError": ["TransportSpecificError"],
    "AuthenticationError": ["SdkTransportError"],
    "RateLimitError": ["SdkTransportError"],
    "InvalidRequestError": ["SdkTransportError"],
    "ResourceNotFoundError": ["SdkTransportError"],
    "PermissionError": ["SdkTransportError"],
    "RequestTooLargeError": ["SdkTransportError"],
    "IncompleteStreamError": ["SdkTransportError"],
}
ALL = [getattr(errors, name) for name in TREE]
TRANSPORT = [cls for cls in ALL if issubclass(cls, errors.TransportError)]

# A value for every field that any class takes; each differs from every default.
VALUES = {
    "outcomes": ("an outcome",),
    "method": "PUT",
    "url": "https://host/path",
    "attempts": 4,
    "elapsed": 1.5,
    "sent": False,
    "transient": True,
    "phase": "write",
    "status_code": 499,
    "response": HttpMessage.response(status_code=499, content=b"body"),
    "retry_after": 2.5,
    "partial": b"par",
    "provider": "openai",
    "code": "too_long",
    "request_id": "req-1",
}


def fields_of(cls):
    names = set()
    for base in cls.__mro__:
        if base.__module__ == errors.__name__:
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    return names


def full(cls):
    return cls("it broke", **{name: VALUES[name] for name in fields_of(cls)})


def test_the_tree_is_complete_and_public():
    assert sorted(errors.__all__) == sorted(TREE)
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert defined == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_bases(name):
    bases = [
        f"builtins.{base.__name__}" if base.__module__ == "builtins" else base.__name__
        for base in getattr(errors, name).__bases__
    ]
    assert bases == TREE[name]


@pytest.mark.parametrize("cls", ALL)
def test_message_and_defaults(cls):
    error = cls("it broke")
    assert str(error) == "it broke"
    assert repr(error) == f"{cls.__name__}('it broke')"
    assert error.args == ("it broke",)
    assert error.outcomes == ()
    assert str(cls()) == ""
    if isinstance(error, OSError):
        assert error.errno is None
        assert error.strerror is None
        assert error.filename is None


@pytest.mark.parametrize("cls", ALL)
def test_fields_are_keyword_only_and_kept(cls):
    error = full(cls)
    for name in fields_of(cls):
        assert getattr(error, name) == VALUES[name], name
    with pytest.raises(TypeError):
        cls("it broke", "more")
    with pytest.raises(TypeError):
        cls("it broke", nonsense=1)


@pytest.mark.parametrize("cls", TRANSPORT)
def test_transport_errors_have_their_fields(cls):
    assert fields_of(cls) >= {"method", "url", "attempts", "elapsed", "sent", "transient", "outcomes"}
    error = cls("it broke")
    assert (error.method, error.url, error.attempts, error.elapsed) == (None, None, 0, None)


def same(one, two):
    assert type(one) is type(two)
    assert one.args == two.args
    assert str(one) == str(two)
    assert vars(one) == vars(two)
    assert one.sent == two.sent if isinstance(one, errors.TransportError) else True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", ALL)
def test_pickle_keeps_everything(cls, protocol):
    error = full(cls)
    error.add_note("a note")
    error.__cause__ = KeyError("why")
    again = pickle.loads(pickle.dumps(error, protocol))
    same(error, again)
    assert again.__notes__ == ["a note"]
    assert repr(again.__cause__) == "KeyError('why')"
    assert again.__suppress_context__


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", ALL)
def test_copies_keep_everything_and_are_apart(cls, copier):
    error = full(cls)
    error.add_note("a note")
    cause = error.__cause__ = KeyError("why")
    again = copier(error)
    same(error, again)
    assert again is not error
    assert again.__cause__ is cause
    again.add_note("another")
    assert error.__notes__ == ["a note"]


def test_a_chain_of_causes_survives():
    inner = errors.ConnectionRefusedError("refused", attempts=1)
    inner.__cause__ = OSError(111, "refused")
    outer = errors.SourceError("input failed")
    outer.__cause__ = inner
    again = pickle.loads(pickle.dumps(outer))
    assert again.__cause__.attempts == 1
    assert again.__cause__.__cause__.errno == 111


def test_a_long_chain_is_pickled_in_reasonable_time():
    error = errors.ClosedError("0")
    for number in range(40):
        outer = errors.ClosedError(str(number))
        outer.__cause__, error = error, outer
    again, depth = pickle.loads(pickle.dumps(error)), 0
    while again.__cause__ is not None:
        again, depth = again.__cause__, depth + 1
    assert depth == 40


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("secret text")
        self.lock = threading.Lock()


class Unreadable(Exception):
    """Pickles, but cannot be read back: its signature is not its args."""

    def __init__(self, one, two):
        super().__init__(one)


def test_a_cause_that_cannot_be_pickled_is_named():
    error = errors.ConnectionError("lost", attempts=2)
    error.__cause__ = Unpicklable()
    error.add_note("first")
    again = pickle.loads(pickle.dumps(error))
    assert again.attempts == 2
    assert again.__cause__ is None
    assert again.__notes__[0] == "first"
    assert "Unpicklable" in again.__notes__[1]
    assert "secret" not in again.__notes__[1]
    assert error.__notes__ == ["first"]
    assert isinstance(error.__cause__, Unpicklable)


def test_a_cause_that_cannot_be_read_back_does_no_harm():
    error = errors.ConnectionError("lost")
    error.__cause__ = Unreadable(1, 2)
    again = pickle.loads(pickle.dumps(error))
    assert again.__cause__ is None
    assert again.__notes__ == ["the cause could not be unpickled"]


def test_raise_from_none_stays_suppressed():
    try:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise errors.ClosedError("closed") from None
    except errors.ClosedError as error:
        again = pickle.loads(pickle.dumps(error))
    assert again.__suppress_context__
    assert again.__cause__ is None
    assert not pickle.loads(pickle.dumps(errors.ClosedError())).__suppress_context__


class Custom(errors.HTTPServerError):
    def __init__(self, number, *, extra):
        super().__init__(f"number {number}", status_code=500 + number)
        self.extra = extra


def test_subclasses_with_any_signature_are_pickled():
    again = pickle.loads(pickle.dumps(Custom(3, extra=[1])))
    assert (type(again), str(again), again.status_code, again.extra) == (Custom, "number 3", 503, [1])


@pytest.mark.parametrize(
    ("cls", "sent", "transient"),
    [
        (errors.TransportError, True, False),
        (errors.ConnectionError, True, True),
        (errors.ConnectionRefusedError, False, True),
        (errors.ConnectionTimeoutError, True, True),
        (errors.TLSError, True, False),
        (errors.SerializationError, False, False),
        (errors.DeserializationError, True, False),
        (errors.HTTPProtocolError, True, False),
        (errors.HTTPIncompleteError, True, True),
        (errors.HTTPDecodeError, True, False),
        (errors.HTTPProxyError, True, False),
        (errors.CircuitOpenError, False, False),
        (errors.RateLimitError, True, True),
        (errors.AuthenticationError, True, False),
        (errors.IncompleteStreamError, True, False),
        (errors.HTTPNotFoundError, True, False),
        (errors.HTTPTimeoutError, True, True),
        (errors.HTTPTooManyRequestsError, True, True),
    ],
)
def test_sent_and_transient_defaults(cls, sent, transient):
    assert (cls().sent, cls().transient) == (sent, transient)
    assert cls(sent=not sent).sent is not sent
    assert cls(transient=not transient).transient is not transient


@pytest.mark.parametrize(("phase", "sent"), [("connect", False), ("pool", False), ("read", True), ("write", True)])
def test_phase_of_a_timeout(phase, sent):
    error = errors.ConnectionTimeoutError(phase=phase)
    assert error.sent is sent
    assert errors.ConnectionTimeoutError(phase=phase, sent=not sent).sent is not sent
    assert isinstance(error, builtins.TimeoutError)
    assert not isinstance(error, errors.TimeoutError)


@pytest.mark.parametrize(
    ("status", "cls", "transient"),
    [
        (401, errors.HTTPUnauthorizedError, False),
        (403, errors.HTTPForbiddenError, False),
        (404, errors.HTTPNotFoundError, False),
        (408, errors.HTTPTimeoutError, True),
        (429, errors.HTTPTooManyRequestsError, True),
        (418, errors.HTTPClientError, False),
        (425, errors.HTTPClientError, True),
        (500, errors.HTTPServerError, True),
        (501, errors.HTTPServerError, False),
        (529, errors.HTTPServerError, True),
        (304, errors.HTTPStatusError, False),
        (999, errors.HTTPStatusError, False),
    ],
)
def test_status_error_chooses_the_class(status, cls, transient):
    response = HttpMessage.response(status_code=status, url="https://host/x")
    error = errors.status_error(response, retry_after=3.0, attempts=2, elapsed=0.5)
    assert type(error) is cls
    assert error.status_code == status
    assert error.transient is transient
    assert error.response is response
    assert (error.retry_after, error.attempts, error.elapsed) == (3.0, 2, 0.5)


def test_status_error_text():
    request = HttpMessage(
        "POST", "https://me:pw@host/path?api_key=hunter2&page=1", headers={"Authorization": "Bearer s"}
    )
    error = errors.status_error(HttpMessage.response(status_code=404, request=request))
    assert str(error) == "404 Not Found for POST https://REDACTED:REDACTED@host/path?api_key=REDACTED&page=1"
    assert error.method == "POST"
    assert "pw" not in repr(vars(error)) and "hunter2" not in repr(vars(error)) and "Bearer" not in repr(vars(error))
    nameless = errors.status_error(HttpMessage.response(status_code=599, url="http://h/"))
    assert str(nameless) == "599 for GET http://h/"


def test_errors_are_caught_by_their_builtin_names():
    for cls, builtin in (
        (errors.ConfigurationError, ValueError),
        (errors.TimeoutError, TimeoutError),
        (errors.ConnectionRefusedError, builtins.ConnectionRefusedError),
        (errors.TLSError, OSError),
    ):
        with pytest.raises(builtin):
            raise cls("x")


def test_importing_errors_is_light():
    code = "import sys, pynector.errors; print(*sorted({'httpx', 'anyio', 'asyncio', 'email'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
