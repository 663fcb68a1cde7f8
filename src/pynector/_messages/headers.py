"""HTTP headers: a case-insensitive mapping that keeps repeated fields, and their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Final, Self, TypeAlias, TypeVar, overload

from ..errors import ConfigurationError
from .redact import REDACTED, is_sensitive_header

_D = TypeVar("_D")

_is_token: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
# RFC 9110, 5.5: control characters are invalid in a value; CR, LF and NUL would allow header injection.
_find_control: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

_NONE: list[tuple[bytes, bytes]] = []


class Headers(MutableMapping[str, str]):
    """HTTP headers: names ignore case, repeated fields are all kept, in order.

    `headers["accept"]` joins repeated fields with `", "` (RFC 9110, 5.3); `get_list` and `multi_items` keep
    them apart, which is the only right way to read `Set-Cookie`. Text is latin-1 on the wire.

    Args:
        headers: A mapping (a value may also be a list of texts: one field each), pairs, or other headers;
            names and values are `str` or `bytes`.

    Raises:
        ConfigurationError: A name is no token, or a value holds a control character (CR, LF, NUL, ...), or
            something is neither `str` nor `bytes`. The text names the header and never shows its value.

    Example:
        >>> headers = Headers({"Content-Type": "text/plain"})
        >>> headers["content-type"]
        'text/plain'
    """

    # The fields as they go over the wire; the index over lower-case names is built on first use only, since
    # many responses are never asked for a header. Lists are replaced, never changed: they may be shared.
    # `_raw` of late ones is missing until somebody asks for it.
    __slots__ = ("_index", "_raw", "_source")

    _raw: list[tuple[bytes, bytes]]
    _index: dict[str, list[str]] | None
    _source: Callable[[], list[tuple[bytes, bytes]]]

    def __init__(self, headers: HeaderTypes | None = None) -> None:
        self._index = None
        if headers is None:
            self._raw = _NONE
        elif isinstance(headers, Headers):
            self._raw = headers._raw.copy()
        else:
            self._raw = [_field(name, value) for name, value in _pairs(headers)]

    @classmethod
    def from_raw(cls, raw: list[tuple[bytes, bytes]]) -> Self:
        """Take over what an HTTP parser has read and checked: nothing is copied, validated or decoded."""
        self = cls.__new__(cls)
        self._raw = raw
        self._index = None
        return self

    @classmethod
    def from_source(cls, source: Callable[[], list[tuple[bytes, bytes]]]) -> Self:
        """Headers that are converted, by `source`, when the first of them is asked for: many never are."""
        self = cls.__new__(cls)
        self._source = source
        self._index = None
        return self

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not there.
        if name != "_raw":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raw = self._raw = self._source()  # two threads may both do this, harmlessly
        return raw

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """A copy of the fields as they go over the wire, with their names as they were written."""
        return self._raw.copy()

    def get_list(self, name: str) -> list[str]:
        """Return the values of all fields of that name, in order; empty if there is none."""
        return self._values(name).copy()

    def multi_items(self) -> list[tuple[str, str]]:
        """Return every field as (lower-case name, value), in order; repeated ones are not joined."""
        return [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in self._raw]

    def add(self, name: str, value: str) -> None:
        """Append a field; fields of that name which are there already stay."""
        self._raw = [*self._raw, _field(name, value)]
        self._index = None

    def copy(self) -> Self:
        """Return headers of their own with the same fields."""
        return self.from_raw(self._raw.copy())

    def merge(self, headers: HeaderTypes | None) -> Self:
        """Return new headers: these, with every name that `headers` has replaced by its fields."""
        merged = self.copy()
        if headers:
            merged._replace(Headers(headers))
        return merged

    def update(self, headers: Any = (), /, **named: Any) -> None:
        """Replace every name that `headers` has by its fields; repeated ones stay repeated."""
        self._replace(Headers(headers))
        self._replace(Headers(named))

    def _replace(self, other: Headers) -> None:
        if other._raw:
            names = {name.lower() for name, _ in other._raw}
            self._raw = [field for field in self._raw if field[0].lower() not in names] + other._raw
            self._index = None

    def _values(self, name: str) -> list[str]:
        index = self._index
        if index is None:
            # Built aside and assigned at once: threads that read the same headers build it twice, harmlessly.
            index = {}
            for raw_name, raw_value in self._raw:
                key = raw_name.decode("latin-1").lower()
                if key in index:
                    index[key].append(raw_value.decode("latin-1"))
                else:
                    index[key] = [raw_value.decode("latin-1")]
            self._index = index
        return index.get(name) or index.get(name.lower()) or []

    def __getitem__(self, name: str) -> str:
        values = self._values(name)
        if not values:
            raise KeyError(name)
        return values[0] if len(values) == 1 else ", ".join(values)

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: str) -> str: ...
    @overload
    def get(self, key: str, /, default: _D) -> str | _D: ...
    # The inherited one pays for an exception whenever a header is not there.
    def get(self, key: str, /, default: object = None) -> object:
        """Return the value of a header, or `default`."""
        values = self._values(key)
        if not values:
            return default
        return values[0] if len(values) == 1 else ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        self._replace(Headers([(name, value)]))

    def __delitem__(self, name: str) -> None:
        if not self._values(name):
            raise KeyError(name)
        key = name.lower().encode("latin-1")
        self._raw = [field for field in self._raw if field[0].lower() != key]
        self._index = None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._values(name))

    def __iter__(self) -> Iterator[str]:
        self._values("")
        return iter(self._index or ())

    def __len__(self) -> int:
        self._values("")
        return len(self._index or ())

    def __bool__(self) -> bool:
        return bool(self._raw)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            if not isinstance(other, Mapping):
                return NotImplemented
            try:
                other = Headers(other)
            except ConfigurationError:
                return False
        if self._raw == other._raw:
            return True
        self._values("")
        other._values("")
        return self._index == other._index

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_raw, (self._raw,)

    def __repr__(self) -> str:
        shown = [(name, REDACTED if is_sensitive_header(name) else value) for name, value in self.multi_items()]
        return f"{type(self).__name__}({shown!r})"


def _pairs(headers: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(headers, Mapping):
        for name, value in headers.items():
            if isinstance(value, list | tuple):
                for each in value:
                    yield name, each
            else:
                yield name, value
        return
    if isinstance(headers, str | bytes) or not isinstance(headers, Iterable):
        raise ConfigurationError(f"headers: expected a mapping or pairs of texts, got {type(headers).__name__}")
    for index, pair in enumerate(headers):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ConfigurationError(f"headers[{index}]: expected a pair (name, value), got {type(pair).__name__}")
        yield pair[0], pair[1]


def _field(name: object, value: object) -> tuple[bytes, bytes]:
    """Check one field and encode it."""
    if isinstance(name, str):
        raw_name = name.encode() if name.isascii() else b""
    elif isinstance(name, bytes):
        raw_name = name
    else:
        raise ConfigurationError(f"headers: a name must be text, not {type(name).__name__}")
    if not _is_token(raw_name):
        raise ConfigurationError(f"header {name!r}: not a valid name (letters, digits and !#$%&'*+-.^_`|~ are allowed)")
    if isinstance(value, str):
        try:
            raw_value = value.encode("latin-1")
        except UnicodeEncodeError:
            # From None: the text of a UnicodeEncodeError holds the value.
            raise ConfigurationError(
                f"header {name!r}: the value has characters outside latin-1; pass bytes to send others"
            ) from None
    elif isinstance(value, bytes):
        raw_value = value
    else:
        raise ConfigurationError(f"header {name!r}: the value must be text, not {type(value).__name__}")
    if _find_control(raw_value):
        raise ConfigurationError(f"header {name!r}: the value holds a control character (CR, LF, NUL, ...)")
    return raw_name, raw_value.strip(b" \t")


HeaderTypes: TypeAlias = (
    Headers
    | Mapping[str, str | Sequence[str]]
    | Mapping[bytes, bytes]
    | Iterable[tuple[str, str]]
    | Iterable[tuple[bytes, bytes]]
)
"""What the constructor of `Headers` accepts."""
