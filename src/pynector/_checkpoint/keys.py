"""The key of an item: what it is known by in a checkpoint, in this run and in the next one."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from .._messages.http import HttpMessage
from ..errors import ConfigurationError
from .canonical import canonical
from .table import DigestTable, digest_of

KeyFunction = Callable[[Any], str | int]
"""What `key=` takes: the item in, its key out."""

_LENGTH: Final = 32
"""Hexadecimal digits of a key that is made of the request: 128 bits, which no two requests ever share by chance."""

_NAMES: Final = ("key", "custom_id")
KEYLESS: Final = frozenset({str, bytes, HttpMessage})  # most items are one of these, or a dict


def request_key(data: Any, *, http: bool = True) -> str:
    """Return a key that is made of a request: the same one for equal requests.

    It counts every part of the request, also credentials in headers of its own: the same URL asked for as two users
    is two requests.

    Args:
        data: The request, as in `canonical`.
        http: Whether mappings are HTTP requests.

    Returns:
        32 hexadecimal digits, of a SHA-256.

    Raises:
        SerializationError: There is something in it that can't be compared, such as a file.
        ConfigurationError: It looks like an HTTP request and is not a valid one.
    """
    from hashlib import sha256  # few need it, and it loads a large library

    return sha256(canonical(data, http=http), usedforsecurity=False).hexdigest()[:_LENGTH]


def split_key(data: Any, *, take_out: bool = True) -> tuple[str | None, Any]:
    """Separate an item from the key that it brings along as `key` or `custom_id` (the first one counts).

    Args:
        data: The item: a mapping with such an entry, an object with such an attribute, or one without.
        take_out: Whether such an entry is taken out of a mapping; a transport that is not ours gets it as it is.

    Returns:
        The key, or None; and the item to be sent, which is `data` itself if there was nothing to take out.

    Raises:
        ConfigurationError: The key is no text and no integer, or empty.

    Example:
        >>> split_key({"custom_id": "a-1", "path": "/users/1"})
        ('a-1', {'path': '/users/1'})
    """
    if type(data) in KEYLESS:
        return None, data
    if not isinstance(data, Mapping):
        for name in _NAMES:
            key = getattr(data, name, None)
            # Not refused if it is something else: who knows what the attribute is for.
            if isinstance(key, str | int) and not isinstance(key, bool) and key != "":
                return str(key), data
        return None, data
    if "key" not in data and "custom_id" not in data:
        return None, data
    rest = {name: value for name, value in data.items() if name not in _NAMES} if take_out else data
    for name in _NAMES:
        key = data.get(name)
        if key is not None:
            return _checked(key, f"its `{name}`"), rest
    return None, rest


def item_key(data: Any, index: int, key: KeyFunction | None = None, *, http: bool = True) -> str:
    """Return the key of an item: from `key`, else its own, else one made of the request.

    Args:
        data: The item, with its own key if it has one.
        index: Its place in the input, for the text of an error.
        key: The function of the user's, if there is one. It is given the item as it is.
        http: Whether mappings are HTTP requests.

    Raises:
        ConfigurationError: `key` raised (that is the cause then), or the key is no text and no integer, or empty; or
            the item looks like an HTTP request and is not a valid one.
        SerializationError: The item has no key, and there is something in it that none can be made of.
    """
    own, rest = _own_key(data, index, key, http)
    return own if own is not None else request_key(rest, http=http)


class ItemKeys:
    """The keys of all items of one run. No two are the same.

    Items that bring the same key along are a mistake in the input, which is refused: nobody could tell their answers
    apart. Equal requests without keys of their own are no mistake (a model may be asked the same thing five times):
    the second one gets the key of the first with `#2` at its end, and so on, in the order of the input. They are the
    same requests, so it does not matter which is which in the next run.

    Args:
        key: The function of the user's, if there is one.
        http: Whether mappings are HTTP requests.
    """

    __slots__ = ("_http", "_key", "_own", "_requests")

    def __init__(self, key: KeyFunction | None = None, *, http: bool = True) -> None:
        if key is not None and not callable(key):
            raise ConfigurationError(f"argument `key`: expected a function of an item, got {type(key).__name__}")
        self._key = key
        self._http = http
        self._own = DigestTable()
        self._requests = DigestTable()

    def take(self, data: Any, index: int) -> str:
        """Return the key of the next item.

        Raises:
            ConfigurationError: As in `item_key`; or an earlier item has this key, whose index is in the text.
            SerializationError: As in `item_key`.
        """
        own, rest = _own_key(data, index, self._key, self._http)
        if own is not None:
            digest = digest_of(own)
            first = self._own.get(digest)
            if first is not None:
                raise ConfigurationError(
                    f"item {index}: its key {own!r:.200} is that of item {first} already; each item needs its own"
                )
            self._own.put(digest, index)
            return own
        made = request_key(rest, http=self._http)
        digest = digest_of(made)
        count = (self._requests.get(digest) or 0) + 1
        self._requests.put(digest, count)
        return made if count == 1 else f"{made}#{count}"


def _own_key(data: Any, index: int, key: KeyFunction | None, http: bool) -> tuple[str | None, Any]:
    if key is None:
        try:
            return split_key(data, take_out=http)
        except ConfigurationError as error:
            raise ConfigurationError(f"item {index}: {error}") from None
    try:
        made = key(data)
    except Exception as error:
        raise ConfigurationError(f"item {index}: key= raised {type(error).__name__}") from error
    return _checked(made, f"item {index}: what key= returned"), data


def _checked(key: object, what: str) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise ConfigurationError(f"{what} is of type {type(key).__name__}; a key is text or an integer")
    if key == "":
        raise ConfigurationError(f"{what} is an empty text; a key says which item it is")
    return str(key)
