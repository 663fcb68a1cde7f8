"""What a client stands on: a transport and the options that requests inherit. Every call goes through here."""

import os
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Final

from .._checkpoint.fingerprint import fingerprint
from .._checkpoint.keys import KeyFunction
from .._checkpoint.options import Checkpoint
from .._concurrency.aio.colour import check_colour, invoke
from .._concurrency.aio.locks import Lock
from .._concurrency.aio.scopes import move_on_after
from .._config import UNSET, UnsetType, check_flag, check_names, check_timeout
from .._http.download import Download
from .._mutex import forks
from .._options import NO_OPTIONS, REQUEST_OPTIONS, Plan
from .._policies.adaptive import AdaptiveConcurrency
from .._policies.breaker import CircuitBreaker
from .._policies.rate_limit import RateLimit
from .._policies.retry import RetryPolicy, coerce_retry
from .._progress import ProgressCallback
from .._telemetry import semconv
from .._telemetry.operation import Operation
from .._telemetry.tracing import Tracing, tracing
from ..errors import ClosedError, ConfigurationError, TimeoutError
from .attempts import AsyncAttempts, Record, given_up, run_attempts
from .bulk.job import Calls, Job
from .bulk.memo import Memo
from .download import AsyncDownloading
from .foreign import adapt
from .ownership import Home
from .pacing import AsyncPacer
from .tracing import begin, within
from .transports.http import AsyncHTTPTransport
from .transports.sdk import AsyncSdkTransport

OWN: Final = (AsyncHTTPTransport, AsyncSdkTransport)
"""The transports that are ours: the retry loop sends through them directly."""

_HOW: Final = frozenset({"retry", "timeout", "idempotency_key"})
"""Options that decide how an answer is got, and not what it means: they may change until a run is resumed."""


