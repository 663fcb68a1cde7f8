"""HTTP: what the client, and whoever uses a transport alone, sends requests with."""

import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

from ..._concurrency.aio.colour import ColourGuard, check_iterable
from ..._concurrency.aio.locks import Mutex
from ..._concurrency.aio.scopes import move_on_after, shield
from ..._config import UNSET, Secret, UnsetType, check_timeout, resolve
from ..._http.arguments import (
    KEEPALIVE_EXPIRY,
    EventHooks,
    checked_codec,
    checked_hooks,
    checked_settings,
    checked_statuses,
    refuse_with_client,
)
from ..._http.auth import AuthTypes, checked_auth
from ..._http.body import StreamBody
from ..._http.cookies import CookieStore, checked_cookies
from ..._http.lanes import LaneFinder
from ..._http.redirects import following_request
from ..._http.settings import CertTypes, VerifyTypes
from ..._http.wire import WireBuilder, WireRequest
from ..._lanes import Lane
from ..._messages.body import JsonCodec
from ..._messages.headers import Headers
from ..._messages.http import HttpMessage
from ..._messages.protocol import Message
from ..._messages.redact import redact_url
from ..._mutex import forks
from ..._policies.retry import Failure, RetryPolicy, parse_retry_after
from ...errors import ClosedError, ConfigurationError, TimeoutError, TransportError
from ..attempts import Record, run_attempts
from ..engines.protocol import Answer, AsyncEngine, AsyncExchange
from ..ownership import Home
from .inbox import inbox, put
from .stream import AsyncHTTPStream


