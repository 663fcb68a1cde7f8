"""What telemetry is told of a run."""

from collections.abc import Callable, Mapping, Sized
from itertools import count

from ..._telemetry import metrics, semconv
from ..._telemetry.operation import BatchOperation, start_batch
from .crew import AsyncCrew
from .job import Calls
from .source import AsyncHanded, AsyncShared


class AsyncObservation:
    """The span of a run, and how it stands while it is under way.

    Args:
        source: Where its items come from.
        crew: Its workers.
        calls: How they send.
        total: How many items there are, if that is known.
        limit: The most workers.
        early: What has left `crew.done` and is not handed out.

    Attributes:
        handed_out: How many outcomes the consumer has got.
    """

    def __init__(
        self,
        source: AsyncShared | AsyncHanded,
        crew: AsyncCrew,
        calls: Calls,
        *,
        total: int | None,
        limit: int,
        early: Sized = (),
    ) -> None:
        self._source = source
        self._crew = crew
        self._pacer = calls.pacer
        self._wanted = calls.telemetry
        self._total = total
        self._limit = limit
        self._early = early
        self.handed_out = 0
        self._operation: BatchOperation | None = None
        self._resent = count()
        self._tell: Callable[[], object] | None = None

    def begin(self) -> None:
        """The run begins: what is current now is where it belongs."""
        if not self._wanted:
            return
        self._operation = self._crew.operation = start_batch(self._total, self._limit)
        if self._operation is not None:
            self._tell = self._pacer.on_resend
            self._pacer.on_resend = self._count
        if metrics.instruments() is not None:
            metrics.began(self)
            if isinstance(self._source, AsyncHanded):
                self._source.measured = True

    def _count(self) -> None:
        next(self._resent)
        if self._tell is not None:
            self._tell()

    def end(self, states: Callable[[], Mapping[str, int]], error: BaseException | None = None) -> None:
        """The run has ended.

        Args:
            states: Gives how many of its outcomes have which state.
            error: What it ended in, if it did not end well.
        """
        metrics.ended(self)
        operation, self._operation = self._operation, None
        if operation is not None:
            self._pacer.on_resend = self._tell
            found = states()
            operation.counts = {
                semconv.BATCH_OK: found.get("ok", 0),
                semconv.BATCH_FAILED: found.get("failed", 0),
                semconv.BATCH_NOT_SENT: found.get("not_sent", 0),
                semconv.BATCH_UNKNOWN: found.get("unknown", 0),
                semconv.BATCH_RETRIES: next(self._resent),
            }
            operation.end(error)

    def gauges(self) -> metrics.Gauges:
        """How it stands, asked for from any thread: the numbers may not be of the same moment."""
        source, held = self._source, self._pacer.held
        finished = len(self._crew.done) + len(self._early) + self.handed_out
        in_flight = max(0, min(source.taken - source.waiting - finished, self._limit) - held)
        return metrics.Gauges(in_flight, held, self._pacer.concurrency(self._limit))
