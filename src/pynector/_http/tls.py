"""TLS contexts: whom we trust, who we are, and which protocols we offer."""

import functools
import os
import ssl
from typing import Any

from ..errors import ConfigurationError
from .family import load
from .settings import CertTypes, EngineSettings, VerifyTypes

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def server_context(settings: EngineSettings, library: str = "httpx") -> ssl.SSLContext:
    """The context for connections to servers.

    A context of the user's is used as it is, so what it offers by ALPN is up to the user.

    Args:
        settings: What is wanted.
        library: `httpx` or `httpx2`, which say whom is trusted if the settings do not.

    Raises:
        ConfigurationError: A certificate or key can't be loaded; the text names the argument, or the variable of the
            environment, and the file.
    """
    cert = None if settings.cert is None else settings.cert.get()
    context = _context(settings.verify_ssl, settings.trust_env, settings.http2, library, shared=cert is None)
    if cert is not None:
        load_cert(context, cert)
    return context


def proxy_context(settings: EngineSettings, library: str = "httpx") -> ssl.SSLContext:
    """The context for connections to https:// proxies: the same trust, but neither client certificate nor HTTP/2.

    Raises:
        ConfigurationError: As above.
    """
    return _context(settings.verify_ssl, settings.trust_env, False, library, shared=True)


def _context(verify: VerifyTypes, trust_env: bool, http2: bool, library: str, *, shared: bool) -> ssl.SSLContext:
    """A context that may be shared with every engine of the same options and environment: building one costs 17 ms.

    A user's own files are read again for every engine: they may have changed.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    if not isinstance(verify, bool):
        return _trusting(verify, http2)
    sources = tuple(os.environ.get(name) for name in _VARIABLES) if trust_env else ()
    try:
        build = _shared if shared else _shared.__wrapped__
        return build(verify, trust_env, sources, http2, library)
    except OSError as exc:  # an ssl.SSLError is one too
        named = " and ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name))
        raise ConfigurationError(f"the certificates of {named} can't be loaded: {exc}") from exc


@functools.lru_cache(maxsize=16, typed=True)
def _shared(
    verify: bool, trust_env: bool, sources: tuple[str | None, ...], http2: bool, library: str
) -> ssl.SSLContext:
    context: ssl.SSLContext = load(library).create_ssl_context(verify=verify, trust_env=trust_env)
    _offer(context, http2)
    return context


def _trusting(path: str | os.PathLike[str], http2: bool) -> ssl.SSLContext:
    try:
        if os.path.isdir(path):
            context = ssl.create_default_context(capath=path)
        else:
            context = ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"argument `verify_ssl`: {os.fspath(path)!r} can't be loaded: {exc}") from exc
    _offer(context, http2)
    return context


def _offer(context: ssl.SSLContext, http2: bool) -> None:
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])


def load_cert(context: ssl.SSLContext, cert: CertTypes) -> None:
    """Give a context the certificate of a client.

    Raises:
        ConfigurationError: It, or its key, can't be loaded; the text names the file.
    """
    certificate, key, password = _parts(*cert) if isinstance(cert, tuple) else _parts(cert)
    for path in (certificate, key):
        if path is not None:
            try:
                with open(path, "rb"):
                    pass
            except (OSError, ValueError) as exc:
                # What OpenSSL says does not name the file.
                reason = exc.strerror if isinstance(exc, OSError) else exc
                raise ConfigurationError(f"argument `cert`: {os.fspath(path)!r} can't be read: {reason}") from exc
    try:
        # A function, for without any password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "" if password is None else password)
    except (OSError, ValueError) as exc:
        named = " with the key ".join(repr(os.fspath(path)) for path in (certificate, key) if path is not None)
        # OpenSSL has one and the same text for all of these.
        hint = ": no PEM file, no key in it, or not its password?" if getattr(exc, "reason", None) is None else ""
        raise ConfigurationError(f"argument `cert`: {named} can't be loaded: {exc}{hint}") from None


def _parts(certificate: Any, key: Any = None, password: Any = None) -> tuple[Any, Any, Any]:
    return certificate, key, password
