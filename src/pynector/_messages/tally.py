"""Counts the outcomes of a batch as they come, for `RunStats` and `Summary`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final, Protocol, TypeAlias

from .._mutex import ProcessMutex
from .histogram import Histogram, nearest_rank
from .report import RunStats, Summary
from .usage import Usage

_Kind: TypeAlias = tuple[str, str, int | None, type[Exception] | None]
"""What outcomes are counted by: state, source, status, and the class of the error."""

OTHER_STATUS: Final = 0
_MOST_KINDS: Final = 100
"""So many kinds of outcomes are told apart: a server may make up any number of statuses."""

_SLOTS: Final = 20
_SLOTS_PER_SECOND: Final = 2
_FEW: Final = 10

# What APIs call the two that all of them tell.
_OTHER_NAMES: Final = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


class OtherError(Exception):
    """Stands for the classes of errors that are not counted by themselves."""


class Finished(Protocol):
    """What is counted of an item; `Outcome` has it."""

    @property
    def state(self) -> str: ...
    @property
    def value(self) -> object: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def elapsed(self) -> float: ...
    @property
    def usage(self) -> Any: ...
    @property
    def source(self) -> str: ...


class Recent:
    """Counts what happened in the last ten seconds: a ring of slots, each with what fell into its half second.

    Args:
        now: The seconds of some clock.
    """

    __slots__ = ("_counts", "_current", "_slot", "_until")

    def __init__(self, now: float) -> None:
        self._counts = [0] * _SLOTS
        self._begin(int(now * _SLOTS_PER_SECOND))

    def add(self, now: float) -> None:
        """Count what happens now."""
        if now >= self._until:
            self._turn(int(now * _SLOTS_PER_SECOND))
        self._current += 1

    def count(self, now: float) -> int:
        """How much there is. Slots that have passed since the last `add` are not cleared yet, and left out here."""
        oldest = max(int(now * _SLOTS_PER_SECOND), self._slot) - _SLOTS + 1
        if oldest > self._slot:
            return 0
        return self._current + sum(self._counts[slot % _SLOTS] for slot in range(oldest, self._slot))

    def _turn(self, slot: int) -> None:
        self._counts[self._slot % _SLOTS] = self._current
        for passed in range(max(self._slot + 1, slot - _SLOTS + 1), slot):
            self._counts[passed % _SLOTS] = 0
        self._begin(slot)

    def _begin(self, slot: int) -> None:
        self._slot = slot
        self._until = (slot + 1) / _SLOTS_PER_SECOND
        self._current = 0

    @staticmethod
    def seconds(now: float) -> float:
        """How long the time is that `count` is about: the slot of this moment is not over."""
        return now - (int(now * _SLOTS_PER_SECOND) + 1 - _SLOTS) / _SLOTS_PER_SECOND


class Tally:
    """Counts outcomes one by one, in memory that does not grow with their number (about 40 kB).

    One thread at a time may call `add`; any thread may call the rest, at any time.

    Args:
        clock: Tells the seconds by which the recent rate is measured; they never go back.

    Example:
        ```python
        tally = Tally()
        for outcome in run:
            tally.add(outcome)
        print(tally.summary(elapsed))
        ```
    """

    __slots__ = (
        "_clock",
        "_items",
        "_kinds",
        "_latencies",
        "_mutex",
        "_resent",
        "_resent_count",
        "_retried",
        "_retries",
        "_tokens",
        "done",
        "ok",
    )

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.done = 0
        self.ok = 0
        self._kinds: dict[_Kind, int] = {}
        self._latencies = Histogram()
        self._retried = self._retries = 0
        self._tokens: list[int] | None = None
        self._items = Recent(clock())
        self._mutex = ProcessMutex()
        self._resent_count = 0
        self._resent = Recent(clock())

    @property
    def failed(self) -> int:
        """How many of the outcomes have no answer."""
        return self.done - self.ok

    @property
    def usage(self) -> Usage | None:
        """The tokens that were used so far; None if no answer told."""
        return None if self._tokens is None else Usage(*self._tokens)

    def add(self, outcome: Finished) -> bool:
        """Count an outcome.

        Returns:
            Whether its `elapsed` counts as a latency: it was sent, and by this run.
        """
        error, source = outcome.error, outcome.source
        kind: _Kind
        if error is None:
            kind = (outcome.state, source, getattr(outcome.value, "status_code", None), None)
            self.ok += 1
        else:
            kind = (outcome.state, source, getattr(error, "status_code", None), type(error))
        self.done += 1
        try:
            self._kinds[kind] += 1
        except (KeyError, TypeError):
            self._admit(kind)
        attempts = outcome.attempts
        if source != "network" or not attempts:
            return False
        self._items.add(self._clock())
        self._latencies.add(outcome.elapsed)
        if attempts > 1:
            self._retried += 1
            self._retries += attempts - 1
        if outcome.usage is not None:
            self._use(as_usage(outcome.usage))
        return True

    def retry(self) -> None:
        """Count a request that is sent again, when it is: its item may not be finished for a long time."""
        with self._mutex:
            self._resent_count += 1
            self._resent.add(self._clock())

    def stats(
        self,
        elapsed: float,
        *,
        total: int | None = None,
        ready: int = 0,
        in_flight: int = 0,
        waiting: int = 0,
        waiting_for_limit: int = 0,
        concurrency: int = 0,
        limit_history: Iterable[tuple[float, int]] = (),
    ) -> RunStats:
        """Return the figures of this moment.

        Args:
            elapsed: Seconds since the start.
            total: How many items there are, if that is known.
            ready: As all that follow, handed on as it is.
            in_flight: See `RunStats`.
            waiting: See `RunStats`.
            waiting_for_limit: See `RunStats`.
            concurrency: See `RunStats`.
            limit_history: See `RunStats`.
        """
        now = self._clock()
        seconds = min(elapsed, Recent.seconds(now))
        items = self._items.count(now)
        # Where an item takes longer than the recent past is long, the average says more.
        rate = _rate(items, seconds) if items >= _FEW else _rate(self._latencies.count, elapsed)
        return RunStats(
            done=self.done,
            ok=self.ok,
            failed=self.failed,
            ready=ready,
            in_flight=in_flight,
            waiting=waiting,
            total=total,
            waiting_for_limit=waiting_for_limit,
            retries=max(self._resent_count, self._retries),
            requests_per_second=_rate(items + self._resent.count(now), seconds),
            tokens=self.usage,
            eta=_eta(total, self.done, rate),
            concurrency=concurrency,
            limit_history=tuple(limit_history),
            elapsed=elapsed,
        )

    def summary(self, elapsed: float, percentile: Callable[[float], float] | None = None) -> Summary:
        """Return the figures of all outcomes so far.

        Args:
            elapsed: Seconds from start to end of the batch.
            percentile: Gives latencies that are more exact than those of the histogram.
        """
        percentile = percentile or self._latencies.percentile
        states: dict[str, int] = {"ok": 0, "failed": 0, "not_sent": 0, "unknown": 0}
        sources: dict[str, int] = {"network": 0, "checkpoint": 0, "duplicate": 0}
        statuses: Counter[int] = Counter()
        errors: Counter[str] = Counter()
        finished = 0
        for (state, source, status, error), count in self._kinds.copy().items():
            states[state] += count
            sources[source] += count
            if status is not None:
                statuses[status] += count
            if error is not None:
                errors["other" if error is OtherError else error.__name__] += count
            if source != "checkpoint" and state in ("ok", "failed"):
                finished += count
        return Summary(
            total=sum(states.values()),
            ok=states["ok"],
            failed=states["failed"],
            not_sent=states["not_sent"],
            unknown=states["unknown"],
            retried=self._retried,
            retries=self._retries,
            status_codes=dict(sorted(statuses.items())),
            elapsed=elapsed,
            throughput=_rate(finished, elapsed),
            latency_p50=percentile(50),
            latency_p95=percentile(95),
            latency_p99=percentile(99),
            latency_max=self._latencies.highest,
            usage=self.usage,
            error_types=dict(sorted(errors.items(), key=lambda each: (-each[1], each[0]))),
            sources=sources,
            latency_histogram=self._latencies.bars(),
        )

    def _use(self, used: Usage) -> None:
        # Five numbers: to make a new `Usage` of them each time takes as long as all the rest.
        tokens = self._tokens
        if tokens is None:
            tokens = self._tokens = [0] * 5
        tokens[0] += used.input_tokens
        tokens[1] += used.output_tokens
        tokens[2] += used.cached_tokens
        tokens[3] += used.cache_write_tokens
        tokens[4] += used.reasoning_tokens

    def _admit(self, kind: _Kind) -> None:
        """Count a kind that is new, or is not to be told apart from others."""
        state, source, status, error = kind
        if not isinstance(status, int) or not status:
            status = None  # what other transports call so is none
        if len(self._kinds) >= _MOST_KINDS and (state, source, status, error) not in self._kinds:
            status = None if status is None else OTHER_STATUS
            error = None if error is None else OtherError
        kind = (state, source, status, error)
        self._kinds[kind] = self._kinds.get(kind, 0) + 1


def summarise(outcomes: Iterable[Finished], elapsed: float) -> Summary:
    """Count the outcomes of a batch that took `elapsed` seconds. Its percentiles are values that were measured."""
    tally = Tally()
    latencies = sorted(outcome.elapsed for outcome in outcomes if tally.add(outcome))
    return tally.summary(
        elapsed, lambda percent: latencies[nearest_rank(len(latencies), percent) - 1] if latencies else 0.0
    )


def as_usage(usage: Any) -> Usage:
    """The tokens of a call, of an object or a mapping that tells some of them, under the names of any API."""
    if isinstance(usage, Usage):
        return usage
    read: Callable[[str], Any] = usage.get if isinstance(usage, Mapping) else lambda name: getattr(usage, name, None)
    counts: dict[str, int] = {}
    for name in Usage.__slots__:
        count = read(name)
        if count is None and name in _OTHER_NAMES:
            count = read(_OTHER_NAMES[name])
        if isinstance(count, int):
            counts[name] = count
    return Usage(**counts)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _eta(total: int | None, done: int, rate: float) -> float | None:
    if total is None:
        return None
    left = max(0, total - done)
    return left / rate if rate else None if left else 0.0
