"""Answers in which something is not what it should be: an answer or one of our errors, whatever it is."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from pynector import Pynector
from pynector.errors import PynectorError
from servers.anthropic_wire import AnthropicApp
from servers.openai_wire import OpenAIApp
from servers.provider import Json, ProviderApp, Received

ODD: tuple[Any, ...] = (
    None, 5, -1, 1.5, "x", "", [], {}, [5], ["x"], {"a": 1}, True, [None], [{}], {"type": "x"},
)  # fmt: skip
TOOL = {"name": "w", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
ASKED: tuple[Json, ...] = (
    {"prompt": "one two three"},
    {"prompt": "call w Oslo; call w Rome", "tools": [TOOL]},
    {"prompt": "Oslo", "response_format": {"type": "object", "properties": {"name": {"type": "string"}}}},
    {"input": ["a", "b"]},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a document something stands."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def spoiled(document: Any, chance: random.Random) -> Any:
    """A document with something taken out of it, or something odd in its place."""
    made = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        *way, last = chance.choice([*places(made)][1:] or [(None,)])
        if last is None:
            return chance.choice(ODD)
        inner = made
        for key in way:
            inner = inner[key]
        if chance.random() < 0.3:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(chance.choice(ODD))
    return chance.choice(ODD) if chance.random() < 0.03 else made


def spoiled_events(events: list[bytes], chance: random.Random) -> bytes:
    out = []
    for number in range(len(events)):
        lines = events[number].decode().split("\n")
        if chance.random() < 1.5 / len(events):
            lines = [
                f"data: {json.dumps(spoiled(json.loads(line[6:]), chance))}" if line.startswith("data: {") else line
                for line in lines
            ]
        out.append("\n".join(lines).encode() * chance.choice((1,) * 20 + (0, 2)))
    return b"".join(out)


def wire(app: ProviderApp, chance: random.Random) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body, path = json.loads(request.content), request.url.path.removeprefix("/v1")
        received = Received(1, path, dict(request.headers), body, app.text_of(path, body), 0.0)
        if received.streamed:
            content, kind = spoiled_events(app.events(received), chance), "text/event-stream"
        else:
            content, kind = json.dumps(spoiled(app.document(received), chance)).encode(), "application/json"
        return httpx2.Response(200, content=content, headers={"content-type": kind})

    return httpx2.MockTransport(answer)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 5_000), marks=pytest.mark.full)], ids=str)
@pytest.mark.parametrize("name", ["chat", "responses", "anthropic"])
def test_an_answer_or_an_error_of_ours(name: str, seeds: range) -> None:
    chance = random.Random()
    app: ProviderApp = AnthropicApp() if name == "anthropic" else OpenAIApp()
    own: Any
    with httpx2.Client(transport=wire(app, chance), trust_env=False) as http:
        if name == "anthropic":
            own = anthropic.Anthropic(api_key="sk-x", base_url="http://h", http_client=http)
        else:
            own = openai.OpenAI(api_key="sk-x", base_url="http://h/v1", http_client=http)
        options = {"sdk_type": "anthropic"} if name == "anthropic" else {"sdk_type": "openai", "api": name}
        with Pynector(transport_type="sdk", client=own, model="claude-x", retry=None, **options) as client:
            answered = 0
            for seed in seeds:
                chance.seed(seed)
                asked = chance.choice(ASKED[: 3 if name == "anthropic" else 4])
                try:
                    if "input" in asked or chance.random() < 0.4:
                        message = client.request(asked)
                    else:
                        with client.stream(asked) as stream:
                            message = stream.read()
                    message.serialize()
                    answered += 1
                except PynectorError:
                    pass
                except Exception as exc:
                    exc.add_note(f"seed {seed}")
                    raise
    assert len(seeds) / 10 < answered < len(seeds)
