"""pyreqwest, the Rust client below the engine of that name: its options, headers and errors in our own words."""

import os
import re
import ssl
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from pyreqwest.client import BaseClientBuilder, Client, ClientBuilder, SyncClient, SyncClientBuilder
from pyreqwest.exceptions import (
    BuilderError,
    ConnectTimeoutError,
    DetailedPyreqwestError,
    PyreqwestError,
    ReadTimeoutError,
    WriteTimeoutError,
)
from pyreqwest.http import HeaderMap
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from .. import errors
from .._messages.redact import redact_url
from ..errors import ConfigurationError
from .head import MAX_HEADERS
from .proxies import Proxy
from .settings import CertTypes, EngineSettings
from .tls import load_cert
from .wire import RawHeaders, WireRequest

B = TypeVar("B", bound=BaseClientBuilder)

_homes: list[int] = []
# The process that uses it, once one does.


def claim_process() -> None:
    """Note that pyreqwest is used in this process.

    Raises:
        ConfigurationError: It was used in the parent of this forked process: its threads did not come along, and
            whatever is asked of it hangs.
    """
    if not _homes:
        _homes.append(os.getpid())
    elif _homes[0] != os.getpid():
        raise ConfigurationError(
            "pyreqwest was used before this process was forked, and does not survive that: start processes by the "
            "method 'spawn', make the first request after the fork, or use engine='httpx'"
        )


def check_settings(settings: EngineSettings) -> None:
    """Refuse what pyreqwest can't do.

    Raises:
        ConfigurationError: A setting asks for it; the text names the engine that can.
    """
    if isinstance(settings.verify_ssl, ssl.SSLContext):
        raise ConfigurationError(
            "engine='pyreqwest' has TLS of its own and takes no ssl.SSLContext: give verify_ssl= the path of a PEM "
            "file, or use engine='httpx'"
        )
    if settings.uds is not None:
        raise ConfigurationError("engine='pyreqwest' has no Unix sockets: for uds= use engine='httpx'")
    if settings.verify_ssl is not False and settings.trust_env:
        for name in _VARIABLES:
            if path := os.environ.get(name):
                _authorities(path, f"the certificates of {name}=")


def why_no_tls(settings: EngineSettings) -> str | None:
    """Why requests over TLS must be refused; None if they need not."""
    named = [f"{name}={value}" for name in _VARIABLES if (value := os.environ.get(name))]
    if settings.trust_env or settings.verify_ssl is False or not named:
        return None
    return f"engine='pyreqwest' can't help trusting {' and '.join(named)}: unset it, or use engine='httpx'"


_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def build_client(settings: EngineSettings, *, uploads: bool = False, proxy: Proxy | None = None) -> Client:
    """A client that adds nothing of its own to a request, and undoes nothing in an answer.

    Args:
        settings: What it is to do.
        uploads: For requests with large bodies: without a limit to how long they may take.
        proxy: The proxy for all its requests.

    Raises:
        ConfigurationError: A certificate or proxy can't be used.
    """
    builder = _options(ClientBuilder(), settings)
    if settings.timeout is not None:
        if uploads:
            # An upload that nobody takes would block for ever once it is given up.
            builder = builder.tcp_user_timeout(timedelta(seconds=settings.timeout))
        else:
            builder = builder.read_timeout(timedelta(seconds=patience(settings.timeout)))
    if settings.verify_ssl is False:
        builder = builder.danger_accept_invalid_certs(True)
    elif not isinstance(settings.verify_ssl, bool | ssl.SSLContext):
        for pem in _authorities(settings.verify_ssl):
            builder = builder.add_root_certificate_pem(pem)
    identity = None if settings.cert is None else _identity(settings.cert.get())
    try:
        if identity is not None:
            builder = builder.identity_pem(identity)
        if proxy is not None:
            builder = builder.proxy(_proxy_builder(proxy))
        return builder.build()
    except (PyreqwestError, ValueError) as exc:
        what = "argument `cert`" if settings.cert is not None else "the options of the transport"
        raise ConfigurationError(f"{what}: pyreqwest can't use it: {_last_cause(exc)}") from None


