"""Where something lives: the process and the event loop that it was first used in."""

from .._concurrency.aio.colour import loop_token
from .._mutex import forks
from ..errors import WrongLoopError


class Home:
    """Remembers where its owner was first used. Threads share a home; event loops and forked processes do not."""

    __slots__ = ("_forks", "_name", "_token")

    def __init__(self, name: str) -> None:
        self._name = name
        self._token = loop_token()
        self._forks = forks[0]

    def forked(self) -> bool:
        """Whether this is a forked child of the process that was home."""
        return forks[0] != self._forks

    def left(self) -> bool:
        """Whether this is a forked child of the process that was home.

        Raises:
            WrongLoopError: It is the same process, but another event loop.
        """
        if forks[0] != self._forks:
            return True
        if loop_token() is not self._token:
            raise WrongLoopError(
                f"this {self._name} belongs to another event loop: make one in each, and close it there"
            )
        return False
