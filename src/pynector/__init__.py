"""Requests to HTTP APIs and LLM providers in bulk: `AsyncPynector` in async code, `Pynector` in blocking code."""

from typing import TYPE_CHECKING, Any

from . import errors
from ._version import __version__

if TYPE_CHECKING:
    from ._async.client import AsyncPynector
    from ._checkpoint.options import Checkpoint
    from ._messages.outcome import BatchResult, Outcome
    from ._policies.adaptive import AdaptiveConcurrency
    from ._policies.breaker import CircuitBreaker
    from ._policies.budget import RetryBudget
    from ._policies.rate_limit import RateLimit
    from ._policies.retry import RetryPolicy
    from ._sync.client import Pynector

__all__ = [
    "AdaptiveConcurrency",
    "AsyncPynector",
    "BatchResult",
    "Checkpoint",
    "CircuitBreaker",
    "Outcome",
    "Pynector",
    "RateLimit",
    "RetryBudget",
    "RetryPolicy",
    "__version__",
    "errors",
]

# Imported when asked for: blocking code never loads an event loop, and `import pynector` loads next to nothing.
_LAZY = {
    "AdaptiveConcurrency": "._policies.adaptive",
    "AsyncPynector": "._async.client",
    "BatchResult": "._messages.outcome",
    "Outcome": "._messages.outcome",
    "Pynector": "._sync.client",
    "Checkpoint": "._checkpoint.options",
    "CircuitBreaker": "._policies.breaker",
    "RateLimit": "._policies.rate_limit",
    "RetryBudget": "._policies.budget",
    "RetryPolicy": "._policies.retry",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
