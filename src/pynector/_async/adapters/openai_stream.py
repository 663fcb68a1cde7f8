"""The stream of the OpenAI SDK, leaving nothing behind. Imports the SDK, and so is imported on first use only."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias, TypeVar

from openai import AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

from ..._concurrency.aio.scopes import move_on_after
from ..._sdk import openai_chat
from .leftovers import run_out

ChunkT = TypeVar("ChunkT")


_PATIENCE = 0.1
"""Seconds that a body has to end after its end mark, as in the SDK; nearly always both come together."""


class AsyncKeptStream(AsyncStream[ChunkT]):
    """A stream over one of our own engines that is read to its end, so that its connection can be used again.

    The SDK itself leaves its loop over the events at `[DONE]`, and at an event that it can't read. What reads them is
    suspended then until the garbage collector finds it, of which event loops complain, or which they end at some later
    time; and the connection is lost if the rest of the body was still to come.

    It is not for other engines. Of a body that is closed ours read nothing more; others do, from a connection that has
    been given to the next request by then.
    """

    _events: AsyncIterator[Any] | None = None

    def _iter_events(self) -> AsyncIterator[Any]:
        self._events = _up_to_done(super()._iter_events())
        return self._events

    async def end(self) -> None:
        """Close the answer, and let all that reads it come to its end."""
        await self.close()
        await run_out(self, *([self._events] if self._events is not None else []))


async def _up_to_done(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for event in events:
        if event.data.startswith("[DONE]"):
            with move_on_after(_PATIENCE):
                await run_out(events)
            return
        yield event


def completion_of(chunks: openai_chat.ChatStream) -> ChatCompletion:
    """What a chat would have been in one piece, as the SDK's own object.

    Args:
        chunks: All that has come of it.
    """
    return ChatCompletion.construct(**chunks.document())


AsyncChatStream: TypeAlias = AsyncKeptStream[ChatCompletionChunk]
AsyncResponsesStream: TypeAlias = AsyncKeptStream[ResponseStreamEvent]