def build_plain_client(settings: EngineSettings) -> SyncClient:
    """A client that blocks, for requests without TLS and proxies: made in no time, as it trusts nobody."""
    builder = _options(SyncClientBuilder(), settings).danger_accept_invalid_certs(True)
    if settings.timeout is not None:
        builder = builder.read_timeout(timedelta(seconds=patience(settings.timeout)))
    return builder.build()


PING = timedelta(seconds=10)
"""How long an HTTP/2 connection may be silent before it is asked if it lives, and how long it has to say so."""


def _options(builder: B, settings: EngineSettings) -> B:
    builder = builder.no_proxy().follow_redirects(False).referer(False)
    builder = builder.gzip(False).brotli(False).zstd(False).deflate(False)
    builder = builder.pool_idle_timeout(timedelta(seconds=settings.keepalive_expiry)).http2(settings.http2)
    if settings.http2:
        # Or those who give up before the time-out would get onto a connection that has died for ever.
        builder = builder.http2_keep_alive_interval(PING).http2_keep_alive_timeout(PING)
    if settings.timeout is not None:
        builder = builder.connect_timeout(timedelta(seconds=settings.timeout))
    return builder


def patience(timeout: float) -> float:
    """How long an answer may take, in seconds: longer than connecting, to tell one time-out from the other."""
    return timeout + max(0.05 * timeout, 0.1)


def _authorities(path: str | os.PathLike[str], source: str = "argument `verify_ssl`: ") -> list[bytes]:
    place = Path(path)
    try:
        files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
        found = [pem for file in files for pem in _certificates(file.read_bytes())]
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{source}{os.fspath(path)} can't be loaded: {exc}") from exc
    if not found:
        raise ConfigurationError(f"{source}{os.fspath(path)} can't be loaded: there is no certificate in it")
    return found


_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


def _certificates(pem: bytes) -> list[bytes]:
    return [_BEGIN + part.partition(_END)[0] + _END + b"\n" for part in pem.split(_BEGIN)[1:]]


def _identity(cert: CertTypes) -> bytes:
    certificate, key = (*cert, None)[:2] if isinstance(cert, tuple) else (cert, None)
    try:
        pem = b"\n".join(Path(path).read_bytes() for path in (certificate, key) if path is not None)
    except (OSError, ValueError):
        pem = b""  # the reason is told below
    if b"ENCRYPTED" in pem:
        raise ConfigurationError("engine='pyreqwest' takes no key with a password: use engine='httpx' for it")
    # It would be taken as it is, and fail in a handshake some day.
    load_cert(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert)
    return pem


def _proxy_builder(proxy: Proxy) -> ProxyBuilder:
    # Written so, the proxy looks up the names of hosts, as with the other engines.
    scheme = "socks5h" if proxy.is_socks else proxy.scheme
    url = str(proxy).replace(proxy.scheme, scheme, 1)
    if proxy.credentials is None:
        return ProxyBuilder.all(url)
    user, password = proxy.credentials.get()
    if proxy.is_socks:
        from urllib.parse import quote

        head, _, tail = url.partition("://")
        return ProxyBuilder.all(f"{head}://{quote(user, safe='')}:{quote(password, safe='')}@{tail}")
    return ProxyBuilder.all(url).custom_http_auth((proxy.authorization or b"").decode("ascii"))


# Requests and answers


def remaining(seconds: float) -> timedelta:
    """The limit for a whole exchange, at least a millisecond."""
    return timedelta(seconds=min(max(seconds, 0.001), 1e9))


