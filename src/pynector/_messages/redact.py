"""Takes credentials out of text that people will read: URLs, headers, pieces of bodies."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_plus

REDACTED: Final = "REDACTED"

# A name is sensitive when one of its words is: `access_token`, `X-Amz-Signature`, `user[password]`.
_WORDS: Final = frozenset(
    (
        "accesskey",
        "accesskeyid",
        "accesstoken",
        "apikey",
        "auth",
        "authorization",
        "awsaccesskeyid",
        "bearer",
        "clientsecret",
        "cookie",
        "credential",
        "credentials",
        "idtoken",
        "jwt",
        "otp",
        "passphrase",
        "passwd",
        "password",
        "pwd",
        "refreshtoken",
        "secret",
        "secretkey",
        "sessionid",
        "sessiontoken",
        "sig",
        "signature",
        "token",
    )
)
# In a query a bare `key` is nearly always a credential; in a header name (`idempotency-key`) it is not.
_QUERY_WORDS: Final = _WORDS | {"key", "session"}
_split: Final = re.compile(r"[^a-z0-9]+").split

_BODY_SECRETS: Final = re.compile(
    r"""(?ix)
    ( \b(?:bearer|basic)\s+ ) [\w.~+/=-]{6,}
    | ( ["']? [\w.-]* (?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|authorization|signature|cookie)
        ["']? \s* [:=] \s* ) (?: "[^"]*"? | '[^']*'? | (?:(?:bearer|basic)\s+)? [^\s,;&}"']+ )
    | ( \bsk- ) [\w-]{6,}
    """
)


@lru_cache(maxsize=1024)
def is_sensitive_header(name: str) -> bool:
    """Tell whether a header of this name carries a credential: `Authorization`, `Cookie`, `X-Api-Key`."""
    words = _split(name.lower())
    return not _WORDS.isdisjoint(words) or ("api" in words and "key" in words)


@lru_cache(maxsize=1024)
def is_sensitive_parameter(name: str) -> bool:
    """Tell whether a query parameter of this name carries a credential: `key`, `access_token`, `sig`."""
    return not _QUERY_WORDS.isdisjoint(_split(unquote_plus(name).lower()))


def redact_url(url: str) -> str:
    """Replace user names, passwords and sensitive query values of a URL.

    Args:
        url: Any text that should be a URL; a malformed one is redacted as far as it can be understood.

    Returns:
        The URL with `REDACTED` in the place of each credential, else unchanged.

    Example:
        >>> redact_url("https://me:pw@api.example.com/v1?limit=3&api_key=abc")
        'https://REDACTED:REDACTED@api.example.com/v1?limit=3&api_key=REDACTED'
    """
    if "@" in url:
        url = _redact_userinfo(url)
    if "=" not in url:
        return url
    url, hash_, fragment = url.partition("#")
    path, mark, query = url.partition("?")
    if query:
        query = _redact_pairs(query)
    if "=" in fragment:
        # Some login flows hand tokens back in the fragment.
        fragment = _redact_pairs(fragment)
    return f"{path}{mark}{query}{hash_}{fragment}"


def redact_text(text: str) -> str:
    """Mask what looks like a credential in a piece of a body. Best effort, for snippets in error messages."""
    return _BODY_SECRETS.sub(lambda match: f"{match[1] or match[2] or match[3]}{REDACTED}", text)


def _redact_userinfo(url: str) -> str:
    scheme, slashes, rest = url.partition("//")
    if not slashes:
        scheme, rest = "", url
    end = min((at for at in map(rest.find, "/?#\\") if at >= 0), default=len(rest))
    authority = rest[:end]
    at = authority.rfind("@")
    if at < 0 and slashes and _has_odd_port(authority):
        # `https://me:pa/ss@host`: a password that was not percent-encoded, cut by its own slash.
        at = rest.rfind("@")
    if at < 0 or (not slashes and ":" not in authority[:at]):
        return url
    return f"{scheme}{slashes}{REDACTED}:{REDACTED}@{rest[at + 1 :]}"


def _has_odd_port(authority: str) -> bool:
    host, colon, port = authority.rpartition(":")
    if authority.endswith("]") or not colon:
        return False
    return not port.isdigit() or (":" in host and not host.endswith("]"))


def _redact_pairs(query: str) -> str:
    pieces = re.split("([&;])", query)
    for index, piece in enumerate(pieces):
        name, equals, value = piece.partition("=")
        if value and is_sensitive_parameter(name):
            pieces[index] = f"{name}{equals}{REDACTED}"
    return "".join(pieces)
