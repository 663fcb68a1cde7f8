"""Memory streams: pass items from task to task, with back-pressure."""

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, WouldBlock, create_memory_object_stream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream, MemoryObjectStreamStatistics

__all__ = [
    "BrokenResourceError",
    "ClosedResourceError",
    "EndOfStream",
    "MemoryObjectReceiveStream",
    "MemoryObjectSendStream",
    "MemoryObjectStreamStatistics",
    "WouldBlock",
    "create_memory_object_stream",
]