def text_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    """Headers as pyreqwest takes them.

    Raises:
        HTTPProtocolError: A value can't be sent.
    """
    try:
        # Names and values are text to pyreqwest, and UTF-8 on the wire.
        return [(name.decode(), value.decode()) for name, value in headers]
    except UnicodeDecodeError:
        raise errors.HTTPProtocolError(
            "engine='pyreqwest' can't send a header value that is neither ASCII nor UTF-8: use engine='httpx' for it",
            sent=False,
        ) from None


def declared_length(headers: RawHeaders) -> int | None:
    """The size of the body as the headers say; None if they do not."""
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return None


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    """A body in pieces."""
    return (body[start : start + size] for start in range(0, len(body), size))


def http_version(response: Response) -> str:
    """As in `HTTP/1.1` and `HTTP/2`."""
    return response.version.removesuffix(".0") if response.version == "HTTP/2.0" else response.version


def has_header(headers: HeaderMap, name: str) -> bool:
    """Whether there is a header of that name, in lower case."""
    return name in headers


def is_plain_head(version: str, headers: HeaderMap) -> bool:
    """Whether there is nothing in the head of an answer that has to be looked at: it is so with most."""
    return (
        version in _VERSIONS
        and len(headers) <= MAX_HEADERS
        and "content-encoding" not in headers
        and "transfer-encoding" not in headers
    )


def opening(request: StreamRequest) -> Coroutine[Any, Any, Response]:
    """What sends a request and waits for the head of its answer."""
    return request.__aenter__()


def closing(request: StreamRequest) -> Coroutine[Any, Any, None]:
    """What ends an exchange."""
    return request.__aexit__(None, None, None)


_VERSIONS = frozenset({"HTTP/1.0", "HTTP/1.1", "HTTP/2"})


# Errors

_NOT_TLS = ("dns error", "tcp connect error", "os error")
_TLS = ("certificate", "corrupt message", "fatal alert", "handshake", "tls", "peer is", "peer misbehaved")
_PROXY = ("tunnel", "proxy", "socks")
_HUNG_UP = ("unexpected end of file", "handshake eof", "close_notify", "io error during socks handshake")
# What a SOCKS proxy refuses with that may be otherwise in a moment. All else is its last word.
_PASSING = ("general server failure", "unreachable", "connection refused", "ttl expired")


def was_sent(exc: BaseException) -> bool:
    """Whether a request may have reached the server."""
    return "client error (Connect)" not in _causes(exc) and not isinstance(exc, BuilderError)


def translate(
    exc: Exception, wire: WireRequest, partial: bytes | None = None, proxy: Proxy | None = None
) -> errors.TransportError | None:
    """The Pynector error for one of pyreqwest; None if it is to be raised as it is.

    Args:
        exc: What was raised.
        wire: The request it was raised for.
        partial: What had been read of the body; None before the head of the answer was complete.
        proxy: The proxy it was to go through.
    """
    if isinstance(exc, errors.TransportError):
        error = exc
    elif isinstance(exc, PyreqwestError):
        scrub(exc)
        error = _build(exc, _last_cause(exc), partial, proxy)
        error.args = (f"{error.args[0]}: {wire.method} {wire.target.redacted}",)
    else:
        return None
    error.method, error.url = wire.method, wire.target.redacted
    return error


def timed_out(exc: BaseException) -> bool:
    """Whether a limit of time has passed."""
    return isinstance(exc, ConnectTimeoutError | ReadTimeoutError | WriteTimeoutError)


def died_before_answer(exc: BaseException) -> bool:
    """Whether a connection ended before the first byte of an answer."""
    causes = _causes(exc)
    return "client error (SendRequest)" in causes and (
        "connection closed before message completed" in causes or "connection error" in causes
    )


