"""What a batch gives back: one `Outcome` per item, and all of them as a `BatchResult`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import FrozenInstanceError, dataclass
from math import ceil
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

_T = TypeVar("_T")

State: TypeAlias = Literal["ok", "failed", "not_sent", "unknown"]
Source: TypeAlias = Literal["network", "checkpoint", "duplicate"]


class _Fields(Generic[_T]):
    """The slots of an outcome, which `_Draft` may fill and `Outcome` may not change."""

    __slots__ = (
        "attempts",
        "elapsed",
        "error",
        "index",
        "key",
        "request",
        "request_id",
        "source",
        "state",
        "usage",
        "value",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Outcome(_Fields[_T]):
    """What became of one item of a batch. Exactly one of `value` and `error` is set.

    Attributes:
        index: The place of the item in the input.
        key: The key of the item, if the batch has keys.
        request: The item as it was given.
        value: The answer, if the state is `ok`.
        error: What went wrong otherwise.
        state: `ok`; `failed`; `not_sent`: nothing of it reached the server; `unknown`: it was sent, and no
            answer was seen, so that it may or may not have been processed.
        attempts: How often it was sent.
        elapsed: Seconds from its first attempt to its end, waits included.
        usage: The tokens it used, for LLM calls.
        request_id: The server's id of the request.
        source: `network`; `checkpoint`: the answer of an earlier run; `duplicate`: that of an equal item.

    Raises:
        ValueError: The state is `ok` and there is an error, or it is another one and there is none.
    """

    index: int
    key: str | None = None
    request: Any = None
    value: _T | None = None
    error: Exception | None = None
    state: State = "ok"
    attempts: int = 0
    elapsed: float = 0.0
    usage: Any = None
    request_id: str | None = None
    source: Source = "network"

    def __post_init__(self) -> None:
        if (self.state == "ok") is not (self.error is None) or (self.error is not None and self.value is not None):
            raise ValueError(f"an outcome is either ok with a value, or {self.state} with an error")

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def unwrap(self) -> _T:
        """Return the value, or raise the error."""
        if self.error is None:
            return self.value  # type: ignore[return-value]
        try:
            raise self.error
        finally:
            # The traceback of the error holds this frame: without `self` in it there is no reference cycle.
            del self

    def __repr__(self) -> str:
        key = "" if self.key is None else f" {self.key!r}"
        what = type(self.value).__name__ if self.error is None else repr(self.error)
        return f"<Outcome {self.index}{key} {self.state}: {what:.200}>"


def _refuse(self: object, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


# With slots, the `__setattr__` that dataclasses write calls `super()` of a class that is no more (before Python
# 3.13), and raises TypeError for names that are no fields; `Outcome[int](...)` sets such a one.
Outcome.__setattr__ = _refuse  # type: ignore[method-assign]


class _Draft(_Fields[Any]):
    """An outcome in the making."""

    __slots__ = ()


def make_outcome(
    index: int,
    request: Any,
    value: Any,
    error: Exception | None,
    state: State,
    attempts: int,
    elapsed: float,
    key: str | None = None,
    source: Source = "network",
) -> Outcome[Any]:
    """Make an outcome without checking it, in an eighth of the time that its own constructor takes.

    That one goes through `object.__setattr__` for every field, as frozen dataclasses do. Here the fields are filled
    while the object still has a class that allows it.
    """
    draft: Any = _Draft()
    draft.index = index
    draft.key = key
    draft.request = request
    draft.value = value
    draft.error = error
    draft.state = state
    draft.attempts = attempts
    draft.elapsed = elapsed
    draft.usage = draft.request_id = None
    draft.source = source
    draft.__class__ = Outcome
    return draft  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class RunStats:
    """How far a run is.

    Attributes:
        done: Outcomes handed out.
        ok: How many of them have an answer.
        failed: How many have none.
        ready: Outcomes that wait to be handed out.
        in_flight: Items that workers have at the moment.
        waiting: Items that were read and wait for a worker.
        total: How many items there are, if the input has a length.
    """

    done: int
    ok: int
    failed: int
    ready: int
    in_flight: int
    waiting: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a batch.

    Attributes:
        total: The number of items.
        ok: How many have an answer.
        failed: How many failed.
        not_sent: How many never reached the server.
        unknown: How many were sent and not answered.
        retried: How many took more than one attempt.
        retries: The number of attempts beyond the first, of all items.
        status_codes: How often each HTTP status came last, sorted.
        elapsed: Seconds from start to end of the batch.
        throughput: Items finished (`ok` or `failed`) per second.
        latency_p50: Seconds that half of the items sent took at most, retries and waits included.
        latency_p95: The same for 95 %.
        latency_p99: The same for 99 %.
        latency_max: The longest.
        usage: The tokens of all items, for LLM calls.
    """

    total: int
    ok: int
    failed: int
    not_sent: int
    unknown: int
    retried: int
    retries: int
    status_codes: Mapping[int, int]
    elapsed: float
    throughput: float
    latency_p50: float
    latency_p95: float
    latency_p99: float
    latency_max: float
    usage: Any = None

    @classmethod
    def of(cls, outcomes: Iterable[Outcome[Any]], elapsed: float) -> Summary:
        """Count the outcomes of a batch that took `elapsed` seconds."""
        states: Counter[str] = Counter()
        statuses: Counter[int] = Counter()
        latencies: list[float] = []
        retried = retries = 0
        for outcome in outcomes:
            states[outcome.state] += 1
            status = getattr(outcome.value if outcome.error is None else outcome.error, "status_code", None)
            if isinstance(status, int) and status:
                statuses[status] += 1
            if outcome.attempts:
                latencies.append(outcome.elapsed)
                retries += outcome.attempts - 1
                retried += outcome.attempts > 1
        latencies.sort()
        finished = states["ok"] + states["failed"]
        return cls(
            total=sum(states.values()),
            ok=states["ok"],
            failed=states["failed"],
            not_sent=states["not_sent"],
            unknown=states["unknown"],
            retried=retried,
            retries=retries,
            status_codes=dict(sorted(statuses.items())),
            elapsed=elapsed,
            throughput=finished / elapsed if elapsed > 0 else 0.0,
            latency_p50=_percentile(latencies, 50),
            latency_p95=_percentile(latencies, 95),
            latency_p99=_percentile(latencies, 99),
            latency_max=latencies[-1] if latencies else 0.0,
        )

    def __str__(self) -> str:
        statuses = ", ".join(f"{status} x {count}" for status, count in self.status_codes.items())
        counts = (
            (self.ok, "ok"),
            (self.failed, "failed"),
            (self.not_sent, "not sent"),
            (self.unknown, "unknown"),
        )
        latencies = (self.latency_p50, self.latency_p95, self.latency_p99, self.latency_max)
        names = ("p50", "p95", "p99", "max")
        lines = [
            f"items       {self.total} in {self.elapsed:.2f} s ({self.throughput:.1f}/s)",
            f"outcomes    {', '.join(f'{count} {name}' for count, name in counts)}",
            f"retries     {self.retries} for {self.retried} items",
            f"latency     {', '.join(f'{n} {_ms(each)}' for n, each in zip(names, latencies, strict=True))}",
        ]
        if statuses:
            lines.append(f"statuses    {statuses}")
        return "\n".join(lines)


