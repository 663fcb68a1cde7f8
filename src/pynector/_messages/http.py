"""`HttpMessage`: an HTTP request, and the response to one."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import Mapping
from typing import Any, Final, Self

from .._config import UNSET, UnsetType, check_names
from .._policies.retry import parse_retry_after
from ..errors import ConfigurationError, DeserializationError, SerializationError, status_error
from .body import FieldTypes, JsonCodec, encode_json
from .fields import (
    REQUEST_KEYS,
    ContentTypes,
    FilesTypes,
    checked_content,
    checked_fields,
    checked_files,
    checked_method,
    is_repeatable,
    upload_contents,
    wrong_type,
)
from .headers import Headers, HeaderTypes
from .media import charset, readable_body
from .redact import redact_text, redact_url


class HttpMessage:
    """An HTTP request, or the response to one. Treat it as a value: build another one instead of changing it.

    This constructor makes a request; `response` makes a response (`status_code` is 0 on a request). Give at
    most one kind of body: `json`, `form` and/or `files`, or `content`.

    Args:
        method: The HTTP method; written in upper case.
        url: An absolute URL, or a path that the transport appends to its `base_url`.
        params: Query parameters: a mapping (a list is sent as a repeated parameter) or pairs.
        headers: Headers: a mapping or pairs.
        json: A value to be sent as JSON; read it back as `json_data`, since `json()` is a method. `None` is
            no body.
        form: Fields to be sent as a form; read them back as `form_data`.
        files: Uploads by field name: content, or `(filename, content)`, or `(filename, content, content
            type)`, where content is bytes, text or a binary file. Sent as multipart, together with `form`.
        content: The body itself: bytes, text (sent as UTF-8), a binary file, or an iterable of bytes; read it
            back as `content_data`.
        json_data: Another name of `json`.
        form_data: Another name of `form`.

    Attributes:
        status_code: The HTTP status of a response; 0 on a request.
        headers: The headers, see `Headers`.
        url: The URL as text; that of a response is the one that answered, after redirects.
        elapsed: Seconds from sending the request to the end of the response.
        http_version: `HTTP/1.1`, `HTTP/2`, ...
        request: The request that was answered, on a response.
        history: The responses that redirected to this one, oldest first.

    Raises:
        ConfigurationError: An argument has the wrong type, or two kinds of body were given.

    Example:
        >>> HttpMessage("post", "https://api.example.com/items", json={"name": "lamp"})
        <HttpMessage POST https://api.example.com/items>
    """

    __slots__ = (
        "__weakref__",
        "_codec",
        "_json",
        "_reason",
        "_text",
        "_url",
        "content_data",
        "elapsed",
        "files",
        "form_data",
        "headers",
        "history",
        "http_version",
        "json_data",
        "method",
        "params",
        "request",
        "status_code",
    )

    method: str
    params: FieldTypes | None
    headers: Headers
    json_data: Any
    form_data: FieldTypes | None
    files: FilesTypes | None
    content_data: ContentTypes | None
    status_code: int
    elapsed: float
    http_version: str
    request: HttpMessage | None
    history: tuple[HttpMessage, ...]
    _codec: JsonCodec | None
    _reason: str | None
    _text: str | None
    _url: object
    _json: Any

    def __init__(
        self,
        method: str = "GET",
        url: str = "",
        params: FieldTypes | None = None,
        headers: HeaderTypes | None = None,
        json: Any = None,
        form: FieldTypes | None = None,
        files: FilesTypes | None = None,
        content: ContentTypes | None = None,
        *,
        json_data: Any = None,
        form_data: FieldTypes | None = None,
    ) -> None:
        self.method = checked_method(method)
        if not isinstance(url, str):
            raise wrong_type("url", url, "text")
        self._url = url
        self.params = params if params is None else checked_fields("params", params)
        self.headers = Headers(headers)
        if json_data is not None:
            if json is not None:
                raise ConfigurationError("json and json_data are two names of one thing: give one of them")
            json = json_data
        if form_data is not None:
            if form is not None:
                raise ConfigurationError("form and form_data are two names of one thing: give one of them")
            form = form_data
        self.json_data = json
        self.form_data = form if form is None else checked_fields("form", form)
        self.files = files if files is None else checked_files(files)
        self.content_data = content if content is None else checked_content(content)
        if (json is not None) + (form is not None or self.files is not None) + (content is not None) > 1:
            names = ("json", json), ("form", form), ("files", self.files), ("content", content)
            given = " and ".join(name for name, value in names if value is not None)
            raise ConfigurationError(f"{given} were given, but a request has one body: give one of them")
        self.status_code = 0
        self.elapsed = 0.0
        self.http_version = ""
        self.request = None
        self.history = ()
        self._reason = self._text = self._codec = None
        self._json = UNSET

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Make a request from a mapping: `{"path": "/users", "params": {"limit": 10}}`.

        Args:
            data: `path` or `url`, and any of `method`, `params`, `headers`, `json`, `form`, `files`,
                `content` (`json_data`, `form_data`), as in the constructor.

        Raises:
            ConfigurationError: A key is unknown (the text names the nearest one), a value has the wrong type, or
                there is neither `path` nor `url`.
        """
        if type(data) is not dict and not isinstance(data, Mapping):
            raise wrong_type("a request", data, "a mapping with `path` or `url`, or an HttpMessage")
        if not data.keys() <= REQUEST_KEYS:
            check_names("request key", data, REQUEST_KEYS)
        fields = {**data}
        if "path" in fields:
            if "url" in fields:
                raise ConfigurationError("path and url were given: give one of them")
            fields["url"] = fields.pop("path")
            if not isinstance(fields["url"], str):
                raise wrong_type("path", fields["url"], "text")
        message = cls(**fields)
        if "url" not in fields:  # after what is wrong with those that are there
            raise ConfigurationError("a request has no `path` and no `url`: give one of them")
        return message

    @classmethod
    def response(
        cls,
        *,
        status_code: int,
        headers: HeaderTypes | None = None,
        content: bytes = b"",
        request: HttpMessage | None = None,
        url: object = "",
        elapsed: float = 0.0,
        http_version: str = "HTTP/1.1",
        history: tuple[HttpMessage, ...] = (),
        reason_phrase: str | None = None,
        json_codec: JsonCodec | None = None,
    ) -> Self:
        """Make a response. Nothing is parsed, decoded or copied until it is asked for.

        Args:
            status_code: The HTTP status.
            headers: The headers; `Headers.from_raw(...)` is taken as it is.
            content: The body, after decompression.
            request: The request that was answered.
            url: The URL that answered, or an object whose `str` is; the request's by default.
            elapsed: Seconds from sending the request to the end of the response.
            http_version: `HTTP/1.1`, `HTTP/2`, ...
            history: The responses that redirected to this one, oldest first.
            reason_phrase: The text after the status; the usual one of that status by default.
            json_codec: What `json` parses with; the standard library by default. It is no part of the value: copies
                and pickles are without it.
        """
        self = cls.__new__(cls)
        self.status_code = status_code
        self.headers = headers if type(headers) is Headers else Headers(headers)
        self.content_data = content
        self.request = request
        if request is None:
            self.method = "GET"
            self._url = url
        else:
            self.method = request.method
            self._url = url or request._url
        self.elapsed = elapsed
        self.http_version = http_version
        self.history = history
        self._reason = reason_phrase
        self._codec = json_codec
        self._text = self.params = self.json_data = self.form_data = self.files = None
        self._json = UNSET
        return self

    def replace(
        self,
        *,
        method: str | UnsetType = UNSET,
        url: str | UnsetType = UNSET,
        params: FieldTypes | UnsetType | None = UNSET,
        headers: HeaderTypes | UnsetType | None = UNSET,
        json_data: Any = UNSET,
        form_data: FieldTypes | UnsetType | None = UNSET,
        files: FilesTypes | UnsetType | None = UNSET,
        content: ContentTypes | UnsetType | None = UNSET,
    ) -> Self:
        """Return a request like this one with some fields changed; `None` removes a field."""
        return type(self)(
            self.method if method is UNSET else method,
            self.url if url is UNSET else url,
            self.params if params is UNSET else params,
            self.headers if headers is UNSET else headers,
            files=self.files if files is UNSET else files,
            content=self.content_data if content is UNSET else content,
            json_data=self.json_data if json_data is UNSET else json_data,
            form_data=self.form_data if form_data is UNSET else form_data,
        )

    @property
    def url(self) -> str:
        """The URL as text."""
        url = self._url
        if type(url) is not str:
            url = self._url = str(url)
        return url

    @url.setter
    def url(self, url: str) -> None:
        self._url = url

    # --- the body

    @property
    def content(self) -> bytes:
        """The body of a response; on a request the `content` it was given.

        Raises:
            SerializationError: A request whose `content` is a file or an iterable: see `content_data`.
        """
        data = self.content_data
        if isinstance(data, bytes):
            return data
        if data is None:
            return b""
        if isinstance(data, str):
            return data.encode()
        raise SerializationError(f"content: it is streamed from a {type(data).__name__} and not in memory")

    @property
    def encoding(self) -> str:
        """The encoding of `text`: the charset of the content type if Python knows it, else `utf-8`."""
        return charset(self.headers.get("content-type", "")) or "utf-8"

    @property
    def text(self) -> str:
        """The body as text; bytes that do not fit the encoding become U+FFFD."""
        if self._text is None:
            self._text = self.content.decode(self.encoding, "replace")
        return self._text

    def json(self) -> Any:
        """Parse the body as JSON. The result is kept, so that asking again costs nothing.

        Raises:
            DeserializationError: The body is not JSON; the text has the status, the URL and how the body
                begins.
        """
        if self._json is UNSET:
            if self.json_data is not None:
                return self.json_data
            try:
                self._json = (self._codec or jsonlib).loads(self.content)
            except Exception as error:
                if self._codec is None and not isinstance(error, ValueError | RecursionError):
                    raise
                snippet = redact_text(self.content[:400].decode("utf-8", "replace"))[:60]
                begins = f"it begins with {snippet!r}" if snippet else "it is empty"
                raise DeserializationError(
                    f"the body is not JSON in {self._headline()}: {error}; {begins}",
                    method=self.method,
                    url=self.safe_url,
                ) from error
        return self._json

    @property
    def has_body(self) -> bool:
        """Whether a request has a body of any kind."""
        return not (
            self.content_data is None and self.json_data is None and self.form_data is None and self.files is None
        )

    @property
    def is_replayable(self) -> bool:
        """Whether the body of a request can be sent again: an iterator or a pipe cannot."""
        return is_repeatable(self.content_data) and all(is_repeatable(each) for each in upload_contents(self.files))

    # --- the answer

    @property
    def reason_phrase(self) -> str:
        """The text after the status, such as `Not Found`; empty if there is none."""
        if self._reason is None:
            from http import HTTPStatus

            try:
                self._reason = HTTPStatus(self.status_code).phrase
            except ValueError:
                self._reason = ""
        return self._reason

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status_code <= 299

    @property
    def safe_url(self) -> str:
        """The URL without credentials, fit for logs and errors."""
        return redact_url(self.url)

    def raise_for_status(self) -> Self:
        """Return the message itself, or raise for a 4xx or 5xx status.

        Raises:
            HTTPStatusError: The status is 400 or above; its subclass says which, `error.response` is this
                message.
        """
        if self.status_code >= 400:
            raise status_error(self, retry_after=parse_retry_after(self.headers, time.time()))
        return self

    # --- the Message protocol

    def get_headers(self) -> Headers:
        """Return the headers."""
        return self.headers

    def get_payload(self) -> dict[str, Any]:
        """Return the content of the message.

        Returns:
            Of a response, `{"status_code", "headers", "data"}`, where `data` is the parsed JSON, else the
            text, else the bytes, by content type. Of a request, the mapping that `from_mapping` takes.
        """
        if self.status_code:
            return {"status_code": self.status_code, "headers": self.headers, "data": readable_body(self)}
        fields: dict[str, Any] = {"method": self.method, "url": self.url}
        if self.headers:
            fields["headers"] = self.headers
        given = {
            "params": self.params,
            "json": self.json_data,
            "form": self.form_data,
            "files": self.files,
            "content": self.content_data,
        }
        return fields | {key: value for key, value in given.items() if value is not None}

    def serialize(self) -> bytes:
        """Turn the message, with all its fields, into JSON bytes; `deserialize` gives an equal message back.

        Raises:
            SerializationError: A value is not JSON serialisable, or the body is a file or an iterable.
        """
        from .envelope import dump

        return encode_json(dump(self), "message")

    @classmethod
    def deserialize(cls, data: bytes) -> Self:
        """Make a message from what `serialize` returned.

        Raises:
            DeserializationError: The bytes are not a serialised HttpMessage; the text says where.
        """
        from .envelope import load

        return load(cls, data)

    def _headline(self) -> str:
        status = f"{self.status_code} " if self.status_code else ""
        return f"{status}{self.method} {self.safe_url}".rstrip()

    def __repr__(self) -> str:
        size = f", {len(self.content)} bytes" if self.status_code else ""
        return f"<{type(self).__name__} {self._headline()}{size}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HttpMessage):
            return NotImplemented
        return all(_plain(getattr(self, name)) == _plain(getattr(other, name)) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Self:
        copied: Self = _restore(type(self), {name: getattr(self, name) for name in _FIELDS})
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.in_memory:
            raise SerializationError("a request that uploads a file or an iterable cannot be pickled")
        state = {name: getattr(self, name) for name in _FIELDS}
        if self.request is not None:
            state["request"] = self.request.without_uploads()
        return _restore, (type(self), state)

    @property
    def in_memory(self) -> bool:
        """Whether the whole message is in memory: no file and no iterable is to be sent."""
        return isinstance(self.content_data, bytes | str | None) and all(
            isinstance(each, bytes | str) for each in upload_contents(self.files)
        )

    def without_uploads(self) -> Self:
        """Return the message itself, or one without its files and iterables, so that it can be stored."""
        return self if self.in_memory else self.replace(content=None, files=None)


_FIELDS: Final = (
    "status_code",
    "method",
    "url",
    "params",
    "headers",
    "json_data",
    "form_data",
    "files",
    "content_data",
    "elapsed",
    "http_version",
    "request",
    "history",
    "reason_phrase",
)
"""Everything that makes two messages equal; what is cached is not among it."""


def _restore(cls: type[HttpMessage], state: Mapping[str, Any]) -> Any:
    self = cls.__new__(cls)
    self._text = self._codec = None
    self._json = UNSET
    for name, value in state.items():
        setattr(self, "_reason" if name == "reason_phrase" else name, value)
    return self


def _plain(value: Any) -> Any:
    """The form in which values are compared: JSON knows no tuples."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
