"""What the primitives raise; the async half has anyio's classes of the same names."""


class Cancelled(BaseException):
    """Raised inside a task whose cancel scope was cancelled, at its next blocking call.

    Let it pass: the scope that was cancelled catches it. It derives from `BaseException`, so that
    `except Exception` does not swallow it.
    """


class WouldBlock(Exception):
    """Raised by the `..._nowait` methods when the operation would have to wait."""


class EndOfStream(Exception):
    """Raised when an empty stream has no sender left."""


class ClosedResourceError(Exception):
    """Raised when this end of a stream was closed by its own side."""


class BrokenResourceError(Exception):
    """Raised when nobody is left on the other side of a stream to take an item."""
