"""The arguments of an adapter that are alike for every provider, checked."""

import importlib.util
import os
import re
from collections.abc import Mapping
from inspect import iscoroutinefunction
from typing import Any, Final

from .._config import Secret
from .._messages.headers import Headers
from .._messages.redact import REDACTED, is_sensitive_header
from ..errors import ConfigurationError

_VISIBLE: Final = re.compile("[!-~]+")


def require(package: str, extra: str) -> None:
    """See that an SDK is installed, without importing it.

    Raises:
        ConfigurationError: It is not; the text has the line that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(f"sdk_type={extra!r} needs the package {package}: pip install 'pynector[{extra}]'")


def checked_key(key: object, variable: str, provider: str) -> Secret[str]:
    """The API key: as given, or from the environment.

    Raises:
        ConfigurationError: There is none, or it is no text that a header could have. The text never shows it.
    """
    found = os.environ.get(variable) if key is None else key
    if isinstance(found, Secret):
        found = found.get()
    if found is None or found == "":
        raise ConfigurationError(
            f"no API key for {provider}: give api_key=, or set {variable} (a server that wants none takes any text)"
        )
    if not isinstance(found, str) or not _VISIBLE.fullmatch(found):
        raise ConfigurationError(f"the API key for {provider} is no text of printable ASCII characters without spaces")
    return Secret(found)


def checked_base_url(url: object, variable: str, default: str) -> str:
    """Where the provider is: as given, or from the environment, or its own address.

    Raises:
        ConfigurationError: It is no http(s) URL, or has credentials in it.
    """
    found = os.environ.get(variable) or default if url is None else url
    if not isinstance(found, str) or not found.lower().startswith(("http://", "https://")):
        raise ConfigurationError(f"base_url: expected an http(s) URL, got a {type(found).__name__}: {_shown(found)}")
    if "@" in found.split("://", 1)[1].split("/", 1)[0]:
        raise ConfigurationError("base_url has a user name or password in it: give the credential as api_key=")
    return found


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers for every request.

    Raises:
        ConfigurationError: A name or a value can't be sent.
    """
    return dict(Headers(headers).multi_items()) if headers else {}


class HiddenText(str):
    """A text that does not show in the repr of what holds it. SDKs log the arguments of their calls at DEBUG."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED)


def hidden(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of one request, those with a credential hidden from logs and tracebacks; they are sent as they are."""
    return {name: HiddenText(value) if is_sensitive_header(name) else value for name, value in headers.items()}


def _shown(url: object) -> str:
    return repr(url.split("?", 1)[0][:80]) if isinstance(url, str) and "@" not in url else "(not shown)"


def checked_client(client: Any, provider: str, api: str, adapter: type[object]) -> None:
    """A client of the SDK which the user has made.

    Args:
        client: It.
        provider: Whose SDK it is of.
        api: What such a client has, and those of other SDKs have not.
        adapter: A class of the colour that it is for.

    Raises:
        ConfigurationError: It is none, or one for code of the other kind.
    """
    kind = type(client).__name__
    if not (hasattr(client, "with_options") and hasattr(client, api)):
        raise ConfigurationError(f"client= is a {kind}: give a client of the {provider} SDK")
    of_async = adapter.__name__.startswith("Async")
    if iscoroutinefunction(client.close) is not of_async:
        right = "an async one" if of_async else "one for blocking code"
        raise ConfigurationError(f"client= is a {kind}: give {right}")
