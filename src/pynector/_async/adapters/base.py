"""What an adapter is to the SDK transport."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Hashable
from typing import ClassVar

from ..._messages.sdk import SdkMessage
from ..._sdk.events import StreamEvent
from ..._sdk.failures import translate
from ..._sdk.request import SdkRequest
from ...errors import SdkTransportError


class AsyncSDKAdapter(ABC):
    """Asks one provider through its SDK. Write a subclass of it for a provider that is not known here.

    An adapter turns a `SdkRequest` into a call of the SDK and its answer into an `SdkMessage`, and tells the events of
    a stream. It does not retry (switch off what the SDK does on its own), holds nothing back and counts nothing: that
    is the transport's. Its methods are called by many tasks at a time.

    The arguments of its constructor are those that `AsyncPynector(transport_type="sdk", sdk_type=...)` passes on:
    `api_key`, `base_url` and `timeout` always, and any others by name.

    Attributes:
        provider: Its name, which errors have.
        reports_sending: Whether what it sends through tells by itself when a request goes on the wire. Others
            are taken to send as soon as they are called.

    Example:
        ```python
        class EchoAdapter(AsyncSDKAdapter):
            provider = "echo"

            def __init__(self, *, api_key=None, base_url=None, timeout=60.0):
                pass

            async def complete(self, request):
                return SdkMessage(text=request.turns[-1].text or "", model=request.model or "echo")

            async def stream(self, request):
                message = await self.complete(request)
                yield TextEvent(message.text)
                yield EndEvent(message)
        ```
    """

    provider: ClassVar[str] = "sdk"
    reports_sending: bool = False

    @property
    def identity(self) -> Hashable:
        """What decides which limits it shares with others: equal for those of one server and one credential.

        By default it shares them with nobody.
        """
        return self

    async def connect(self) -> None:
        """Get ready: import the SDK, make its client. Called before the first request, and again after `aclose`.

        Raises:
            ConfigurationError: The SDK is not installed, or there is no API key.
        """
        return

    async def aclose(self) -> None:
        """Close what `connect` has opened. Idempotent."""
        return

    def abandon(self) -> None:
        """Forget every connection without a word to the peer: in a forked child they are the parent's."""
        return

    def check(self, request: SdkRequest) -> None:
        """Look at a request before anything is sent; what it makes of it may be kept in `request.arguments`.

        Raises:
            ConfigurationError: The provider can't do what it asks for.
        """
        return

    @abstractmethod
    async def complete(self, request: SdkRequest) -> SdkMessage:
        """Send a request, once, and wait for its answer.

        Args:
            request: It has a model, or the adapter has a default one.

        Raises:
            Exception: Whatever the SDK raises; `translate_error` makes it one of ours.
        """
        ...

    @abstractmethod
    def stream(self, request: SdkRequest) -> AsyncGenerator[StreamEvent, None]:
        """Send a request, once, and yield what comes in; the last event is an `EndEvent`.

        An async generator. It is closed early if nobody wants the rest.

        Args:
            request: It has a model, or the adapter has a default one.

        Raises:
            IncompleteStreamError: The stream ended without its end marker.
            Exception: Whatever the SDK raises; `translate_error` makes it one of ours.
        """
        ...

    def translate_error(self, error: Exception) -> Exception:
        """Make an exception of the SDK one of Pynector's; others are returned as they are.

        The default knows the errors that are built as those of OpenAI and Anthropic are (`status_code`, `response`,
        `code`, `body`), and those of httpx.
        """
        return translate(error, self.provider)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def misbehaving(adapter: AsyncSDKAdapter, method: str, value: object, expected: str) -> SdkTransportError:
    """The error for an adapter that does not keep to its contract, not raised.

    Args:
        adapter: It.
        method: Which method of it.
        value: What that has given.
        expected: What it should have given.
    """
    given = "nothing" if value is None else f"a {type(value).__name__}"
    text = f"{method}() of {type(adapter).__name__} gave {given}, and no {expected}"
    return SdkTransportError(text, provider=adapter.provider)
