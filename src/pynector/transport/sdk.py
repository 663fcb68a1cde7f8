"""The SDK transport in both colours, its adapters, its messages and its errors."""

from .._async.adapters.anthropic import AsyncAnthropicAdapter
from .._async.adapters.base import AsyncSDKAdapter
from .._async.adapters.openai import AsyncOpenAIAdapter
from .._async.adapters.registry import adapters as _async_adapters
from .._async.transports.sdk import AsyncSdkTransport
from .._async.transports.sdkfactory import AsyncSdkTransportFactory
from .._async.transports.sdkstream import AsyncSdkStream
from .._messages.sdk import FinishReason, SdkMessage, ToolCall
from .._messages.usage import Usage
from .._sdk.events import EndEvent, StreamEvent, TextEvent, ToolCallEvent, UsageEvent
from .._sdk.request import SdkRequest, Tool
from .._sdk.schema import ResponseFormat
from .._sdk.turns import Image, Turn
from .._sync.adapters.anthropic import AnthropicAdapter
from .._sync.adapters.base import SDKAdapter
from .._sync.adapters.openai import OpenAIAdapter
from .._sync.adapters.registry import adapters as _adapters
from .._sync.transports.sdk import SdkTransport
from .._sync.transports.sdkfactory import SdkTransportFactory
from .._sync.transports.sdkstream import SdkStream
from ..errors import (
    AuthenticationError,
    ConfigurationError,
    IncompleteStreamError,
    InvalidRequestError,
    PermissionError,
    RateLimitError,
    RequestTooLargeError,
    ResourceNotFoundError,
    SdkTransportError,
)

__all__ = [
    "AnthropicAdapter",
    "AsyncAnthropicAdapter",
    "AsyncOpenAIAdapter",
    "AsyncSDKAdapter",
    "AsyncSdkStream",
    "AsyncSdkTransport",
    "AsyncSdkTransportFactory",
    "AuthenticationError",
    "EndEvent",
    "FinishReason",
    "Image",
    "IncompleteStreamError",
    "InvalidRequestError",
    "OpenAIAdapter",
    "PermissionError",
    "RateLimitError",
    "RequestTooLargeError",
    "ResourceNotFoundError",
    "ResponseFormat",
    "SDKAdapter",
    "SdkMessage",
    "SdkRequest",
    "SdkStream",
    "SdkTransport",
    "SdkTransportError",
    "SdkTransportFactory",
    "StreamEvent",
    "TextEvent",
    "Tool",
    "ToolCall",
    "ToolCallEvent",
    "Turn",
    "Usage",
    "UsageEvent",
    "register_adapter",
]


def register_adapter(name: str, *adapters: type[AsyncSDKAdapter] | type[SDKAdapter]) -> None:
    """Make a provider known, by the name that is given as `sdk_type`.

    A package can do the same without a call, by an entry point in the groups `pynector.adapters.async` and
    `pynector.adapters.sync`.

    Args:
        name: The name; one that was there is replaced.
        *adapters: A subclass of `AsyncSDKAdapter`, one of `SDKAdapter`, or one of each.

    Raises:
        ConfigurationError: Something else was given, or nothing.

    Example:
        ```python
        register_adapter("mistral", AsyncMistralAdapter, MistralAdapter)
        client = AsyncPynector(transport_type="sdk", sdk_type="mistral", model="mistral-small")
        ```
    """
    if not adapters:
        raise ConfigurationError(f"no adapter was given for {name!r:.80}: give a subclass of AsyncSDKAdapter")
    for adapter in adapters:
        if isinstance(adapter, type) and issubclass(adapter, SDKAdapter):
            _adapters.register(name, adapter)
        else:
            _async_adapters.register(name, adapter)
