"""What you need to test code that uses Pynector: a local HTTP server that runs inside the test process."""

from pynector.testing._log import ConnectionCounts, RequestLog
from pynector.testing._server import LocalServer
from pynector.testing._wire import ServerHandler, ServerRequest, ServerResponse

__all__ = [
    "ConnectionCounts",
    "LocalServer",
    "RequestLog",
    "ServerHandler",
    "ServerRequest",
    "ServerResponse",
]
