"""The tokens of calls to language models, counted alike for every provider."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens a call, or several together, have used.

    Attributes:
        input_tokens: Those that were sent, cached ones included.
        output_tokens: Those of the answer, reasoning included.
        cached_tokens: How many of the input came from a cache of the provider.
        cache_write_tokens: How many of the input were written to that cache.
        reasoning_tokens: How many of the output were not shown.

    Example:
        >>> Usage(10, 2) + Usage(5, 1)
        Usage(input_tokens=15, output_tokens=3, cached_tokens=0, cache_write_tokens=0, reasoning_tokens=0)
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )
