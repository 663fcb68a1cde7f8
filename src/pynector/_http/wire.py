"""From an `HttpMessage` to exactly what goes on the wire, and the changes a redirect makes to it."""

import importlib.util
from typing import Final

from .._messages.body import JsonCodec, encode_body
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from .._policies.redirect import RedirectStep
from .._policies.retry import IDEMPOTENT_METHODS
from .._version import __version__
from ..errors import ConfigurationError, HTTPRedirectError
from .auth import from_userinfo
from .body import StreamBody, stream_body
from .cookies import CookieStore
from .url import Target, URLBuilder, parse_url

RawHeaders = list[tuple[bytes, bytes]]

USER_AGENT: Final = b"pynector/" + __version__.encode("ascii")
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})
_NO_NAMES: Final[frozenset[bytes] | set[bytes]] = frozenset()


class WireRequest:
    """One request as an engine sends it. Built once per call and sent by every attempt.

    Attributes:
        method: Upper-case.
        target: Where it goes.
        headers: As sent, `Host` first; requests may share them. Credentials are among them: never show them.
        body: Bytes, a streamed body, or None.
        message: What it was built from.
        redirected: Whether it was redirected to another origin on the way.
        trusted: Whether it may have credentials: not after a redirect to another origin, but for the way from http to
            https of the same host.
    """

    __slots__ = ("body", "headers", "message", "method", "redirected", "target", "trusted")

    def __init__(
        self,
        method: str,
        target: Target,
        headers: RawHeaders,
        body: bytes | StreamBody | None,
        message: HttpMessage,
        *,
        redirected: bool = False,
        trusted: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.message = message
        self.redirected = redirected
        self.trusted = trusted

    @property
    def replayable(self) -> bool:
        """Whether it can be sent a second time."""
        return not isinstance(self.body, StreamBody) or self.body.replayable

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice does no more than sending it once (RFC 9110, 9.2.2), by method or by key."""
        return self.method in IDEMPOTENT_METHODS or any(
            len(name) == 15 and name.lower() == b"idempotency-key" for name, _ in self.headers
        )

    def set_header(self, name: bytes, value: str) -> None:
        """Set a header, in place of those of the same name."""
        checked = Headers([(name.decode("ascii"), value)]).raw
        self.headers = [item for item in self.headers if item[0].lower() != name.lower()] + checked

    def __str__(self) -> str:
        return f"{self.method} {self.target.redacted}"

    def __repr__(self) -> str:
        return f"<WireRequest {self}>"


class WireBuilder:
    """Builds wire requests from messages and the defaults of one transport.

    Args:
        base_url: What paths are appended to.
        headers: Sent with every request, unless the message has a header of the same name.
        authorization: The value of the `Authorization` header, if there is one.
        cookies: The cookies of the client.
        codec: What JSON is encoded with; the standard library by default.
    """

    __slots__ = ("_base_userinfo", "_codec", "_cookies", "_elsewhere", "_home", "_origin", "_urls")

    def __init__(
        self,
        base_url: str = "",
        headers: Headers | None = None,
        authorization: bytes | None = None,
        cookies: CookieStore | None = None,
        codec: JsonCodec | None = None,
    ) -> None:
        self._codec = codec
        self._urls = URLBuilder(base_url)
        self._cookies = cookies
        base = self._urls.base
        self._origin = None if base is None else base.origin
        self._base_userinfo = self._urls.userinfo
        # Those of the base URL are for its own server; what was given as `auth` or as a header is for all.
        credentials = authorization
        if credentials is None and self._base_userinfo:
            credentials = from_userinfo(self._base_userinfo)
        self._home = _Defaults(headers, credentials)
        self._elsewhere = self._home if credentials == authorization else _Defaults(headers, authorization)

    def build(self, message: HttpMessage) -> WireRequest:
        """What `message` is on the wire.

        Raises:
            ConfigurationError: Its URL or a parameter is unusable.
            SerializationError: Its body can't be encoded.
        """
        target, userinfo = self._urls.build(message.url, message.params)
        at_home = target.origin == self._origin
        defaults = self._home if at_home else self._elsewhere
        names = _NO_NAMES
        if message.headers:
            given = message.headers.raw
            names = {name.lower() for name, _ in given}
            headers = [] if b"host" in names else [(b"Host", target.authority)]
            headers += [(name, value) for lower, name, value in defaults.lowered if lower not in names]
            headers += given
        else:
            headers = defaults.all_for(target.authority)
        if userinfo and not (at_home and userinfo == self._base_userinfo) and b"authorization" not in names:
            headers = [item for item in headers if item[0].lower() != b"authorization"]
            headers.append((b"Authorization", from_userinfo(userinfo)))
        body: bytes | StreamBody | None = None
        if message.has_body or message.method in _BODY_METHODS:
            body, content_type = encode_body(message, self._codec)
            if body is None:
                body = stream_body(message)
            headers = headers.copy()
            _add_body_headers(headers, names | defaults.framing, body, content_type)
        return WireRequest(message.method, target, headers, body, message)

    def with_cookies(self, wire: WireRequest) -> RawHeaders:
        """The headers of `wire` with the cookies of the client, which may change between two attempts."""
        if self._cookies is None:
            return wire.headers
        value = self._cookies.header(wire.method, wire.target, redirected=wire.redirected)
        if value is None:
            return wire.headers
        own = [v for name, v in wire.headers if len(name) == 6 and name.lower() == b"cookie"]
        if not own:
            return [*wire.headers, (b"Cookie", value)]
        others = [item for item in wire.headers if item[0].lower() != b"cookie"]
        return [*others, (b"Cookie", b"; ".join([*own, value]))]

    def store_cookies(self, wire: WireRequest, headers: RawHeaders) -> None:
        """Keep the cookies of the answer to `wire`."""
        if self._cookies is not None:
            self._cookies.store(wire.method, wire.target, headers)


class _Defaults:
    """The headers that every request to some server has.

    Attributes:
        plain: As they are sent.
        lowered: The same, each behind its name in lower case.
        framing: The lower-case names of those that are about a body.
    """

    __slots__ = ("_last", "framing", "lowered", "plain")

    def __init__(self, given: Headers | None, authorization: bytes | None) -> None:
        own = given.raw if given else []
        names = {name.lower() for name, _ in own}
        defaults = default_headers()
        if authorization:
            defaults.append((b"Authorization", authorization))
        self.plain = [item for item in defaults if item[0].lower() not in names] + own
        self.lowered = [(name.lower(), name, value) for name, value in self.plain]
        self._last: RawHeaders = []
        self.framing = {lower for lower, _, _ in self.lowered if lower.startswith((b"content-", b"transfer-"))}

    def all_for(self, authority: bytes) -> RawHeaders:
        """All headers of a request that brings none of its own: the same list as before, if they are the same."""
        last = self._last
        if not last or last[0][1] != authority:
            last = self._last = [(b"Host", authority), *self.plain]
        return last


def _add_body_headers(
    headers: RawHeaders, names: set[bytes] | frozenset[bytes], body: bytes | StreamBody | None, content_type: str | None
) -> None:
    """Say what the body is and where it ends, as far as the headers called `names` do not."""
    kind = content_type.encode("ascii") if content_type else None
    if isinstance(body, StreamBody):
        kind, length = body.content_type or kind, body.length
        if kind and body.content_type and b"multipart/" in kind:
            # Only the encoder knows the boundary.
            headers[:] = [item for item in headers if item[0].lower() != b"content-type"]
            names = names - {b"content-type"}
    else:
        length = len(body) if body is not None else 0
    if kind and b"content-type" not in names:
        headers.append((b"Content-Type", kind))
    if b"content-length" not in names and b"transfer-encoding" not in names:
        if length is None:
            headers.append((b"Transfer-Encoding", b"chunked"))
        else:
            headers.append((b"Content-Length", b"%d" % length))


def redirect(wire: WireRequest, step: RedirectStep) -> WireRequest:
    """The request that follows `wire` after a redirect.

    Raises:
        HTTPRedirectError: The target is not usable, or the body would have to be sent again and can't.
    """
    try:
        target, _ = parse_url(step.url)
    except ConfigurationError as exc:
        # The server's mistake, not one of the user.
        raise HTTPRedirectError(f"redirected to {exc}", method=wire.method, url=wire.target.redacted) from None
    body = None if step.drop_body else wire.body
    if body is not None and not wire.replayable:
        raise HTTPRedirectError(
            "redirected with a body that can't be sent again: give bytes or a seekable file, or follow_redirects=False",
            method=wire.method,
            url=wire.target.redacted,
        )
    left_behind = step.drop_headers | {b"host"}
    kept = [item for item in wire.headers if item[0].lower() not in left_behind]
    headers = [(b"Host", target.authority), *kept]
    elsewhere = target.origin != wire.target.origin
    upgraded = wire.target.origin == (b"http", target.origin.host, 80) and target.origin[::2] == (b"https", 443)
    return WireRequest(
        step.method,
        target,
        headers,
        body,
        wire.message,
        redirected=wire.redirected or elsewhere,
        trusted=wire.trusted and (upgraded or not elsewhere),
    )


def default_headers() -> RawHeaders:
    """What every request has, unless the user says otherwise."""
    return [
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", accept_encoding()),
        (b"Connection", b"keep-alive"),
        (b"User-Agent", USER_AGENT),
    ]


def accept_encoding() -> bytes:
    """The content codings that can be decoded here: brotli and zstandard if their packages are installed."""
    codings = ["gzip", "deflate"]
    if importlib.util.find_spec("brotli") or importlib.util.find_spec("brotlicffi"):
        codings.append("br")
    if importlib.util.find_spec("zstandard"):
        codings.append("zstd")
    return ", ".join(codings).encode("ascii")
