"""What servers tell of their rate limits in the headers of an answer."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True)
class Reading:
    """One limit, as an answer tells it.

    Attributes:
        limit: How much there is per minute.
        remaining: How much of it is left, or `None` if the answer does not say.
        reset: Seconds until all of it is there again, not above 0 if that has passed; or `None`.
    """

    limit: float
    remaining: float | None = None
    reset: float | None = None


class Readings(NamedTuple):
    """The two limits of an answer; `None` for what it does not tell."""

    requests: Reading | None
    tokens: Reading | None


NOTHING: Final = Readings(None, None)


def read_limits(headers: Mapping[str, str], wall: float) -> Readings:
    """Read `x-ratelimit-*` (OpenAI and many others) or `anthropic-ratelimit-*`.

    Both families give limits per minute. Where a server means a day instead, what is read is laxer than what it
    enforces, and never stricter.

    Args:
        headers: The headers of the response, names in any case if the mapping ignores case, else lower.
        wall: Seconds since the epoch, to which a date is relative.

    Returns:
        What can be understood. Garbage counts as not told.
    """
    requests, tokens = _read_openai(headers, "requests"), _read_openai(headers, "tokens")
    if requests is None:
        requests = _read_anthropic(headers, "requests", wall)
    if tokens is None:
        tokens = _anthropic_tokens(headers, wall)
    return NOTHING if requests is None and tokens is None else Readings(requests, tokens)


def _read_openai(headers: Mapping[str, str], what: str) -> Reading | None:
    limit = _limit(headers.get(f"x-ratelimit-limit-{what}"))
    if limit is None:
        return None
    reset = headers.get(f"x-ratelimit-reset-{what}")
    remaining = _number(headers.get(f"x-ratelimit-remaining-{what}"))
    return Reading(limit, remaining, None if reset is None else parse_duration(reset))


def _read_anthropic(headers: Mapping[str, str], what: str, wall: float) -> Reading | None:
    prefix = f"anthropic-ratelimit-{what}"
    limit = _limit(headers.get(f"{prefix}-limit"))
    if limit is None:
        return None
    reset = headers.get(f"{prefix}-reset")
    date = None if reset is None else parse_rfc3339(reset)
    return Reading(limit, _number(headers.get(f"{prefix}-remaining")), None if date is None else date - wall)


def _anthropic_tokens(headers: Mapping[str, str], wall: float) -> Reading | None:
    """Put the limits of input, output and all tokens into one: here tokens are counted together."""
    both = _read_anthropic(headers, "tokens", wall)
    parts = [part for what in ("input-tokens", "output-tokens") if (part := _read_anthropic(headers, what, wall))]
    # Where one kind is used up, what is left of the other does not help.
    for part in parts:
        if part.remaining == 0:
            return Reading(both.limit if both else sum(part.limit for part in parts), 0.0, part.reset)
    if both or not parts:
        return both
    remaining = [part.remaining for part in parts if part.remaining is not None]
    resets = [part.reset for part in parts if part.reset is not None]
    return Reading(
        sum(part.limit for part in parts),
        sum(remaining) if len(remaining) == len(parts) else None,
        max(resets, default=None),
    )


_is_number: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?").fullmatch
_is_duration: Final = re.compile(r"(?:[0-9]{1,15}(?:\.[0-9]{1,9})?(?:ms|us|µs|μs|ns|d|h|m|s))+").fullmatch
_parts: Final = re.compile(r"([0-9.]+)([a-zµμ]+)").findall
_is_rfc3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,18})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
).fullmatch
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


def parse_duration(text: str) -> float | None:
    """Read a length of time as Go writes it: `1s`, `6m0s`, `20ms`; a bare number is seconds.

    Returns:
        Seconds, or `None` for anything else.
    """
    text = text.strip()
    if len(text) > 64:
        return None
    if not _is_duration(text):
        return _number(text)
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _parts(text))


def parse_rfc3339(text: str) -> float | None:
    """Read a date such as `2024-01-01T00:00:00Z`.

    Returns:
        Seconds since the epoch, fractions cut off, or `None` for anything else.
    """
    match = _is_rfc3339(text.strip())
    if match is None:
        return None
    from datetime import datetime  # only here: to import it takes a millisecond

    date, time, zone = match.groups()
    try:
        return datetime.fromisoformat(f"{date}T{time}{zone.upper()}").timestamp()
    except (ValueError, OverflowError):
        return None


def _limit(text: str | None) -> float | None:
    number = _number(text)
    return None if number == 0 else number  # some servers send 0 for what they do not limit


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    text = text.strip()
    return float(text) if _is_number(text) else None
