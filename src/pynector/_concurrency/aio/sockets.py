"""The network below httpcore."""

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpcore import AsyncNetworkBackend


def network_backend(httpcore: ModuleType) -> "AsyncNetworkBackend":
    """The way to the network, with deadlines and cancellation in every operation.

    Args:
        httpcore: The module to serve; its base classes and exceptions are used.

    Returns:
        A backend for its `network_backend` arguments.
    """
    backend: AsyncNetworkBackend = httpcore.AnyIOBackend()
    return backend


__all__ = ["network_backend"]
