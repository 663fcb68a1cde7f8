"""Makes transports by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from ..._config import Secret, check_names, resolve
from ..._messages.http import HttpMessage
from ..._messages.protocol import Message
from ..._registry import TransportFactoryRegistry
from .http import AsyncHTTPTransport
from .sdkfactory import AsyncSdkTransportFactory

_OPTIONS = frozenset(inspect.signature(AsyncHTTPTransport).parameters)


class AsyncHTTPTransportFactory:
    """Makes HTTP transports that share their defaults.

    Args:
        base_url: What paths are appended to; with `""` the variable `PYNECTOR_BASE_URL`, if there is one.
        message_type: What answers are made into.
        default_headers: Sent with every request.
        default_timeout: The longest silence of the network, in seconds; None for no limit.
        default_max_retries: How often a failed request is sent again.
        **defaults: Any other argument of `AsyncHTTPTransport`: `auth`, `proxy`, `engine`, `event_hooks`, ... They are
            checked when a transport is made.

    Raises:
        ConfigurationError: An argument is unknown.

    Example:
        ```python
        factory = AsyncHTTPTransportFactory(base_url="https://api.example.com")
        transport = factory.create_transport(timeout=5.0)
        ```
    """

    def __init__(
        self,
        base_url: str = "",
        message_type: type[Message] = HttpMessage,
        default_headers: Mapping[str, str] | None = None,
        default_timeout: float | None = 30.0,
        default_max_retries: int | None = None,
        **defaults: Any,
    ) -> None:
        check_names("option", defaults, _OPTIONS)
        options: dict[str, Any] = {
            "base_url": base_url,
            "message_type": message_type,
            "headers": default_headers,
            "timeout": default_timeout,
            **defaults,
        }
        if default_max_retries is not None:
            options["max_retries"] = default_max_retries
        self._defaults = Secret(options)  # credentials may be among them

    def create_transport(self, **options: Any) -> AsyncHTTPTransport:
        """Make a transport.

        Args:
            **options: Arguments of `AsyncHTTPTransport`; they win over the factory's.

        Raises:
            ConfigurationError: An option is unknown or wrong.
        """
        check_names("option", options, _OPTIONS)
        merged = {**self._defaults.get(), **options}
        if "base_url" not in options and merged["base_url"] == "":
            merged["base_url"] = resolve("base_url")
        return AsyncHTTPTransport(**merged)


def default_registry() -> TransportFactoryRegistry[Any]:
    """The registry a client uses if it is given none: `http`, `sdk`, and what other packages bring as entry points."""
    return _default


_default: TransportFactoryRegistry[Any] = TransportFactoryRegistry(group="pynector.transports.async")
_default.register("http", AsyncHTTPTransportFactory())
_default.register("sdk", AsyncSdkTransportFactory())
