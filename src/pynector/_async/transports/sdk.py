"""The SDK transport: asks language models through the SDKs of their providers."""

import inspect
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from ..._concurrency.aio.colour import ColourGuard
from ..._concurrency.aio.locks import Lock, Mutex
from ..._concurrency.aio.scopes import move_on_after
from ..._config import UNSET, Secret, UnsetType, check_names, check_timeout, resolve
from ..._lanes import Lane, epochs, lane_of
from ..._messages.sdk import SdkMessage
from ..._mutex import forks
from ..._policies.rate_limit import Described
from ..._policies.retry import Failure, RetryPolicy
from ..._sdk.failures import failure_of
from ..._sdk.request import REQUEST_FIELDS, SdkRequest, make_request
from ..._telemetry.operation import Operation
from ...errors import ClosedError, ConfigurationError, TimeoutError
from ..adapters.base import AsyncSDKAdapter, misbehaving
from ..adapters.registry import adapters
from ..adapters.sending import Sending, sending
from ..attempts import Record, run_attempts
from ..ownership import Home
from ..tracing import begin, within
from .inbox import inbox, put
from .sdkstream import AsyncSdkStream

_OPTIONS: Final = REQUEST_FIELDS - {"prompt", "messages", "input"}
_DEFAULTS: Final = _OPTIONS - {"headers"}


