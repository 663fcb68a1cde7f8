"""What makes every further request of a batch pointless: refused credentials, or a quota that waiting does not refill.

A batch of 100,000 items with a wrong key had better stop after the first answer than collect 100,000 equal ones, and a
429 that means "the money is gone" must be neither waited for nor tried again. Everything here looks at attributes
(`status_code`, `code`, `type`, `body`, `response`), so that errors of the HTTP transport, of providers' SDKs and of
custom transports are judged alike, and nothing here raises, whatever a server sent. The reasons are our own words and
names: no text of a server gets into them, and so no credential.
"""

import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Final

from ..errors import AuthenticationError, SdkTransportError

_BODY_LIMIT: Final = 65_536
"""Bytes; no refusal is longer, and a long body is not worth parsing for it."""
_NODES_LIMIT: Final = 64
_NAME_LIMIT: Final = 200
_KEYS_LIMIT: Final = 1_024
_SOON: Final = 300.0
"""Seconds; a server that says to come back later than this means no rate limit of the usual kind."""

_WORDS: Final = (b"quota", b"billing", b"credit", b"spend", b"balance", b"budget", b"daily", b"usage")
"""Each code below has one of them; most refusals have none, and need not be parsed."""

# Compared without case and punctuation, so that `InsufficientQuota` and `insufficient-quota` are found as well.
_squeeze: Final = re.compile(r"[^a-z0-9]+").sub


def _by_squeezed(*names: str) -> Mapping[str, str]:
    return {_squeeze("", name): name for name in names}


_HARD: Final = _by_squeezed(
    "billing_hard_limit_reached",
    "billing_limit_exceeded",
    "billing_not_active",
    "contract_spend_limit_reached",
    "credit_balance_exhausted",
    "credits_exhausted",
    "enforced_spend_limit_reached",
    "exceeded_current_quota_error",
    "insufficient_balance",
    "insufficient_credits",
    "insufficient_quota",
    "member_spend_cap_exceeded",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "project_spend_limit_exceeded",
    "terminal_quota_exhausted",
)
"""Codes that mean money or an allowance, whatever else the answer says."""

_UNSURE: Final = _by_squeezed(
    "budget_exceeded",
    "daily_limit_exceeded",
    "quota_exceeded",
    "quota_exhausted",
    "usage_limit_exceeded",
    "usage_limit_reached",
)
"""Codes that some servers also use for so many requests per minute; those say in `Retry-After` when it is over.

Not here, since it is nearly always a limit per minute: `RESOURCE_EXHAUSTED` of Google, whose texts speak of quota and
billing all the same.
"""


def is_hard_quota(source: object) -> bool:
    """Tell a refusal that waiting does not cure, a used-up quota, from a rate limit.

    Such an answer is not tried again and slows nothing down: it ends the request, and a batch.

    Only codes are compared, never sentences: a rate limit taken for a hard quota would end a batch that only had to
    wait, while a hard quota that is not recognised merely costs the usual retries. `quota_exceeded` and its like
    count only for a 429 without a `Retry-After` of up to 5 minutes.

    Args:
        source: An error, or a response: what has `status_code`, and any of `code`, `type`, `body`, `response`,
            `content`.

    Returns:
        `False` also for what cannot be read. At most 64 KiB of JSON are looked at.

    Example:
        >>> is_hard_quota(errors.RateLimitError("no", status_code=429, code="insufficient_quota"))
        True
    """
    return _hard_quota(source) is not None


def fatal_reason(error: Exception) -> str | None:
    """Say why this error makes every further request with the same credentials pointless.

    That is: 401, a used-up quota (see `is_hard_quota`), and a 402 of an LLM provider. A 402 or 403 of an HTTP server
    may be about the one thing that was asked for; `Fatal` counts those.

    Give it errors only, not answers that a caller wants to see whatever their status: who checks links expects 401s.

    Args:
        error: That of one item.

    Returns:
        A short reason in our own words, without credentials or text of the server; `None` if the next item may
        succeed.

    Example:
        >>> fatal_reason(errors.HTTPUnauthorizedError())
        '401: the credentials are missing or not accepted'
    """
    status = _status(error)
    if status == 401:
        return "401: the credentials are missing or not accepted"
    if isinstance(error, AuthenticationError) and status is None:
        return "the credentials are missing or not accepted"
    code = _hard_quota(error)
    if code is not None:
        return f"{status}: the quota is used up ({code})" if status is not None else f"the quota is used up ({code})"
    if status == 402 and isinstance(error, SdkTransportError):
        return "402: the provider asks for payment"
    return None


