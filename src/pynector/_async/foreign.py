"""Transports that are not ours, as the retry loop sees them."""

import builtins
from typing import Any

from .._concurrency.aio.clock import current_time
from .._concurrency.aio.locks import Lock
from .._concurrency.aio.scopes import current_effective_deadline
from .._policies.retry import Failure, RetryPolicy
from ..errors import TransportError
from .transports.protocol import AsyncTransport


class ForeignCall:
    """What the user gave for one call."""

    __slots__ = ("data", "idempotency_key", "idempotent", "options")

    def __init__(self, data: Any, options: dict[str, Any], idempotency_key: str | None, idempotent: bool) -> None:
        self.data = data
        self.options = options
        self.idempotency_key = idempotency_key
        self.idempotent = idempotent


class _AsyncForeign:
    """What both kinds below share. Whether a message may be sent twice is not for us to know."""

    def __init__(self, transport: AsyncTransport, retry_policy: RetryPolicy) -> None:
        self.transport: Any = transport
        self.retry_policy = retry_policy

    def prepare(
        self, data: Any, *, idempotency_key: str | None = None, idempotent: bool = False, **options: Any
    ) -> ForeignCall:
        """Data and options go to the transport unchanged."""
        return ForeignCall(data, options, idempotency_key, idempotent or idempotency_key is not None)

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

    async def attempt(self, prepared: ForeignCall) -> Any:
        """Send, then take the first thing received."""
        async with self._turn:
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

    async def attempt(self, prepared: ForeignCall) -> Any:
        """Let the transport do the exchange, and tell it how long it may take."""
        remaining = current_effective_deadline() - current_time()
        timeout = None if remaining == float("inf") else max(remaining, 0.0)
        return await self.transport.request(prepared.data, timeout=timeout, **prepared.options)


def adapt(transport: AsyncTransport, retry_policy: RetryPolicy) -> AsyncSerialised | AsyncMultiplexed:
    """The adapter that fits `transport`."""
    if callable(getattr(transport, "request", None)):
        return AsyncMultiplexed(transport, retry_policy)
    return AsyncSerialised(transport, retry_policy)
