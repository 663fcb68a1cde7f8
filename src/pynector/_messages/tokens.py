"""How many tokens an answer says that it took."""

from typing import Any


def tokens_of(answer: Any) -> tuple[int | None, int | None]:
    """The tokens that a request has used.

    Args:
        answer: A message with a `usage`, or an HTTP answer whose JSON has one, as those of OpenAI and Anthropic.

    Returns:
        All of them, and those of the output; None for what it does not say.
    """
    try:
        usage = getattr(answer, "usage", None)
        if usage is None:
            parse = getattr(answer, "json", None)
            if not callable(parse) or b'"usage"' not in getattr(answer, "content", b""):
                return None, None
            parsed: Any = parse()
            usage = parsed.get("usage")
        return _counts(usage)
    except Exception:  # noqa: BLE001 - no JSON, no object, or of a foreign transport: then it does not say
        return None, None


def _counts(usage: Any) -> tuple[int | None, int | None]:
    total, came_in, went_out = (_count(usage, name) for name in ("total_tokens", "input_tokens", "output_tokens"))
    if went_out is None:
        went_out = _count(usage, "completion_tokens")
    if total is None and came_in is not None and went_out is not None:
        total = came_in + went_out
    return total, went_out


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
