"""The fingerprint of a job, by which a checkpoint knows whether it belongs to it."""

from collections.abc import Mapping
from typing import Any, Final

from .._config import Secret
from .._messages.redact import REDACTED, is_sensitive_header, redact_url
from .canonical import canonical

# They say who asks, as credentials do, and not what is asked.
_IDENTITY: Final = frozenset({"auth", "cert", "cookies"})


def fingerprint(job: Mapping[str, Any]) -> str:
    """Return a short text that is the same for the same job, and different for another.

    Credentials are left out, not hashed: what is known by name or type to be one (`Authorization`, `api_key`,
    `cookies`, a `Secret`), and user names, passwords and such parameters in URLs. So a new API key does not make
    another job, and the fingerprint gives nothing away.

    Args:
        job: What decides what an answer means: the type of the transport, `base_url`, `headers`, options such as the
            model. Leave out what only decides how answers are got (time-outs, retries, limits, the engine): it may
            change between two runs. A value that is no plain data counts by its type.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> fingerprint({"base_url": "https://me:pw@h/v1/"}) == fingerprint({"base_url": "https://h/v1"})
        True
    """
    from hashlib import sha256  # few need it, and it loads a large library

    plain = _public({**job})
    if isinstance(plain.get("base_url"), str):
        plain["base_url"] = plain["base_url"].rstrip("/")
    return sha256(canonical(plain, http=False), usedforsecurity=False).hexdigest()[:32]


def _public(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | bytes):
        return value
    if isinstance(value, str):
        return redact_url(value).replace(f"{REDACTED}:{REDACTED}@", "")
    if isinstance(value, Mapping):
        return {
            _name(name): _public(each)
            for name, each in value.items()
            if not isinstance(each, Secret) and not _is_secret(name)
        }
    if isinstance(value, list | tuple):
        return [_public(each) for each in value if not isinstance(each, Secret) and not _is_secret_pair(each)]
    if isinstance(value, set | frozenset):
        return sorted(map(str, map(_public, value)))
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _name(name: object) -> object:
    # Also the names of headers, whose case does not matter; two options never differ in that alone.
    return name.lower() if isinstance(name, str) else str(name)


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and (name in _IDENTITY or is_sensitive_header(name))


def _is_secret_pair(value: object) -> bool:
    """Whether it is a header or parameter of its own, as in `[("authorization", "Bearer ...")]`."""
    return isinstance(value, list | tuple) and len(value) == 2 and _is_secret(value[0])