class AsyncHTTPTransport(ColourGuard):
    """Sends HTTP requests over connections that are kept and reused.

    Constructing one checks its arguments and opens nothing. It may be used by any number of tasks at once; it belongs
    to the event loop it was first used in.

    Args:
        base_url: What paths are appended to; with `""`, requests need absolute URLs.
        headers: Sent with every request.
        timeout: The longest silence of the network in connecting, reading or writing, in seconds; None for no limit.
        max_retries: How often a failed request is sent again; 3 if the environment does not say otherwise.
        retry_backoff_factor: Seconds; the n-th wait is random between 0 and `retry_backoff_factor * 2**n`.
        retry_status_codes: The statuses that are retried; None for those of `RetryPolicy`.
        follow_redirects: Whether redirects are followed, at most 20 in a row.
        verify_ssl: Whether servers must show a certificate that is trusted and theirs; or the path of a PEM file or of
            a folder of authorities to trust; or an `ssl.SSLContext` of your own.
        http2: Whether HTTP/2 is offered to servers (needs the extra `http2`).
        engine: What sends the bytes: `"httpx"`, `"httpx2"`, `"pyreqwest"`.
        max_connections: The most requests on the wire at once.
        max_connections_per_host: The same for one scheme, host and port; None for no limit of its own.
        keepalive_expiry: Seconds that an idle connection is kept.
        max_response_size: The most bytes of a body, as they come over the wire; None for no limit.
        max_decompressed_size: The most bytes of a body after decompression; None for no limit.
        auth: `(user, password)` for basic, a token (text) for bearer, a callable that signs requests, or an
            `httpx.Auth`.
        cookies: Sent to every host that is asked; what servers set is kept as well.
        cert: A client certificate: the path of a PEM file with its key, or `(certificate, key)`, or `(certificate,
            key, password)`.
        proxy: The URL of a proxy for all requests.
        uds: The path of a Unix socket that all requests go to.
        trust_env: Whether `SSL_CERT_FILE`, `SSL_CERT_DIR` and the proxies of the environment are looked at.
        json_codec: A JSON library with `dumps` and `loads`, such as `orjson`, for requests and answers.
        event_hooks: Callables for every exchange on the wire: `{"request": [...], "response": [...]}`.
        client: Your own `httpx.AsyncClient`, used as it is: its TLS, time-outs, proxies, cookies and auth apply. You
            close it.
        message_type: What answers are made into: `HttpMessage`, or a type whose `deserialize` takes the body.

    Attributes:
        telemetry: Whether there are spans and measurements of what goes on the wire, if OpenTelemetry is installed. It
            counts when the first request is made.

    Raises:
        ConfigurationError: An argument is wrong; the text says what would be right.

    Example:
        ```python
        async with AsyncHTTPTransport(base_url="https://api.example.com") as transport:
            response = await transport.request(HttpMessage(url="/users/1"))
            print(response.json())
        ```
    """

    def __init__(
        self,
        base_url: str = "",
        headers: Mapping[str, str] | Headers | None = None,
        timeout: float | None = 30.0,
        max_retries: int | UnsetType = UNSET,
        retry_backoff_factor: float = 0.5,
        retry_status_codes: Collection[int] | None = None,
        follow_redirects: bool = True,
        verify_ssl: VerifyTypes = True,
        http2: bool = False,
        *,
        engine: str | UnsetType = UNSET,
        max_connections: int = 100,
        max_connections_per_host: int | None = None,
        keepalive_expiry: float = KEEPALIVE_EXPIRY,
        max_response_size: int | None = None,
        max_decompressed_size: int | None = None,
        proxy: str | None = None,
        auth: AuthTypes | None = None,
        cookies: Mapping[str, str] | None = None,
        cert: CertTypes | None = None,
        uds: str | os.PathLike[str] | None = None,
        trust_env: bool = True,
        json_codec: JsonCodec | None = None,
        event_hooks: EventHooks | None = None,
        client: Any = None,
        message_type: type[Message] = HttpMessage,
    ) -> None:
        self._retry_policy = RetryPolicy(
            max_retries=resolve("max_retries", max_retries),
            backoff_factor=retry_backoff_factor,
            retry_statuses=checked_statuses(retry_status_codes),
        )
        self._base_url = Secret(resolve("base_url", base_url))  # it may have a user and a password in it
        self._headers = Headers(headers)
        self._settings = checked_settings(
            timeout=timeout,
            verify_ssl=verify_ssl,
            cert=cert,
            trust_env=trust_env,
            http2=http2,
            proxy=proxy,
            uds=uds,
            max_connections=max_connections,
            max_connections_per_host=max_connections_per_host,
            keepalive_expiry=keepalive_expiry,
            max_response_size=max_response_size,
            max_decompressed_size=max_decompressed_size,
            follow_redirects=follow_redirects,
            client=client,
        )
        self._follow_redirects = follow_redirects
        self._cookies = Secret(checked_cookies(cookies))
        self._codec = checked_codec(json_codec)
        self._hooks = checked_hooks(event_hooks)
        self._engine_name = resolve("http_engine", engine)
        self._auth = Secret(checked_auth(auth, self._engine_name))
        if client is not None:
            # Of the right colour or not, that is seen when httpx is imported.
            if not all(callable(getattr(client, name, None)) for name in ("build_request", "send")):
                raise ConfigurationError(f"client= is a {type(client).__name__}: give an httpx.AsyncClient")
            signs = not isinstance(self._auth.get(), bytes | None)
            refuse_with_client(self._settings, cookies=cookies, event_hooks=self._hooks, auth=signs)
        self._client = client
        if not callable(getattr(message_type, "deserialize", None)):
            raise ConfigurationError(
                f"message_type={message_type!r:.80} is no message type: it has no class method deserialize(data)"
            )
        self._message_type = message_type
        self._mutex = Mutex()
        self._home: Home | None = None
        self._forks = 0
        self.telemetry = True
        self._engine: AsyncEngine | None = None
        self._builder: WireBuilder | None = None
        self._closed = False
        self._lanes = LaneFinder(signer=None if isinstance(self._auth.get(), bytes) else self._auth.get())

    options: ClassVar[frozenset[str]] = frozenset()
    """What of a request may be an option of the call: for HTTP, nothing."""

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy of this transport, for requests that bring none."""
        return self._retry_policy

    @property
    def max_response_size(self) -> int | None:
        """The most bytes of a body, as they come over the wire; None for no limit."""
        return self._settings.max_response_size

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides what its answers mean, for a fingerprint: in both colours the same, and with credentials."""
        headers = dict(self._headers.multi_items())
        return {"transport": "http", "base_url": self._base_url.get(), "headers": headers}

    # The life of a transport

    async def connect(self) -> None:
        """Get ready to send: load the engine. Connections are made when requests need them."""
        self._closed = False
        self._ready()

    async def disconnect(self) -> None:
        """Close every idle connection; requests under way end first. Idempotent."""
        self._closed = True
        with self._mutex:
            engine, self._engine = self._engine, None
        if engine is not None:
            if self._home is not None and self._home.left():
                engine.abandon()
            else:
                await engine.aclose()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    def _ready(self) -> tuple[AsyncEngine, WireBuilder]:
        """The engine and the builder of wire requests; made on first use, and again in a forked child."""
        engine, builder = self._engine, self._builder
        if engine is not None and builder is not None and self._home is not None and not self._home.left():
            return engine, builder
        with self._mutex:
            if self._closed:
                raise ClosedError("this transport is closed: connect it again, or make a new one")
            if self._engine is not None and self._home is not None and self._home.left():
                self._engine.abandon()
                self._engine = None
            if self._engine is None or self._builder is None:
                self._home = Home(type(self).__name__)
                self._forks = forks[0]
                self._builder, self._engine = self._build()
            return self._engine, self._builder

    def _build(self) -> tuple[WireBuilder, AsyncEngine]:
        from ..engines import make_engine  # imports httpx: not before it is needed

        engine = make_engine(self._engine_name, self._settings)
        if self.telemetry:
            from ..tracing import traced

            engine = traced(engine, foreign=self._client is not None)
        if self._hooks is not None:
            from ..hooks import AsyncHookedEngine

            engine = AsyncHookedEngine(engine, self._hooks, self._codec)
        base_url = self._base_url.get() or (str(self._client.base_url) if self._client is not None else "")
        cookies = CookieStore(self._cookies.get())
        auth = self._auth.get()
        if auth is None or isinstance(auth, bytes):
            return WireBuilder(base_url, self._headers, auth, cookies, self._codec), engine
        from ..auth import credentialed

        builder = WireBuilder(base_url, self._headers, None, cookies, self._codec)
        return builder, credentialed(engine, auth, builder, self._codec)

    # One exchange, as the user of a bare transport sees it

    async def send(self, message: HttpMessage | Mapping[str, Any], **options: Any) -> None:
        """Send a request and keep its answer for `receive`.

        Args:
            message: An `HttpMessage`, or a mapping of its fields.
            **options: `timeout`, as in `request`.

        Raises:
            TransportError: As `request` does.
        """
        put(self, await self.request(message, **options))

    def receive(self) -> AsyncIterator[Any]:
        """The answers to what this task sent and has not read yet, in order; then it ends."""
        return inbox(self)

    async def request(self, message: HttpMessage | Mapping[str, Any], *, timeout: float | None = None) -> Any:
        """Send a request and wait for its answer, with the retries of this transport.

        Args:
            message: An `HttpMessage`, or a mapping of its fields.
            timeout: Seconds for everything: all attempts, the waits between them, and reading. None for no limit.

        Returns:
            The response, an `HttpMessage` (or what `message_type` makes of it).

        Raises:
            HTTPStatusError: The final answer is a 4xx or 5xx; it is in `response`.
            TimeoutError: `timeout` has passed.
            TransportError: Anything else that went wrong on the way.
        """
        prepared = self.prepare(message, {})
        if timeout is None:
            return await run_attempts(self, prepared, self._retry_policy, Record())
        with move_on_after(check_timeout(name="timeout", value=timeout)):
            return await run_attempts(self, prepared, self._retry_policy, Record())
        raise TimeoutError(f"no answer within {timeout:.6g} s: {prepared.method} {prepared.target.redacted}")

    def stream(self, message: HttpMessage | Mapping[str, Any], *, timeout: float | None = None) -> AsyncHTTPStream:
        """Send a request and read its answer piece by piece: an async context manager.

        Args:
            message: An `HttpMessage`, or a mapping of its fields.
            timeout: Seconds for everything, reading to the end included. None for no limit.
        """
        return AsyncHTTPStream(self, message, timeout=timeout)

    def stream_response(self, message: HttpMessage | Mapping[str, Any]) -> AsyncHTTPStream:
        """The same as `stream`."""
        return self.stream(message)

    def open_stream(self, data: Any, options: Mapping[str, Any], **how: Any) -> AsyncHTTPStream:
        """The stream for a request of the client, which has resolved its options; none of them is for us."""
        return AsyncHTTPStream(self, data, **how)

    # One attempt, as the retry loop sees it

    def prepare(self, data: Any, options: Mapping[str, Any], *, idempotency_key: str | None = None) -> WireRequest:
        """Turn a mapping or an `HttpMessage` into what every attempt sends."""
        if options:
            raise ConfigurationError(f"unknown option {next(iter(options))!r} for an HTTP request")
        message = data if isinstance(data, HttpMessage) else HttpMessage.from_mapping(data)
        wire = self._ready()[1].build(message)
        if isinstance(wire.body, StreamBody):
            check_iterable(wire.body.source)
        if idempotency_key is not None:
            wire.set_header(b"Idempotency-Key", idempotency_key)
        return wire

    def lane(self, prepared: WireRequest) -> Lane:
        """What is known of the server and the credential of a request."""
        return self._lanes.find(prepared)

    def payload(self, prepared: WireRequest) -> object:
        """The message that the user gave."""
        return prepared.message

    async def attempt(self, prepared: WireRequest, record: Record) -> HttpMessage:
        """Send a request once, follow its redirects, and read the answer."""
        started = time.perf_counter()
        # `prepare` has looked whether this is still the event loop.
        engine, builder = self._engine, self._builder
        if engine is None or builder is None or self._forks != forks[0]:
            engine, builder = self._ready()
        wire = prepared
        history: tuple[HttpMessage, ...] = ()
        while True:
            answer = await engine.send(wire, builder.with_cookies(wire), record)
            if answer.sets_cookies:
                builder.store_cookies(wire, answer.headers)
            if not (300 <= answer.status_code < 400 and self._follow_redirects):
                break
            following = following_request(wire, answer.status_code, answer.headers, len(history))
            if following is None:
                break
            record.answered()
            history = (*history, self.response(wire, answer, answer.content, 0.0, ()))
            wire = following
        record.answered()
        return self.response(wire, answer, answer.content, time.perf_counter() - started, history)

    def judge(self, prepared: WireRequest, answer: HttpMessage) -> Failure | None:
        """A failure to be retried or not, for a 4xx or 5xx."""
        status = answer.status_code
        if status < 400 or not prepared.replayable:
            return None
        should_retry = answer.headers.get("x-should-retry", "").strip().lower()
        return Failure(
            status=status,
            idempotent=prepared.idempotent,
            retry_after=parse_retry_after(answer.headers, time.time()),
            should_retry={"true": True, "false": False}.get(should_retry),
        )

    def excuse(self, prepared: WireRequest, error: Exception) -> Failure | None:
        """A failure to be retried or not, for an error of the network."""
        if not isinstance(error, TransportError) or error.foreign or not prepared.replayable:
            return None
        return Failure(
            transient=error.transient, sent=error.sent, idempotent=prepared.idempotent, immediate=error.stale
        )

    def finish(self, prepared: WireRequest, answer: HttpMessage, *, raise_for_status: bool) -> Any:
        """The answer as the user gets it."""
        if raise_for_status:
            answer.raise_for_status()
        if self._message_type is HttpMessage:
            return answer
        return self._message_type.deserialize(answer.content)

    async def open(
        self, wire: WireRequest, record: Record
    ) -> tuple[WireRequest, AsyncExchange, tuple[HttpMessage, ...]]:
        """Send a request once and follow its redirects, up to the head of the answer that is none."""
        engine, builder = self._ready()
        history: tuple[HttpMessage, ...] = ()
        while True:
            exchange = await engine.stream(wire, builder.with_cookies(wire), record)
            builder.store_cookies(wire, exchange.headers)
            if not (300 <= exchange.status_code < 400 and self._follow_redirects):
                return wire, exchange, history
            try:
                following = following_request(wire, exchange.status_code, exchange.headers, len(history))
                if following is None:
                    return wire, exchange, history
                content = await exchange.read()
            except BaseException:
                with shield():
                    await exchange.aclose()
                raise
            record.answered()
            history = (*history, self.response(wire, exchange, content, 0.0, ()))
            wire = following

    def response(
        self,
        wire: WireRequest,
        answer: Answer | AsyncExchange,
        content: bytes,
        elapsed: float,
        history: tuple[HttpMessage, ...],
    ) -> HttpMessage:
        """The answer of one exchange as a message."""
        return HttpMessage.response(
            status_code=answer.status_code,
            headers=answer.message_headers() if isinstance(answer, Answer) else Headers.from_raw(answer.headers),
            content=content,
            request=wire.message,
            url=answer.url or wire.target,
            elapsed=elapsed,
            http_version=answer.http_version,
            history=history,
            json_codec=self._codec,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact_url(self._base_url.get())!r}>"
