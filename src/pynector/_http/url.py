"""From a base URL, a path and query parameters to the target of one request."""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode

from .._messages.redact import redact_url
from ..errors import ConfigurationError
from .family import loaded

Primitive = str | int | float | bool | None
ParamValue = Primitive | Iterable[Primitive]
Params = Mapping[str, ParamValue] | Iterable[tuple[str, Primitive]] | str | bytes

# Neither absolute nor in need of encoding, and without dot segments (RFC 3986, 3.3): such a path is appended as it
# is; anything else takes the slower way through httpx.URL.
_PLAIN_PATH = re.compile(
    r"(?![A-Za-z][A-Za-z0-9+.-]*://)[\w~/,:;@!$&'()*+=-]*(?:\.[\w~,:;@!$&'()*+=-][\w~/,:;@!$&'()*+=-]*)*",
    re.ASCII,
)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNSENDABLE = re.compile(r"[^\x21-\x7e]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# What can be iterated over and is no list of values: a mapping would be sent without its values.
_NO_LIST = (str, bytes, bytearray, memoryview, Mapping)
_SUPPORTED = (b"http", b"https")
_DEFAULT_PORTS = {b"http": 80, b"https": 443}


class Origin(NamedTuple):
    """Scheme, host and port: what a connection is made to (RFC 6454)."""

    scheme: bytes
    host: bytes
    port: int


class Origins:
    """Servers of which something is known. Not all that there ever were: who asks too many starts from the beginning.

    Args:
        limit: The most that are remembered.
    """

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._seen: set[Origin] = set()

    def __contains__(self, origin: Origin) -> bool:
        return origin in self._seen

    def add(self, origin: Origin) -> None:
        """Remember a server."""
        seen = self._seen
        if origin not in seen:
            if len(seen) >= self._limit:
                self._seen = seen = set()
            seen.add(origin)

    def discard(self, origin: Origin) -> None:
        """Forget a server."""
        self._seen.discard(origin)


class Target(NamedTuple):
    """Where one request goes: never with credentials in it."""

    origin: Origin
    authority: bytes
    path: bytes
    """Path and query, percent-encoded: what stands in the request line."""

    def __str__(self) -> str:
        """The whole URL."""
        return (b"%s://%s%s" % (self.origin.scheme, self.authority, self.path)).decode()

    @property
    def redacted(self) -> str:
        """The whole URL, fit for logs and errors."""
        return redact_url(str(self))


class ParsedURL(NamedTuple):
    """An absolute URL, its credentials kept apart."""

    target: Target
    userinfo: bytes


@functools.lru_cache(maxsize=4096)
def parse_url(url: str) -> ParsedURL:
    """Parse an absolute URL.

    Args:
        url: For example `https://user:secret@api.example.com/v1?page=2`.

    Returns:
        Its target and, apart from it, its userinfo (still percent-encoded).

    Raises:
        ConfigurationError: The URL is relative, malformed, or not http(s).
    """
    httpx = loaded()  # the URL parser of the engine's own family; imported when the first request is made
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as exc:
        raise ConfigurationError(f"not a valid URL: {redact_url(url)!r} ({exc})") from None
    scheme, host = parsed.raw_scheme, parsed.raw_host
    if not scheme or not host:
        raise ConfigurationError(
            f"relative URL {redact_url(url)!r} without a base: give base_url=, or an absolute http(s) URL"
        )
    if scheme not in _SUPPORTED:
        raise ConfigurationError(
            f"unsupported URL scheme {scheme.decode()!r} in {redact_url(url)!r}: use http or https"
        )
    if not all(0 < len(label) < 64 for label in host.removesuffix(b".").split(b".")):
        # Below, this would be a UnicodeError out of the name lookup.
        raise ConfigurationError(f"not a valid URL: {redact_url(url)!r} (a part of the host is empty or too long)")
    if b"%" in host and b":" not in host:
        # What no host may have comes out of the parser like this; below, some would look it up, and some not take it.
        raise ConfigurationError(f"not a valid URL: {redact_url(url)!r} (the host has a character that no host has)")
    port = _DEFAULT_PORTS[scheme] if parsed.port is None else parsed.port
    if not 0 < port < 65536:
        raise ConfigurationError(f"not a valid URL: {redact_url(url)!r} (a port is a number from 1 to 65535)")
    target = Target(Origin(scheme, host, port), parsed.netloc, parsed.raw_path)
    return ParsedURL(target, parsed.userinfo)


class URLBuilder:
    """Joins paths to a base URL as httpx does: the path is appended, an absolute URL stands alone.

    Args:
        base_url: An absolute URL without query or fragment, or `""` for none.

    Raises:
        ConfigurationError: The base URL is unusable.
    """

    __slots__ = ("_base", "_last", "_prefix", "userinfo")

    def __init__(self, base_url: str) -> None:
        self._base: Target | None = None
        self._prefix = b""
        self._last: tuple[str, ParsedURL] | None = None
        self.userinfo = b""
        if base_url:
            target, self.userinfo = parse_url(base_url)
            if b"?" in target.path or "#" in base_url:
                raise ConfigurationError(
                    f"base_url {redact_url(base_url)!r} has a query or a fragment: give only scheme, host and path"
                )
            self._base = target
            self._prefix = target.path.rstrip(b"/")

    @property
    def base(self) -> Target | None:
        """The target of the base URL, if there is one."""
        return self._base

    def build(self, url: str, params: Params | None) -> ParsedURL:
        """The target of a request.

        Args:
            url: A path to append to the base, or an absolute URL.
            params: Query parameters; they are added to those that stand in `url`.
        """
        # A batch often asks one endpoint all the time. One tuple is kept: other threads may be here as well.
        last = self._last
        if last is not None and last[0] == url:
            parsed = last[1]
        else:
            parsed = self._resolve(url)
            self._last = url, parsed
        if params and (query := encode_params(params)):
            (origin, authority, path), userinfo = parsed
            joint = b"&" if b"?" in path else b"?"
            return ParsedURL(Target(origin, authority, path + joint + query), userinfo)
        return parsed

    def _resolve(self, url: str) -> ParsedURL:
        base = self._base
        if base is not None and _PLAIN_PATH.fullmatch(url):
            path = self._prefix + b"/" + url.lstrip("/").encode("ascii")
            return ParsedURL(Target(base.origin, base.authority, path), self.userinfo)
        if base is None or _ABSOLUTE.match(url):
            return parse_url(url)
        if _CONTROL.search(url):
            raise ConfigurationError(f"the path {redact_url(url)!r} has a control character in it")
        prefix = Target(base.origin, base.authority, self._prefix + b"/")
        return ParsedURL(parse_url(f"{prefix}{url.lstrip('/')}").target, self.userinfo)


def encode_params(params: Params) -> bytes:
    """Encode query parameters: repeated keys for sequences, `true`/`false` for booleans, empty for `None`."""
    if isinstance(params, bytes):
        params = params.decode("latin-1")
    if isinstance(params, str):
        # Text is taken as already encoded, but for what can't stand in a request line.
        return _UNSENDABLE.sub(_quoted, params.lstrip("?")).encode("ascii")
    pairs: list[tuple[str, str]] = []
    for item in params.items() if isinstance(params, Mapping) else params:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ConfigurationError(
                f"params: expected a mapping, or pairs (name, value), got {type(item).__name__} among the pairs"
            )
        key, value = item
        name = _name(key)
        if isinstance(value, Iterable) and not isinstance(value, _NO_LIST):
            pairs += [(name, _primitive(key, each)) for each in value]
        else:
            pairs.append((name, _primitive(key, value)))
    try:
        return urlencode(pairs).encode("ascii")
    except UnicodeEncodeError:
        broken = next(name for name, value in pairs if _SURROGATE.search(name + value))
        raise ConfigurationError(
            f"query parameter {broken!r} holds a lone surrogate, which UTF-8 cannot encode"
        ) from None


def _quoted(match: re.Match[str]) -> str:
    try:
        return quote(match[0])
    except UnicodeEncodeError:
        raise ConfigurationError("params: the text holds a lone surrogate, which UTF-8 cannot encode") from None


def _name(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8", "replace")
    if isinstance(key, int | float):
        return str(key)
    raise ConfigurationError(f"params: a name must be text, not {type(key).__name__} ({key!r:.80})")


def _primitive(key: object, value: object) -> str:
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise ConfigurationError(
        f"query parameter {key!r} is of type {type(value).__name__}: use str, int, float, bool, None, or a list of them"
    )
