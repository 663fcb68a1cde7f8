"""HTTP: what the client, and whoever uses a transport alone, sends requests with."""

import time
from collections.abc import AsyncIterator, Collection, Mapping
from types import TracebackType
from typing import Any, Self

from ..._concurrency.aio.colour import ColourGuard
from ..._concurrency.aio.locks import Mutex
from ..._concurrency.aio.scopes import move_on_after
from ..._config import UNSET, Secret, UnsetType, check_count, check_flag, check_timeout, resolve
from ..._http.auth import AuthTypes, authorization
from ..._http.cookies import CookieStore, checked_cookies
from ..._http.settings import EngineSettings
from ..._http.wire import WireBuilder, WireRequest, redirect
from ..._messages.headers import Headers
from ..._messages.http import HttpMessage
from ..._messages.protocol import Message
from ..._messages.redact import redact_url
from ..._policies.redirect import next_request
from ..._policies.retry import Failure, RetryPolicy, parse_retry_after
from ...errors import (
    TRANSIENT_STATUSES,
    ClosedError,
    ConfigurationError,
    HTTPRedirectError,
    TimeoutError,
    TransportError,
)
from ..attempts import Record, run_attempts
from ..engines.protocol import Answer, AsyncEngine, AsyncExchange
from ..ownership import Home
from .inbox import inbox, put
from .stream import AsyncHTTPStream

MAX_REDIRECTS = 20
"""As httpx and browsers have it."""

