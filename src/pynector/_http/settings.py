"""What an engine is built with."""

import os
import ssl
from dataclasses import dataclass
from typing import Any

from .._config import Secret

VerifyTypes = bool | str | os.PathLike[str] | ssl.SSLContext
"""Whether servers are checked (bool), against which authorities (a PEM file or a folder), or a whole TLS context."""

CertTypes = str | os.PathLike[str] | tuple[Any, ...]
"""A client certificate: a PEM file with its key, or `(certificate, key)`, or `(certificate, key, password)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The options of a transport that concern its engine, checked.

    Attributes:
        timeout: The longest silence of the network in connecting, reading or writing, in seconds; None for no limit.
        verify_ssl: Whether and how servers are checked.
        cert: A client certificate; its password is a secret.
        trust_env: Whether `SSL_CERT_FILE`, `SSL_CERT_DIR` and the proxies of the environment are looked at.
        http2: Whether HTTP/2 is offered to servers (RFC 9113).
        proxy: The URL of a proxy for all requests; it may have a user and a password in it.
        uds: The path of a Unix socket that all requests go to.
        max_connections: The most requests on the wire at once.
        max_connections_per_host: The same for one origin; None for no limit of its own.
        keepalive_expiry: Seconds an idle connection is kept.
        max_response_size: The most bytes of a body on the wire; None for no limit.
        max_decompressed_size: The most bytes of a body after decompression; None for no limit.
        follow_redirects: Whether the user's own client is told to follow redirects. No other engine follows any.
        client: The user's own httpx client, which brings most of the above itself.
    """

    timeout: float | None = 30.0
    verify_ssl: VerifyTypes = True
    cert: Secret[CertTypes] | None = None
    trust_env: bool = True
    http2: bool = False
    proxy: Secret[str] | None = None
    uds: str | None = None
    max_connections: int = 100
    max_connections_per_host: int | None = None
    keepalive_expiry: float = 5.0
    max_response_size: int | None = None
    max_decompressed_size: int | None = None
    follow_redirects: bool = True
    client: Any = None
