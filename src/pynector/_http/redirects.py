"""What is sent after an answer that redirects."""

from typing import Final

from .._messages.headers import Headers
from .._policies.redirect import next_request
from ..errors import HTTPRedirectError
from .wire import RawHeaders, WireRequest, redirect

MAX_REDIRECTS: Final = 20
"""As httpx and browsers have it."""


def following_request(wire: WireRequest, status_code: int, headers: RawHeaders, followed: int) -> WireRequest | None:
    """The request that an answer redirects to; None if it is no redirect.

    Args:
        wire: The request that was answered.
        status_code: The status of the answer.
        headers: The headers of the answer.
        followed: How many redirects were followed before.

    Raises:
        HTTPRedirectError: It must not be followed, or there were too many.
    """
    step = next_request(
        method=wire.method,
        url=str(wire.target),
        headers=Headers.from_raw(wire.headers),
        has_body=wire.body is not None,
        status_code=status_code,
        location=Headers.from_raw(headers).get("location"),
    )
    if step is None:
        return None
    if followed == MAX_REDIRECTS:
        raise HTTPRedirectError(f"more than {MAX_REDIRECTS} redirects", method=wire.method, url=wire.target.redacted)
    return redirect(wire, step)