class AsyncSdkTransport(ColourGuard):
    """Asks a provider of language models through its own SDK.

    A request is a prompt (`str`, or `bytes` in UTF-8), or a mapping with `prompt`, `messages` or `input`, and any of
    `model`, `system`, `max_tokens`, `temperature`, `top_p`, `stop`, `tools`, `tool_choice`, `response_format`, `extra`
    and `headers`. They mean the same for every provider; what only one of them knows goes into `extra`.

    Args:
        sdk_type: The provider: `"openai"` (and every server that speaks its language, through `base_url`),
            `"anthropic"`, or one that was registered.
        api_key: The API key; by default `OPENAI_API_KEY` or `ANTHROPIC_API_KEY`.
        base_url: Where the provider is, if not at its own address.
        timeout: The longest silence of the network, in seconds; None for no limit. The default is what a long answer
            that comes in one piece takes.
        model: The model for requests that name none.
        max_retries: How often a failed request is sent again. The SDK itself never does that.
        adapter: An adapter that is made already, in place of all of the above but `model` and `max_retries`.
        **options: Fields of requests (`temperature`, `system`, ...), as defaults for those that have none, and the
            arguments of the adapter: see `AsyncOpenAIAdapter` and `AsyncAnthropicAdapter`.

    Raises:
        ConfigurationError: An argument is wrong, the SDK is not installed (the text has the line that installs it), or
            there is no API key.

    Example:
        ```python
        async with AsyncPynector(transport_type="sdk", sdk_type="anthropic", model="claude-sonnet-5-5") as client:
            message = await client.request("Name three rivers.")
            print(message.text, message.usage)
        ```
    """

    def __init__(
        self,
        sdk_type: str = "openai",
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = 60.0,
        *,
        model: str | None = None,
        max_retries: int | UnsetType = UNSET,
        adapter: AsyncSDKAdapter | None = None,
        **options: Any,
    ) -> None:
        self._retry_policy = RetryPolicy(max_retries=resolve("max_retries", max_retries))
        defaults = {name: options.pop(name) for name in tuple(options) if name in _DEFAULTS}
        if model is not None:
            defaults["model"] = model
        # Now, and not with the first request: they are checked by that.
        make_request("", {}, defaults)
        self._defaults = defaults
        if adapter is None:
            made = {"api_key": api_key, "base_url": base_url, "timeout": timeout, **options}
            adapter = _make_adapter(sdk_type, made)
        elif api_key is not None or base_url is not None or options:
            raise ConfigurationError("adapter= brings its own key, address and options: set them there")
        elif not isinstance(adapter, AsyncSDKAdapter):
            raise ConfigurationError(f"adapter= is a {type(adapter).__name__}: give an AsyncSDKAdapter")
        self._adapter = adapter
        self._mutex = Mutex()
        self._connecting = Lock()
        self._connected = False
        self._home: Home | None = None
        self._closed = False
        self._lane: tuple[int, Lane] | None = None

    options: ClassVar[frozenset[str]] = _OPTIONS
    """What of a request may be an option of the call."""

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy of this transport, for requests that bring none."""
        return self._retry_policy

    @property
    def adapter(self) -> AsyncSDKAdapter:
        """What it asks the provider through."""
        return self._adapter

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides what its answers mean, for a fingerprint: in both colours the same."""
        base_url = getattr(self._adapter, "base_url", None)
        return {"transport": "sdk", "provider": self._adapter.provider, "base_url": base_url, **self._defaults}

    # The life of a transport

    async def connect(self) -> None:
        """Get ready to send: import the SDK and make its client."""
        self._closed = False
        await self.connect_once()

    async def connect_once(self) -> None:
        """Get ready, unless it is so already, or closed."""
        self._ready()
        if self._connected:
            return
        async with self._connecting:
            if not self._connected:
                await self._adapter.connect()
                self._connected = True

    async def disconnect(self) -> None:
        """Close every idle connection. Idempotent."""
        self._closed = True
        if self._home is not None and self._home.left():
            self._adapter.abandon()
            return
        async with self._connecting:
            connected, self._connected = self._connected, False
            if connected:
                await self._adapter.aclose()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    def _ready(self) -> None:
        """See that this is the event loop and the process that it was first used in; a forked child starts anew."""
        if self._home is not None and not self._home.left() and not self._closed:
            return
        with self._mutex:
            if self._closed:
                raise ClosedError("this transport is closed: connect it again, or make a new one")
            if self._home is not None and self._home.left():
                self._adapter.abandon()
                self._connecting = Lock()
                self._connected = False
                self._home = None
            if self._home is None:
                self._home = Home(type(self).__name__)

    # One exchange, as the user of a bare transport sees it

    async def send(self, message: Any, **options: Any) -> None:
        """Send a request and keep its answer for `receive`.

        Args:
            message: A prompt or a mapping.
            **options: `timeout`, as in `request`.
        """
        put(self, await self.request(message, **options))

    def receive(self) -> AsyncIterator[Any]:
        """The answers to what this task sent and has not read yet, in order; then it ends."""
        return inbox(self)

    async def request(self, message: Any, *, timeout: float | None = None) -> SdkMessage:
        """Send a request and wait for its answer, with the retries of this transport.

        Args:
            message: A prompt or a mapping.
            timeout: Seconds for everything: all attempts and the waits between them. None for no limit.

        Raises:
            SdkTransportError: The provider refused, or failed; its subclass says how.
            TimeoutError: `timeout` has passed.
            TransportError: Anything else that went wrong on the way.
        """
        prepared, record = self.prepare(message, {}), Record()
        check_timeout(name="timeout", value=timeout)
        operation = begin(self, prepared, record)
        if operation is None:
            return await self._request(prepared, record, timeout)
        return await within(operation, self._request, prepared, record, timeout)

    async def _request(self, prepared: SdkRequest, record: Record, timeout: float | None) -> SdkMessage:
        with move_on_after(timeout):
            answer: SdkMessage = await run_attempts(self, prepared, self._retry_policy, record)
            return answer
        raise TimeoutError(f"no answer within {timeout or 0:.6g} s: {prepared}")

    def stream(self, message: Any, *, timeout: float | None = None) -> AsyncSdkStream:
        """Send a request and read its answer piece by piece: an async context manager.

        Args:
            message: A prompt or a mapping.
            timeout: Seconds for everything, reading to the end included. None for no limit.
        """
        return self.open_stream(message, {}, policy=self._retry_policy, timeout=timeout, begin=self._begin_stream)

    def _begin_stream(self, prepared: SdkRequest, record: Record) -> Operation | None:
        return begin(self, prepared, record, streamed=True)

    def open_stream(self, data: Any, options: Mapping[str, Any], **how: Any) -> AsyncSdkStream:
        """The stream for a request of the client, which has resolved its options."""
        how.pop("raise_for_status", None)  # a refusal of a provider is always an error
        return AsyncSdkStream(self, self._adapter, data, options, **how)

    # One attempt, as the retry loop sees it

    def prepare(self, data: Any, options: Mapping[str, Any], *, idempotency_key: str | None = None) -> SdkRequest:
        """Turn what the user gave into what every attempt sends."""
        self._ready()
        request = make_request(data, options, self._defaults)
        if idempotency_key is not None:
            request.headers = {**request.headers, "Idempotency-Key": idempotency_key}
        self._adapter.check(request)
        return request

    def lane(self, prepared: SdkRequest) -> Lane:
        """What is known of the provider and the credential."""
        lane, epoch = self._lane, forks[0] + epochs[0]
        if lane is None or lane[0] != epoch:
            lane = self._lane = epoch, lane_of(("sdk", self._adapter.identity))
        return lane[1]

    def payload(self, prepared: SdkRequest) -> object:
        """What the tokens of a request are estimated by."""
        described = {
            "data": prepared.data,
            "system": prepared.system,
            "tools": [tool.parameters for tool in prepared.tools],
            "max_tokens": prepared.max_tokens,
        }
        return Described(prepared.data, described)

    async def attempt(self, prepared: SdkRequest, record: Record) -> SdkMessage:
        """Send a request once, and wait for the whole answer."""
        await self.connect_once()
        adapter, doubt = self._adapter, record.unanswered
        if not adapter.reports_sending:
            record.sending()
        token = sending.set(Sending(record, streamed=False))
        try:
            answer = await adapter.complete(prepared)
        except Exception as exc:
            error = self.told(exc, record, doubt)
            raise error from error.__cause__
        finally:
            sending.reset(token)
        record.answered()
        if not isinstance(answer, SdkMessage):
            raise misbehaving(adapter, "complete", answer, "SdkMessage")
        return answer

    def told(self, exc: Exception, record: Record, doubt: bool) -> Exception:
        """An error of the adapter as one of ours; `doubt` is what `record.unanswered` was before the attempt."""
        error = self._adapter.translate_error(exc)
        if getattr(error, "status_code", None) is not None:
            record.answered()
        elif not self._adapter.reports_sending and (
            isinstance(error, ConfigurationError) or getattr(error, "sent", True) is False
        ):
            record.unsent(doubt)
        if error is not exc and error.__cause__ is None:
            error.__cause__ = exc
        return error

    def judge(self, prepared: SdkRequest, answer: object) -> Failure | None:
        """None: what an adapter returns is an answer."""
        return None

    def excuse(self, prepared: SdkRequest, error: Exception) -> Failure | None:
        """A failure to be retried or not."""
        return failure_of(error)

    def finish(self, prepared: SdkRequest, answer: Any, *, raise_for_status: bool) -> Any:
        """The answer as the user gets it."""
        return answer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._adapter!r}>"


def _make_adapter(sdk_type: str, arguments: dict[str, Any]) -> AsyncSDKAdapter:
    cls = adapters.get(sdk_type)
    parameters = inspect.signature(cls).parameters
    if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        check_names("option", arguments, parameters)
    made = Secret(arguments)  # what is in a frame shows in some tracebacks
    del arguments
    return cls(**made.get())
