"""What the attempt that is under way wants of what is sent for it: SDKs hand nothing down to their HTTP client."""

from contextvars import ContextVar
from typing import NamedTuple

from ..attempts import Record


class Sending(NamedTuple):
    """What an attempt wants of the requests that are sent for it.

    Attributes:
        record: Where it is told what goes on the wire.
        streamed: Whether the answer is read as it comes.
    """

    record: Record
    streamed: bool


sending: ContextVar[Sending | None] = ContextVar("pynector_sending", default=None)
"""The attempt that this task is in."""
