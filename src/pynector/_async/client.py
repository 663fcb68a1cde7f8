"""The client: what to send, with which limits, through which transport."""

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self, Unpack

from .._checkpoint.keys import KeyFunction
from .._checkpoint.options import Checkpoint
from .._concurrency.aio.colour import ColourGuard
from .._config import UNSET, UnsetType, check_config, check_flag, check_timeout, resolve
from .._http.download import Download
from .._messages.http import HttpMessage
from .._messages.outcome import BatchResult
from .._options import (
    BATCH_OPTIONS,
    RUN_OPTIONS,
    BatchOptions,
    Concurrency,
    HTTPFields,
    RequestOptions,
    RetryingOptions,
    check_buffer,
    check_errors,
    check_policy,
    split_fields,
)
from .._policies.adaptive import AdaptiveConcurrency, coerce_concurrency
from .._policies.breaker import CircuitBreaker
from .._policies.rate_limit import RateLimit
from .._policies.retry import RetryPolicy, coerce_retry
from .._progress import ProgressCallback, make_progress
from .._registry import TransportFactoryRegistry
from ..errors import ConfigurationError
from .attempts import AsyncAttempts, Record
from .bulk.batch import AsyncBatch
from .bulk.inputs import length_of
from .bulk.run import AsyncBatchRun
from .foreign import adapt
from .sender import AsyncSender, check_transport
from .stream import AsyncClientStream
from .transports.factory import default_registry
from .transports.http import AsyncHTTPTransport
from .transports.protocol import AsyncTransport
from .transports.sdk import AsyncSdkTransport


