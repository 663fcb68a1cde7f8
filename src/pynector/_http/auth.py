"""Credentials: one header (basic, RFC 7617; bearer, RFC 6750), a callable that signs, or a flow of httpx."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from .._messages.http import HttpMessage
from ..errors import ConfigurationError


class AuthFlow(Protocol):
    """An `httpx.Auth`, or an `httpx2.Auth`: digest, `.netrc`, or a subclass of the user's."""

    def auth_flow(self, request: Any, /) -> Any:
        """Yield requests and be sent their answers."""
        ...


Sign = Callable[[HttpMessage], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Takes the request that is about to be sent, with its final URL, headers and body; returns headers to set.

If it has a method `refresh(response)`, that is called after a 401, to get new credentials."""

AuthTypes = tuple[str | bytes, str | bytes] | str | Sign | AuthFlow
Credentials = bytes | Sign | AuthFlow
"""The value of the `Authorization` header, or what changes every request."""


def checked_auth(auth: AuthTypes | None, engine: str = "httpx") -> Credentials | None:
    """What `auth` means.

    Args:
        auth: `(user, password)` for basic, a text for a bearer token, a callable, an `httpx.Auth`, or None.
        engine: The name of the engine that sends.

    Raises:
        ConfigurationError: It is none of these, or the engine can't do it; the message never shows the value.
    """
    if auth is None or isinstance(auth, str | tuple):
        return authorization(auth)
    if isinstance(auth, type):
        raise ConfigurationError(f"auth is the class {auth.__name__}: give an object of it")
    if is_flow(auth):
        if engine == "pyreqwest":
            raise ConfigurationError(
                f"the engine 'pyreqwest' can't run auth of type {type(auth).__name__}, which is made for httpx: "
                "use engine='httpx' or 'httpx2', or give a callable that signs"
            )
        return auth
    return auth if callable(auth) else authorization(auth)


def is_flow(auth: object) -> bool:
    """Whether `auth` is made for httpx or httpx2."""
    return any(callable(getattr(auth, name, None)) for name in ("auth_flow", "async_auth_flow", "sync_auth_flow"))


def authorization(auth: object) -> bytes | None:
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
        "a token (printable ASCII text) for bearer, a callable that signs requests, or an httpx.Auth"
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
