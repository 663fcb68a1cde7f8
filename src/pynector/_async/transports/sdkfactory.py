"""Makes SDK transports by name."""

from typing import Any

from ..._config import Secret
from .sdk import AsyncSdkTransport


class AsyncSdkTransportFactory:
    """Makes SDK transports that share their defaults.

    Args:
        sdk_type: The provider.
        **defaults: Any other argument of `AsyncSdkTransport`: `api_key`, `base_url`, `model`, `temperature`, ... They
            are checked when a transport is made.

    Example:
        ```python
        factory = AsyncSdkTransportFactory("anthropic", model="claude-sonnet-5-5")
        transport = factory.create_transport(temperature=0.2)
        ```
    """

    def __init__(self, sdk_type: str = "openai", **defaults: Any) -> None:
        self._defaults = Secret({"sdk_type": sdk_type, **defaults})  # a key may be among them

    def create_transport(self, **options: Any) -> AsyncSdkTransport:
        """Make a transport.

        Args:
            **options: Arguments of `AsyncSdkTransport`; they win over the factory's.

        Raises:
            ConfigurationError: An option is unknown or wrong.
        """
        return AsyncSdkTransport(**{**self._defaults.get(), **options})
