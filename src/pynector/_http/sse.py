"""Server-sent events, as the HTML standard defines them (https://html.spec.whatwg.org, section 9.2)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .._messages.redact import redact_text
from ..errors import DeserializationError
from .lines import MAX_LINE_LENGTH, LineSplitter, TextChunks, too_large

CONTENT_TYPE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event of a stream of server-sent events.

    Attributes:
        event: Its type; `"message"` if the server names none.
        data: Its data; several `data` lines are joined with a line feed.
        id: The last event id that the server has sent, with this event or with one before: what a request that
            continues the stream sends as `Last-Event-ID`. Empty if there was none.
        retry: How many milliseconds the server asked to wait before a reconnection, the last time it did; else None.

    Example:
        ```python
        async with client.stream({"path": "/events"}) as response:
            async for event in response.iter_events():
                print(event.event, event.json())
        ```
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """Parse the data as JSON.

        Raises:
            DeserializationError: It is not JSON; the text has how it begins.
        """
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError) as error:
            snippet = redact_text(self.data[:400])[:60]
            begins = f"it begins with {snippet!r}" if snippet else "it is empty"
            raise DeserializationError(
                f"the data of an event {self.event!r:.60} is not JSON: {error}; {begins}"
            ) from error


class Events:
    """Bytes into server-sent events.

    Args:
        limit: The most characters of one event; None for no limit.
    """

    __slots__ = ("_data", "_event", "_id", "_length", "_limit", "_lines", "_retry", "_text")

    def __init__(self, limit: int | None = MAX_LINE_LENGTH) -> None:
        self._text = TextChunks("utf-8-sig")  # always UTF-8; one byte order mark at the beginning is no content
        self._lines = LineSplitter(limit, "an event")
        self._limit = limit
        self._data: list[str] = []
        self._length = 0
        self._event = ""
        self._id = ""
        self._retry: int | None = None

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """The events that `data` completes.

        Raises:
            ResponseTooLargeError: An event is longer than the limit.
        """
        for text in self._text.feed(data):
            for line in self._lines.feed(text):
                if line:
                    self._take(line)
                elif self._data:
                    yield ServerSentEvent(self._event or "message", "\n".join(self._data), self._id, self._retry)
                    self._data, self._length, self._event = [], 0, ""
                else:
                    self._event = ""  # an event without data is none

    def finish(self) -> Iterator[ServerSentEvent]:
        """Nothing: an event is complete with the empty line behind it, and what is left has none."""
        return iter(())

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._length += len(value) + 1
            if self._limit is not None and self._length > self._limit:
                raise too_large("an event", self._limit)
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 16:
            self._retry = int(value)
        # Anything else is a comment (an empty name), or a field to be ignored.


def is_event_stream(content_type: str) -> bool:
    """Whether a body with this content type has server-sent events in it."""
    return content_type.partition(";")[0].strip().lower() == CONTENT_TYPE
