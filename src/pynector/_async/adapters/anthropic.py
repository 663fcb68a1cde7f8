"""The adapter for Anthropic."""

import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, ClassVar

from ..._concurrency.aio.colour import settle
from ..._messages.sdk import SdkMessage
from ..._sdk.anthropic_answers import (
    StreamedMessage,
    is_document,
    is_error,
    is_message,
    is_stream,
    message_of,
    request_id_of,
)
from ..._sdk.anthropic_messages import arguments_of
from ..._sdk.events import StreamEvent
from ..._sdk.request import SdkRequest
from ..._sdk.unexpected import unexpected
from ...errors import SdkTransportError
from .leftovers import left_by, run_out
from .over_http import AsyncHTTPAdapter


class AsyncAnthropicAdapter(AsyncHTTPAdapter):
    """Asks Anthropic, through its messages API.

    The arguments are those of `AsyncHTTPAdapter`; the key comes from `ANTHROPIC_API_KEY` by default, the address from
    `ANTHROPIC_BASE_URL`. The API wants `max_tokens` in every request: one that has none is sent with 4096. Its
    `temperature` goes from 0 to 1. What is not in the common words goes through `extra`: `extra={"thinking": {...}}`.

    `SdkMessage.raw` is the `Message` of the SDK. For a stream it is put together from the events, with the blocks that
    are not text (thinking and its signature, results of the provider's own tools) as they came.

    Args:
        **options: As for `AsyncHTTPAdapter`, and of the SDK `default_query` and `middleware`.

    Raises:
        ConfigurationError: An argument is wrong, the SDK is not installed, or there is no API key.

    Example:
        ```python
        adapter = AsyncAnthropicAdapter(api_key="...")
        async with AsyncPynector(AsyncSdkTransport(adapter=adapter, model="claude-sonnet-5-5")) as client:
            message = await client.request("Name three rivers.")
        ```
    """

    provider: ClassVar[str] = "anthropic"
    package: ClassVar[str] = "anthropic"
    extra: ClassVar[str] = "anthropic"
    client_api: ClassVar[str] = "messages"
    key_variable: ClassVar[str] = "ANTHROPIC_API_KEY"
    url_variable: ClassVar[str] = "ANTHROPIC_BASE_URL"
    default_url: ClassVar[str] = "https://api.anthropic.com"
    sdk_arguments: ClassVar[frozenset[str]] = frozenset({"default_query", "middleware"})

    def _make_client(self, sdk: Any, arguments: dict[str, Any]) -> Any:
        return sdk.AsyncAnthropic(**arguments, **_without_spans(sdk.AsyncAnthropic))

    def _make(self) -> Any:
        made = super()._make()
        return made if self._own is None else made.with_options(**_without_spans(made.with_options))

    def check(self, request: SdkRequest) -> None:
        """Put a request into Anthropic's words, before anything is sent.

        Raises:
            ConfigurationError: It has no model, or wants what Anthropic does not have: embeddings, free JSON.
        """
        request.arguments = self._arguments(request)

    async def complete(self, request: SdkRequest) -> SdkMessage:
        """Send a request, once, and wait for its answer.

        Raises:
            SdkTransportError: What came is no message.
            DeserializationError: The text is not what `response_format` asked for.
            Exception: Whatever the SDK raises.
        """
        raw = await self._create(request)
        answer: Any = None
        cause: Exception | None = None
        if is_document(raw.headers):
            try:
                answer = await settle(raw.parse())
            except (ValueError, RecursionError) as error:
                cause = error
        if not is_message(answer):
            raise self._unexpected(raw.http_response, "a message") from cause
        return message_of(answer, request, raw.headers)

    async def stream(self, request: SdkRequest) -> AsyncGenerator[StreamEvent, None]:
        """Send a request, once, and yield what comes in.

        Raises:
            IncompleteStreamError: What came is no stream, or ended without its end marker, or broke off after its
                first event.
            DeserializationError: The text is not what `response_format` asked for.
            Exception: Whatever the SDK raises.
        """
        raw = await self._create(request, stream=True)
        response = raw.http_response
        open_ended: list[AsyncIterator[Any]] = []
        try:
            message = StreamedMessage(request, raw.headers)
            if not is_stream(raw.headers):
                await response.aread()
                raise message.unbegun(self._unexpected(response, "a stream of events"))
            chunks = aiter(await settle(raw.parse()))
            open_ended.append(chunks)
            try:
                async for chunk in chunks:
                    for event in message.feed(chunk):
                        yield event
            except Exception as error:
                open_ended += left_by(error)
                # After its end marker nothing can spoil an answer.
                if not message.ended:
                    broken = message.broken(error)
                    if broken is None:
                        raise
                    raise broken from self.translate_error(error)
            yield message.finish()
        finally:
            await response.aclose()
            await run_out(*open_ended)

    def _arguments(self, request: SdkRequest) -> dict[str, Any]:
        # Given with the call, as otherwise the SDK refuses requests for long answers that are not streamed.
        timeout = self._settings.timeout if self._own is None else self._own.timeout
        return {**arguments_of(request), "timeout": timeout}

    async def _create(self, request: SdkRequest, **options: Any) -> Any:
        arguments: dict[str, Any] = request.arguments or self._arguments(request)
        # Raw, as the headers of the answer are wanted as well.
        return await self._client.messages.with_raw_response.create(**arguments, **options)

    def _unexpected(self, response: Any, expected: str) -> SdkTransportError:
        """The error for a success that is none, whose body has been read.

        Raises:
            APIStatusError: The body is an error of the provider: as the SDK raises it where it comes in a stream.
        """
        with contextlib.suppress(ValueError, RecursionError):
            body = response.json()
            if is_error(body):
                import anthropic

                raise anthropic.APIStatusError(f"{body}", response=response, body=body)
        return unexpected(
            self.provider,
            expected,
            status_code=response.status_code,
            headers=response.headers,
            content=response.content,
            request_id=request_id_of(response.headers),
        )


def _without_spans(make: Callable[..., Any]) -> dict[str, Any]:
    """The option that switches off the spans of the SDK, which would double ours; versions without it have none."""
    return {"open_telemetry": False} if "open_telemetry" in inspect.signature(make).parameters else {}