MAX_CONNECTIONS = 100_000
"""More than a machine has ports for; a larger number is a slip."""


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
        verify_ssl: Whether servers must show a certificate that is trusted and theirs.
        engine: What sends the bytes; `"httpx"`.
        max_connections: The most requests on the wire at once.
        auth: `(user, password)` for basic, a token (text) for bearer.
        cookies: Sent to every host that is asked; what servers set is kept as well.
        trust_env: Whether `SSL_CERT_FILE` and `SSL_CERT_DIR` are looked at.
        client: Your own `httpx.AsyncClient`, used as it is: its TLS, time-outs, proxies, cookies and auth apply. You
            close it.
        message_type: What answers are made into: `HttpMessage`, or a type whose `deserialize` takes the body.

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
        verify_ssl: bool = True,
        *,
        engine: str | UnsetType = UNSET,
        max_connections: int = 100,
        auth: AuthTypes | None = None,
        cookies: Mapping[str, str] | None = None,
        trust_env: bool = True,
        client: Any = None,
        message_type: type[Message] = HttpMessage,
    ) -> None:
        self._retry_policy = RetryPolicy(
            max_retries=resolve("max_retries", max_retries),
            backoff_factor=retry_backoff_factor,
            retry_statuses=_statuses(retry_status_codes),
        )
        self._base_url = Secret(resolve("base_url", base_url))  # it may have a user and a password in it
        self._headers = Headers(headers)
        self._timeout = check_timeout(name="timeout", value=timeout)
        self._max_connections = check_count(max_connections, "max_connections", maximum=MAX_CONNECTIONS)
        self._follow_redirects = check_flag(follow_redirects, "follow_redirects")
        self._verify_ssl = check_flag(verify_ssl, "verify_ssl")
        self._trust_env = check_flag(trust_env, "trust_env")
        self._cookies = Secret(checked_cookies(cookies))
        self._auth = Secret(authorization(auth))
        self._engine_name = resolve("http_engine", engine)
        if client is not None:
            # Of the right colour or not, that is seen when httpx is imported.
            if not all(callable(getattr(client, name, None)) for name in ("build_request", "send")):
                raise ConfigurationError(f"client= is a {type(client).__name__}: give an httpx.AsyncClient")
            given = [("cookies", cookies), ("verify_ssl", not verify_ssl), ("trust_env", not trust_env)]
            if ignored := [name for name, value in given if value]:
                raise ConfigurationError(f"client= brings its own {ignored[0]}: set it on that client")
        self._client = client
        if not callable(getattr(message_type, "deserialize", None)):
            raise ConfigurationError(
                f"message_type={message_type!r:.80} is no message type: it has no class method deserialize(data)"
            )
        self._message_type = message_type
        self._mutex = Mutex()
        self._home: Home | None = None
        self._engine: AsyncEngine | None = None
        self._builder: WireBuilder | None = None
        self._closed = False

    @property
    def retry_policy(self) -> RetryPolicy:
        """The policy of this transport, for requests that bring none."""
        return self._retry_policy

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
                self._builder, self._engine = self._build()
            return self._engine, self._builder

    def _build(self) -> tuple[WireBuilder, AsyncEngine]:
        from ..engines import make_engine  # imports httpx: not before it is needed

        settings = EngineSettings(
            timeout=self._timeout,
            verify_ssl=self._verify_ssl,
            trust_env=self._trust_env,
            max_connections=self._max_connections,
            follow_redirects=self._follow_redirects,
            client=self._client,
        )
        engine = make_engine(self._engine_name, settings)
        base_url = self._base_url.get() or (str(self._client.base_url) if self._client is not None else "")
        cookies = CookieStore(self._cookies.get())
        return WireBuilder(base_url, self._headers, self._auth.get(), cookies), engine

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

    def open_stream(self, data: Any, **options: Any) -> AsyncHTTPStream:
        """The stream for a request of the client, which has resolved its options."""
        return AsyncHTTPStream(self, data, **options)

    # One attempt, as the retry loop sees it

    def prepare(self, data: Any, options: Mapping[str, Any], *, idempotency_key: str | None = None) -> WireRequest:
        """Turn a mapping or an `HttpMessage` into what every attempt sends."""
        if options:
            raise ConfigurationError(f"unknown option {next(iter(options))!r} for an HTTP request")
        message = data if isinstance(data, HttpMessage) else HttpMessage.from_mapping(data)
        wire = self._ready()[1].build(message)
        if idempotency_key is not None:
            wire.set_header(b"Idempotency-Key", idempotency_key)
        return wire

    async def attempt(self, prepared: WireRequest, record: Record) -> HttpMessage:
        """Send a request once, follow its redirects, and read the answer."""
        started = time.perf_counter()
        engine, builder = self._ready()
        wire = prepared
        history: tuple[HttpMessage, ...] = ()
        while True:
            answer = await engine.send(wire, builder.with_cookies(wire), record)
            builder.store_cookies(wire, answer.headers)
            following = self._following(wire, answer, history)
            if following is None:
                break
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
        if not isinstance(error, TransportError) or not prepared.replayable:
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
            try:
                following = self._following(wire, exchange, history)
                if following is None:
                    return wire, exchange, history
                content = await exchange.read()
            except BaseException:
                await exchange.aclose()
                raise
            history = (*history, self.response(wire, exchange, content, 0.0, ()))
            wire = following

    def _following(
        self, wire: WireRequest, answer: Answer | AsyncExchange, history: tuple[HttpMessage, ...]
    ) -> WireRequest | None:
        """The request that an answer redirects to; None if it is no redirect, or not to be followed."""
        if not (300 <= answer.status_code < 400 and self._follow_redirects):
            return None
        step = next_request(
            method=wire.method,
            url=str(wire.target),
            headers=Headers.from_raw(wire.headers),
            has_body=wire.body is not None,
            status_code=answer.status_code,
            location=Headers.from_raw(answer.headers).get("location"),
        )
        if step is None:
            return None
        if len(history) == MAX_REDIRECTS:
            raise HTTPRedirectError(
                f"more than {MAX_REDIRECTS} redirects", method=wire.method, url=wire.target.redacted
            )
        return redirect(wire, step)

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
            headers=Headers.from_raw(answer.headers),
            content=content,
            request=wire.message,
            url=answer.url or str(wire.target),
            elapsed=elapsed,
            http_version=answer.http_version,
            history=history,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact_url(self._base_url.get())!r}>"


def _statuses(codes: Collection[int] | None) -> frozenset[int]:
    if codes is None:
        return TRANSIENT_STATUSES
    try:
        return frozenset(codes)
    except TypeError:
        raise ConfigurationError(
            f"retry_status_codes={codes!r:.80} is not accepted; give HTTP statuses, as in {{429, 503}}"
        ) from None
