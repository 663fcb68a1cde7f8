"""Where a redirect leads, and what the request must leave behind on the way (RFC 9110, 15.4)."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urldefrag, urljoin, urlsplit

from .._messages.headers import Headers
from .._messages.redact import is_sensitive_header, redact_url
from ..errors import HTTPRedirectError

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# What described the body that is no longer sent.
_BODY_HEADERS: Final = (
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "transfer-encoding",
)
# Not credentials, but nothing another server should learn: they name the caller and its other requests.
_PRIVATE_HEADERS: Final = frozenset({"host", "traceparent", "tracestate", "baggage"})


@dataclass(frozen=True, slots=True)
class RedirectStep:
    """The next request on the way.

    Attributes:
        method: Its method.
        url: Its absolute URL.
        drop_body: Whether the body stays behind.
        drop_headers: The names of the headers that stay behind, as lower-case bytes.
    """

    method: str
    url: str
    drop_body: bool
    drop_headers: frozenset[bytes]


def next_request(
    *, method: str, url: str, headers: Headers, has_body: bool, status_code: int, location: str | None
) -> RedirectStep | None:
    """Decide what a response asks to be sent next.

    301 and 302 turn POST into GET, 303 everything but HEAD; 307 and 308 change neither method nor body.
    Credentials (`Authorization`, `Cookie`, `X-Api-Key`, ...) and trace headers stay behind when the origin
    changes; they are kept on the way from `http` to `https` of the same host.

    Args:
        method: The method of the request that was answered.
        url: Its absolute URL.
        headers: Its headers.
        has_body: Whether it has a body.
        status_code: The status of the response.
        location: Its `Location` header.

    Returns:
        The next request, or `None` if the response is no redirect. The limit of steps is the caller's.

    Raises:
        HTTPRedirectError: The target is not `http` or `https`, has user and password in it, cannot be
            understood, or leads from `https` down to `http`.
    """
    if status_code not in REDIRECT_STATUSES or location is None or not location.strip():
        return None
    target = _resolve(method, url, location)
    old, new = urlsplit(url), urlsplit(target)
    origin, next_origin = _origin(url), _origin(target)
    if origin[0] == "https" and next_origin[0] == "http":
        raise _refuse(method, url, f"it leads from https down to {redact_url(target)}")
    to_get = (status_code == 303 and method != "HEAD") or (status_code in (301, 302) and method == "POST")
    drop_headers: set[str] = set(_BODY_HEADERS) if to_get else set()
    if origin != next_origin:
        upgrade = origin == ("http", old.hostname, 80) and next_origin == ("https", old.hostname, 443)
        drop_headers.update(
            name for name in headers if name in _PRIVATE_HEADERS or (is_sensitive_header(name) and not upgrade)
        )
    if old.fragment and not new.fragment:
        # RFC 9110, 10.2.2: the fragment is inherited.
        target = f"{target}#{old.fragment}"
    return RedirectStep(
        method="GET" if to_get else method,
        url=target,
        drop_body=to_get and has_body,
        drop_headers=frozenset(name.encode("latin-1") for name in drop_headers),
    )


def _resolve(method: str, url: str, location: str) -> str:
    # Header text is latin-1: its bytes outside ASCII are sent back as they came, percent-encoded.
    try:
        raw = location.strip().encode("latin-1")
    except UnicodeEncodeError:
        raw = location.strip().encode("utf-8", "replace")
    location = quote(raw, safe="!#$%&'()*+,-./:;=?@[]_~|\\^`{}\"<>")
    try:
        target = urljoin(urldefrag(url).url, location)
        parts = urlsplit(target)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        raise _refuse(method, url, f"its target {redact_url(location)!r} is not a URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise _refuse(method, url, f"its scheme {parts.scheme!r} is neither http nor https")
    if not parts.hostname:
        raise _refuse(method, url, "its target names no host")
    if "@" in parts.netloc:
        raise _refuse(method, url, "its target has credentials in it")
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _refuse(method: str, url: str, why: str) -> HTTPRedirectError:
    safe = redact_url(url)
    return HTTPRedirectError(f"refused the redirect of {method} {safe}: {why}", method=method, url=safe)
