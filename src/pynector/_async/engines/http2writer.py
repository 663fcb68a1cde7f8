"""What goes out on one HTTP/2 connection: whole frames, in order, whoever is cancelled meanwhile."""

import select
import socket
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Final

from ..._concurrency.aio.clock import checkpoint_if_cancelled, current_time
from ..._concurrency.aio.colour import MULTIPLEX
from ..._concurrency.aio.locks import Event, Lock
from ..._concurrency.aio.scopes import CancelScope, shield
from ..._concurrency.aio.tasks import create_task_group

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

GRACE: Final = 0.1
"""Seconds that a cancelled task may go on with a write: half a frame would be the end of every other request."""

# A write of this size does not wait where the system says that there is room.
_SMALL: Final = 4096
# So much may be left to another task that writes.
_MOST_LEFT: Final = 64 * 1024


class AsyncFrameWriter:
    """Sends frames, one task at a time, and those that others have left meanwhile.

    Args:
        httpcore: The module whose exceptions are raised.
        stream: Leads to the server.
        collect: Gives what is to be sent, and forgets it.
        lose: Called with the reason when nothing can be sent any more; with None if there may be answers all the same.

    Attributes:
        mute: Whether nothing goes out any more.
    """

    __slots__ = ("_buffer", "_collect", "_core", "_lose", "_stream", "_turn", "mute")

    def __init__(
        self,
        httpcore: ModuleType,
        stream: "AsyncNetworkStream",
        collect: Callable[[], bytes],
        lose: Callable[[str | None], None],
    ) -> None:
        self._core = httpcore
        self._stream = stream
        self._collect = collect
        self._lose = lose
        self._turn = Lock()
        self._buffer = bytearray()
        self.mute = False

    async def flush(self, timeout: float | None) -> None:
        """Send all there is, when it is this task's turn.

        Raises:
            Exception: `WriteTimeout` of httpcore: the server took nothing for so many seconds.
        """
        if self._has_more():
            async with self._turn:
                await self._send(timeout)

    async def nudge(self, timeout: float | None) -> None:
        """The same, but leave it to the task that writes, if there is one.

        Who reads must not wait for who writes: the server may read no more until it can send.
        """
        if self._has_more() and (not self._turn.locked() or len(self._buffer) > _MOST_LEFT):
            await self.flush(timeout)

    def has_room(self) -> bool:
        """Whether a few bytes can be sent at once."""
        return not self._turn.locked() and self._is_free()

    def _has_more(self) -> bool:
        self._buffer += self._collect()
        if self.mute:
            self._buffer.clear()
        return bool(self._buffer)

    async def _send(self, timeout: float | None) -> None:
        try:
            # Again, for who found this task writing has left its frames to it.
            while self._has_more():
                if MULTIPLEX and not self._is_small():
                    await self._write_whole(self._next(), timeout)
                else:
                    await self._write_shielded(timeout)
        except BaseException:
            if self._has_more() and self._is_small():
                # Theirs, and nobody else looks after them now.
                await self._write_shielded(timeout)
            raise
        if MULTIPLEX:
            await checkpoint_if_cancelled()

    def _is_small(self) -> bool:
        """Whether what is to be sent does not have to wait."""
        return len(self._buffer) <= _SMALL and self._is_free()

    def _is_free(self) -> bool:
        return _is_writable(self._stream.get_extra_info("socket"))

    def _next(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def _write_shielded(self, timeout: float | None) -> None:
        if MULTIPLEX:
            with shield():
                await self._write(self._next(), timeout)
        else:
            await self._write(self._next(), timeout)

    async def _write(self, data: bytes, timeout: float | None) -> None:
        try:
            await self._stream.write(data, timeout)
        except self._core.WriteError:
            self.mute = True
            self._lose(None)
        except BaseException:
            # Half a frame may be out: nothing can follow it.
            self.mute = True
            self._lose("the connection was given up in the middle of a write")
            raise

    async def _write_whole(self, data: bytes, timeout: float | None) -> None:
        """Write in a task of its own, which goes on for a moment if this one is cancelled."""
        scope, written = CancelScope(shield=True), Event()
        failures: list[Exception] = []
        async with create_task_group() as group:
            await group.start_soon(self._write_within, scope, written, data, timeout, failures)
            try:
                await written.wait()
            except BaseException:
                scope.deadline = current_time() + GRACE
                raise
        if failures:
            raise failures.pop()

    async def _write_within(
        self, scope: CancelScope, written: Event, data: bytes, timeout: float | None, failures: list[Exception]
    ) -> None:
        try:
            with scope:
                await self._write(data, timeout)
        except Exception as exc:
            failures.append(exc)
        finally:
            written.set()


def _is_writable(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True  # the write will tell
    if not hasattr(select, "poll"):
        return bool(select.select([], [sock], [], 0)[1])
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))
