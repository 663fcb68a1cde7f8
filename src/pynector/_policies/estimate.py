"""How many tokens a request will take, guessed before it is sent."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from .._messages.http import HttpMessage

MOST_TOKENS: Final = 10_000_000
"""More than any model takes: a nonsense count must not stall everybody for days."""

_BYTES_PER_TOKEN: Final = 4
# What the large providers count for one picture; its base64 text would be taken for a hundred times as many.
_BYTES_OF_PICTURE: Final = 1_500 * _BYTES_PER_TOKEN

# The fields of a request that go to the model as text; a URL, a query and headers do not.
_BODIES: Final = ("json", "json_data", "form", "form_data", "content")
_MAXIMA: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def estimate_tokens(data: object) -> int:
    """Guess how many input tokens a request has: a quarter of the bytes of its text, in UTF-8.

    For English that is a quarter of the characters; for scripts whose tokens hold fewer characters it is more. Only
    what is in memory counts: files and iterators are not touched. A picture in base64 counts as a picture and not as
    the text that it is not.

    Args:
        data: What the user handed in: a prompt, a mapping of a request, an `HttpMessage`.

    Returns:
        The number of tokens, 0 or more.

    Example:
        >>> estimate_tokens({"messages": [{"role": "user", "content": "Tell me about lamps."}]})
        6
    """
    return -(-_text_bytes(_body(data)) // _BYTES_PER_TOKEN)


def most_output(data: object, options: Mapping[str, object] | None = None) -> int | None:
    """Read the most output tokens that a request allows its answer.

    Args:
        data: What the user handed in.
        options: The options of the call; they win.

    Returns:
        The number that `max_tokens`, `max_completion_tokens` or `max_output_tokens` names, or `None`.
    """
    body = _body(data)
    for source in (options, body):
        if not isinstance(source, Mapping):
            continue
        for name in _MAXIMA:
            value = source.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
    return None


class OutputTokens:
    """The 95th percentile of the output tokens of the latest answers; it holds a bounded number of them.

    Args:
        kept: How many answers count.
    """

    __slots__ = ("_latest", "_ordered", "p95")

    p95: int | None
    """At most one answer of twenty was longer; `None` before the first."""

    def __init__(self, kept: int = 512) -> None:
        self._latest: deque[int] = deque(maxlen=kept)
        self._ordered: list[int] = []
        self.p95 = None

    def add(self, tokens: int) -> None:
        """Take in how many output tokens an answer had."""
        tokens = min(max(tokens, 0), MOST_TOKENS)
        if len(self._latest) == self._latest.maxlen:
            del self._ordered[bisect_left(self._ordered, self._latest[0])]
        self._latest.append(tokens)
        insort(self._ordered, tokens)
        self.p95 = self._ordered[-(-len(self._ordered) * 19 // 20) - 1]


def _body(data: object) -> object:
    """Return the part of a request that the model reads."""
    if isinstance(data, HttpMessage):
        return next((body for body in (data.json_data, data.form_data, data.content_data) if body is not None), None)
    if isinstance(data, Mapping) and ("url" in data or "path" in data):
        return next((data[name] for name in _BODIES if data.get(name) is not None), None)
    return data


def _text_bytes(data: object) -> int:
    """Add up the text in a value. Not by recursion: it may be of any depth, or contain itself."""
    total = 0
    todo: list[object] = [data]
    seen: dict[int, object] = {}  # with the objects, since an id is only taken as long as its object lives
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            total += _length(value)
        elif isinstance(value, bytes | bytearray):
            total += len(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            total += _BYTES_PER_TOKEN
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen[id(value)] = value
            if not isinstance(value, Mapping):
                todo += value
            elif value.get("type") == "base64":
                total += _BYTES_OF_PICTURE
            else:
                todo += _values(value)
    return total


def _values(value: Mapping[object, object]) -> Iterable[object]:
    return value.values()


def _length(text: str) -> int:
    if text.startswith("data:") and ";base64," in text[:200]:
        return _BYTES_OF_PICTURE
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