class BatchResult(list["_T | Exception"]):
    """The answers of a batch, in the order of its input: responses, and exceptions where there are none.

    Args:
        outcomes: One per item, in the order of the input.
        elapsed: Seconds from start to end of the batch.

    Attributes:
        outcomes: The same answers with all that is known about each.

    Example:
        ```python
        result = client.batch_request([{"path": f"/users/{n}"} for n in range(100)])
        for outcome in result.failed:
            print(outcome.index, outcome.error)
        print(result.summary())
        ```
    """

    __slots__ = ("elapsed", "outcomes")

    def __init__(self, outcomes: Iterable[Outcome[_T]] = (), *, elapsed: float = 0.0) -> None:
        self.outcomes: tuple[Outcome[_T], ...] = tuple(outcomes)
        self.elapsed = elapsed
        super().__init__(
            outcome.error if outcome.error is not None else outcome.value  # type: ignore[misc]
            for outcome in self.outcomes
        )

    @property
    def ok(self) -> list[Outcome[_T]]:
        """The outcomes that have an answer."""
        return [outcome for outcome in self.outcomes if outcome.error is None]

    @property
    def failed(self) -> list[Outcome[_T]]:
        """The outcomes that have none: failed, not sent or unknown."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def summary(self) -> Summary:
        """Return the figures of the batch; `print` shows them as a block of text."""
        return Summary.of(self.outcomes, self.elapsed)

    # The default would pickle the list without what it was made of.
    def __reduce__(self) -> tuple[Any, ...]:
        return _batch_result, (type(self), self.outcomes, self.elapsed)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.ok)} ok, {len(self.failed)} failed>"


def _batch_result(cls: type[BatchResult[Any]], outcomes: tuple[Outcome[Any], ...], elapsed: float) -> Any:
    return cls(outcomes, elapsed=elapsed)


def _percentile(ordered: list[float], percent: int) -> float:
    """The nearest-rank percentile: a value that was really measured."""
    return ordered[ceil(len(ordered) * percent / 100) - 1] if ordered else 0.0


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
