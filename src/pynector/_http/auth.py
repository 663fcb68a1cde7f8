"""Credentials that are one header: basic (RFC 7617) and bearer (RFC 6750)."""

import base64
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError

AuthTypes = tuple[str | bytes, str | bytes] | str


def authorization(auth: AuthTypes | None) -> bytes | None:
    """The value of the `Authorization` header for `auth`.

    Args:
        auth: `(user, password)` for basic, a text for a bearer token, or None.

    Raises:
        ConfigurationError: It is neither; the message never shows the value.
    """
    match auth:
        case None:
            return None
        case str() if auth and auth.isascii() and auth.isprintable():
            return b"Bearer " + auth.encode("ascii")
        case (str() | bytes() as user, str() | bytes() as password):
            return _basic(_bytes(user), _bytes(password))
    raise ConfigurationError(
        f"auth of type {type(auth).__name__} is not usable: give (user, password) for basic, "
        "or a token (printable ASCII text) for bearer"
    )


def from_userinfo(userinfo: bytes) -> bytes:
    """The `Authorization` value for the `user:password` part of a URL, percent-decoded."""
    user, _, password = userinfo.partition(b":")
    return _basic(unquote_to_bytes(user), unquote_to_bytes(password))


def _basic(user: bytes, password: bytes) -> bytes:
    if b":" in user:
        raise ConfigurationError("the user name of basic auth must not contain a colon (RFC 7617, section 2)")
    return b"Basic " + base64.b64encode(user + b":" + password)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value
