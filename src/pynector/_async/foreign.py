"""Transports that are not ours, as the retry loop sees them."""

import builtins
import math
from collections.abc import Mapping
from typing import Any

from .._concurrency.aio.clock import checkpoint_if_cancelled, current_time
from .._concurrency.aio.locks import Lock
from .._concurrency.aio.scopes import current_effective_deadline, shield
from .._lanes import Lane
from .._policies.retry import Failure, RetryPolicy
from ..errors import TransportError
from .attempts import Record
from .transports.protocol import AsyncTransport


class ForeignCall:
    """What the user gave for one call."""

    __slots__ = ("data", "idempotent", "options")

    def __init__(self, data: Any, options: Mapping[str, Any], *, idempotent: bool) -> None:
        self.data = data
        self.options = options
        self.idempotent = idempotent

    def __repr__(self) -> str:
        return f"a message of type {type(self.data).__name__}"


class _AsyncForeign:
    """What both kinds below share. Whether a message may be sent twice is not for us to know."""

    def __init__(self, transport: AsyncTransport, retry_policy: RetryPolicy) -> None:
        self.transport: Any = transport
        self.retry_policy = retry_policy
        self._lane = Lane()

    def lane(self, prepared: ForeignCall) -> Lane:
        """One for all: where a message goes is not for us to know."""
        return self._lane

    def payload(self, prepared: ForeignCall) -> object:
        """The message itself."""
        return prepared.data

    def prepare(self, data: Any, options: Mapping[str, Any], *, idempotency_key: str | None = None) -> ForeignCall:
        """Data and options go to the transport unchanged."""
        return ForeignCall(data, options, idempotent=idempotency_key is not None)

    def judge(self, prepared: ForeignCall, answer: Any) -> Failure | None:
        """Whatever comes back is an answer."""
        return None

    def excuse(self, prepared: ForeignCall, error: Exception) -> Failure | None:
        """Errors of the network may be retried, ours and the built-in ones."""
        if isinstance(error, TransportError):
            transient, sent = error.transient, error.sent
        elif isinstance(error, builtins.ConnectionError | builtins.TimeoutError):
            transient, sent = True, not isinstance(error, builtins.ConnectionRefusedError)
        else:
            return None
        return Failure(transient=transient, sent=sent, idempotent=prepared.idempotent)

    def finish(self, prepared: ForeignCall, answer: Any, *, raise_for_status: bool) -> Any:
        """The answer, unchanged."""
        return answer


class AsyncSerialised(_AsyncForeign):
    """A transport with `send` and `receive` only: one exchange at a time, or answers would be mixed up."""

    def __init__(self, transport: AsyncTransport, retry_policy: RetryPolicy) -> None:
        super().__init__(transport, retry_policy)
        self._turn = Lock()
        self._interrupted = False

    async def attempt(self, prepared: ForeignCall, record: Record) -> Any:
        """Send, then take the first thing received."""
        async with self._turn:
            if self._interrupted:
                # An answer to what was sent before may still come: it must not be taken for the answer to this.
                with shield():
                    await self.transport.disconnect()
                    await self.transport.connect()
                self._interrupted = False
            # A lock is handed over even to a task that is cancelled: it must not send any more.
            await checkpoint_if_cancelled()
            record.sending()
            try:
                answer = await self._exchange(prepared)
            except Exception:
                raise  # the transport's own error: it knows how it stands
            except BaseException:
                self._interrupted = True
                raise
            record.answered()
            return answer

    async def _exchange(self, prepared: ForeignCall) -> Any:
        await self.transport.send(prepared.data, **prepared.options)
        answers = aiter(self.transport.receive())
        try:
            return await anext(answers)
        except StopAsyncIteration:
            name = type(self.transport).__name__
            raise TransportError(f"{name}.receive() ended without an answer to what was sent") from None
        finally:
            # An async generator left suspended would hold whatever it holds until the collector finds it.
            aclose = getattr(answers, "aclose", None)
            if aclose is not None:
                await aclose()


class AsyncMultiplexed(_AsyncForeign):
    """A transport with `request`: any number of exchanges at once."""

    async def attempt(self, prepared: ForeignCall, record: Record) -> Any:
        """Let the transport do the exchange, and tell it how long it may take."""
        remaining = current_effective_deadline() - current_time()
        timeout = None if remaining == math.inf else max(remaining, 0.0)
        record.sending()
        answer = await self.transport.request(prepared.data, timeout=timeout, **prepared.options)
        record.answered()
        return answer


def adapt(transport: AsyncTransport, retry_policy: RetryPolicy) -> AsyncSerialised | AsyncMultiplexed:
    """The adapter that fits `transport`."""
    if callable(getattr(transport, "request", None)):
        return AsyncMultiplexed(transport, retry_policy)
    return AsyncSerialised(transport, retry_policy)
