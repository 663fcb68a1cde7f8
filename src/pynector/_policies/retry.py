"""When to try a request again, and how long to wait first: pure functions of what happened."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

from ..errors import TRANSIENT_STATUSES, ConfigurationError
from .budget import RetryBudget

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})
"""The methods that may be repeated whatever became of the first try (RFC 9110, 9.2.2)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a `RetryPolicy` needs to know of an attempt that failed.

    Attributes:
        status: The HTTP status, or `None` if there was no answer.
        transient: Whether an attempt without an answer may succeed when repeated.
        sent: `False` only where nothing can have reached the server.
        idempotent: Whether the request may be repeated whatever became of it: its method, an idempotency key.
        retry_after: Seconds the server asked to wait.
        should_retry: What the server said in `x-should-retry`, if it did.
        immediate: Whether there is nothing to wait for: a kept connection turned out to be closed.
    """

    status: int | None = None
    transient: bool = False
    sent: bool = True
    idempotent: bool = False
    retry_after: float | None = None
    should_retry: bool | None = None
    immediate: bool = False


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse(name: str, value: object, right: str) -> ConfigurationError:
    return ConfigurationError(f"RetryPolicy.{name}: {value!r:.80} is not accepted; give {right}")


def _checked_statuses(statuses: Iterable[int]) -> frozenset[int]:
    right = "HTTP statuses, integers from 100 to 599"
    if isinstance(statuses, str | bytes) or not isinstance(statuses, Iterable):
        raise _refuse("retry_statuses", statuses, right)
    checked = frozenset(statuses)
    for status in checked:
        if not _is_int(status) or not 100 <= status <= 599:
            raise _refuse("retry_statuses", status, right)
    return checked


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failures are tried again, how often, and after what wait.

    An idempotent request (by method or idempotency key) is repeated after anything transient: a broken
    connection, silence, a status of `retry_statuses`. Any other is repeated only where nothing was processed:
    no connection was made, 429, or 503 with `Retry-After`. A `Retry-After` is never cut short: the wait is at
    least as long.

    Args:
        max_retries: The number of further attempts after the first; 0 turns retries off.
        backoff_factor: Seconds of the first wait; it doubles from retry to retry.
        backoff_max: The longest wait in seconds, unless the server asks for a longer one.
        jitter: `full` waits a random part of that time, which keeps many clients apart; `none` waits all of
            it.
        retry_statuses: The HTTP statuses that are tried again.
        retry_after_max: A server that asks for a longer wait than this (seconds) is not asked again.
        rate_limit_patience: Seconds for which one item of a batch may be put off by 429 and 529 in all, before it
            fails with the last of them; `math.inf` for as long as its deadline allows, 0 to treat them as any other
            failure. In a batch they say "later", not "no": the item goes again after the pause, and that is no
            retry. A request that is not in a batch has only its retries.
        retry_non_idempotent: Repeat requests of any method as if they were idempotent.
        budget: How much of the traffic to one server may be retries, shared by everything in the process that uses
            the same origin and credentials; `None` for no such limit. A failure that the budget has no retry left
            for is final.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range.

    Example:
        >>> RetryPolicy(max_retries=5, backoff_factor=1.0).max_retries
        5
    """

    max_retries: int = 3
    backoff_factor: float = 0.5
    backoff_max: float = 30.0
    jitter: Literal["full", "none"] = "full"
    retry_statuses: frozenset[int] = TRANSIENT_STATUSES
    retry_after_max: float = 300.0
    rate_limit_patience: float = 120.0
    retry_non_idempotent: bool = False
    budget: RetryBudget | None = RetryBudget()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        if not _is_int(self.max_retries) or self.max_retries < 0:
            raise _refuse("max_retries", self.max_retries, "an integer of 0 or more")
        for name in ("backoff_factor", "backoff_max", "retry_after_max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise _refuse(name, value, "seconds of 0 or more, and not infinity")
            object.__setattr__(self, name, float(value))
        patience = self.rate_limit_patience
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not patience >= 0:  # not NaN either
            raise _refuse("rate_limit_patience", patience, "seconds of 0 or more, or infinity")
        object.__setattr__(self, "rate_limit_patience", float(patience))
        if self.jitter not in ("full", "none"):
            raise _refuse("jitter", self.jitter, "'full' or 'none'")
        if not isinstance(self.retry_non_idempotent, bool):
            raise _refuse("retry_non_idempotent", self.retry_non_idempotent, "True or False")
        if self.budget is not None and not isinstance(self.budget, RetryBudget):
            raise _refuse("budget", self.budget, "a RetryBudget, or None for no limit")
        object.__setattr__(self, "retry_statuses", _checked_statuses(self.retry_statuses))

    @classmethod
    def disabled(cls) -> Self:
        """Return a policy that never tries again."""
        return cls(max_retries=0)

    def next_delay(self, failure: Failure, retries: int, rand: float) -> float | None:
        """Decide about an attempt that failed.

        Args:
            failure: What happened.
            retries: How many retries there were already.
            rand: A random number from 0 to 1, for the jitter.

        Returns:
            The seconds to wait before the next attempt, or `None` to give up now.
        """
        if retries >= self.max_retries or not self.may_repeat(failure):
            return None
        if failure.immediate:
            return 0.0
        # 2.0 ** 1024 overflows; long before that the wait is at its cap.
        backoff = min(self.backoff_max, self.backoff_factor * 2.0 ** min(retries, 1000))
        if failure.retry_after is None:
            return backoff * rand if self.jitter == "full" else backoff
        if failure.retry_after > self.retry_after_max:
            return None
        # On top and never under: clients that were told the same time come back one after the other.
        return failure.retry_after + (min(backoff, 1.0) * rand if self.jitter == "full" else 0.0)

    def may_repeat(self, failure: Failure) -> bool:
        """Say whether a failure is one after which the request is sent again at all, however often it was already.

        Args:
            failure: What happened.

        Returns:
            `False` where it would be of no use or not safe, where the server said not to, and where retries are off.
        """
        if not self.max_retries or failure.should_retry is False:
            return False
        status = failure.status
        if status is None:
            transient = failure.transient
            processed = failure.sent
        else:
            transient = status in self.retry_statuses or failure.should_retry is True
            processed = not (status == 429 or (status == 503 and failure.retry_after is not None))
        return transient and (not processed or failure.idempotent or self.retry_non_idempotent)


NO_RETRY: Final = RetryPolicy.disabled()
"""The policy of `retry=None`: one attempt, no more."""


def coerce_retry(value: RetryPolicy | int | None) -> RetryPolicy:
    """Make a policy of what `retry=` accepts: a policy, a number of retries, or `None` for none.

    Raises:
        ConfigurationError: It is something else, or a negative number.
    """
    if isinstance(value, RetryPolicy):
        return value
    if value is None:
        return NO_RETRY
    if not _is_int(value) or value < 0:
        right = "a RetryPolicy, a number of retries of 0 or more, or None"
        raise ConfigurationError(f"retry: {value!r:.80} is not accepted; give {right}")
    return RetryPolicy(max_retries=value) if value else NO_RETRY


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read how long a server asks to wait: `retry-after-ms`, or `Retry-After` (RFC 9110, 10.2.3).

    Args:
        headers: The headers of the response, names in any case if the mapping ignores case, else lower.
        now: Seconds since the epoch, to which a date is relative.

    Returns:
        Seconds from 0 up, 0 for the past; infinity for what no float holds; `None` if nothing is said, or
        nothing that can be understood.
    """
    text = headers.get("retry-after-ms")
    if text is not None:
        milliseconds = _parse_number(text)
        if milliseconds is not None:
            return max(0.0, milliseconds / 1000)
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = _parse_number(text)
    if seconds is None:
        date = _parse_http_date(text, now)
        if date is None:
            return None
        seconds = date - now
    return max(0.0, seconds)


_is_number: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE).fullmatch

# The formats of RFC 9110, 5.6.7. Not `email.utils`: it is slow to import, and raises for years beyond 9999.
_TIME: Final = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_is_date: Final = re.compile(  # Sun, 06 Nov 1994 08:49:37 GMT, and as of RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
    r"[a-z]+, *(?P<day>[0-9]{1,2})[ -](?P<month>[a-z]{3})[ -](?P<year>[0-9]{2,9}) +"
    + _TIME
    + r" +(?:gmt|utc|[+-]0000)",
    re.IGNORECASE,
).fullmatch
_is_asctime: Final = re.compile(  # Sun Nov  6 08:49:37 1994
    r"[a-z]+ +(?P<month>[a-z]{3}) +(?P<day>[0-9]{1,2}) +" + _TIME + " +(?P<year>[0-9]{4,9})", re.IGNORECASE
).fullmatch
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SECONDS_OF_YEAR: Final = 31_556_952


def _parse_number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _is_number(text) else None


def _parse_http_date(text: str, now: float) -> float | None:
    """Return the seconds since the epoch, or `None` for what is no date."""
    text = text.strip()
    match = _is_date(text) or _is_asctime(text)
    if match is None or match["month"].lower() not in _MONTHS:
        return None
    month = _MONTHS.index(match["month"].lower()) + 1
    year, day, hour, minute, second = (int(match[name]) for name in ("year", "day", "hour", "minute", "second"))
    # 60 is a leap second.
    if not (1 <= day <= _MONTH_DAYS[month - 1] and hour <= 23 and minute <= 59 and second <= 60):
        return None
    if len(match["year"]) == 2:
        # RFC 9110, 5.6.7: what would be more than 50 years ahead is in the past.
        this_year = 1970 + int(now // _SECONDS_OF_YEAR)
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
        elif year <= this_year - 50:
            year += 100
    return float(_days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)


def _days_since_epoch(year: int, month: int, day: int) -> int:
    # The year begins in March here, so that the leap day is its last; 719,468 days lie before 1970.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1 - 719_468
