"""Answers in a checkpoint: what is written for one, and the answer that is made of it again."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from .._messages.binary import BinaryMessage
from .._messages.fields import REQUEST_KEYS
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from .._messages.json import JsonMessage
from .._messages.redact import redact_url
from .._messages.sdk import SdkMessage
from ..errors import ConfigurationError, DeserializationError, SerializationError
from .plain import dump_plain, from_base64, load_plain, to_base64

Encode = Callable[[Any], Any]
"""Turns an answer into plain values."""

Decode = Callable[[Any], Any]
"""Turns these plain values into the answer again."""

OUR_MESSAGES: Final[tuple[type[Any], ...]] = (HttpMessage, JsonMessage, BinaryMessage, SdkMessage)


class ValueCodec:
    """What answers are written as.

    An answer may be a message of a known class, or made of plain values (None, bool, int, float, text, bytes, lists,
    tuples, dicts): these come back equal. Anything else needs the functions of the user's; a model of pydantic only
    `decode`, which gets what its `model_dump(mode="json")` gave.

    Of an `HttpMessage` the request and the history are left out (that is where credentials would be), and so is what
    is secret in its URL. It comes back with the item as its request.

    Args:
        encode: Turns each answer into plain values.
        decode: Turns these into an answer again; must be given if `encode` is.
        message_types: The known classes of messages, each with `serialize` and `deserialize`, besides our own.

    Raises:
        ConfigurationError: There is `encode` without `decode`, or one of them can't be called.
    """

    __slots__ = ("_classes", "_decode", "_encode")

    def __init__(
        self,
        encode: Encode | None = None,
        decode: Decode | None = None,
        message_types: Sequence[type[Any]] = (),
    ) -> None:
        for name, function in (("encode", encode), ("decode", decode)):
            if function is not None and not callable(function):
                raise ConfigurationError(f"argument `{name}`: expected a function, got {type(function).__name__}")
        if encode is not None and decode is None:
            raise ConfigurationError("encode= was given without decode=, and nothing could be read again: give both")
        self._encode = encode
        self._decode = decode
        self._classes = {cls.__name__: cls for cls in (*OUR_MESSAGES, *message_types)}

    def dump(self, value: Any) -> dict[str, Any]:
        """Turn an answer into what JSON can hold.

        Raises:
            SerializationError: It is neither of the above, or `encode` raised (that is the cause then).
        """
        if self._encode is not None:
            return {"encoded": dump_plain(_called("encode=", self._encode, value, SerializationError))}
        kind = type(value)
        if self._classes.get(kind.__name__) is kind:
            return self.dump_message(value)
        model_dump = getattr(value, "model_dump", None)
        if callable(model_dump):
            return self._dump_model(kind.__name__, model_dump)
        try:
            return {"plain": dump_plain(value)}
        except SerializationError as error:
            raise SerializationError(f"{error}; give encode= and decode=") from None

    def dump_message(self, value: Any) -> dict[str, Any]:
        """Turn a message of a known class into what JSON can hold.

        Raises:
            SerializationError: Its class is not known, or it can't be serialised.
        """
        kind = type(value)
        if self._classes.get(kind.__name__) is not kind:
            raise SerializationError(f"value: {kind.__name__} is no message type that is known here")
        if isinstance(value, HttpMessage) and value.status_code:
            return {"http": kind.__name__, **_dump_http(value)}
        return {"message": kind.__name__, "data": to_base64(value.serialize())}

    def _dump_model(self, name: str, model_dump: Callable[..., Any]) -> dict[str, Any]:
        if self._decode is None:
            raise SerializationError(f"value: a {name} can be kept in a checkpoint only with decode=")
        fields = _called(f"{name}.model_dump", lambda mode: model_dump(mode=mode), "json", SerializationError)
        return {"encoded": dump_plain(fields)}

    def load(self, stored: Any, request: Any) -> Any:
        """Make the answer again.

        Args:
            stored: What `dump` returned.
            request: The item, for the request of an `HttpMessage`.

        Raises:
            DeserializationError: It is something else, or the class or `decode` is missing that it needs, or `decode`
                raised (that is the cause then).
        """
        match stored:
            case {"encoded": value}:
                if self._decode is None:
                    raise DeserializationError("it was written with encode= or from a model: give decode=")
                return _called("decode=", self._decode, load_plain(value), DeserializationError)
            case {"plain": value}:
                return load_plain(value)
            case {"http": str(name)}:
                return _load_http(self._class(name), stored, request)
            case {"message": str(name), "data": str(data)}:
                try:
                    content = from_base64(data)
                except ValueError as error:
                    raise DeserializationError(f"not a stored message: {error}") from error
                return self._class(name).deserialize(content)
        raise DeserializationError("not a stored value")

    def _class(self, name: str) -> Any:
        # By this table alone: importing what a file names would let a file run code.
        if name not in self._classes:
            raise DeserializationError(f"it is a {name:.80}, and no message type of that name is known here")
        return self._classes[name]


def _called(what: str, function: Callable[[Any], Any], value: Any, error_type: type[Exception]) -> Any:
    """What a function of the user's returns."""
    try:
        return function(value)
    except Exception as error:
        raise error_type(f"{what} raised {type(error).__name__}") from error


def _dump_http(response: HttpMessage) -> dict[str, Any]:
    content: Any = response.content
    try:
        content = content.decode("utf-8")  # most are text, and a person may read the file
    except UnicodeDecodeError:
        content = {"base64": to_base64(content)}
    return {
        "status_code": response.status_code,
        "reason_phrase": response.reason_phrase,
        "method": response.method,
        "url": redact_url(response.url),
        # Latin-1 maps every byte to one character and back, so nothing of a header is lost.
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in response.headers.raw],
        "content": content,
        "elapsed": response.elapsed,
        "http_version": response.http_version,
    }


def _load_http(cls: Any, stored: Mapping[str, Any], request: Any) -> HttpMessage:
    try:
        content = stored["content"]
        response = cls.response(
            status_code=stored["status_code"],
            reason_phrase=stored["reason_phrase"],
            headers=Headers.from_raw([(_raw(name), _raw(value)) for name, value in stored["headers"]]),
            content=content.encode("utf-8") if isinstance(content, str) else from_base64(content["base64"]),
            url=stored["url"],
            elapsed=stored["elapsed"],
            http_version=stored["http_version"],
            request=_request_of(request),
        )
        response.method = stored["method"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeserializationError(f"not a stored response: {type(error).__name__}: {error}") from error
    return cast("HttpMessage", response)


def _raw(text: str) -> bytes:
    return text.encode("latin-1")


def _request_of(data: Any) -> HttpMessage | None:
    """The item as a request, if it is one."""
    if isinstance(data, HttpMessage):
        return data
    if isinstance(data, Mapping):
        with suppress(ConfigurationError):
            return HttpMessage.from_mapping({name: each for name, each in data.items() if name in REQUEST_KEYS})
    return None
