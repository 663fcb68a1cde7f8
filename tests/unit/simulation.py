"""Servers with a hidden limit and a crowd of workers in front of them, simulated event by event on virtual time."""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pynector._policies.adaptive import AdaptiveConcurrency, AdaptiveLimit
from pynector._policies.pause import Pause

AUTO = AdaptiveConcurrency()


class Server(Protocol):
    """Accepts requests or refuses them with 429."""

    def accepts(self, now: float) -> bool: ...

    def finished(self) -> None: ...

    def capacity(self, latency: float) -> float:
        """The most requests per second that it can answer, if each takes `latency` seconds on average."""
        ...


class InFlightServer:
    """Refuses what would be more than `limit` at the same time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.busy = 0

    def accepts(self, now: float) -> bool:
        if self.busy >= self.limit:
            return False
        self.busy += 1
        return True

    def finished(self) -> None:
        self.busy -= 1

    def capacity(self, latency: float) -> float:
        return self.limit / latency


class WindowServer:
    """Refuses what would be more than `rate` in one second of its clock."""

    def __init__(self, rate: int, offset: float = 0.37) -> None:
        self.rate = rate
        self.offset = offset
        self.window = -1
        self.used = 0

    def accepts(self, now: float) -> bool:
        window = int(now + self.offset)
        if window != self.window:
            self.window, self.used = window, 0
        self.used += 1
        return self.used <= self.rate

    def finished(self) -> None:
        pass

    def capacity(self, latency: float) -> float:
        return float(self.rate)


class SlidingServer(WindowServer):
    """Refuses what would be more than `rate` within any second."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self.accepted: deque[float] = deque()

    def accepts(self, now: float) -> bool:
        while self.accepted and self.accepted[0] <= now - 1.0:
            self.accepted.popleft()
        if len(self.accepted) >= self.rate:
            return False
        self.accepted.append(now)
        return True


class BucketServer(WindowServer):
    """Refuses what finds its bucket of `burst` tokens empty; `rate` of them drip into it in a second."""

    def __init__(self, rate: int, burst: float) -> None:
        super().__init__(rate)
        self.burst = burst
        self.tokens = burst
        self.filled = 0.0

    def accepts(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class FlakyServer(InFlightServer):
    """Refuses a share of the requests, by chance; it can do what `limit` workers can."""

    def __init__(self, limit: int, share: float, seed: int = 7) -> None:
        super().__init__(limit)
        self.share = share
        self.random = random.Random(seed)

    def accepts(self, now: float) -> bool:
        return self.random.random() >= self.share and super().accepts(now)


class BrokenServer(InFlightServer):
    """Refuses everything between two moments."""

    def __init__(self, limit: int, start: float, end: float) -> None:
        super().__init__(limit)
        self.start, self.end = start, end

    def accepts(self, now: float) -> bool:
        return not self.start <= now < self.end and super().accepts(now)


@dataclass
class Item:
    refusals: int = 0


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        done: The items that were answered.
        seconds: How long it took, on the virtual clock.
        goodput: Answers per second.
        share: The goodput, as a part of what the server can do.
        refused_late: The part of the requests that was refused after the first fifth of the items was done.
        requests: All requests.
        longest: The most refusals of one item.
        early: Requests that were sent before a `Retry-After` was over.
    """

    done: int
    seconds: float
    goodput: float
    share: float
    refused_late: float
    requests: int
    longest: int
    early: int


class Simulation:
    """Workers that take items, and send each until it is answered.

    Args:
        server: Who answers.
        items: How many items there are.
        latency: The time of an answer: a low and a high bound that hold about 95 % of a lognormal distribution.
        concurrency: A fixed number of workers, or a policy.
        retry_after: What the server says in its refusals.
        refusal: Seconds until a refusal arrives.
        seed: Of everything random.
    """

    def __init__(
        self,
        server: Server,
        *,
        items: int,
        latency: tuple[float, float],
        concurrency: int | AdaptiveConcurrency = AUTO,
        retry_after: float | None = None,
        refusal: float = 0.005,
        seed: int = 0,
    ) -> None:
        self.server = server
        self.total = self.left = items
        self.retry_after = retry_after
        self.refusal = refusal
        self.random = random.Random(seed)
        low, high = latency
        self.mu = (math.log(low) + math.log(high)) / 2
        self.sigma = (math.log(high) - math.log(low)) / 4
        self.mean_latency = math.exp(self.mu + self.sigma**2 / 2)
        self.limit = AdaptiveLimit(concurrency) if isinstance(concurrency, AdaptiveConcurrency) else None
        self.workers = concurrency.maximum if isinstance(concurrency, AdaptiveConcurrency) else concurrency
        self.pause = Pause()
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[[Item], None], Item]] = []
        self.sequence = 0
        self.waiting: deque[Item] = deque()
        self.not_before = 0.0
        self.nobody = Item()
        self.done = self.requests = self.late_requests = self.late_refusals = self.longest = self.early = 0

    def at(self, when: float, call: Callable[[Item], None], item: Item) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (when, self.sequence, call, item))

    def run(self) -> Result:
        for _ in range(min(self.workers, self.total)):
            self.next_item()
        while self.events:
            self.now, _, call, item = heapq.heappop(self.events)
            call(item)
        goodput = self.done / self.now
        return Result(
            done=self.done,
            seconds=self.now,
            goodput=goodput,
            share=goodput / self.server.capacity(self.mean_latency),
            refused_late=self.late_refusals / max(1, self.late_requests),
            requests=self.requests,
            longest=self.longest,
            early=self.early,
        )

    def next_item(self) -> None:
        if self.left:
            self.left -= 1
            self.ask(Item())

    def ask(self, item: Item) -> None:
        wait = self.pause.delay(self.now, self.random.random())
        if wait > 0.0:
            self.at(self.now + wait, self.ask, item)
            return
        if self.limit is not None and not self.limit.try_enter(self.now):
            self.waiting.append(item)
            return
        self.pause.sent(self.now)
        self.requests += 1
        late = self.done >= self.total / 5
        self.late_requests += late
        self.early += self.now < self.not_before
        if self.server.accepts(self.now):
            latency = self.random.lognormvariate(self.mu, self.sigma)
            self.at(self.now + latency, lambda item: self.answered(item, latency), item)
        else:
            self.late_refusals += late
            self.at(self.now + self.refusal, self.refused, item)

    def answered(self, item: Item, latency: float) -> None:
        self.server.finished()
        self.done += 1
        self.pause.answered()
        if self.limit is not None:
            self.limit.succeeded(self.now, latency, first_attempt=item.refusals == 0)
        self.next_item()
        self.wake()

    def refused(self, item: Item) -> None:
        item.refusals += 1
        self.longest = max(self.longest, item.refusals)
        wait = self.pause.refused(
            self.now, retry_after=self.retry_after, refusals=item.refusals, rand=self.random.random()
        )
        if self.retry_after is not None:
            self.not_before = max(self.not_before, self.now + self.retry_after)
        if self.limit is not None:
            self.limit.overloaded(self.now, self.refusal)
        self.at(self.now + wait, self.ask, item)
        self.wake()

    def wake(self) -> None:
        limit = self.limit
        while self.waiting and limit is not None and limit.in_flight < limit.limit:
            self.ask(self.waiting.popleft())
