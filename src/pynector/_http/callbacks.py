"""What the user's own callables (signers, hooks) are given, and what becomes of what they return or raise."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from .._messages.body import JsonCodec
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from ..errors import ConfigurationError, TransportError
from .body import StreamBody
from .wire import RawHeaders, WireRequest


class Head(Protocol):
    """The head of an answer."""

    status_code: int
    http_version: str
    url: str | None

    @property
    def headers(self) -> RawHeaders:
        """As they came."""
        ...


def sent_message(wire: WireRequest, headers: RawHeaders) -> HttpMessage:
    """The request that is about to be sent: absolute URL, all headers, and the body if it is in memory.

    Asking for the `content` of a body that is streamed raises: to take it for an empty one would be worse.
    """
    message = HttpMessage(wire.method, str(wire.target))
    message.headers = Headers.from_raw(headers)
    body: Any = wire.body.source if isinstance(wire.body, StreamBody) else wire.body
    message.content_data = body
    return message


def answer_message(
    answer: Head, content: bytes, request: HttpMessage, elapsed: float, codec: JsonCodec | None
) -> HttpMessage:
    """The answer to one request on the wire."""
    return HttpMessage.response(
        status_code=answer.status_code,
        headers=Headers.from_raw(answer.headers),
        content=content,
        request=request,
        url=answer.url or request.url,
        elapsed=elapsed,
        http_version=answer.http_version,
        json_codec=codec,
    )


def with_headers(headers: RawHeaders, returned: object, whose: str) -> RawHeaders:
    """`headers` with those that a callable has returned in place of the ones of the same name.

    Args:
        headers: What was to be sent.
        returned: What the callable returned.
        whose: How the text of an error calls it.

    Raises:
        ConfigurationError: It is no mapping of header names to texts. The text never shows a value.
    """
    if not isinstance(returned, Mapping):
        raise ConfigurationError(
            f"{whose} returned {type(returned).__name__}: it must return a mapping of headers to set"
        )
    own = Headers(returned).raw
    names = {name.lower() for name, _ in own}
    return [item for item in headers if item[0].lower() not in names] + own


class UsersCode:
    """Marks what is raised in a block that runs the user's code: such an error is his, and no reason to try again."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(exc, TransportError):
            exc.foreign = True


users_code = UsersCode()
