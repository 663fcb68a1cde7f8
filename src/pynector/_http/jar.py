"""The cookie jar of the standard library, asked without a `urllib` request: making one costs more than the answer."""

from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, cast

from .url import Target

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import Request

# The jar strips what Python takes for white space. In latin-1 that would be the last byte of many a UTF-8 text.
_HIDDEN: Final = {0x85: 0xE085, 0xA0: 0xE0A0}
_SHOWN: Final = {hidden: shown for shown, hidden in _HIDDEN.items()}


class Jar:
    """Cookies by host, path and name, as bytes: what a server set goes back to it unchanged."""

    __slots__ = ("_jar",)

    def __init__(self) -> None:
        # A cookie without a `Domain` belongs to its host alone (RFC 6265, 5.3), not to the hosts below it.
        self._jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))

    def give(self, host: str, name: bytes, value: bytes) -> None:
        """Put a cookie in for every path of `host`."""
        domain = f"[{host}]" if ":" in host else host
        if "." not in domain:
            # The jar gives dotless hosts this suffix when it compares domains (RFC 2965).
            domain += ".local"
        self._jar.set_cookie(
            Cookie(
                version=0,
                name=_text(name),
                value=_text(value),
                port=None,
                port_specified=False,
                domain=domain,
                domain_specified=False,
                domain_initial_dot=False,
                path="/",
                path_specified=True,
                secure=False,
                expires=None,
                discard=True,
                comment=None,
                comment_url=None,
                rest={},
            )
        )

    def header(self, target: Target) -> bytes | None:
        """The value of the `Cookie` header for a request to `target`; None if it gets none."""
        request = _Request(target)
        self._jar.add_cookie_header(cast("Request", request))
        return None if request.cookie is None else request.cookie.translate(_SHOWN).encode("latin-1")

    def store(self, target: Target, values: list[bytes]) -> None:
        """Keep what the `Set-Cookie` headers of an answer from `target` say, as far as they may."""
        self._jar.extract_cookies(
            cast("HTTPResponse", _Response([_text(value) for value in values])), cast("Request", _Request(target))
        )


def _text(value: bytes) -> str:
    return value.decode("latin-1").translate(_HIDDEN)


class _Request:
    """As much of a `urllib.request.Request` as the jar asks for."""

    __slots__ = ("cookie", "host", "type", "url")

    unverifiable = False

    def __init__(self, target: Target) -> None:
        self.url = str(target)
        self.type = target.origin.scheme.decode("ascii")
        self.host = target.authority.decode("ascii")
        self.cookie: str | None = None

    def get_full_url(self) -> str:
        return self.url

    def has_header(self, name: str) -> bool:
        # A `Cookie` of the user is joined with ours later; the obsolete `Cookie2` is not to be sent.
        return name == "Cookie2"

    def add_unredirected_header(self, name: str, value: str) -> None:
        self.cookie = value


class _Response:
    """As much of an `http.client.HTTPResponse`, and of its headers, as the jar asks for."""

    __slots__ = ("_set_cookie",)

    def __init__(self, set_cookie: list[str]) -> None:
        self._set_cookie = set_cookie

    def info(self) -> "_Response":
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._set_cookie if name == "Set-Cookie" else default
