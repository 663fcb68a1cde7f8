"""Requests to OpenAI and its answers, with the types of the SDK and without a socket."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import httpx2
from pydantic import BaseModel

from pynector._sdk import openai_chat as chat
from pynector._sdk import openai_responses as responses
from pynector._sdk.events import StreamEvent
from pynector._sdk.openai_reply import Reply
from pynector._sdk.request import SdkRequest, make_request


class City(BaseModel):
    name: str
    people: int


def asked(data: Any = "Hello?", **fields: Any) -> SdkRequest:
    return make_request(data, fields, {"model": "gpt-5"})


def reply(parsed: Any = None, content: bytes = b"", **headers: str) -> Reply:
    """An answer whose body the SDK reads as `parsed`."""
    given = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = SimpleNamespace(
        request_id="req_1", headers=httpx2.Headers(given), status_code=200, content=content, parse=lambda: parsed
    )
    return Reply(raw)


def fed(reader: chat.ChatStream | responses.ResponsesStream, chunks: Iterable[Any]) -> list[StreamEvent]:
    return [event for each in chunks for event in reader.feed(each)]
