"""A local model provider, and how to ask it."""

from typing import Any, NamedTuple

from pynector.testing import LocalServer

from .provider import ProviderApp


class ProviderServer(NamedTuple):
    """A provider under test.

    Attributes:
        name: What is given as `sdk_type`.
        app: Its log of requests.
        url: What is given as `base_url`.
        model: A model it has.
        server: Where it runs.
        api: Of OpenAI, which API is asked.
    """

    name: str
    app: ProviderApp
    url: str
    model: str
    server: LocalServer
    api: str = ""

    def options(self, **more: Any) -> dict[str, Any]:
        """The arguments of a client that asks it."""
        api = {"api": self.api} if self.api else {}
        return {
            "transport_type": "sdk",
            "sdk_type": self.name,
            "api_key": "sk-canary-key",
            "base_url": self.url,
            "model": self.model,
            **api,
            **more,
        }
