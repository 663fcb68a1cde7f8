"""Transport factories by name."""

from importlib.metadata import entry_points
from typing import Any, Generic, Protocol, TypeVar

from ._config import check_names
from .errors import ConfigurationError

T_co = TypeVar("T_co", covariant=True)


class TransportFactory(Protocol[T_co]):
    """Makes transports."""

    def create_transport(self, **options: Any) -> T_co:
        """Make a transport; `options` are its own arguments and win over the factory's."""
        ...


T = TypeVar("T")


class TransportFactoryRegistry(Generic[T]):
    """Transport factories by name.

    Args:
        group: The entry-point group that third parties register their factories in; None for none.

    Example:
        ```python
        registry = TransportFactoryRegistry()
        registry.register("http", HTTPTransportFactory(base_url="https://api.example.com"))
        transport = registry.create_transport("http", timeout=5.0)
        ```
    """

    def __init__(self, *, group: str | None = None) -> None:
        self._group = group
        self._factories: dict[str, TransportFactory[T]] = {}

    def register(self, name: str, factory: TransportFactory[T]) -> None:
        """Register `factory` under `name`, in place of one that was there.

        Raises:
            ConfigurationError: It has no `create_transport`, or the name is empty.
        """
        _check_name(name)
        if not callable(getattr(factory, "create_transport", None)):
            raise ConfigurationError(
                f"{type(factory).__name__} is no transport factory: it has no method create_transport(**options)"
            )
        self._factories[name] = factory

    def get(self, name: str) -> TransportFactory[T]:
        """The factory registered under `name`.

        Raises:
            ConfigurationError: There is none; the text names those there are.
        """
        _check_name(name)
        if name not in self._factories:
            check_names("transport", [name], self.names())
            loaded = self._entry_points()[name].load()
            self.register(name, loaded() if isinstance(loaded, type) else loaded)
        return self._factories[name]

    def names(self) -> tuple[str, ...]:
        """The names that can be asked for, sorted."""
        return tuple(sorted({*self._factories, *self._entry_points()}))

    def create_transport(self, name: str, **options: Any) -> T:
        """Make a transport with the factory registered under `name`.

        Args:
            name: The name of the factory.
            **options: The transport's own arguments; they win over the factory's.
        """
        return self.get(name).create_transport(**options)

    def _entry_points(self) -> dict[str, Any]:
        return {} if self._group is None else {point.name: point for point in entry_points(group=self._group)}


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a transport's name must be a text that is not empty, not {name!r:.80}")
