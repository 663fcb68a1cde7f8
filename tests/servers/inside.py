"""What tests look at inside of a client."""

from typing import Any


def engine_of(client: Any) -> Any:
    """The engine of a client's HTTP transport, without the spans that may be around it."""
    engine = getattr(client, "_transport", client)._engine
    return getattr(engine, "_engine", engine)
