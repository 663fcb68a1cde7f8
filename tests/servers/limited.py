"""A server with limits that it does not tell: so many requests at once, or in a second."""

import asyncio
import random
import time

from pynector.testing import ServerRequest, ServerResponse


class LimitedApp:
    """Refuses with 429 what is too much.

    Args:
        most_at_once: How many requests may be under way.
        per_second: How many may come in a second: a bucket of so many, which fills at that rate.
        latency: Seconds that an answer takes, 20 % more or less.
        retry_after: Seconds that a refusal asks to wait, if it does.
        refuses_first: How many are refused before anything is answered; for 20 s at most.
    """

    def __init__(
        self,
        *,
        most_at_once: int | None = None,
        per_second: float | None = None,
        latency: float = 0.02,
        retry_after: float | None = None,
        refuses_first: int = 0,
    ) -> None:
        self.refuses_first = refuses_first
        self._met = asyncio.Event()
        self.most_at_once = most_at_once
        self.per_second = per_second
        self.latency = latency
        self.headers = () if retry_after is None else (("retry-after", f"{retry_after:g}"),)
        self.in_flight = 0
        self.accepted = 0
        self.refused = 0
        self.log: list[tuple[float, bool]] = []
        self._bucket = per_second or 0.0
        self._filled = time.monotonic()

    async def __call__(self, request: ServerRequest) -> ServerResponse:
        now = time.monotonic()
        ok = self._admit(now)
        self.log.append((now, ok))
        if not ok:
            self.refused += 1
            if self.refused == self.refuses_first:
                self._met.set()
            return ServerResponse.json({"error": "slow down"}, 429, self.headers)
        self.accepted += 1
        self.in_flight += 1
        try:
            if self.refuses_first and not self._met.is_set():
                async with asyncio.timeout(20):
                    await self._met.wait()
            await asyncio.sleep(self.latency * random.uniform(0.8, 1.2))
        finally:
            self.in_flight -= 1
        return ServerResponse.json({"path": request.path})

    def _admit(self, now: float) -> bool:
        if self.most_at_once is not None and self.in_flight >= self.most_at_once:
            return False
        if self.per_second is not None:
            self._bucket = min(self.per_second, self._bucket + (now - self._filled) * self.per_second)
            self._filled = now
            if self._bucket < 1:
                return False
            self._bucket -= 1
        return True


class TogetherApp:
    """Answers no request before so many of them are under way, but for those whose path is `/first`.

    Args:
        number: How many.
        patience: Seconds after which it answers with 500 instead.
    """

    def __init__(self, number: int, patience: float = 20.0) -> None:
        self.number = number
        self.patience = patience
        self.came = 0
        self._all = asyncio.Event()

    async def __call__(self, request: ServerRequest) -> ServerResponse:
        if request.path != "/first":
            self.came += 1
            if self.came == self.number:
                self._all.set()
            try:
                async with asyncio.timeout(self.patience):
                    await self._all.wait()
            except TimeoutError:
                return ServerResponse.json({"error": f"only {self.came} came"}, 500)
        return ServerResponse.json({"path": request.path})
