"""A success that is none: what came where an answer of the provider should be."""

from collections.abc import Mapping
from typing import Final

from .._messages.redact import redact_text
from ..errors import SdkTransportError

_READ: Final = 1_000
_SHOWN: Final = 60


def unexpected(
    provider: str,
    expected: str,
    *,
    status_code: int,
    headers: Mapping[str, str],
    content: bytes,
    request_id: str | None = None,
) -> SdkTransportError:
    """The error for an answer of another kind: a page for a browser, an empty body, JSON of another shape.

    Args:
        provider: Whom was asked.
        expected: What should have come: `a message`.
        status_code: Of the answer.
        headers: Of the answer.
        content: Its body, or how it begins.
        request_id: The provider's id of the request.

    Returns:
        The error, not raised. Its text has the content type and how the body begins, without credentials.
    """
    kind = headers.get("content-type") or "without a content type"
    # Masked before it is cut: of half a credential nobody can tell that it is one.
    beginning = " ".join(redact_text(content[:_READ].decode("utf-8", "replace")).split())[:_SHOWN]
    came = f"it begins with {beginning!r}" if beginning else "it is empty"
    return SdkTransportError(
        f"{provider}: {status_code}, but the body ({kind[:_SHOWN]}) is not {expected}: {came}",
        provider=provider,
        status_code=status_code,
        request_id=request_id,
    )
