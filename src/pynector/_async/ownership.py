"""Where something lives: the process and the event loop that it was first used in."""

import os

from .._concurrency.aio.colour import loop_token
from ..errors import WrongLoopError


class Home:
    """Remembers where its owner was first used. Threads share a home; event loops and forked processes do not."""

    __slots__ = ("_name", "_pid", "_token")

    def __init__(self, name: str) -> None:
        self._name = name
        self._token = loop_token()
        self._pid = os.getpid()

    def left(self) -> bool:
        """Whether this is a forked child of the process that was home.

        Raises:
            WrongLoopError: It is the same process, but another event loop.
        """
        if os.getpid() != self._pid:
            return True
        if loop_token() is not self._token:
            raise WrongLoopError(
                f"this {self._name} belongs to another event loop: make one in each, and close it there"
            )
        return False
