"""The generators inside of an SDK's stream, which it leaves half way where it stops before the end.

Nobody but the SDK holds them, and each one that is collected before it has ended may be reported as a leak.
"""

from collections.abc import AsyncIterator
from traceback import walk_tb
from types import AsyncGeneratorType
from typing import Any


async def run_out(*chunks: AsyncIterator[Any]) -> None:
    """Let generators come to their ends, once the response that they read is closed.

    Args:
        chunks: The stream of an SDK; what comes of it is dropped, errors included.
    """
    waiting = list(chunks)
    while waiting:
        try:
            async for _ in waiting.pop():
                pass
        except Exception as error:
            waiting += left_by(error)


def left_by(error: Exception) -> list[AsyncIterator[Any]]:
    """The generators that stood around where an error was raised.

    Args:
        error: As it was caught: its traceback is all there is to find them by.
    """
    # Not where it was caught: to look at that frame would tie the error to itself.
    below = error.__traceback__ and error.__traceback__.tb_next
    return [
        value
        for frame, _ in walk_tb(below)
        for value in frame.f_locals.values()
        if isinstance(value, AsyncGeneratorType)
    ]