class AsyncSender:
    """Connects a transport when it is first needed, and sends through it until it is closed.

    Args:
        transport: What it owns.
        attempts: What the retry loop sends through: the transport itself, or an adapter for one that is not ours.
        timeout: Seconds for a call that brings none of its own; None for no limit.
        retry: For a call that brings none of its own; None for what the transport says.
        rate_limit: For all calls; None for no limit.
        breaker: For all calls; None for none.
        log: Whether there is telemetry: spans, measurements, and log lines on retries.
        item_spans: How many items of a batch have a span of their own around their attempts.
        attempt_spans: Of how many items of a batch the attempts have spans.
        owner: The name of the client, for errors.

    Attributes:
        foreign: Whether the transport is not ours.
    """

    __slots__ = (
        "_attempt_spans",
        "_attempts",
        "_breaker",
        "_closed",
        "_connecting",
        "_forks",
        "_home",
        "_item_spans",
        "_log",
        "_owner",
        "_pacer",
        "_rate_limit",
        "_retry",
        "_timeout",
        "_tracing",
        "_transport",
        "foreign",
    )

    def __init__(
        self,
        transport: Any,
        attempts: AsyncAttempts[Any],
        *,
        timeout: float | None,
        retry: RetryPolicy | None,
        rate_limit: RateLimit | None,
        breaker: CircuitBreaker | None,
        log: bool,
        item_spans: int,
        attempt_spans: int,
        owner: str,
    ) -> None:
        self._transport = transport
        self._attempts = attempts
        self.foreign = attempts is not transport
        self._timeout = timeout
        self._retry = retry
        self._rate_limit = rate_limit
        self._breaker = breaker
        # Also without a limit: what a server has said to a batch holds single requests back as well.
        self._pacer = AsyncPacer(rate_limit=rate_limit, breaker=breaker, measured=log)
        self._log = log
        self._item_spans = item_spans
        self._attempt_spans = attempt_spans
        # Whether there is something to make spans with is seen when the first request is made: it is an import.
        self._tracing: Tracing | UnsetType | None = UNSET if log else None
        self._owner = owner
        self._connecting = Lock()
        self._forks = forks[0]
        self._home: Home | None = None
        self._closed = False

    # Its life

    @property
    def state(self) -> str:
        """What a repr says of it."""
        return "closed" if self._closed else "open" if self._home is not None else "not connected"

    async def connect(self) -> None:
        """Connect the transport, once.

        Raises:
            ClosedError: The client was closed.
            WrongLoopError: It belongs to another event loop.
        """
        self._leave_parent()
        if self._home is not None and not self._home.left() and not self._closed:
            return
        async with self._connecting:
            if self._closed:
                raise ClosedError("this client is closed: make a new one")
            if self._home is None:
                home = Home(self._owner)
                await invoke(self._transport.connect)
                self._home = home

    def _leave_parent(self) -> None:
        """In a forked child, start anew: a task of the parent may hold a lock, and none of them exists here."""
        if self._forks == forks[0]:
            return
        self._forks = forks[0]
        self._connecting = Lock()
        if self.foreign:
            self._attempts = adapt(self._transport, self._attempts.retry_policy)
        self._home = None

    async def aclose(self) -> None:
        """Disconnect the transport, once; nothing is sent any more."""
        self._closed = True
        self._leave_parent()
        async with self._connecting:
            home, self._home = self._home, None
            if home is not None:
                await self._transport.disconnect()

    # One request

    async def call(
        self,
        data: Any,
        options: Mapping[str, Any],
        record: Record,
        plan: Plan | None = None,
        pacer: AsyncPacer | None = None,
    ) -> Any:
        """Send one request and return its answer.

        Args:
            data: What to send.
            options: What was given for this call.
            record: Where it is noted what was sent.
            plan: The options of a call that has none of its own, resolved before.
            pacer: What holds it back; None for that of all single calls.
        """
        if self._closed:
            raise ClosedError("this client is closed: make a new one")
        pacer = pacer or self._pacer
        timeout = self._timeout
        policy = self._retry or self._attempts.retry_policy
        raise_for_status = True
        if options:
            plan = self._split(options)
        if plan is not None:
            timeout, policy, raise_for_status, key, rest = plan
            prepared = self._attempts.prepare(data, rest, idempotency_key=key)
        else:
            prepared = self._attempts.prepare(data, NO_OPTIONS)
        operation = None if self._tracing is None else self._begin(prepared, record)
        if operation is not None:
            if timeout is None:
                return await within(operation, self._send, prepared, policy, record, raise_for_status, pacer)
            return await within(operation, self._run, prepared, policy, record, raise_for_status, pacer, timeout)
        # A scope costs as much as the rest of this method: only those who ask for a timeout pay for one, and for one
        # more step on the way to the answer.
        if timeout is not None:
            return await self._run(prepared, policy, record, raise_for_status, pacer, timeout)
        if self._is_away():  # as `_send` does
            await self.connect()
        return await run_attempts(
            self._attempts, prepared, policy, record, raise_for_status=raise_for_status, log=self._log, pacer=pacer
        )

    def _is_away(self) -> bool:
        """Whether it has to be connected first."""
        home = self._home
        # A transport of ours has just looked at the event loop, when it prepared the request.
        return home is None or self._closed or home.forked() or (self.foreign and home.left())

    async def _send(
        self, prepared: Any, policy: RetryPolicy, record: Record, raise_for_status: bool, pacer: AsyncPacer | None
    ) -> Any:
        if self._is_away():
            await self.connect()
        return await run_attempts(
            self._attempts, prepared, policy, record, raise_for_status=raise_for_status, log=self._log, pacer=pacer
        )

    async def _run(
        self,
        prepared: Any,
        policy: RetryPolicy,
        record: Record,
        raise_for_status: bool,
        pacer: AsyncPacer | None,
        timeout: float,
    ) -> Any:
        with move_on_after(timeout):
            return await self._send(prepared, policy, record, raise_for_status, pacer)
        if self._log:
            given_up(record, TimeoutError.__name__)
        raise TimeoutError(f"no answer within {timeout:.6g} s: {prepared}, attempt {record.attempts}")

    def _begin(
        self, prepared: Any, record: Record, name: str = semconv.REQUEST, *, streamed: bool = False
    ) -> Operation | None:
        """The span of a call; None if there is none."""
        if isinstance(self._tracing, UnsetType):
            self._tracing = tracing()
        if self._tracing is None or self._tracing.is_idle():
            return None
        spans = True
        if isinstance(record, Job):
            if record.index >= self._attempt_spans:
                record.spans = -1
            spans = record.index < self._item_spans
        return begin(self._attempts, prepared, record, name=name, streamed=streamed, spans=spans)

    def _split(self, options: Mapping[str, Any]) -> Plan:
        """The options that are ours, resolved, and the rest, which is the transport's."""
        rest = dict(options)
        timeout = check_timeout(name="timeout", value=rest.pop("timeout", self._timeout))
        retry = rest.pop("retry", UNSET)
        inherited = self._retry or self._attempts.retry_policy
        policy = inherited if isinstance(retry, UnsetType) else coerce_retry(retry)
        raise_for_status = check_flag(rest.pop("raise_for_status", True), "raise_for_status")
        key = rest.pop("idempotency_key", None)
        if isinstance(key, str) and not key.strip():
            raise ConfigurationError("argument `idempotency_key`: it is empty; give a text that is not, or None")
        if isinstance(self._attempts, OWN) and not rest.keys() <= self._attempts.options:
            check_names("option", rest, REQUEST_OPTIONS | self._attempts.options)
        return timeout, policy, raise_for_status, key, rest

    def _begin_stream(self, prepared: Any, record: Record) -> Operation | None:
        return self._begin(prepared, record, semconv.STREAM, streamed=True)

    # What is made of requests

    def calls(
        self,
        options: Mapping[str, Any],
        known: Collection[str],
        item_timeout: float | None = None,
        adaptive: AdaptiveConcurrency | None = None,
    ) -> Calls:
        """How the items of a batch are sent, with the options that were given for all of them."""
        keyed = options.get("idempotency_key", False)
        if not isinstance(keyed, bool):
            raise ConfigurationError(
                "an idempotency key is for one request: give each item its own, (data, options), or True to have one "
                "made for each"
            )
        if isinstance(self._attempts, OWN):
            check_names("option", options, {*known, *self._attempts.options})
        defaults = dict(options)
        defaults.pop("idempotency_key", None)
        if item_timeout is not None:
            defaults["timeout"] = check_timeout(name="item_timeout", value=item_timeout)
        pacer = AsyncPacer(
            rate_limit=self._rate_limit, breaker=self._breaker, adaptive=adaptive, bulk=True, measured=self._log
        )
        plan = self._split(defaults) if defaults else None
        return Calls(self.call, defaults, plan, pacer, keyed=keyed, telemetry=self._log)

    def memo(
        self,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        key: KeyFunction | None = None,
        dedupe: bool = False,
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> Memo | None:
        """What is to be known of the items of a run before they are sent; None if that is nothing."""
        http, own = isinstance(self._attempts, AsyncHTTPTransport), isinstance(self._attempts, OWN)
        if key is not None and not callable(key):
            raise ConfigurationError(f"argument `key`: {key!r:.80} is not accepted; give a function of an item")
        file = None
        if checkpoint is not None:
            given = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
            kind = self._attempts.identity if isinstance(self._attempts, OWN) else {}
            meaning = {name: value for name, value in options.items() if name not in _HOW}
            file = given.file(fingerprint({"transport": type(self._transport).__name__, **kind, **meaning}))
        if not (own or file or key or dedupe):
            return None
        return Memo(checkpoint=file, key=key, dedupe=dedupe, http=http, own=own)

    async def open_stream(self, data: Any, options: Mapping[str, Any]) -> Any:
        """The context manager of a transport's own stream."""
        await self.connect()
        if isinstance(self._transport, OWN):
            timeout, policy, raise_for_status, key, rest = self._split(options)
            return self._transport.open_stream(
                data,
                rest,
                policy=policy,
                timeout=timeout,
                raise_for_status=raise_for_status,
                idempotency_key=key,
                log=self._log,
                pacer=self._pacer,
                begin=None if self._tracing is None else self._begin_stream,
            )
        if not callable(getattr(self._transport, "stream", None)):
            raise ConfigurationError(f"{type(self._transport).__name__} can't stream: it has no method stream(message)")
        return self._transport.stream(data, **options)

    async def download(
        self,
        data: Any,
        options: Mapping[str, Any],
        to: Any,
        *,
        overwrite: bool,
        resume: bool,
        progress: bool | ProgressCallback,
    ) -> Download:
        """Send one request and write its answer to a file."""
        timeout, policy, raise_for_status, key, _ = self._split(options)
        if raise_for_status is not True:
            raise ConfigurationError("a download raises for every status but 2xx: use stream() to read error answers")
        await self.connect()
        if not isinstance(self._attempts, AsyncHTTPTransport):
            raise ConfigurationError(f"{type(self._transport).__name__} can't download: that is for HTTP")
        prepared = self._attempts.prepare(data, {}, idempotency_key=key)
        download = AsyncDownloading(self._attempts, to, overwrite=overwrite, resume=resume, progress=progress)
        record = Record()
        run = partial(download.run, log=self._log, pacer=self._pacer, record=record)
        operation = None if self._tracing is None else self._begin(prepared, record, semconv.DOWNLOAD)
        if operation is None:
            return await run(prepared, policy, timeout)
        return await within(operation, run, prepared, policy, timeout)


def check_transport(transport: Any) -> Any:
    """Return `transport` if it has the four methods of one.

    Raises:
        ConfigurationError: It lacks one (the text says which), or is for the other colour.
    """
    missing = [name for name in ("connect", "disconnect", "send", "receive") if not hasattr(transport, name)]
    if missing:
        raise ConfigurationError(
            f"{type(transport).__name__} is no transport: it lacks {', '.join(missing)}; "
            "a transport has connect, disconnect, send and receive"
        )
    check_colour(transport, "connect", "disconnect", "send")
    return transport
