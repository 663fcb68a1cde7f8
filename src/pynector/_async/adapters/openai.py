"""OpenAI, and every server that speaks its language, through the `openai` SDK."""

from collections.abc import AsyncGenerator
from typing import Any, ClassVar, Final, Literal, TypeAlias

from ..._messages.sdk import SdkMessage
from ..._sdk import openai_chat as chat
from ..._sdk import openai_embeddings as embeddings
from ..._sdk import openai_responses as responses
from ..._sdk.events import StreamEvent
from ..._sdk.openai_reply import Reply, is_told
from ..._sdk.request import SdkRequest
from ...errors import ConfigurationError
from .over_http import AsyncHTTPAdapter

Reader: TypeAlias = chat.ChatStream | responses.ResponsesStream

_END: Final = object()


class AsyncOpenAIAdapter(AsyncHTTPAdapter):
    """Asks OpenAI, or a server that speaks its language: vLLM, Ollama, a gateway, ...

    A request with `input` makes embeddings; any other is a chat completion or, with `api="responses"`, goes to the
    responses API.

    `max_tokens` is sent as `max_completion_tokens` to OpenAI and Azure, and under its old name to all others, who may
    know that one only.

    Args:
        api_key: The API key; by default that of `OPENAI_API_KEY`. A server that wants none takes any text.
        base_url: Where the server is; by default that of `OPENAI_BASE_URL`, else OpenAI.
        timeout: The longest silence of the network, in seconds; None for no limit.
        api: `"chat"`, which every server knows, or `"responses"`.
        **options: As for `AsyncHTTPAdapter` (`headers`, `client`, `engine`, ...), and of the SDK `organization`,
            `project` and `default_query`.

    Raises:
        ConfigurationError: An argument is wrong, the SDK is not installed, or there is no API key.

    Example:
        ```python
        async with AsyncPynector(
            transport_type="sdk", sdk_type="openai", base_url="http://127.0.0.1:11434/v1", api_key="none", model="qwen3"
        ) as client:
            message = await client.request("Name three rivers.")
        ```
    """

    provider: ClassVar[str] = "openai"
    package: ClassVar[str] = "openai"
    extra: ClassVar[str] = "openai"
    client_api: ClassVar[str] = "chat"
    key_variable: ClassVar[str] = "OPENAI_API_KEY"
    url_variable: ClassVar[str] = "OPENAI_BASE_URL"
    default_url: ClassVar[str] = "https://api.openai.com/v1"
    sdk_arguments: ClassVar[frozenset[str]] = frozenset({"organization", "project", "default_query"})

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = 60.0,
        *,
        api: Literal["chat", "responses"] = "chat",
        **options: Any,
    ) -> None:
        if api not in ("chat", "responses"):
            raise ConfigurationError(f'api: {api!r:.80} is not accepted; give "chat" or "responses"')
        super().__init__(api_key, base_url, timeout, **options)
        self._api = api
        self._completion_tokens = chat.knows_completion_tokens(self._base_url)

    def _make_client(self, sdk: Any, arguments: dict[str, Any]) -> Any:
        return sdk.AsyncOpenAI(**arguments)

    def check(self, request: SdkRequest) -> None:
        """Make the arguments for the SDK.

        Raises:
            ConfigurationError: There is no model, or OpenAI can't do what is asked for.
        """
        request.arguments = self._arguments(request)

    def _arguments(self, request: SdkRequest) -> dict[str, Any]:
        if request.input is not None:
            return embeddings.arguments_of(request)
        if self._api == "responses":
            return responses.arguments_of(request)
        return chat.arguments_of(request, completion_tokens=self._completion_tokens)

    async def complete(self, request: SdkRequest) -> SdkMessage:
        """Send a request, once, and wait for its answer.

        Raises:
            SdkTransportError: What came is no answer.
            DeserializationError: The text has another form than the one that was asked for.
            Exception: Whatever the SDK raises.
        """
        reply = await self._send(request)
        if request.input is not None:
            return embeddings.message_of(reply, request)
        if self._api == "responses":
            return responses.message_of(reply, request)
        return chat.message_of(reply, request)

    async def stream(self, request: SdkRequest) -> AsyncGenerator[StreamEvent, None]:
        """Send a request, once, and yield what comes in.

        Raises:
            ConfigurationError: Embeddings were asked for.
            IncompleteStreamError: The stream ended, or broke off, without its end marker.
            SdkTransportError: The provider has told of an error, or what came is no stream.
            Exception: Whatever the SDK raises.
        """
        if request.input is not None:
            raise ConfigurationError("embeddings come in one piece: ask for them with request()")
        answers_in_chat = self._api == "chat"
        # Without being asked to, a chat says nothing of its tokens.
        more: dict[str, Any] = {"stream_options": {"include_usage": True}} if answers_in_chat else {}
        reply = await self._send(request, stream=True, **more)
        if reply.is_document:
            await reply.raw.http_response.aread()
            raise reply.no_stream()
        reader: Reader = (chat.ChatStream if answers_in_chat else responses.ResponsesStream)(reply, request)
        answer = self._opened(reply, answers_in_chat)
        begun = False
        try:
            while (chunk := await self._next(answer, reader, begun=begun)) is not _END:
                for event in reader.feed(chunk):
                    begun = True
                    yield event
        finally:
            await (answer.close() if self._own is not None else answer.end())
        end = reader.finish()
        if isinstance(reader, chat.ChatStream):
            from .openai_stream import completion_of

            end.message.raw = completion_of(reader)
        yield end

    def _opened(self, reply: Reply, answers_in_chat: bool) -> Any:
        if self._own is not None:
            return reply.raw.parse()
        # It imports the SDK.
        from .openai_stream import AsyncChatStream, AsyncResponsesStream

        return reply.raw.parse(to=AsyncChatStream if answers_in_chat else AsyncResponsesStream)

    async def _next(self, answer: Any, reader: Reader, *, begun: bool) -> Any:
        """The next chunk, or `_END`."""
        try:
            return await anext(answer, _END)
        except Exception as error:
            if reader.ended:
                return _END  # what is missing then is no part of the answer
            if not begun or is_told(error):
                raise
            what = f"the stream broke off ({type(error).__name__})"
            raise reader.reply.incomplete(reader.text, what) from self.translate_error(error)

    async def _send(self, request: SdkRequest, **more: Any) -> Reply:
        arguments = self._arguments(request) if request.arguments is None else request.arguments
        client = self._client
        if request.input is not None:
            endpoint = client.embeddings
        else:
            endpoint = client.responses if self._api == "responses" else client.chat.completions
        # Raw, as the headers of the answer are wanted as well.
        return Reply(await endpoint.with_raw_response.create(**arguments, **more))
