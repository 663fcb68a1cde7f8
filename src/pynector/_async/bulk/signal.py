"""How the task that runs a batch learns that something has changed."""

from collections.abc import Callable

from ..._concurrency.aio.alarms import Latch, latches


class AsyncSignal:
    """One task waits until a condition holds; any task says when to look again, at next to no cost if none waits."""

    __slots__ = ("_latch", "_make")

    def __init__(self) -> None:
        self._latch: Latch | None = None
        self._make: Callable[[], Latch] | None = None

    def set(self) -> None:
        """Something has changed. Change it first, then call this."""
        latch = self._latch
        if latch is not None:
            latch.set()

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds."""
        while not condition():
            if self._make is None:
                self._make = latches()
            # First the latch, then the condition again: what changes after that sets this one.
            latch = self._latch = self._make()
            try:
                if condition():
                    return
                await latch.wait()
            finally:
                self._latch = None
