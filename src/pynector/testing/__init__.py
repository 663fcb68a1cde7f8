"""What you need to test code that uses Pynector: a local HTTP server that runs inside the test process."""

from pynector._lanes import forget_lanes
from pynector.testing._log import ConnectionCounts, RequestLog
from pynector.testing._server import LocalServer
from pynector.testing._wire import ServerHandler, ServerRequest, ServerResponse


def reset_limits() -> None:
    """Forget what this process knows of servers: rate limits used up, pauses, retry budgets, open circuits.

    All clients of a process share that, and so do all tests. Call it before each of them.

    Example:
        ```python
        @pytest.fixture(autouse=True)
        def fresh_limits():
            reset_limits()
        ```
    """
    forget_lanes()


__all__ = [
    "ConnectionCounts",
    "LocalServer",
    "RequestLog",
    "ServerHandler",
    "ServerRequest",
    "ServerResponse",
    "reset_limits",
]
