"""The capacity limiter."""

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from types import TracebackType

from ..._mutex import ProcessMutex
from ._exceptions import Cancelled, WouldBlock
from ._parking import Waiter, current


@dataclass(frozen=True, slots=True)
class CapacityLimiterStatistics:
    """Who holds the tokens of a limiter, and how many wait."""

    borrowed_tokens: int
    total_tokens: float
    borrowers: tuple[object, ...]
    tasks_waiting: int


class CapacityLimiter:
    """Limits how many tasks do something at once, with a total that can be changed at any time.

    A borrower (normally the task) holds at most one token.

    Args:
        total_tokens: How many tokens there are: an integer, or `inf`. With 0 everyone waits until it is raised.
    """

    __slots__ = ("__weakref__", "_borrowers", "_mutex", "_total", "_waiters")

    def __init__(self, total_tokens: float) -> None:
        self._total = _checked_total(total_tokens)
        self._borrowers: dict[object, None] = {}
        self._waiters: OrderedDict[object, Waiter] = OrderedDict()
        self._mutex = ProcessMutex()

    @property
    def total_tokens(self) -> float:
        """How many tokens there are; more may be out after it was lowered."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, value: float) -> None:
        self._total = _checked_total(value)
        self._dispatch()

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are out."""
        return len(self._borrowers)

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; negative while too many are out."""
        return self._total - len(self._borrowers)

    def acquire_nowait(self) -> None:
        """Borrow a token for the current task if one is free.

        Raises:
            WouldBlock: None is.
            RuntimeError: The task holds one already.
        """
        self.acquire_on_behalf_of_nowait(current())

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Borrow a token if one is free.

        Args:
            borrower: Who holds the token, and gives it back.

        Raises:
            WouldBlock: None is.
            RuntimeError: The borrower holds one already.
        """
        with self._mutex:
            self._check_new(borrower)
            if self._waiters or len(self._borrowers) >= self._total:
                raise WouldBlock
            self._borrowers[borrower] = None

    def acquire(self) -> None:
        """Borrow a token for the current task, waiting for one if needed.

        Raises:
            RuntimeError: The task holds one already.
        """
        self.acquire_on_behalf_of(current())

    def acquire_on_behalf_of(self, borrower: object) -> None:
        """Borrow a token, waiting for one if needed.

        Args:
            borrower: Who holds the token, and gives it back.

        Raises:
            RuntimeError: The borrower holds one already, or waits for one.
        """
        task = current()
        task.limit()
        waiter = Waiter(task)
        with self._mutex:
            self._check_new(borrower)
            if not self._waiters and len(self._borrowers) < self._total:
                self._borrowers[borrower] = None
                return
            self._waiters[borrower] = waiter
        try:
            waiter.wait()
        except BaseException as error:
            with self._mutex:
                if self._waiters.pop(borrower, None) is not None or not waiter.granted:
                    raise
            if not isinstance(error, Cancelled):
                self.release_on_behalf_of(borrower)
                raise

    def release(self) -> None:
        """Give the token of the current task back.

        Raises:
            RuntimeError: The task holds none.
        """
        self.release_on_behalf_of(current())

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give a token back.

        Args:
            borrower: Who holds it.

        Raises:
            RuntimeError: The borrower holds none.
        """
        with self._mutex:
            if borrower not in self._borrowers:
                raise RuntimeError("this borrower isn't holding any of this CapacityLimiter's tokens")
            del self._borrowers[borrower]
        self._dispatch()

    def _check_new(self, borrower: object) -> None:
        if borrower in self._borrowers:
            raise RuntimeError("this borrower is already holding one of this CapacityLimiter's tokens")
        if borrower in self._waiters:
            raise RuntimeError("this borrower is already waiting for one of this CapacityLimiter's tokens")

    def _dispatch(self) -> None:
        """Hand free tokens to waiting tasks."""
        while self._waiters:
            with self._mutex:
                if not self._waiters or len(self._borrowers) >= self._total:
                    return
                borrower, waiter = self._waiters.popitem(last=False)
                self._borrowers[borrower] = None
                waiter.granted = True
            waiter.task.wake()

    def statistics(self) -> CapacityLimiterStatistics:
        """Who holds tokens, and how many wait.

        Returns:
            A snapshot.
        """
        with self._mutex:
            return CapacityLimiterStatistics(
                len(self._borrowers), self._total, tuple(self._borrowers), len(self._waiters)
            )

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _checked_total(value: float) -> float:
    if value != inf and not isinstance(value, int):
        raise TypeError("total_tokens must be an int or math.inf")
    if value < 0:
        raise ValueError("total_tokens must be >= 0")
    return value
