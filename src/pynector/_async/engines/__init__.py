"""Engines: what puts a request on a socket and takes the answer off it."""

from ..._http.settings import EngineSettings
from .protocol import AsyncEngine


def make_engine(name: str, settings: EngineSettings) -> AsyncEngine:
    """The engine called `name`, or one around the user's own client. This is where httpx is imported.

    Raises:
        ConfigurationError: The engine is not installed, or can't do what the settings ask for.
    """
    if settings.client is not None:
        from .client import AsyncHttpxClientEngine

        return AsyncHttpxClientEngine(settings)
    from .httpx import AsyncHttpxEngine

    return AsyncHttpxEngine(settings)
