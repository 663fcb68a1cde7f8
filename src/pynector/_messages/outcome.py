"""What a batch gives back: one `Outcome` per item, and all of them as a `BatchResult`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

from ..errors import HTTPTransportError
from .http import HttpMessage
from .report import RunStats, Summary
from .rows import row
from .tally import summarise
from .told import may_tell_usage, request_id_in, usage_in

__all__ = ["BatchResult", "Outcome", "RunStats", "Source", "State", "Summary", "make_outcome"]

_T = TypeVar("_T")

_FAILURES_SHOWN = 10

State: TypeAlias = Literal["ok", "failed", "not_sent", "unknown"]
Source: TypeAlias = Literal["network", "checkpoint", "duplicate"]


class _Fields(Generic[_T]):
    """The slots of an outcome, which `_Draft` may fill and `Outcome` may not change."""

    __slots__ = (
        "attempts",
        "elapsed",
        "error",
        "index",
        "key",
        "request",
        "request_id",
        "source",
        "state",
        "usage",
        "value",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Outcome(_Fields[_T]):
    """What became of one item of a batch. Exactly one of `value` and `error` is set.

    Attributes:
        index: The place of the item in the input.
        key: The key of the item, if the batch has keys.
        request: The item as it was given.
        value: The answer, if the state is `ok`.
        error: What went wrong otherwise.
        state: `ok`; `failed`; `not_sent`: nothing of it reached the server; `unknown`: it was sent, and no
            answer was seen, so that it may or may not have been processed.
        attempts: How often it was sent.
        elapsed: Seconds from its first attempt to its end, waits included.
        usage: The tokens it used, for LLM calls; of an HTTP answer, what its JSON says in `usage`.
        request_id: The server's id of the request; of an HTTP answer, that in its `x-request-id` or `request-id`.
        source: `network`; `checkpoint`: the answer of an earlier run; `duplicate`: that of an equal item.

    Raises:
        ValueError: The state is `ok` and there is an error, or it is another one and there is none.
    """

    index: int
    key: str | None = None
    request: Any = None
    value: _T | None = None
    error: Exception | None = None
    state: State = "ok"
    attempts: int = 0
    elapsed: float = 0.0
    usage: Any = None
    request_id: str | None = None
    source: Source = "network"

    def __post_init__(self) -> None:
        if (self.state == "ok") is not (self.error is None) or (self.error is not None and self.value is not None):
            raise ValueError(f"an outcome is either ok with a value, or {self.state} with an error")

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def unwrap(self) -> _T:
        """Return the value, or raise the error."""
        if self.error is None:
            return self.value  # type: ignore[return-value]
        try:
            raise self.error
        finally:
            # The traceback of the error holds this frame: without `self` in it there is no reference cycle.
            del self

    def to_dict(self, *, value: bool = True) -> dict[str, Any]:
        """Return what is known of the item, without the request, as one flat dictionary.

        Args:
            value: Whether the answer is to be in it. That is what costs: nothing of a body is decoded or parsed
                before. JSON that was parsed is kept by the response, as by its `json()`.

        Returns:
            `index`, `key`, `state`, `ok`, `status_code`, `error_type`, `error`, `attempts`, `elapsed`, `request_id`,
            `source`; `input_tokens` and `output_tokens` if there is a usage; and `value`: of an HTTP answer its
            parsed JSON, or text, or bytes, as its content type says; of another message its `text` or its payload;
            anything else as it is. What there is not is None.

        Example:
            >>> Outcome(index=3, value="hello").to_dict()["value"]
            'hello'
        """
        return row(self, value)

    def __repr__(self) -> str:
        key = "" if self.key is None else f" {self.key!r}"
        what = type(self.value).__name__ if self.error is None else repr(self.error)
        return f"<Outcome {self.index}{key} {self.state}: {what:.200}>"


def _refuse(self: object, name: str, value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


# With slots, the `__setattr__` that dataclasses write calls `super()` of a class that is no more (before Python
# 3.13), and raises TypeError for names that are no fields; `Outcome[int](...)` sets such a one.
Outcome.__setattr__ = _refuse  # type: ignore[method-assign]


def _late(self: Outcome[Any], name: str) -> Any:
    """What a slot is to hold that is still empty: only those two of `make_outcome` ever are."""
    if name == "usage":
        found: Any = usage_in(self.value) if isinstance(self.value, HttpMessage) else None
    elif name == "request_id":
        found = request_id_in(self.value if self.error is None else getattr(self.error, "response", None))
    else:
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
    object.__setattr__(self, name, found)
    return found


Outcome.__getattr__ = _late  # type: ignore[attr-defined]


class _Draft(_Fields[Any]):
    """An outcome in the making."""

    __slots__ = ()


def make_outcome(
    index: int,
    request: Any,
    value: Any,
    error: Exception | None,
    state: State,
    attempts: int,
    elapsed: float,
    key: str | None = None,
    source: Source = "network",
) -> Outcome[Any]:
    """Make an outcome without checking it, in an eighth of the time that its own constructor takes.

    That one goes through `object.__setattr__` for every field, as frozen dataclasses do. Here the fields are filled
    while the object still has a class that allows it.
    """
    draft: Any = _Draft()
    draft.index = index
    draft.key = key
    draft.request = request
    draft.value = value
    draft.error = error
    draft.state = state
    draft.attempts = attempts
    draft.elapsed = elapsed
    # Of HTTP they are looked for when somebody asks: see `_late`. Who counts outcomes asks each for its usage.
    if isinstance(value, HttpMessage):
        content = value.content_data
        if not isinstance(content, bytes) or not may_tell_usage(content):
            draft.usage = None
    elif not isinstance(error, HTTPTransportError):
        told = value if error is None else error
        draft.usage, draft.request_id = _told(told, "usage"), _told(told, "request_id")
    draft.source = source
    draft.__class__ = Outcome
    return draft  # type: ignore[no-any-return]


def _told(source: Any, name: str) -> Any:
    """What a message or an error of any transport tells about itself; a property of a foreign class may raise."""
    try:
        return getattr(source, name, None)
    except Exception:  # noqa: BLE001
        return None


class BatchResult(list["_T | Exception"]):
    """The answers of a batch, in the order of its input: responses, and exceptions where there are none.

    Args:
        outcomes: One per item, in the order of the input.
        elapsed: Seconds from start to end of the batch.

    Attributes:
        outcomes: The same answers with all that is known about each.

    Example:
        ```python
        result = client.batch_request([{"path": f"/users/{n}"} for n in range(100)])
        for outcome in result.failed:
            print(outcome.index, outcome.error)
        print(result.summary())
        ```
    """

    __slots__ = ("elapsed", "outcomes")

    def __init__(self, outcomes: Iterable[Outcome[_T]] = (), *, elapsed: float = 0.0) -> None:
        self.outcomes: tuple[Outcome[_T], ...] = tuple(outcomes)
        self.elapsed = elapsed
        super().__init__(
            outcome.error if outcome.error is not None else outcome.value  # type: ignore[misc]
            for outcome in self.outcomes
        )

    @property
    def ok(self) -> list[Outcome[_T]]:
        """The outcomes that have an answer."""
        return [outcome for outcome in self.outcomes if outcome.error is None]

    @property
    def failed(self) -> list[Outcome[_T]]:
        """The outcomes that have none: failed, not sent or unknown."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def summary(self) -> Summary:
        """Return the figures of the batch; `print` shows them as a block of text."""
        return summarise(self.outcomes, self.elapsed)

    def to_dicts(self, *, value: bool = True) -> list[dict[str, Any]]:
        """Return one flat dictionary per item, in the order of the input, for `pandas.DataFrame(...)` and the like.

        Args:
            value: Whether the answers are to be in them; see `Outcome.to_dict`, which says what there is.

        Example:
            ```python
            frame = pandas.DataFrame(result.to_dicts())
            ```
        """
        return [row(outcome, value) for outcome in self.outcomes]

    def _repr_html_(self) -> str:
        from .show import html_of_batch

        failed = self.failed
        return html_of_batch(self.summary(), failed[:_FAILURES_SHOWN], max(0, len(failed) - _FAILURES_SHOWN))

    # The default would pickle the list without what it was made of.
    def __reduce__(self) -> tuple[Any, ...]:
        return _batch_result, (type(self), self.outcomes, self.elapsed)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.ok)} ok, {len(self.failed)} failed>"


def _batch_result(cls: type[BatchResult[Any]], outcomes: tuple[Outcome[Any], ...], elapsed: float) -> Any:
    return cls(outcomes, elapsed=elapsed)
