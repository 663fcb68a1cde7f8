"""What this process knows of each server and credential: shared by all its clients and batches, of both colours."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from time import monotonic, perf_counter, time
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from ._messages.tokens import tokens_of
from ._mutex import ProcessMutex, forks
from ._policies.adaptive import AdaptiveConcurrency, AdaptiveLimit
from ._policies.breaker import Breaker, CircuitBreaker, verdict_on_error, verdict_on_status
from ._policies.budget import Budget, RetryBudget
from ._policies.pause import Pause
from ._policies.rate_limit import RateLimit, RateLimiter, Ticket
from ._policies.retry import Failure
from .errors import CircuitOpenError

P = TypeVar("P", bound=Hashable)
S = TypeVar("S")

OVERLOADED: Final = frozenset({429, 529})
"""What a server answers that has too much to do, for this client or at all."""

_MANY: Final = 1_000
_IDLE: Final = 600.0
_MOST: Final = 10_000
_LIMITERS: Final = 64


class Lane:
    """One server and one credential. Equal policies of different clients have one state here.

    Whoever touches a state holds `mutex` for that moment.

    Attributes:
        mutex: The short lock.
        paused: Whether there may be a pause: the one thing that is looked at for every request, without the lock.
        pause: The pause after the server has refused requests.
        ring: For every ticket that waits for a rate limit, what wakes its owner.
        queues: For every adaptive limit, what wakes those that wait for it, in their order.
        used: When it was looked up last.
    """

    __slots__ = (
        "__weakref__",
        "_adaptive",
        "_breakers",
        "_budgets",
        "_counted",
        "_limiters",
        "mutex",
        "pause",
        "paused",
        "queues",
        "ring",
        "used",
    )

    def __init__(self) -> None:
        self.mutex = ProcessMutex()
        self.paused = False
        self.pause = Pause()
        self.ring: dict[Ticket, Callable[[], object]] = {}
        self.queues: dict[AdaptiveLimit, dict[object, Callable[[], object]]] = {}
        self.used = monotonic()
        self._adaptive: dict[AdaptiveConcurrency, AdaptiveLimit] = {}
        self._breakers: dict[CircuitBreaker, Breaker] = {}
        self._budgets: dict[RetryBudget, Budget] = {}
        self._limiters: dict[RateLimit, RateLimiter] = {}
        self._counted: tuple[RetryBudget, Budget] | None = None

    def adaptive(self, policy: AdaptiveConcurrency) -> AdaptiveLimit:
        """The limit to requests at once by `policy`."""
        limit = self._state(self._adaptive, policy, AdaptiveLimit)
        with self.mutex:
            self.queues.setdefault(limit, {})
        return limit

    def breaker(self, policy: CircuitBreaker) -> Breaker:
        """The circuit breaker by `policy`."""
        return self._state(self._breakers, policy, Breaker)

    def count(self, policy: RetryBudget, now: float) -> None:
        """A request goes out for the first time. `now` is of `time.perf_counter()`, which its caller has just read."""
        # Nearly all have the policy of the one before; to look it up by its value would cost more than all the rest.
        counted = self._counted
        if counted is None or counted[0] is not policy:
            counted = self._counted = policy, self._state(self._budgets, policy, Budget)
        budget = counted[1]
        if now < budget.slice_end:
            # Without the lock, which costs as much as all of this: it is one addition, and one more or less is no harm.
            budget.new_requests += 1
        else:
            with self.mutex:
                budget.request(now)

    def spend(self, policy: RetryBudget) -> bool:
        """Whether the budget has a retry left, which is spent then."""
        budget = self._state(self._budgets, policy, Budget)
        with self.mutex:
            return budget.spend(perf_counter())

    def limiter(self, policy: RateLimit) -> RateLimiter:
        """The rate limit by `policy`."""
        limiter = self._state(self._limiters, policy, RateLimiter)
        if len(self._limiters) > _LIMITERS:
            # Whoever makes a policy for every client, with a function of its own, has none of them for long.
            with self.mutex:
                del self._limiters[next(iter(self._limiters))]
        return limiter

    def _state(self, states: dict[P, S], policy: P, make: Callable[[P], S]) -> S:
        state = states.get(policy)
        if state is None:
            with self.mutex:
                state = states.get(policy)
                if state is None:
                    state = states[policy] = make(policy)
        return state

    def refused(self, retry_after: float | None, refusals: int, rand: float) -> float:
        """The server has refused a request, for the `refusals`-th time: the seconds until it may go again.

        Args:
            retry_after: The seconds that the server has named; until then nobody goes.
            refusals: How often it was refused.
            rand: A random number from 0 to 1.
        """
        with self.mutex:
            self.paused = True
            return self.pause.refused(monotonic(), retry_after=retry_after, refusals=refusals, rand=rand)

    def wake_next(self, limiter: RateLimiter) -> None:
        """Have the one whose turn it is look at a rate limit that has changed."""
        with self.mutex:
            head = limiter.head
            ring = None if head is None else self.ring.get(head)
        if ring is not None:
            ring()

    def wake_first(self, limit: AdaptiveLimit) -> None:
        """Have the one who waits longest look at a limit to requests at once that may have room."""
        with self.mutex:
            queue = self.queues[limit]
            ring = next(iter(queue.values())) if queue and limit.in_flight < limit.limit else None
        if ring is not None:
            ring()


class Passage:
    """One attempt on its way: what it holds of its lane, and gives back with a verdict when it has ended.

    Args:
        lane: Where it goes.
        first: Whether it is the first attempt of its request.
    """

    __slots__ = ("_breaker", "_first", "_limit", "_limiter", "_probe", "_started", "_ticket", "lane")

    def __init__(self, lane: Lane, *, first: bool) -> None:
        self.lane = lane
        self._first = first
        self._breaker: Breaker | None = None
        self._probe = 0
        self._limiter: RateLimiter | None = None
        self._ticket: Ticket | None = None
        self._limit: AdaptiveLimit | None = None
        self._started = monotonic()

    # On the way in

    def check_circuit(self, policy: CircuitBreaker) -> None:
        """See whether it is worth waiting for anything.

        Raises:
            CircuitOpenError: The circuit breaker is open.
        """
        breaker = self.lane.breaker(policy)
        with self.lane.mutex:
            wait = breaker.retry_after(monotonic())
        if wait:
            raise _circuit_open(policy, wait)

    def try_circuit(self, policy: CircuitBreaker) -> None:
        """Pass the circuit breaker. The last thing before it is sent: a probe that waits keeps all others waiting.

        Raises:
            CircuitOpenError: It is open.
        """
        breaker = self.lane.breaker(policy)
        with self.lane.mutex:
            ticket = breaker.admit(monotonic())
            wait = 0.0 if ticket else breaker.retry_after(monotonic())
        if not ticket:
            raise _circuit_open(policy, wait)
        self._breaker, self._probe = breaker, ticket

    def has_ticket(self, limiter: RateLimiter, ticket: Ticket) -> None:
        """The rate limit has let it go."""
        self._limiter, self._ticket = limiter, ticket

    def is_in(self, limit: AdaptiveLimit | None) -> None:
        """It goes now; with a place among the requests at once, if those are limited."""
        self._limit = limit
        self._started = monotonic()

    # On the way out

    def end(self, failure: Failure | None, answer: Any, error: Exception | None, *, sent: bool) -> None:
        """It has an answer, or an error."""
        now = monotonic()
        status = _status(answer if error is None else error)
        refused = status in OVERLOADED or (status == 503 and failure is not None and failure.retry_after is not None)
        broken = (status or 0) >= 500 or (status is None and failure is not None and failure.transient)
        # Before the lock is taken: it may be a lot to parse.
        limiter, total, output = self._limiter, None, None
        if limiter is not None and (limiter.limit.tokens_per_minute is not None or limiter.limit.learn_headers):
            total, output = tokens_of(answer)
        with self.lane.mutex:
            if status is not None and not refused:
                self.lane.pause.answered()
            if self._limit is not None:
                if refused:
                    self._limit.overloaded(now, now - self._started)
                elif broken:
                    self._limit.troubled(now)
                elif status is None and error is not None:
                    self._limit.dropped()
                else:
                    self._limit.succeeded(now, now - self._started, first_attempt=self._first)
            if self._breaker is not None:
                works = (
                    error is None
                    if status is None and error is None
                    else verdict_on_status(status)
                    if status
                    else verdict_on_error(error)
                )
                if works is None:
                    self._breaker.dropped(self._probe)
                elif works:
                    self._breaker.succeeded(self._probe)
                else:
                    self._breaker.failed(self._probe, now)
            if limiter is not None and self._ticket is not None:
                limiter.settle(self._ticket, now, tokens=total, output_tokens=output, sent=sent)
                if limiter.limit.learn_headers:
                    headers = _headers(answer if error is None else _response(error))
                    with suppress(Exception):  # who knows what the answers of a foreign transport have for headers
                        limiter.learn(headers, now, time())
        self._wake()

    def give_up(self, *, sent: bool) -> None:
        """It was cancelled: nobody knows what would have become of it."""
        with self.lane.mutex:
            if self._limit is not None:
                self._limit.dropped()
            if self._breaker is not None:
                self._breaker.dropped(self._probe)
            if self._limiter is not None and self._ticket is not None:
                self._limiter.settle(self._ticket, monotonic(), tokens=None, sent=sent)
        self._wake()

    def _wake(self) -> None:
        if self._limiter is not None:
            self.lane.wake_next(self._limiter)
        if self._limit is not None:
            self.lane.wake_first(self._limit)


def _status(source: object) -> int | None:
    """The status of an answer or error of any transport; none of them may keep us from giving back what is held."""
    try:
        status = getattr(source, "status_code", None)
    except Exception:  # noqa: BLE001 - a property of a foreign class
        return None
    return status if isinstance(status, int) else None


def _headers(answer: object) -> Mapping[str, str]:
    try:
        headers = getattr(answer, "headers", None)
    except Exception:  # noqa: BLE001
        return {}
    return headers if isinstance(headers, Mapping) else {}


def _response(error: Exception) -> object:
    """What an error, or that of an SDK which it stands for, was made of."""
    return getattr(error, "response", None) or getattr(error.__cause__, "response", None)


def _circuit_open(policy: CircuitBreaker, wait: float) -> CircuitOpenError:
    return CircuitOpenError(
        f"the circuit breaker of this server is open after {policy.failure_threshold} failures in a row: "
        f"worth trying again in {wait:.3g} s",
        retry_after=wait,
    )


epochs: Final = [0]
"""How often everything was forgotten: a lane that was found before is looked up again."""


class _Lanes:
    """All lanes. A lane that anybody holds is never made a second time; of the others, those used last are kept."""

    def __init__(self) -> None:
        self.mutex = ProcessMutex()
        self.forget()

    def forget(self) -> None:
        self.forks = forks[0]
        self.alive: WeakValueDictionary[Hashable, Lane] = WeakValueDictionary()
        self.kept: OrderedDict[Hashable, Lane] = OrderedDict()

    def tidy(self, now: float) -> None:
        """Forget those that were not used for long, and of too many those that were not used for longest."""
        kept = self.kept
        while len(kept) > _MANY and (len(kept) > _MOST or now - next(iter(kept.values())).used > _IDLE):
            kept.popitem(last=False)


_lanes: Final = _Lanes()


def lane_of(key: Hashable) -> Lane:
    """The lane for a key: the same one for equal keys. A forked child begins with none."""
    now = monotonic()
    with _lanes.mutex:
        if _lanes.forks != forks[0]:
            _lanes.forget()
        lane = _lanes.alive.get(key)
        if lane is None:
            lane = _lanes.alive[key] = Lane()
        lane.used = now
        _lanes.kept[key] = lane
        _lanes.kept.move_to_end(key)
        _lanes.tidy(now)
        return lane


def forget_lanes() -> None:
    """Begin anew: who connects from now on meets no state of before."""
    with _lanes.mutex:
        _lanes.forget()
        epochs[0] += 1
