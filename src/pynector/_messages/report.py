"""The figures of a batch: `RunStats` while it runs, `Summary` when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .histogram import Bar
from .usage import Usage


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
        waiting_for_limit: Items that are held up by a rate limit, a pause or the adaptive limit.
        retries: Requests sent beyond the first of each item.
        requests_per_second: Requests answered in the last ten seconds, per second. 0 if there were none.
        tokens: The tokens that were used, for LLM calls; None if no answer told.
        eta: Seconds to the end at the present rate; None if there is no telling.
        concurrency: The most requests at once, at this moment.
        limit_history: The limits that there have been, each with the seconds from the start to when it began.
        elapsed: Seconds since the start.
    """

    done: int
    ok: int
    failed: int
    ready: int
    in_flight: int
    waiting: int
    total: int | None
    waiting_for_limit: int = 0
    retries: int = 0
    requests_per_second: float = 0.0
    tokens: Usage | None = None
    eta: float | None = None
    concurrency: int = 0
    limit_history: tuple[tuple[float, int], ...] = ()
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a batch. `print` shows them as text, rich as a table, a notebook with a histogram.

    An item whose answer comes from a checkpoint, or from an equal item, is counted among the states, statuses, errors
    and sources; retries, latencies and usage are of what this run sent itself.

    Attributes:
        total: The number of items.
        ok: How many have an answer.
        failed: How many failed.
        not_sent: How many never reached the server.
        unknown: How many were sent and not answered.
        retried: How many took more than one attempt.
        retries: The number of attempts beyond the first, of all items.
        status_codes: How often each HTTP status came last, sorted. 0 stands for the rest, after 100 kinds of
            outcomes.
        elapsed: Seconds from start to end of the batch.
        throughput: Items finished (`ok` or `failed`, and not in an earlier run) per second.
        latency_p50: Seconds that half of the items sent took at most, retries and waits included. Of a `BatchResult`
            it is exact, of a run whose outcomes were not kept it is off by less than 1 %.
        latency_p95: The same for 95 %.
        latency_p99: The same for 99 %.
        latency_max: The longest, always exact.
        usage: The tokens of all items, for LLM calls.
        error_types: How often each type of error was the outcome, by the name of its class, the most frequent first.
            `other` stands for the rest, after 100 kinds of outcomes.
        sources: How many outcomes came from the `network`, a `checkpoint`, or an equal item (`duplicate`).
        latency_histogram: How many items took how long: bars of equal width on a logarithmic scale.
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
    usage: Usage | None = None
    error_types: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    latency_histogram: tuple[Bar, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, fit for JSON; bars are mappings with `low`, `high` and `count`."""
        fields = asdict(self)
        return fields | {"latency_histogram": list(fields["latency_histogram"])}

    def __str__(self) -> str:
        from .show import text

        return text(self)

    def __rich__(self) -> object:
        from .show import rich_table

        return rich_table(self)

    def _repr_html_(self) -> str:
        from .show import html

        return html(self)
