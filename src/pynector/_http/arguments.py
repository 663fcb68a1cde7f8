"""The arguments of the HTTP transport, checked: each refusal says what would be right."""

import math
import os
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from .._config import Secret, check_count, check_flag, check_timeout
from .._messages.body import JsonCodec
from ..errors import TRANSIENT_STATUSES, ConfigurationError
from .settings import CertTypes, EngineSettings, VerifyTypes

MAX_CONNECTIONS: Final = 100_000
"""More than a machine has ports for; a larger number is a slip."""

KEEPALIVE_EXPIRY: Final = 5.0
"""Seconds; servers close idle connections after 5 (uvicorn, Node.js) to 75 (nginx)."""

_HOOKS: Final = ("request", "response")

EventHooks = Mapping[str, Sequence[Callable[..., Any]]]
"""Hooks by what they are called for: `"request"`, `"response"`."""


class Hooks(NamedTuple):
    """The hooks of a transport, in the order they are called in."""

    request: tuple[Callable[..., Any], ...]
    response: tuple[Callable[..., Any], ...]


def checked_verify(verify_ssl: object) -> VerifyTypes:
    """Whether, or against what, servers are checked.

    Raises:
        ConfigurationError: It is no bool, path or TLS context.
    """
    if isinstance(verify_ssl, bool | ssl.SSLContext):
        return verify_ssl
    if isinstance(verify_ssl, str | os.PathLike) and _path(verify_ssl):
        return verify_ssl
    raise ConfigurationError(
        f"argument `verify_ssl`: {verify_ssl!r:.80} is not accepted; give True or False, the path of a PEM file or "
        "of a folder of them, or an ssl.SSLContext"
    )


def checked_cert(cert: object, verify_ssl: VerifyTypes) -> Secret[CertTypes] | None:
    """The client certificate; its password is a secret.

    Raises:
        ConfigurationError: It is no path or tuple of paths and a password, or there is nowhere to load it into.
    """
    if cert is None:
        return None
    match cert:
        case str() | os.PathLike():
            good = bool(_path(cert))
        case (str() | os.PathLike() as file, str() | os.PathLike() as key):
            good = bool(_path(file) and _path(key))
        case (str() | os.PathLike() as file, str() | os.PathLike() | None as key, str() | bytes() | None):
            good = bool(_path(file)) and (key is None or bool(_path(key)))
        case _:
            good = False
    if not good:
        raise ConfigurationError(
            f"argument `cert`: a value of type {type(cert).__name__} is not accepted; give the path of a PEM file with "
            "its key, or (certificate, key), or (certificate, key, password)"
        )
    if isinstance(verify_ssl, ssl.SSLContext):
        raise ConfigurationError("verify_ssl= is an ssl.SSLContext of your own: load cert= into it (load_cert_chain)")
    return Secret(cert)  # type: ignore[arg-type]  # it was just checked


def checked_proxy(proxy: str | None) -> Secret[str] | None:
    """The URL of a proxy.

    Raises:
        ConfigurationError: It is not one. The text never shows it: it may have a password in it.
    """
    if proxy is None:
        return None
    from .proxies import parse_proxy  # loads much, and few have one

    parse_proxy(proxy)
    return Secret(proxy)


def checked_uds(uds: object, proxy: Secret[str] | None) -> str | None:
    """The path of a Unix socket.

    Raises:
        ConfigurationError: It is no path, or there is a proxy as well.
    """
    if uds is None:
        return None
    path = _path(uds)
    if path is None:
        raise ConfigurationError(f"argument `uds`: {uds!r:.80} is not accepted; give the path of a Unix socket")
    if proxy is not None:
        raise ConfigurationError("uds and proxy were given, but there is one way to a server: give one of them")
    return path


def checked_count(value: object, name: str) -> int | None:
    """A number of things, 1 or more; None for no limit.

    Raises:
        ConfigurationError: It is something else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigurationError(
        f"argument `{name}`: {value!r:.80} is not accepted; give an integer of 1 or more, or None for no limit"
    )


def checked_expiry(value: object) -> float:
    """How long an idle connection is kept, in seconds.

    Raises:
        ConfigurationError: It is no number of 0 or more.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise ConfigurationError(f"argument `keepalive_expiry`: {value!r:.80} is not accepted; give seconds, 0 or more")


