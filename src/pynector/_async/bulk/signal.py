"""How the task that runs a batch learns that something has changed."""

from collections.abc import Callable

from ..._concurrency.aio.locks import Event


class AsyncSignal:
    """One task waits until a condition holds; any task says when to look again, at next to no cost if none waits."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: Event | None = None

    def set(self) -> None:
        """Something has changed. Change it first, then call this."""
        event = self._event
        if event is not None:
            event.set()

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds."""
        while not condition():
            # First the event, then the condition again: what changes after that sets this event.
            event = self._event = Event()
            try:
                if condition():
                    return
                await event.wait()
            finally:
                self._event = None
