"""Adapters by the name of their provider."""

from importlib.metadata import entry_points
from typing import Any

from ..._config import check_names
from ...errors import ConfigurationError
from .base import AsyncSDKAdapter

_GROUP = "pynector.adapters.async"


class AsyncAdapters:
    """Knows the adapters: ours, those that were registered, and those that other packages bring as entry points."""

    def __init__(self) -> None:
        self._classes: dict[str, type[AsyncSDKAdapter]] = {}

    def register(self, name: str, adapter: type[AsyncSDKAdapter]) -> None:
        """Register an adapter, in place of one that was there.

        Raises:
            ConfigurationError: It is no subclass of `AsyncSDKAdapter`, or the name is empty.
        """
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"the name of an adapter is a text that is not empty, not {name!r:.80}")
        if not (isinstance(adapter, type) and issubclass(adapter, AsyncSDKAdapter)):
            raise ConfigurationError(f"{adapter!r:.80} is no adapter: give a subclass of AsyncSDKAdapter")
        self._classes[name] = adapter

    def get(self, name: str) -> type[AsyncSDKAdapter]:
        """The adapter for a provider.

        Raises:
            ConfigurationError: There is none; the text names those there are.
        """
        if not isinstance(name, str) or name not in self._classes:
            check_names("sdk_type", [name], self.names())
            self.register(name, self._load(name))
        return self._classes[name]

    def _load(self, name: str) -> type[AsyncSDKAdapter]:
        """One that nobody has asked for before: only then it is imported."""
        if name == "openai":
            from .openai import AsyncOpenAIAdapter

            return AsyncOpenAIAdapter
        if name == "anthropic":
            from .anthropic import AsyncAnthropicAdapter

            return AsyncAnthropicAdapter
        loaded: type[AsyncSDKAdapter] = self._entry_points()[name].load()
        return loaded

    def names(self) -> tuple[str, ...]:
        """The names that can be asked for, sorted."""
        return tuple(sorted({"openai", "anthropic", *self._classes, *self._entry_points()}))

    def _entry_points(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=_GROUP)}


adapters = AsyncAdapters()
"""Those of this colour."""
