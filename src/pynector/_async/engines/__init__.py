"""Engines: what puts a request on a socket and takes the answer off it."""

import importlib.util

from ..._http.settings import EngineSettings
from ...errors import ConfigurationError
from .protocol import AsyncEngine


def make_engine(name: str, settings: EngineSettings) -> AsyncEngine:
    """The engine called `name`, or one around the user's own client. This is where httpx is imported.

    Raises:
        ConfigurationError: The engine is not installed, or can't do what the settings ask for.
    """
    if settings.client is not None:
        from .client import AsyncHttpxClientEngine

        return AsyncHttpxClientEngine(settings)
    if name == "pyreqwest":
        return _pyreqwest_engine(settings)
    from ..._http.family import load

    load(name)
    httpcore = load(name.replace("httpx", "httpcore"))
    from .httpx import AsyncHttpxEngine

    return AsyncHttpxEngine(httpcore, settings)


def _pyreqwest_engine(settings: EngineSettings) -> AsyncEngine:
    if importlib.util.find_spec("pyreqwest") is None:
        raise ConfigurationError("engine='pyreqwest' is not installed: pip install 'pynector[fast]'")
    from .pyreqwest import AsyncPyreqwestEngine

    return AsyncPyreqwestEngine(settings)
