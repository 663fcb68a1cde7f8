"""Holding requests back: rate limits, pauses, the number of requests at once, circuit breakers."""

import random
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from .._concurrency.aio.alarms import Alarm
from .._concurrency.aio.locks import Mutex
from .._lanes import OVERLOADED, Lane, Passage
from .._policies.adaptive import AdaptiveConcurrency, AdaptiveLimit
from .._policies.breaker import CircuitBreaker
from .._policies.rate_limit import RateLimit, RateLimiter, Ticket
from .._policies.retry import Failure, RetryPolicy
from .._telemetry import semconv
from .._telemetry.metrics import waited
from .attempts import AsyncAttempts, Record

P = TypeVar("P")


class Withdrawn(BaseException):
    """A request that was never sent is not to be sent any more.

    Args:
        ending: Why, as it was given to `stop` or `close`.
    """

    def __init__(self, ending: Any) -> None:
        super().__init__()
        self.ending = ending


class AsyncPacer:
    """Lets requests go when their server may be asked, and takes note of what became of them.

    Args:
        rate_limit: How many may go in a minute; None for no limit.
        breaker: When a server that fails is left alone; None for never.
        adaptive: How many may be on the wire at once; None for as many as there are.
        bulk: Whether a refusal puts a request off, rather than to cost it one of its retries.
        measured: Whether it is measured how long requests are held back.

    Attributes:
        guards: Whether there is any of these; else only pauses hold requests back.
        lane: Where the first request went.
        several: Whether others went elsewhere.
        crowd: Those that wait for the number of requests at once.
        on_admitted: Called when a request has got through that number.
        on_resend: Called when a request is about to be sent again.
        is_adaptive: Whether there is an adaptive limit.
        barred: Servers that have asked to wait for longer than anybody is willing to.
    """

    def __init__(
        self,
        *,
        rate_limit: RateLimit | None = None,
        breaker: CircuitBreaker | None = None,
        adaptive: AdaptiveConcurrency | None = None,
        bulk: bool = False,
        measured: bool = False,
    ) -> None:
        self._measured = measured
        self._rate_limit = rate_limit
        self._breaker = breaker
        self._adaptive = adaptive
        self.guards = rate_limit is not None or breaker is not None or adaptive is not None
        self.bulk = bulk
        self.is_adaptive = adaptive is not None
        self.lane: Lane | None = None
        self.several = False
        self.on_admitted: Callable[[], Awaitable[None]] | None = None
        self.on_resend: Callable[[], object] | None = None
        self.barred: WeakSet[Lane] = WeakSet()
        # Workers come and go on many threads, for many lanes: sets and not counters, which no two can count wrongly.
        self.crowd: dict[Alarm, None] = {}
        self._held: dict[Alarm, Record] = {}
        self._ending: Any = None
        self._mutex = Mutex()
        # A crawl meets more servers than anybody wants to remember: only as long as somebody else does.
        self._limits: WeakKeyDictionary[Lane, AdaptiveLimit] = WeakKeyDictionary()
        self._closed: WeakKeyDictionary[Lane, Any] = WeakKeyDictionary()

    @property
    def held(self) -> int:
        """How many wait here."""
        return len(self._held)

    def concurrency(self, limit: int) -> int:
        """The most requests at once at this moment; `limit` without an adaptive limit."""
        if self._adaptive is None:
            return limit
        return min(limit, sum(each.limit for each in self._all_limits()) or self._adaptive.initial)

    def limit_history(self, start: float) -> list[tuple[float, int]]:
        """How the adaptive limits have changed since `start`, in seconds since then."""
        changes = [change for limit in self._all_limits() for change in list(limit.history)]
        return [(now - start, limit) for now, limit in sorted(changes) if now >= start]

    def _all_limits(self) -> list[AdaptiveLimit]:
        with self._mutex:
            return list(self._limits.values())

    # What is not to be sent any more

    def stop(self, ending: Any) -> None:
        """Send nothing that would have to wait, unless it was sent before. What waits here leaves now."""
        self._ending = ending
        for alarm, record in list(self._held.items()):
            if not record.sent:
                alarm.ring()

    def close(self, lane: Lane, ending: Any) -> None:
        """Send nothing to one server any more."""
        with self._mutex:
            self._closed[lane] = ending
        if self.lane is lane:
            self.lane = None  # so that every request comes to `meet`
        for alarm, record in list(self._held.items()):
            if record.lane is lane and not record.sent:
                alarm.ring()

    def meet(self, lane: Lane, record: Record) -> None:
        """A request goes elsewhere than the first one did, or is the first one.

        Raises:
            Withdrawn: Nothing is sent there any more.
        """
        if self.lane is None and not self._closed:
            self.lane = lane
        else:
            self.several = True
        self._check_lane(record)

    def _check_lane(self, record: Record) -> None:
        if not self._closed or record.lane is None or record.sent:
            return
        with self._mutex:
            ending = self._closed.get(record.lane)
        if ending is not None:
            raise Withdrawn(ending)

    async def _wait(self, alarm: Alarm, record: Record, seconds: float = inf) -> None:
        """Wait until an alarm rings, or so many seconds.

        Raises:
            Withdrawn: It is not to be sent any more.
        """
        self._held[alarm] = record
        try:
            # Whoever ends the run sees this one from now on, and it sees who did so before.
            self._check(record)
            await alarm.wait(seconds)
            self._check(record)
        finally:
            del self._held[alarm]

    def _check(self, record: Record) -> None:
        if self._ending is not None and not record.sent:
            raise Withdrawn(self._ending)
        self._check_lane(record)

    # An attempt

    async def attempt(self, transport: AsyncAttempts[P], lane: Lane, prepared: P, record: Record) -> Any:
        """Send a request when it may go.

        Raises:
            CircuitOpenError: The server fails, and is left alone for now.
            Exception: Whatever the transport raises.
        """
        sent, started = record.sent, monotonic()
        passage = Passage(lane, first=record.attempts == 1 and not record.refusals)
        try:
            await self._let_in(passage, transport, prepared, record)
            if self._measured:
                waited(semconv.LIMITER_WAIT, monotonic() - started)
            answer = await transport.attempt(prepared, record)
        except Exception as exc:
            passage.end(transport.excuse(prepared, exc), None, exc, sent=record.sent > sent)
            raise
        except BaseException:
            passage.give_up(sent=record.sent > sent)
            raise
        passage.end(transport.judge(prepared, answer), answer, None, sent=True)
        return answer

    async def _let_in(self, passage: Passage, transport: AsyncAttempts[P], prepared: P, record: Record) -> None:
        lane = passage.lane
        if self._breaker is not None:
            passage.check_circuit(self._breaker)
        if self._rate_limit is not None:
            limiter = lane.limiter(self._rate_limit)
            tokens = limiter.estimate(transport.payload(prepared))
            passage.has_ticket(limiter, await self._take_ticket(lane, limiter, tokens, record))
        limit = None if self._adaptive is None else self._limit(lane, self._adaptive)
        while True:
            if limit is not None:
                await self._squeeze_in(lane, limit, record)
            delay = self._pause(lane, limit)
            if not delay:
                break
            # Without its place among those under way: who waits with one makes the limit look used up.
            if limit is not None:
                lane.wake_first(limit)
            await self._wait(Alarm(), record, delay)
        passage.is_in(limit)
        if limit is not None and self.on_admitted is not None:
            await self.on_admitted()
        if self._breaker is not None:
            passage.try_circuit(self._breaker)

    def _limit(self, lane: Lane, policy: AdaptiveConcurrency) -> AdaptiveLimit:
        with self._mutex:
            limit = self._limits.get(lane)
            if limit is None:
                limit = self._limits[lane] = lane.adaptive(policy)
            return limit

    def _pause(self, lane: Lane, limit: AdaptiveLimit | None) -> float:
        """The seconds to wait before asking again, without a place; 0 to go now."""
        with lane.mutex:
            now = monotonic()
            delay = lane.pause.delay(now, random.random())
            if delay:
                if limit is not None:
                    limit.dropped()
            else:
                lane.pause.sent(now)
                lane.paused = lane.pause.is_active(now)
            return delay

    async def _take_ticket(self, lane: Lane, limiter: RateLimiter, tokens: int, record: Record) -> Ticket:
        """Wait for the rate limit, behind those that came before."""
        with lane.mutex:
            ticket = limiter.enter(tokens)
            delay = limiter.delay(ticket, monotonic())
            if not delay:
                return ticket
            alarm = Alarm()
            lane.ring[ticket] = alarm.ring
        try:
            while delay:
                await self._wait(alarm, record, delay)
                with lane.mutex:
                    delay = limiter.delay(ticket, monotonic())
        except BaseException:
            with lane.mutex:
                limiter.leave(ticket)
            raise
        finally:
            with lane.mutex:
                del lane.ring[ticket]
            lane.wake_next(limiter)
        return ticket

    async def _squeeze_in(self, lane: Lane, limit: AdaptiveLimit, record: Record) -> None:
        """Wait until fewer requests are under way than may be, behind those that came before."""
        with lane.mutex:
            queue = lane.queues[limit]
            if not queue and limit.try_enter(monotonic()):
                return
            alarm = Alarm()
            queue[alarm] = alarm.ring
            self.crowd[alarm] = None
        try:
            while True:
                with lane.mutex:
                    if next(iter(queue)) is alarm and limit.try_enter(monotonic()):
                        break
                await self._wait(alarm, record)
        finally:
            with lane.mutex:
                del self.crowd[alarm]
                del queue[alarm]
            lane.wake_first(limit)

    # After a failure

    def puts_off(self, failure: Failure, policy: RetryPolicy) -> bool:
        """Whether a failure says when to go again, rather than that something went wrong."""
        patient = self.bulk and policy.max_retries > 0 and policy.rate_limit_patience > 0
        # Whatever its method is: what was refused for load was not processed.
        wanted = failure.should_retry is not False and failure.status in policy.retry_statuses
        return patient and wanted and failure.status in OVERLOADED

    def put_off(self, lane: Lane, failure: Failure, policy: RetryPolicy, record: Record) -> float | None:
        """How long a request waits that its server has refused, in seconds; None if it is not to be sent again."""
        if failure.retry_after is not None and failure.retry_after > policy.retry_after_max:
            with self._mutex:
                self.barred.add(lane)
            return None
        delay = lane.refused(failure.retry_after, record.refusals + 1, random.random())
        return None if record.put_off + delay > policy.rate_limit_patience else delay