class AsyncPynector(ColourGuard):
    """Sends requests: one, a stream, or many at a time.

    Constructing a client checks every argument and opens nothing; the first request does. It may be shared by any
    number of tasks and belongs to the event loop it was first used in. It works without a context manager too; then
    call `aclose` when done.

    Args:
        transport: A transport to send through; by default one is made.
        transport_type: The name of the transport to make: `"http"`, `"sdk"` (language models, through the SDKs of
            their providers), or one that was registered.
        config: Settings by name (`base_url`, `timeout`, `max_retries`, `max_concurrency`, `http_engine`); arguments
            win over them, and they over the environment (`PYNECTOR_TIMEOUT`, ...).
        enable_telemetry: Whether there are spans and measurements, if OpenTelemetry is installed, and log lines on
            retries; see the page on observability.
        retry: A `RetryPolicy`, a number of retries, or None for no retries; by default what the transport says.
        rate_limit: A `RateLimit` for every request, in a batch or not; with that of all clients of this process that
            have an equal one for the same server and credential.
        circuit_breaker: A `CircuitBreaker`, shared likewise.
        timeout: Seconds for a whole request: all attempts, the waits between them, and reading. None, the default, is
            no limit; the transport's own `timeout` bounds the silence of the network.
        registry: Where `transport_type` is looked up.
        **transport_options: Arguments of the transport that is made, such as `base_url`, `headers`, `auth`: see
            `AsyncHTTPTransport`; or `sdk_type`, `api_key`, `model`: see `AsyncSdkTransport`.

    Raises:
        ConfigurationError: A name or a value is wrong; the text says what would be right.

    Example:
        ```python
        async with AsyncPynector(base_url="https://api.example.com") as client:
            user = await client.get("/users/1")
            print(user.json())
            results = await client.batch_request([{"path": f"/users/{n}"} for n in range(100)], max_concurrency=20)
        ```
    """

    def __init__(
        self,
        transport: AsyncTransport | None = None,
        *,
        transport_type: str = "http",
        config: Mapping[str, Any] | None = None,
        enable_telemetry: bool = True,
        retry: RetryPolicy | int | UnsetType | None = UNSET,
        rate_limit: RateLimit | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        timeout: float | UnsetType | None = UNSET,
        registry: TransportFactoryRegistry[Any] | None = None,
        **transport_options: Any,
    ) -> None:
        settings = check_config(config)
        check_flag(enable_telemetry, "enable_telemetry")
        inherited: float | None = resolve("timeout", timeout, config=settings)
        self._max_concurrency: int = resolve("max_concurrency", config=settings)
        policy = None if isinstance(retry, UnsetType) else coerce_retry(retry)
        check_policy("rate_limit", rate_limit, RateLimit, "a RateLimit")
        check_policy("circuit_breaker", circuit_breaker, CircuitBreaker, "a CircuitBreaker")
        if transport is None:
            if transport_type == "http":
                for setting, option in _SETTINGS_OF_HTTP:
                    if setting in settings:
                        transport_options.setdefault(option, resolve(setting, config=settings))
            elif transport_type == "sdk" and "max_retries" in settings:
                transport_options.setdefault("max_retries", settings["max_retries"])
            if registry is not None and not callable(getattr(registry, "create_transport", None)):
                raise ConfigurationError(
                    f"argument `registry`: {registry!r:.80} is not accepted; give a TransportFactoryRegistry, or None"
                )
            registry = default_registry() if registry is None else registry
            transport = registry.create_transport(transport_type, **transport_options)
            if not enable_telemetry and isinstance(transport, AsyncHTTPTransport):
                transport.telemetry = False  # it is nobody else's: so not even a look whether there is some
        elif transport_options:
            raise ConfigurationError(
                f"{next(iter(transport_options))!r} is an option for a transport to be made, but one was given: "
                "set it there"
            )
        self._transport: Any = check_transport(transport)
        attempts: AsyncAttempts[Any]
        if isinstance(transport, (AsyncHTTPTransport, AsyncSdkTransport)):
            attempts = transport
        else:
            attempts = adapt(self._transport, RetryPolicy(max_retries=resolve("max_retries", config=settings)))
        self._sender = AsyncSender(
            self._transport,
            attempts,
            timeout=inherited,
            retry=policy,
            rate_limit=rate_limit,
            breaker=circuit_breaker,
            log=enable_telemetry,
            item_spans=resolve("batch_item_spans", config=settings),
            attempt_spans=resolve("batch_attempt_spans", config=settings),
            owner=type(self).__name__,
        )

    # One request

    async def request(self, data: Any, **options: Unpack[RequestOptions]) -> Any:
        """Send one request and wait for its answer.

        Args:
            data: For HTTP a mapping with `path` or `url` and any of `method`, `params`, `headers`, `json`, `form`,
                `files`, `content`; or an `HttpMessage`. For a language model a prompt, or a mapping with `prompt` or
                `messages`. For a transport of your own, whatever it takes.
            **options: `timeout` (seconds for everything, None for no limit), `retry` (a policy, a number, None for
                off), `raise_for_status` (default True), `idempotency_key` (sent as a header; makes any request safe
                to repeat). For a language model also `model`, `max_tokens`, `temperature`, ...

        Returns:
            The response: for HTTP an `HttpMessage`, for a language model an `SdkMessage`.

        Raises:
            HTTPStatusError: The final answer is a 4xx or 5xx; it is in `response`.
            TimeoutError: The timeout has passed.
            TransportError: Anything else that went wrong on the way.
            ConfigurationError: The request or an option is wrong.
            ClosedError: The client was closed.

        Example:
            ```python
            response = await client.request({"path": "/users", "method": "POST", "json": {"name": "Ada"}})
            ```
        """
        return await self._sender.call(data, options, Record())

    async def request_with_retry(
        self, data: Any, max_retries: int = 3, retry_delay: float = 1.0, **options: Unpack[RetryingOptions]
    ) -> Any:
        """Send one request with a retry policy of its own.

        Args:
            data: As in `request`.
            max_retries: How often it is sent again at most.
            retry_delay: Seconds; the n-th wait is random between 0 and `retry_delay * 2**n`, or what the server asks.
            **options: As in `request`, without `retry`. On a transport that is not ours any message is repeated.
        """
        if "retry" in options:
            raise ConfigurationError("request_with_retry makes its own policy: use request(..., retry=...) instead")
        # Whether a message of a transport that is not ours may be repeated, only the user knows, who asks for it here.
        policy = RetryPolicy(
            max_retries=max_retries, backoff_factor=retry_delay, retry_non_idempotent=self._sender.foreign
        )
        return await self._sender.call(data, {**options, "retry": policy}, Record())

    async def get(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send a GET request. `fields`: the parts of the request (`params`, `headers`, ...) and options."""
        return await self._shortcut("GET", path, fields)

    async def post(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send a POST request. `fields`: the parts of the request (`json`, `form`, ...) and options."""
        return await self._shortcut("POST", path, fields)

    async def put(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send a PUT request. `fields`: the parts of the request (`json`, `form`, ...) and options."""
        return await self._shortcut("PUT", path, fields)

    async def patch(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send a PATCH request. `fields`: the parts of the request (`json`, `form`, ...) and options."""
        return await self._shortcut("PATCH", path, fields)

    async def delete(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send a DELETE request. `fields`: the parts of the request (`params`, `headers`, ...) and options."""
        return await self._shortcut("DELETE", path, fields)

    async def head(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send a HEAD request. `fields`: the parts of the request (`params`, `headers`, ...) and options."""
        return await self._shortcut("HEAD", path, fields)

    async def options(self, path: str, **fields: Unpack[HTTPFields]) -> HttpMessage:
        """Send an OPTIONS request. `fields`: the parts of the request (`params`, `headers`, ...) and options."""
        return await self._shortcut("OPTIONS", path, fields)

    # An answer piece by piece

    def stream(self, data: Any, **options: Unpack[RequestOptions]) -> AsyncClientStream:
        """Send one request and read its answer as it arrives.

        Args:
            data: As in `request`.
            **options: As in `request`; `timeout` covers reading to the end.

        Returns:
            An async context manager that gives the response: iterate over it for chunks (bytes), or over its
            `iter_lines()`, `iter_text()` or `iter_events()`. That of a language model gives pieces of text, or its
            `events()`.

        Example:
            ```python
            async with client.stream({"path": "/export"}) as response:
                async for chunk in response:
                    file.write(chunk)
            ```
        """
        return AsyncClientStream(self._sender.open_stream, data, options)

    async def download(
        self,
        path: str,
        to: str | os.PathLike[str] | BinaryIO,
        *,
        method: str = "GET",
        overwrite: bool = True,
        resume: bool = True,
        progress: bool | ProgressCallback = False,
        **fields: Unpack[HTTPFields],
    ) -> Download:
        """Send one request and write its answer to a file, as it arrives.

        At a path the file appears when it is complete; until then, and whenever the download fails or is cancelled,
        what was there before stays. Retries begin from the start, or where the one before was cut off if the server
        can do that (RFC 9110, section 14) and says by an `ETag` or a date that the content is still the same one.

        Args:
            path: What to get, as in `get`.
            to: The path of a file, or a file that is open for writing bytes. That is written from where it stands and
                stays open; after a failure, what has come is in it.
            method: The method of the request.
            overwrite: Whether the path may be of a file that exists.
            resume: Whether a retry asks for what is missing only.
            progress: True for a progress bar (tqdm), or a callable taking (bytes so far, all bytes or None), called
                in this task. The first number goes down if a retry begins from the start.
            **fields: The parts of the request (`params`, `headers`, ...) and options, as in `get`. `timeout` covers
                everything.

        Returns:
            The path, the size, and the answer without its body.

        Raises:
            HTTPStatusError: The answer is not a 2xx; nothing was written.
            TimeoutError: The timeout has passed.
            TransportError: Anything else that went wrong on the way.
            OSError: The file can't be written.
            ConfigurationError: The request, an option or `to` is wrong, or the transport is not for HTTP.

        Example:
            ```python
            done = await client.download("/export", "export.ndjson")
            print(done.path, done.size)
            ```
        """
        request, options = split_fields(method, path, fields)
        return await self._sender.download(request, options, to, overwrite=overwrite, resume=resume, progress=progress)

    # Many requests

    async def batch_request(
        self,
        requests: Iterable[Any] | AsyncIterable[Any],
        max_concurrency: Concurrency | None = None,
        timeout: float | None = None,
        raise_on_error: bool = False,
        *,
        progress: bool | ProgressCallback = False,
        **options: Unpack[BatchOptions],
    ) -> BatchResult[Any]:
        """Send many requests, a bounded number at a time.

        Args:
            requests: Whatever can be iterated over, of `data` as in `request`, or of pairs `(data, options)` whose
                options win over those given here. It is read lazily.
            max_concurrency: The most requests at once; `"auto"` or an `AdaptiveConcurrency` to find out what the server
                takes; None for the setting `max_concurrency`, which is 10 by default.
            timeout: Seconds for the whole batch; None for no limit.
            raise_on_error: Whether the first failure ends the batch and is raised.
            progress: True for a progress bar (tqdm), or a callable taking (done, total), called in this task.
            **options: `retry` and `raise_for_status`, as in `request`, for every item; `idempotency_key=True` to have a
                key of its own made for each, which all its attempts have (with a checkpoint those of later runs too).

        Returns:
            A list of responses and exceptions, in the order of the input, with the details in `.outcomes`. If the
            timeout passes, the items that were not finished have a `TimeoutError` there.

        Raises:
            SourceError: The input raised; what was finished is in its `outcomes`.
            TimeoutError: The timeout has passed, with `raise_on_error`.
            PynectorError: With `raise_on_error`, that of the first item that failed; its `outcomes` are those
                finished by then.

        Example:
            ```python
            results = await client.batch_request(({"path": f"/users/{n}"} for n in range(1000)), max_concurrency=50)
            for outcome in results.failed:
                print(outcome.index, outcome.error)
            ```
        """
        limit, adaptive = self._limit(max_concurrency)
        check_flag(raise_on_error, "raise_on_error")
        check_timeout(name="timeout", value=timeout)
        calls, total = self._sender.calls(options, BATCH_OPTIONS, adaptive=adaptive), length_of(requests)
        on_progress, close_progress = make_progress(progress, total)
        try:
            batch = AsyncBatch(
                self.connect,
                calls,
                requests,
                total=total,
                limit=limit,
                timeout=timeout,
                raise_on_error=raise_on_error,
                memo=self._sender.memo(),
                on_progress=on_progress,
            )
            return await batch.run()
        finally:
            close_progress()

    def stream_batch(
        self,
        requests: Iterable[Any] | AsyncIterable[Any],
        *,
        max_concurrency: Concurrency | None = None,
        ordered: bool = False,
        buffer: int | None = None,
        timeout: float | None = None,
        item_timeout: float | None = None,
        on_error: Literal["continue", "drain", "cancel"] = "continue",
        max_errors: int | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        key: KeyFunction | None = None,
        dedupe: bool = False,
        progress: bool | ProgressCallback = False,
        **options: Unpack[BatchOptions],
    ) -> AsyncBatchRun:
        """Send many requests, a bounded number at a time, and get each outcome as soon as it is there.

        Nothing is kept: the input may be endless. No more items are read from it, and not yet handed to you, than
        `max_concurrency` and `buffer` together.

        Args:
            requests: As in `batch_request`.
            max_concurrency: The most requests at once; `"auto"` or an `AdaptiveConcurrency` to find out what the server
                takes; None for the setting `max_concurrency`, which is 10 by default.
            ordered: Whether outcomes come in the order of the input, rather than as they finish.
            buffer: How many items more than `max_concurrency` may be read and not yet handed out; None for twice
                `max_concurrency`.
            timeout: Seconds for all of it; None for no limit. Then every request under way ends, what became of each
                is handed out, and that is the end.
            item_timeout: Seconds for each item: all attempts, the waits between them, and reading. None for no limit.
            on_error: What a failed item means: `"continue"`: nothing; `"drain"`: no more items are begun, and those
                under way go on to their end; `"cancel"`: those end at once as well. Every item of an input with a
                length has an outcome all the same. Whatever this says, a batch is drained when every further request
                would fail: after a 401 or a used-up quota.
            max_errors: After how many failed items the run ends; 1 with `on_error="drain"` or `"cancel"`.
            checkpoint: The path of a file that keeps what becomes of every item, or a `Checkpoint`. With the same
                file and the same job, items that are finished come from it (`outcome.source` is `"checkpoint"`), and
                the others are sent.
            key: Gives the key of an item, by which a later run knows it again; called in this task. By default it is
                the item's own `key` or `custom_id`, else it is made of the request.
            dedupe: Whether equal requests share one call (`outcome.source` is `"duplicate"` for all but the first).
                Their answers are kept until the run ends.
            progress: True for a progress bar (tqdm), or a callable taking (done, total), called in this task.
            **options: `retry` and `raise_for_status`, as in `request`, for every item; `idempotency_key=True` to have a
                key of its own made for each, which all its attempts have (with a checkpoint those of later runs too).

        Returns:
            An async context manager that gives the run, an async iterator of `Outcome`s. Leaving its block, in
            whatever way, ends every request and closes the input (if it is a generator) before it returns.

        Raises:
            SourceError: From the iteration: the input raised, and every outcome up to there was handed out.
            ConfigurationError: An argument is wrong.

        Example:
            ```python
            requests = ({"path": f"/users/{n}"} for n in range(1_000_000))
            async with client.stream_batch(requests, max_concurrency=50) as run:
                async for outcome in run:
                    if outcome.ok:
                        save(outcome.index, outcome.value.json())
            ```
        """
        limit, adaptive = self._limit(max_concurrency)
        check_flag(ordered, "ordered")
        buffer = 2 * limit if buffer is None else check_buffer(buffer)
        check_timeout(name="timeout", value=timeout)
        most, cancels = check_errors(on_error, max_errors)
        memo = self._sender.memo(checkpoint, key, check_flag(dedupe, "dedupe"), options)
        calls = self._sender.calls(options, RUN_OPTIONS, item_timeout, adaptive)
        total = length_of(requests)
        on_progress, close_progress = make_progress(progress, total)
        try:
            return AsyncBatchRun(
                self.connect,
                calls,
                requests,
                total=total,
                limit=limit,
                buffer=buffer,
                ordered=ordered,
                timeout=timeout,
                max_errors=most,
                cancels=cancels,
                memo=memo,
                on_progress=on_progress,
                close_progress=close_progress,
            )
        except BaseException:
            close_progress()
            raise

    # The life of a client

    async def connect(self) -> None:
        """Get ready to send. The first request does it as well; a second call does nothing.

        Raises:
            ClosedError: The client was closed.
            WrongLoopError: It belongs to another event loop.
        """
        await self._sender.connect()

    async def aclose(self) -> None:
        """Close the client and its connections. Requests under way end first; a second call does nothing."""
        await self._sender.aclose()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self._transport!r}, {self._sender.state}>"

    # Inside

    def _limit(
        self, given: int | AdaptiveConcurrency | Literal["auto"] | None
    ) -> tuple[int, AdaptiveConcurrency | None]:
        """The most workers of a batch, and the adaptive limit if there is one."""
        limit = self._max_concurrency if given is None else given
        if isinstance(limit, int) and not isinstance(limit, bool):
            return resolve("max_concurrency", limit), None
        policy = coerce_concurrency(limit)
        return (policy.maximum, policy) if isinstance(policy, AdaptiveConcurrency) else (policy, None)

    async def _shortcut(self, method: str, path: str, fields: Mapping[str, Any]) -> HttpMessage:
        request, options = split_fields(method, path, fields)
        response: HttpMessage = await self._sender.call(request, options, Record())
        return response


_SETTINGS_OF_HTTP: Final[tuple[tuple[Literal["base_url", "max_retries", "http_engine"], str], ...]] = (
    ("base_url", "base_url"),
    ("max_retries", "max_retries"),
    ("http_engine", "engine"),
)
