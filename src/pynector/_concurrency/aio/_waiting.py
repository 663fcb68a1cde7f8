"""Waiting on asyncio, for somebody's word or for a deadline, without a timer for each wait."""

import asyncio
from math import inf


class Wait:
    """What one direction of a connection waits for: one task at a time, with a deadline.

    The timer of a wait that was over in time is left running, and the next wait arms another one only if this one
    would come too late for it. Whatever is waited for often, and for long at most, so hardly ever costs a timer.
    """

    __slots__ = ("_deadline", "_due", "_loop", "_timer", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadline = inf
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf  # when the timer comes
        self.future: asyncio.Future[bool] | None = None

    def begin(self, deadline: float) -> "asyncio.Future[bool]":
        """Start to wait.

        Args:
            deadline: When to stop, on the clock of the event loop; `inf` for never.

        Returns:
            What to await: True when woken, False when the deadline has passed. Call `end()` after it in any case.

        Raises:
            RuntimeError: Another task waits already.
        """
        if self.future is not None:
            raise RuntimeError("another task is waiting for this connection")
        self.future = future = self._loop.create_future()
        if deadline != inf:
            self._deadline = deadline
            if deadline < self._due:
                self._arm(deadline)
        return future

    def end(self) -> None:
        """Stop to wait; the task was woken, or cancelled."""
        self.future = None
        self._deadline = inf

    def wake(self) -> None:
        """Let the task that waits, if there is one, look again."""
        future = self.future
        if future is not None and not future.done():
            future.set_result(True)

    def close(self) -> None:
        """Wake the task that waits, and drop the timer."""
        self.wake()
        timer, self._timer, self._due = self._timer, None, inf
        if timer is not None:
            timer.cancel()

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        due = self._due
        self._timer, self._due = None, inf
        if self._deadline > due:
            # It was the timer of an earlier wait; this one, if there is any, has longer.
            if self._deadline != inf:
                self._arm(self._deadline)
        elif self.future is not None and not self.future.done():
            self.future.set_result(False)
