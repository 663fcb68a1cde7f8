"""The HTTP transport in both colours, its factory, its message and its errors."""

from .._async.transports.factory import AsyncHTTPTransportFactory
from .._async.transports.http import AsyncHTTPTransport
from .._async.transports.stream import AsyncHTTPStream
from .._http.download import Download
from .._http.sse import ServerSentEvent
from .._messages.headers import Headers
from .._messages.http import HttpMessage
from .._sync.transports.factory import HTTPTransportFactory
from .._sync.transports.http import HTTPTransport
from .._sync.transports.stream import HTTPStream
from ..errors import (
    CircuitOpenError,
    HTTPClientError,
    HTTPDecodeError,
    HTTPForbiddenError,
    HTTPIncompleteError,
    HTTPNotFoundError,
    HTTPProtocolError,
    HTTPProxyError,
    HTTPRedirectError,
    HTTPServerError,
    HTTPStatusError,
    HTTPTimeoutError,
    HTTPTooManyRequestsError,
    HTTPTransportError,
    HTTPUnauthorizedError,
    ResponseTooLargeError,
)

__all__ = [
    "AsyncHTTPStream",
    "AsyncHTTPTransport",
    "AsyncHTTPTransportFactory",
    "CircuitOpenError",
    "Download",
    "HTTPClientError",
    "HTTPDecodeError",
    "HTTPForbiddenError",
    "HTTPIncompleteError",
    "HTTPNotFoundError",
    "HTTPProtocolError",
    "HTTPProxyError",
    "HTTPRedirectError",
    "HTTPServerError",
    "HTTPStatusError",
    "HTTPStream",
    "HTTPTimeoutError",
    "HTTPTooManyRequestsError",
    "HTTPTransport",
    "HTTPTransportError",
    "HTTPTransportFactory",
    "HTTPUnauthorizedError",
    "Headers",
    "HttpMessage",
    "ResponseTooLargeError",
    "ServerSentEvent",
]
