"""The cookies of one client (RFC 6265), in the cookie jar of the standard library."""

import re
from collections.abc import Mapping
from typing import Final

from ..errors import ConfigurationError
from .url import Target

_is_name: Final = re.compile(r"[^\x00-\x20\x7f;=]+").fullmatch
_find_unsendable: Final = re.compile(r"[\x00-\x1f\x7f;]").search
# RFC 6265, 5.2 as browsers have it: a cookie with a control character in it is not taken at all.
_find_control: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search


def checked_cookies(cookies: object) -> dict[str, str]:
    """The cookies the user gave, checked.

    Args:
        cookies: A mapping of names to texts; None for none.

    Raises:
        ConfigurationError: It is something else, or a cookie that can't be sent. The text never shows a value.
    """
    if cookies is None:
        return {}
    if not isinstance(cookies, Mapping):
        raise ConfigurationError(f"cookies: expected a mapping of names to texts, got {type(cookies).__name__}")
    checked = dict(cookies)
    for name, value in checked.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"cookies: a name must be text, not {type(name).__name__} ({name!r:.80})")
        if not _is_name(name) or not _is_encodable(name):
            raise ConfigurationError(
                f"cookies: {name!r:.80} is not a valid name: give text without spaces, control characters, `;` and `=`"
            )
        if not isinstance(value, str):
            raise ConfigurationError(f"cookies[{name!r}]: the value must be text, not {type(value).__name__}")
        if _find_unsendable(value) or not _is_encodable(value):
            raise ConfigurationError(
                f"cookies[{name!r}]: the value holds what can't be sent: a control character, `;` or a lone surrogate"
            )
    return checked


class CookieStore:
    """Keeps what servers set and says what to send back. Safe for threads: the jar has a lock of its own.

    Args:
        cookies: Given by the user, checked; sent to every host a request is addressed to, never to one it is
            redirected to.
    """

    __slots__ = ("_active", "_given", "_jar", "_seeded")

    def __init__(self, cookies: Mapping[str, str] | None = None) -> None:
        from .jar import Jar  # http.cookiejar takes longer to import than all of pynector

        self._jar = Jar()
        self._given = {_bytes(name): _bytes(value) for name, value in (cookies or {}).items()}
        self._seeded: set[str] = set()
        # Most clients never see a cookie: they pay for one attribute look-up per request.
        self._active = bool(self._given)

    def header(self, method: str, target: Target, *, redirected: bool = False) -> bytes | None:
        """The value of the `Cookie` header for a request, or None."""
        if not self._active:
            return None
        if self._given and not redirected:
            self._seed(target.origin.host.decode("ascii"))
        return self._jar.header(target)

    def store(self, method: str, target: Target, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep the cookies of a response."""
        # On the path of every response: most have no such header at all.
        for name, _ in headers:
            if len(name) == 10 and name.lower() == b"set-cookie":
                self._take(target, headers)
                return

    def _take(self, target: Target, headers: list[tuple[bytes, bytes]]) -> None:
        values = [value for name, value in headers if name.lower() == b"set-cookie" and not _find_control(value)]
        if values:
            self._jar.store(target, values)
            self._active = True

    def _seed(self, host: str) -> None:
        if host not in self._seeded:
            for name, value in self._given.items():
                self._jar.give(host, name, value)
            # Last: another thread must not take the jar for ready before it is.
            self._seeded.add(host)


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")  # as headers are
    except UnicodeEncodeError:
        return text.encode("utf-8")