def checked_codec(codec: object) -> JsonCodec | None:
    """A JSON library.

    Raises:
        ConfigurationError: It lacks one of its two functions.
    """
    if codec is None:
        return None
    if not all(callable(getattr(codec, name, None)) for name in ("dumps", "loads")):
        raise ConfigurationError(
            f"argument `json_codec`: {codec!r:.80} is not accepted; give an object or a module with "
            "dumps(value) -> bytes or str, and loads(bytes) -> value, such as orjson"
        )
    return codec  # type: ignore[return-value]  # it was just checked


def checked_hooks(hooks: object) -> Hooks | None:
    """The hooks of a transport, None if there are none.

    Raises:
        ConfigurationError: They are no mapping of the known names to lists of callables.
    """
    if hooks is None:
        return None
    if not isinstance(hooks, Mapping):
        raise ConfigurationError(
            f"argument `event_hooks`: expected a mapping, got {type(hooks).__name__}; "
            'give {"request": [...], "response": [...]}'
        )
    for name, each in hooks.items():
        if name not in _HOOKS:
            raise ConfigurationError(f"argument `event_hooks`: unknown key {name!r:.80}; known are {', '.join(_HOOKS)}")
        if isinstance(each, str | bytes) or not isinstance(each, Iterable) or not all(map(callable, each)):
            raise ConfigurationError(f"argument `event_hooks`: {name!r} is no list of callables")
    found = Hooks(*(tuple(hooks.get(name, ())) for name in _HOOKS))
    return found if any(found) else None


def checked_statuses(codes: Collection[int] | None) -> frozenset[int]:
    """The statuses that are retried.

    Raises:
        ConfigurationError: They can't be iterated over. What they are, `RetryPolicy` checks.
    """
    if codes is None:
        return TRANSIENT_STATUSES
    try:
        return frozenset(codes)
    except TypeError:
        raise ConfigurationError(
            f"retry_status_codes={codes!r:.80} is not accepted; give HTTP statuses, as in {{429, 503}}"
        ) from None


def checked_settings(
    *,
    timeout: float | None,
    verify_ssl: VerifyTypes,
    cert: CertTypes | None,
    trust_env: bool,
    http2: bool,
    proxy: str | None,
    uds: str | os.PathLike[str] | None,
    max_connections: int,
    max_connections_per_host: int | None,
    keepalive_expiry: float,
    max_response_size: int | None,
    max_decompressed_size: int | None,
    follow_redirects: bool,
    client: Any,
) -> EngineSettings:
    """The arguments that concern the engine.

    Raises:
        ConfigurationError: One of them is wrong.
    """
    verify = checked_verify(verify_ssl)
    proxy_url = checked_proxy(proxy)
    return EngineSettings(
        timeout=check_timeout(name="timeout", value=timeout),
        verify_ssl=verify,
        cert=checked_cert(cert, verify),
        trust_env=check_flag(trust_env, "trust_env"),
        http2=check_flag(http2, "http2"),
        proxy=proxy_url,
        uds=checked_uds(uds, proxy_url),
        max_connections=check_count(max_connections, "max_connections", maximum=MAX_CONNECTIONS),
        max_connections_per_host=checked_count(max_connections_per_host, "max_connections_per_host"),
        keepalive_expiry=checked_expiry(keepalive_expiry),
        max_response_size=checked_count(max_response_size, "max_response_size"),
        max_decompressed_size=checked_count(max_decompressed_size, "max_decompressed_size"),
        follow_redirects=check_flag(follow_redirects, "follow_redirects"),
        client=client,
    )


def refuse_with_client(settings: EngineSettings, **others: object) -> None:
    """Refuse the arguments that the user's own httpx client brings itself.

    Args:
        settings: Those that concern the engine.
        **others: Whether another argument was given, by its name.

    Raises:
        ConfigurationError: For the first that was given.
    """
    given = {
        "verify_ssl": settings.verify_ssl is not True,
        "cert": settings.cert,
        "trust_env": not settings.trust_env,
        "http2": settings.http2,
        "proxy": settings.proxy,
        "uds": settings.uds,
        "max_connections_per_host": settings.max_connections_per_host,
        "keepalive_expiry": settings.keepalive_expiry != KEEPALIVE_EXPIRY,
    }
    for name, was_given in (given | others).items():
        if was_given:
            raise ConfigurationError(f"client= brings its own {name}: set it on that client")


def _path(value: object) -> str | None:
    """A path as text; None for what is none."""
    if not isinstance(value, str | os.PathLike):
        return None
    path = os.fspath(value)
    return path if isinstance(path, str) and path and "\0" not in path else None