def _build(exc: PyreqwestError, text: str, partial: bytes | None, proxy: Proxy | None) -> errors.TransportError:
    kind = type(exc).__name__
    if not was_sent(exc):
        return _no_connection(exc, text, proxy)
    if kind in {"ConnectTimeoutError", "ReadTimeoutError", "RequestTimeoutError"}:
        return errors.ConnectionTimeoutError("the server sent nothing within the timeout", phase="read")
    if kind == "WriteTimeoutError":
        return errors.ConnectionTimeoutError("the server took nothing within the timeout", phase="write")
    if text == "connection closed before message completed":
        # Nothing came back: a stale connection or a dying server, not a server that talks nonsense.
        return errors.HTTPProtocolError("the server disconnected without sending a response", transient=True)
    if any(word in text for word in ("end of file", "unexpected EOF", "close_notify")):
        if "client error (SendRequest)" in _causes(exc):
            return errors.ConnectionError(f"connection lost: {text}")
        return errors.HTTPIncompleteError(text, partial=partial or b"")
    if "received fatal alert" in text:
        # In TLS 1.3 a client hears only now that the server wants a certificate, or another one.
        return errors.TLSError(text)
    if kind in {"ConnectError", "ReadError", "WriteError", "NetworkError"}:
        return errors.ConnectionError(f"connection lost: {text}")
    if "user body write aborted" in _causes(exc):
        return errors.HTTPProtocolError(f"the body is shorter than its Content-Length says: {text}")
    return errors.HTTPProtocolError(text)


def _no_connection(exc: PyreqwestError, text: str, proxy: Proxy | None) -> errors.TransportError:
    if isinstance(exc, BuilderError):
        return errors.HTTPProtocolError(f"not a valid request: {text}", sent=False)
    where = "" if proxy is None else f"no connection through the proxy {proxy}"
    if isinstance(exc, ConnectTimeoutError):
        return errors.ConnectionTimeoutError(
            f"{where or 'no connection'} within the timeout", phase="connect", sent=False
        )
    causes = " ".join(_causes(exc))
    lower = causes.lower()
    at_proxy = proxy is not None and any(word in lower for word in _PROXY)
    if any(word in lower for word in _HUNG_UP):
        if at_proxy and proxy is not None and proxy.is_socks and proxy.credentials is not None:
            # Most likely a blunt way to refuse them: not to be tried again.
            return errors.HTTPProxyError(f"{where}: it hung up, or refused our user and password", sent=False)
        # Nobody refused anything: a server, or what stands before it, went away.
        text = f"it hung up ({text})" if at_proxy else "the server hung up in the TLS handshake"
        return errors.ConnectionError(f"{where}: {text}" if where else text, sent=False)
    text = f"{where}: {text}" if where else text
    if "Connection refused" in causes:
        return errors.ConnectionRefusedError(text)
    if "failed to create underlying connection" in lower:
        # To a SOCKS proxy, whatever the reason: it is not told.
        return errors.ConnectionError(text, sent=False)
    if at_proxy and "os error" not in lower and "dns error" not in lower:
        return errors.HTTPProxyError(text, sent=False, transient=any(word in lower for word in _PASSING))
    if not any(word in lower for word in _NOT_TLS) and any(word in lower for word in _TLS):
        return errors.TLSError(text, sent=False)
    return errors.ConnectionError(text, sent=False)


def scrub(exc: BaseException) -> None:
    """Take credentials out of the URL in an exception, which will be shown as the cause of ours.

    Args:
        exc: What was raised; nothing happens to what is not pyreqwest's.
    """
    if isinstance(exc, DetailedPyreqwestError):
        for cause in exc.details.get("causes") or []:
            cause["message"] = _URL.sub(lambda match: f"{match[1]}{redact_url(match[2])})", cause["message"])


_URL = re.compile(r"( for url \()(.*)\)")


def _causes(exc: BaseException) -> list[str]:
    if not isinstance(exc, DetailedPyreqwestError):
        return []
    # The first one says which URL it was, and no more.
    return [cause["message"] for cause in exc.details.get("causes") or [] if " for url (" not in cause["message"]]


def _last_cause(exc: BaseException) -> str:
    return (_causes(exc) or [exc.message if isinstance(exc, PyreqwestError) else str(exc)])[-1]
