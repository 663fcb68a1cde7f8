"""How many requests and tokens may go per minute, and whose turn it is."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ..errors import ConfigurationError
from .bucket import Allowance
from .estimate import MOST_TOKENS, OutputTokens, estimate_tokens, most_output
from .learnt import read_limits

__all__ = ["Described", "RateLimit", "RateLimiter", "Ticket", "estimate_tokens"]

_LEAST: Final = 1e-6
_MOST: Final = 1e12
_LONGEST_BURST: Final = 60.0


def _refuse(name: str, value: object, right: str) -> ConfigurationError:
    return ConfigurationError(f"RateLimit.{name}: {value!r:.80} is not accepted; give {right}")


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much may be sent per minute, to one origin with one credential, by the whole process.

    Requests go evenly spaced, in the order in which they came, and not all at the start of a minute. Tokens are
    reserved by an estimate and settled to what the answer says was used. A request of more tokens than may go at once
    goes alone, and what follows waits until it is paid for.

    Args:
        requests_per_minute: The most requests per minute; `None` for no limit.
        tokens_per_minute: The most tokens per minute, of input and output together; `None` for no limit.
        learn_headers: Take limits from `x-ratelimit-*` and `anthropic-ratelimit-*` headers of the answers too. They
            never raise a limit that was given here.
        count_tokens: Estimates the input tokens of a request from what was handed in: the `HttpMessage`, or for a
            language model the prompt or mapping. By default a quarter of its text.
        burst: How many seconds' worth of a limit may go at once after a pause; at least one request always may. More
            than 1 is safe only where the server allows as much.

    Raises:
        ConfigurationError: A value has the wrong type or is out of range, or nothing is limited.

    Example:
        >>> RateLimit(requests_per_minute=500, tokens_per_minute=30_000).requests_per_minute
        500.0
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    learn_headers: bool = False
    count_tokens: Callable[[Any], int] | None = field(default=None, kw_only=True)
    burst: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is None:
                continue
            if not _is_number(value, _LEAST, _MOST):
                raise _refuse(name, value, f"a number from {_LEAST:g} to {_MOST:g}, or None for no limit")
            object.__setattr__(self, name, float(value))
        if not isinstance(self.learn_headers, bool):
            raise _refuse("learn_headers", self.learn_headers, "True or False")
        if self.count_tokens is not None and not callable(self.count_tokens):
            raise _refuse("count_tokens", self.count_tokens, "a function that takes a request and returns an integer")
        if not (_is_number(self.burst, 0, _LONGEST_BURST) and self.burst > 0):
            raise _refuse("burst", self.burst, f"seconds above 0 and at most {_LONGEST_BURST:g}")
        object.__setattr__(self, "burst", float(self.burst))
        if self.requests_per_minute is None and self.tokens_per_minute is None and not self.learn_headers:
            raise ConfigurationError(
                "RateLimit: nothing is limited; give requests_per_minute, tokens_per_minute or learn_headers=True"
            )


class Described(dict[str, Any]):
    """What the tokens of a request are estimated by, where that is more than what the user handed in.

    Args:
        given: What the user handed in: for `count_tokens`.
        described: What is sent, defaults included: for the estimate of our own.
    """

    __slots__ = ("given",)

    def __init__(self, given: object, described: Mapping[str, Any]) -> None:
        super().__init__(described)
        self.given = given


_State: TypeAlias = Literal["waiting", "admitted", "left", "settled"]


class Ticket:
    """The place of one request, from joining the queue to the end of the exchange.

    Attributes:
        tokens: The estimate that is reserved for it.
    """

    __slots__ = ("_admitted_at", "_state", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._state: _State = "waiting"
        self._admitted_at = -math.inf

    def __repr__(self) -> str:
        return f"<Ticket {self._state}, {self.tokens} tokens>"


class RateLimiter:
    """The running state of a `RateLimit`: the queue and what is used up. It is not locked: the caller does that.

    Every request takes a ticket (`enter`), asks with it until it is let through (`delay`), and hands it back when its
    exchange is over (`settle`), or before if it gave up (`leave`). Only the head of the queue can be let through, so
    nobody has to ask before being the head, and whoever changes something (`delay` that let one through, `leave`,
    `settle`, `learn`) wakes the `head`.

    In any time, what is let through is at most one burst (or one larger request) and what the rate gives; and what
    requests that were let through before gave back in that time.

    Args:
        limit: What to keep to.

    Attributes:
        limit: The same.
    """

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._requests = Allowance(limit.requests_per_minute, limit.burst, least=1.0)
        self._tokens = Allowance(limit.tokens_per_minute, limit.burst, least=0.0)
        self._counts_tokens = limit.tokens_per_minute is not None or limit.learn_headers
        self._outputs = OutputTokens()
        self._queue: deque[Ticket] = deque()  # its first one is waiting; behind it there may be some that left
        self._waiting = 0

    @property
    def head(self) -> Ticket | None:
        """Whose turn it is; `None` if nobody waits."""
        return self._queue[0] if self._queue else None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waiting

    def estimate(self, data: object, options: Mapping[str, object] | None = None) -> int:
        """Guess the tokens of a request: of its input, and of the answer.

        The answer counts as long as the 95th percentile of those seen lately, before the first as long as the request
        allows it to be, and never longer than that. This may run without the lock: it may call what the user gave.

        Args:
            data: What the user handed in.
            options: The options of the call, which may name the most output tokens as well.

        Returns:
            The tokens to `enter` with; 0 where tokens are not limited.

        Raises:
            ConfigurationError: `count_tokens` raised, or returned something else than an integer of 0 or more.
        """
        if not self._counts_tokens:
            return 0
        count = self.limit.count_tokens
        if count is None:
            tokens = estimate_tokens(data)
        else:
            try:
                tokens = count(data.given if isinstance(data, Described) else data)
            except Exception as error:
                # Whatever it is, it is no failure of the network, which would be tried again.
                raise ConfigurationError(f"RateLimit.count_tokens raised {type(error).__name__}") from error
            if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
                raise ConfigurationError(
                    f"RateLimit.count_tokens returned {tokens!r:.80}; it has to return an integer of 0 or more"
                )
        most = most_output(data, options)
        usual = self._outputs.p95
        output = most if usual is None else usual if most is None else min(usual, most)
        return tokens + (output or 0)

    def enter(self, tokens: int) -> Ticket:
        """Join the end of the queue.

        Args:
            tokens: The estimate of what the request will use.
        """
        ticket = Ticket(_plausible(tokens))
        self._queue.append(ticket)
        self._waiting += 1
        return ticket

    def delay(self, ticket: Ticket, now: float) -> float:
        """Ask to be let through.

        Args:
            ticket: Whose request it is.
            now: Seconds of a monotonic clock. Standing still, or going back a little, does no harm.

        Returns:
            0 if the request may go now: it is charged and out of the queue. Infinity if it is not its turn. Else the
            seconds until it is worth asking again.

        Raises:
            RuntimeError: The ticket has left, or is settled.
        """
        if ticket._state != "waiting":
            if ticket._state == "admitted":
                return 0.0
            raise RuntimeError(f"the ticket has {ticket._state}: enter again")
        if ticket is not self.head:
            return math.inf
        wait = max(self._requests.wait(1, now), self._tokens.wait(ticket.tokens, now))
        if wait > 0:
            return wait
        self._requests.take(1, now)
        self._tokens.take(ticket.tokens, now)
        ticket._admitted_at = now
        self._remove(ticket, "admitted")
        return 0.0

    def leave(self, ticket: Ticket) -> None:
        """Give up waiting, which costs nothing. It does nothing to a ticket that does not wait."""
        if ticket._state == "waiting":
            self._remove(ticket, "left")

    def settle(
        self, ticket: Ticket, now: float, *, tokens: int | None, sent: bool, output_tokens: int | None = None
    ) -> None:
        """Tell how an exchange ended: once for every request that was let through, whatever became of it.

        Args:
            ticket: Whose request it was. One that still waits leaves; one that is settled is left alone.
            now: Seconds of the monotonic clock.
            tokens: What was really used; `None` if that is not known, so the estimate stands.
            sent: `False` gives the request and its tokens back.
            output_tokens: How many of the tokens were output, if that is known: the next estimates learn from it.
        """
        if ticket._state != "admitted":
            self.leave(ticket)
            return
        ticket._state = "settled"
        if not sent:
            self._requests.give_back(1, ticket._admitted_at)
            self._tokens.give_back(ticket.tokens, ticket._admitted_at)
            return
        if output_tokens is not None:
            self._outputs.add(output_tokens)
        if tokens is None:
            return
        more = _plausible(tokens) - ticket.tokens
        if more > 0:
            self._tokens.take(more, now)
        else:
            self._tokens.give_back(-more, ticket._admitted_at)

    def learn(self, headers: Mapping[str, str], now: float, wall: float) -> None:
        """Read the limits that an answer tells of, if that was asked for. What is not understood is ignored.

        Args:
            headers: The headers of the answer.
            now: Seconds of the monotonic clock.
            wall: Seconds since the epoch.
        """
        if not self.limit.learn_headers:
            return
        requests, tokens = read_limits(headers, wall)
        if requests is not None:
            self._requests.learn(requests, now)
        if tokens is not None:
            self._tokens.learn(tokens, now)

    def _remove(self, ticket: Ticket, state: _State) -> None:
        ticket._state = state
        self._waiting -= 1
        queue = self._queue
        while queue and queue[0]._state != "waiting":
            queue.popleft()
        # To take one out of the middle costs as much as to look at all of them, so that is done to many at once.
        if len(queue) > 2 * self._waiting + 64:
            self._queue = deque(ticket for ticket in queue if ticket._state == "waiting")


def _plausible(tokens: int) -> int:
    return min(max(tokens, 0), MOST_TOKENS)
