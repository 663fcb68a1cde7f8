"""Engines: what puts a request on a socket and takes the answer off it."""

from typing import Any

from .protocol import AsyncEngine


def make_engine(
    name: str,
    *,
    client: Any = None,
    timeout: float | None,
    verify_ssl: bool,
    trust_env: bool,
    max_connections: int,
    follow_redirects: bool,
) -> AsyncEngine:
    """The engine called `name`, or one around the user's own `client`. This is where httpx is imported.

    Raises:
        ConfigurationError: `client` is not of the kind that this colour uses.
    """
    if client is not None:
        from .client import AsyncHttpxClientEngine

        return AsyncHttpxClientEngine(client, follow_redirects=follow_redirects)
    from .httpx import AsyncHttpxEngine

    return AsyncHttpxEngine(
        timeout=timeout, verify_ssl=verify_ssl, trust_env=trust_env, max_connections=max_connections
    )