class Fatal:
    """What one batch has seen of refusals: decides when it is to stop.

    One 403 may be about one item. When nothing else comes back from a server, it is about the credentials, the
    account or the address: after `limit` of them in a row (402 and 403) the batch stops. Where the same credentials
    have been let through before, 403 is more likely the server's word for "not this one" (S3 says so of objects that
    do not exist), and `proven_limit` in a row are needed. 429, 5xx and no answer say nothing of credentials: they
    neither count nor break a row. The order is that in which answers arrive.

    Not locked: the caller holds a lock around every call.

    Args:
        limit: Refusals in a row that end a batch, 1 or more.
        proven_limit: The same where something succeeded before; ten times `limit` by default.
    """

    __slots__ = ("_limit", "_proven_limit", "_rows")

    def __init__(self, limit: int = 10, proven_limit: int | None = None) -> None:
        self._limit = limit
        self._proven_limit = limit * 10 if proven_limit is None else proven_limit
        # By key: how many refusals in a row, and whether anything was let through before.
        self._rows: dict[Hashable, tuple[int, bool]] = {}

    def observe(self, key: Hashable, error: Exception | None) -> str | None:
        """Take note of how an item ended.

        Args:
            key: What the refusals belong to: the origin and a fingerprint of the credentials.
            error: Its final error; `None` for a success.

        Returns:
            A reason to stop the batch, as `fatal_reason`, or `None` to go on.
        """
        if error is None:
            self._let_through(key)
            return None
        reason = fatal_reason(error)
        if reason is not None:
            return reason
        status = _status(error)
        if status not in (402, 403):
            if status is not None and status < 500 and status not in (408, 429):
                self._let_through(key)
            return None
        row, proven = self._rows.get(key, (0, False))
        row += 1
        self._note(key, row, proven)
        if row < (self._proven_limit if proven else self._limit):
            return None
        times = f"{row} times in a row" if row > 1 else "once"
        return f"{status}: the server refused {times}, and answered nothing else in between"

    def _let_through(self, key: Hashable) -> None:
        if self._rows.get(key) != (0, True):
            self._note(key, 0, True)

    def _note(self, key: Hashable, row: int, proven: bool) -> None:
        if key not in self._rows and len(self._rows) >= _KEYS_LIMIT:
            del self._rows[next(iter(self._rows))]  # the oldest: a crawl of a million hosts needs no million rows
        self._rows[key] = (row, proven)


def _get(source: object, name: str) -> object:
    """An attribute, whatever happens: a property of a foreign class may raise (a body that was not read)."""
    try:
        return getattr(source, name, None)
    except Exception:  # noqa: BLE001
        return None


def _status(source: object) -> int | None:
    status = _get(source, "status_code")
    if status is None:
        status = _get(_get(source, "response"), "status_code")
    return status if isinstance(status, int) and status > 0 else None


def _hard_quota(source: object) -> str | None:
    """The code that says so, in our spelling."""
    status = _status(source)
    # Without a status it is an error in the middle of a stream, after a 200.
    if status is not None and not 400 <= status < 500:
        return None
    unsure = None
    for name in _codes(source):
        code = _squeeze("", name)
        if code in _HARD:
            return _HARD[code]
        unsure = unsure or _UNSURE.get(code)
    return unsure if unsure is not None and status == 429 and not _ends_soon(source) else None


def _codes(source: object) -> Iterator[str]:
    """Every name in lower case that could be an error code: of attributes, then of the body."""
    attributes = {name: _get(source, name) for name in ("code", "type", "error_code", "details")}
    if any(value is not None for value in attributes.values()):
        yield from _walk(attributes)
    yield from _walk(_get(source, "body"))
    for holder in (source, _get(source, "response")):
        content = None if holder is None else _get(holder, "content")
        if isinstance(content, bytes) and len(content) <= _BODY_LIMIT:
            lower = content.lower()
            if any(word in lower for word in _WORDS):
                yield from _walk(_parse(content))


def _parse(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _walk(value: object) -> Iterator[str]:
    """Read `{"error": {"code": ...}}` and the other shapes there are, without getting lost in them."""
    nodes: list[object] = [value]
    for node in nodes:  # it grows on the way
        if isinstance(node, dict):
            for name in ("code", "type", "error_code", "reason", "error"):
                text = node.get(name)
                if isinstance(text, str) and len(text) <= _NAME_LIMIT:
                    # A problem type may be a URL or a URN: https://example.com/problems/quota-exceeded
                    yield re.split("[/:#]", text.lower())[-1]
            children = [node.get(name) for name in ("error", "errors", "detail", "details")]
        elif isinstance(node, list | tuple):
            children = list(node[:_NODES_LIMIT])
        else:
            continue
        nodes += children[: max(0, _NODES_LIMIT - len(nodes))]


def _ends_soon(source: object) -> bool:
    """Whether the server said when to come back, and that is soon."""
    seconds = _get(source, "retry_after")
    if isinstance(seconds, int | float):
        return seconds <= _SOON
    for holder in (source, _get(source, "response")):
        headers = _get(holder, "headers")
        if not isinstance(headers, Mapping):
            continue
        for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            text = headers.get(name)
            if isinstance(text, str):
                return _seconds(text) * scale <= _SOON
    return False


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0  # a date: a server that knows one knows when the limit is over
    return math.inf if math.isnan(seconds) else seconds
