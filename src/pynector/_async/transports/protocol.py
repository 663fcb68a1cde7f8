"""What a transport is, to the client and to those who write their own."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable


@runtime_checkable
class AsyncTransport(Protocol):
    """Carries messages to a server and answers back.

    These methods are all a transport needs. The client then sends one message at a time through it: `send`, then the
    first item of `receive`. A transport that can have several exchanges under way adds
    `async def request(self, message, *, timeout)`, which returns the answer to one message, and may add
    `def stream(self, message)`, an async context manager that gives an async iterator of chunks; the client uses both
    concurrently.

    Example:
        ```python
        class EchoTransport:
            async def connect(self):
                self.last = None

            async def disconnect(self):
                self.last = None

            async def send(self, message, **options):
                self.last = message

            async def receive(self):
                yield self.last

            async def __aenter__(self):
                await self.connect()
                return self

            async def __aexit__(self, *exc_info):
                await self.disconnect()
        ```
    """

    async def connect(self) -> None:
        """Get ready to send. Called before the first `send`; a second call does nothing."""
        ...

    async def disconnect(self) -> None:
        """Let go of everything. A second call does nothing.

        Also called, and `connect` after it, when an exchange was cut short: an answer that was on its way must not
        come in afterwards.
        """
        ...

    async def send(self, message: Any, **options: Any) -> None:
        """Send one message.

        Args:
            message: What to send, as the user gave it to the client.
            **options: What the user gave to the client along with it, but for the client's own options.

        Raises:
            TransportError: It could not be sent.
        """
        ...

    def receive(self) -> AsyncIterator[Any]:
        """The answers to what was sent and not yet received, in order."""
        ...

    async def __aenter__(self) -> Self:
        """Connect."""
        ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Disconnect."""
        ...


@runtime_checkable
class AsyncTransportFactory(Protocol):
    """Makes transports."""

    def create_transport(self, **options: Any) -> AsyncTransport:
        """Make a transport.

        Args:
            **options: The transport's own arguments; they win over what the factory was made with.
        """
        ...
