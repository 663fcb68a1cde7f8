"""What an HTTP answer tells of itself beside what was asked for: the tokens of a model, and the id of the request."""

import json
from collections.abc import Mapping
from typing import Any, Final

from .http import HttpMessage
from .usage import Usage

REQUEST_IDS: Final = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id")
"""The headers that APIs tell the id of a request in."""

_SENT: Final = ("input_tokens", "prompt_tokens")
_MADE: Final = ("output_tokens", "completion_tokens")
_MOST: Final = 8_000_000
"""Bytes; no answer of a model is longer, and a long download is not worth parsing for this."""
_TAIL: Final = 16_000
"""Bytes at the end of a long answer that are looked through: usage comes last, behind whatever is long."""


def request_id_in(answer: object) -> str | None:
    """The id that the server has given to the request of an HTTP answer, if it is told."""
    if isinstance(answer, HttpMessage):
        for name in REQUEST_IDS:
            if found := answer.headers.get(name):
                return str(found)
    return None


def may_tell_usage(content: bytes) -> bool:
    """Whether an answer looks as if there was a `usage` in it: nearly all do not, and are never parsed for one."""
    return content.find(b'"usage"', max(0, len(content) - _TAIL)) >= 0 and len(content) <= _MOST


def usage_in(answer: HttpMessage) -> Usage | None:
    """The tokens in the JSON of an HTTP answer, as models tell them in `usage`; None if it has none.

    The answer keeps nothing of what is parsed for this.
    """
    content = answer.content_data
    if not isinstance(content, bytes) or not may_tell_usage(content):
        return None
    try:
        parsed: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    usage = parsed.get("usage") if isinstance(parsed, dict) else None
    return _usage(usage) if isinstance(usage, Mapping) else None


def _usage(told: Mapping[str, Any]) -> Usage | None:
    came_in, went_out = _count(told, *_SENT), _count(told, *_MADE)
    if came_in is None and went_out is None:
        return None
    cached, written = _count(told, "cache_read_input_tokens"), _count(told, "cache_creation_input_tokens")
    if cached is not None or written is not None:
        # Anthropic counts these apart.
        came_in = (came_in or 0) + (cached or 0) + (written or 0)
    else:
        cached = _detail(told, _SENT, "cached_tokens")
    reasoning = _detail(told, _MADE, "reasoning_tokens")
    return Usage(came_in or 0, went_out or 0, cached or 0, written or 0, reasoning or 0)


def _detail(told: Mapping[str, Any], names: tuple[str, ...], what: str) -> int | None:
    for name in names:
        details = told.get(f"{name}_details")
        if isinstance(details, Mapping) and (found := _count(details, what)) is not None:
            return found
    return None


def _count(told: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = told.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
