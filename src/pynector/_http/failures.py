"""What went wrong below, told in Pynector's errors.

httpcore and httpx raise classes of the same names, and so do their maintained forks: one table by name serves all.
"""

import ssl
from collections.abc import Callable, Iterator

from .. import errors
from .wire import WireRequest

_Build = Callable[[str], errors.TransportError]

_NO_ANSWER = "disconnected without sending a response"
_FAMILY = ("httpcore", "httpx", "h11")

_TABLE: dict[str, _Build] = {
    "ConnectTimeout": lambda text: errors.ConnectionTimeoutError(
        text or "no connection within the timeout", phase="connect", sent=False
    ),
    "PoolTimeout": lambda text: errors.ConnectionTimeoutError(
        text or "no free connection within the timeout", phase="pool", sent=False
    ),
    "ReadTimeout": lambda text: errors.ConnectionTimeoutError(
        text or "the server sent nothing within the timeout", phase="read"
    ),
    "WriteTimeout": lambda text: errors.ConnectionTimeoutError(
        text or "the server took nothing within the timeout", phase="write"
    ),
    "ConnectError": lambda text: errors.ConnectionError(text or "no connection", sent=False),
    "ReadError": lambda text: errors.ConnectionError(text or "connection lost while reading"),
    "WriteError": lambda text: errors.ConnectionError(text or "connection lost while writing"),
    "CloseError": lambda text: errors.ConnectionError(text or "connection lost while closing"),
    "ProxyError": lambda text: errors.HTTPProxyError(text or "the proxy refused", sent=False),
    "UnsupportedProtocol": lambda text: errors.HTTPProtocolError(text or "unsupported protocol", sent=False),
    "LocalProtocolError": lambda text: errors.HTTPProtocolError(text or "not a valid request", sent=False),
    "RemoteProtocolError": lambda text: errors.HTTPProtocolError(text or "not a valid answer"),
    "DecodingError": lambda text: errors.HTTPDecodeError(text or "the body can't be decoded"),
    "TooManyRedirects": lambda text: errors.HTTPRedirectError(text or "too many redirects"),
}


def translate(exc: Exception, wire: WireRequest, *, partial: bytes | None = None) -> errors.TransportError | None:
    """The Pynector error for an exception of the layer below; None if it is to be raised as it is.

    Args:
        exc: What was raised.
        wire: The request it was raised for.
        partial: What had been read of the body; None before the head of the answer was complete.
    """
    error = None
    if isinstance(exc, errors.TransportError):
        exc.method, exc.url = wire.method, wire.target.redacted
    elif (build := next(_entries(exc), None)) is not None or (build := _tls_failure(exc)) is not None:
        _scrub(exc)
        error = _special(exc, partial) or build(str(exc))
        error.method, error.url = wire.method, wire.target.redacted
        error.args = (f"{error.args[0]}: {error.method} {error.url}",)
    return error


def told(exc: BaseException) -> errors.TransportError | None:
    """The Pynector error for an exception of httpx, whoever sent the request; None for any other exception."""
    if not isinstance(exc, Exception) or (build := next(_entries(exc), None)) is None:
        return None
    _scrub(exc)
    return _special(exc, None) or build(str(exc))


def died_before_answer(exc: BaseException) -> bool:
    """Whether a connection ended before the first byte of an answer."""
    name = type(exc).__name__
    return name in {"ReadError", "WriteError"} or (name == "RemoteProtocolError" and _NO_ANSWER in str(exc))


def _entries(exc: Exception) -> Iterator[_Build]:
    for cls in type(exc).__mro__:
        if cls.__module__.startswith(_FAMILY) and (build := _TABLE.get(cls.__name__)):
            yield build


def _tls_failure(exc: Exception) -> _Build | None:
    """For what TLS raises after the handshake: httpcore lets it through, on event loops at least."""
    return _TABLE["ReadError"] if isinstance(exc, ssl.SSLError) else None


def _special(exc: Exception, partial: bytes | None) -> errors.TransportError | None:
    """Cases that the class alone does not tell."""
    name, text = type(exc).__name__, str(exc)
    if name == "ConnectError":
        for cause in _causes(exc):
            if isinstance(cause, ssl.SSLEOFError):
                # Nobody refused anything: a server, or what stands before it, went away.
                hung_up = "the server hung up in the TLS handshake"
                return errors.ConnectionError(hung_up if text.startswith("[SSL") else text or hung_up, sent=False)
            if isinstance(cause, ssl.SSLError | ssl.CertificateError):
                return errors.TLSError(text or str(cause), sent=False)
            if isinstance(cause, ConnectionRefusedError):
                return errors.ConnectionRefusedError(text or "connection refused")
    if name in {"ReadError", "WriteError", "SSLError"}:
        for cause in _causes(exc):
            if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
                # In TLS 1.3 a client hears only now that the server wants a certificate, or another one.
                return errors.TLSError(text or str(cause))
    if name == "LocalProtocolError" and type(exc).__module__.startswith("h11"):
        # Told as it is by httpcore once the head is out: the body is not as long as was said.
        return errors.HTTPProtocolError(text)
    if name == "RemoteProtocolError":
        if partial is not None and "without sending complete" in text:
            return errors.HTTPIncompleteError(text, partial=partial)
        if _NO_ANSWER in text:
            # Nothing came back: a stale connection or a dying server, not a server that talks nonsense.
            return errors.HTTPProtocolError(text, transient=True)
    return None


def _scrub(exc: Exception) -> None:
    """Take the value of a refused header out of an error, and out of those that it will be shown with."""
    for cause in _causes(exc):
        if (text := str(cause)).startswith("Illegal header"):
            cause.args = (" ".join(text.split()[:3]),)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    waiting = [exc]
    for _ in range(32):  # chains below are short; a cycle must not hang an error path
        if not waiting:
            return
        current = waiting.pop()
        yield current
        if isinstance(current, BaseExceptionGroup):
            # A name with several addresses has several failures.
            waiting.extend(current.exceptions)
        if (following := current.__cause__ or current.__context__) is not None:
            waiting.append(following)
