"""What the local servers of the model providers share: the log, the faults that a request asks for, what is answered.

A request names the fault it wants in its last text, as `scenario=NAME`, or in a header `x-scenario: NAME`, so that any
number of tests, blocking and async, can use one server. `NAMExN` is the fault for the first N attempts with that very
text; the next ones are answered.

| scenario | plain | streamed |
|---|---|---|
| `drop` | a reset of the connection, before any answer | the same |
| `drop_mid` | a reset after half of the body | a reset after half of the events |
| `stall` | head and half of the body, then nothing | half of the events, then nothing |
| `stall_before` | nothing at all, until the client leaves | the same |
| `truncate` | half of the body it announced, then the end of the connection | a clean end after half of the events |
| `malformed` | half of a JSON document, announced as a whole | an event that is no JSON among the others |
| `error_event` | 200, and an error as the document | half of the events, then the event for an error |
| `error_first` | as `error_event` | the event for an error, before all others |
| `failed` | as `error_event`; for the responses API a response that failed | the same, as an event |
| `empty` | 200, no byte | the same |
| `html` | 200, a page for a browser | the same |
| `wrong_type` | a good answer as `text/plain` | the same |
| `hard_quota` | 429 for an account that has no money left | the same |
| `400` and any other status | that status, with the body that is documented for it | the same |

A status may have a suffix: `429_after` has a `retry-after` (see `ProviderApp.retry_after`), `429_ms` the same as
`retry-after-ms`, `503_noretry` and `400_retry` have the `x-should-retry` that both SDKs obey, and `502_html` is that of
a gateway: a page.
"""

import asyncio
import inspect
import itertools
import json
import re
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, NoReturn, TypeAlias, cast

from pynector.testing import ServerRequest, ServerResponse
from pynector.testing._server import _Connection

Json: TypeAlias = dict[str, object]
Pairs: TypeAlias = tuple[tuple[str, str], ...]
End: TypeAlias = Literal["end", "cut", "reset", "stall"]

CREATED: Final = 1_767_225_600
"""When every answer says it was made, so that equal requests get equal answers."""

JSON_TYPE: Final = "application/json"
STREAM_TYPE: Final = "text/event-stream; charset=utf-8"
FAULTS: Final = frozenset(
    (
        "drop drop_mid stall stall_before truncate malformed error_event error_first failed empty html wrong_type "
        "hard_quota"
    ).split()
)

_SCENARIO = re.compile(r"\bscenario=([\w-]+)")
_TIMES = re.compile(r"(.+?)(?:x(\d+))?")
_STATUS = re.compile(r"([45]\d\d)(?:_(after|ms|retry|noretry|html))?")
_PIECES = re.compile(r"\s*\S+|\s+\Z")
_HTML = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as the log keeps it.

    Attributes:
        number: From 1; it is in the request id and in the ids of the answer.
        path: Where it came to.
        headers: By lower-case name; the last of repeated ones.
        body: The parsed JSON; empty if it was none.
        text: The last text of the user, by which answers and faults are chosen.
        at: When it came, on the monotonic clock, in seconds.
    """

    number: int
    path: str
    headers: Mapping[str, str] = field(repr=False)  # holds the key
    body: Json
    text: str
    at: float

    @property
    def streamed(self) -> bool:
        """Whether it asks for events."""
        return self.body.get("stream") is True


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is refused; the provider makes a body of it."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    headers: Pairs = ()


class ProviderApp(ABC):
    """Answers as a provider does: an app for `LocalServer`.

    Args:
        keys: Which keys are good; None takes every one that begins with `sk-`.
        latency: Seconds before an answer begins.
        pause: Seconds between two events of a stream.
        retry_after: Seconds in the `retry-after` of `429_after` and its like.

    Attributes:
        requests_per_minute: What the headers say is allowed.
        tokens_per_minute: What the headers say is allowed.
    """

    endpoints: ClassVar[frozenset[str]]

    def __init__(
        self,
        *,
        keys: Iterable[str] | None = None,
        latency: float = 0.0,
        pause: float = 0.0,
        retry_after: float = 0.05,
    ) -> None:
        self.latency = latency
        self.pause = pause
        self.retry_after = retry_after
        self.requests_per_minute = 10_000
        self.tokens_per_minute = 2_000_000
        self._keys = None if keys is None else frozenset(keys)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._requests: list[Received] = []
        self._counts: Counter[str] = Counter()
        self._attempts: Counter[tuple[str, str]] = Counter()

    @property
    def requests(self) -> list[Received]:
        """What has come, oldest first; a copy, for any thread."""
        with self._lock:
            return list(self._requests)

    def count(self, text: str | None = None) -> int:
        """How many requests had this last text of the user; without one, how many came."""
        with self._lock:
            return len(self._requests) if text is None else self._counts[text]

    def forget(self) -> None:
        """Forget all requests, and how often each has failed."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()
            self._attempts.clear()

    def __call__(self, request: ServerRequest) -> ServerResponse | Awaitable[ServerResponse | None]:
        path = request.path.removeprefix("/v1")
        try:
            body = as_map(json.loads(request.body)) if request.body else {}
        except ValueError:
            body = {}
        headers = dict(request.headers)
        received = Received(next(self._numbers), path, headers, body, self.text_of(path, body), time.monotonic())
        with self._lock:
            self._requests.append(received)
            self._counts[received.text] += 1
        if request.method != "POST" or path not in self.endpoints:
            problem: Problem | None = self.trouble(404, received)
        else:
            problem = self.objection(received)
        if problem is not None:
            return self._refuse(problem, received)
        fault = self._fault(received)
        if fault is not None:
            return self._misbehave(fault, received)
        response = self._answer(received)
        return _later(self.latency, response) if self.latency else response

    # What a provider fills in.

    @abstractmethod
    def text_of(self, path: str, body: Json) -> str:
        """The last text of the user."""

    @abstractmethod
    def objection(self, received: Received) -> Problem | None:
        """What a real server would refuse in this request."""

    @abstractmethod
    def trouble(self, status: int, received: Received) -> Problem:
        """The documented error for a status."""

    @abstractmethod
    def out_of_money(self) -> Problem:
        """The error that no waiting helps against."""

    @abstractmethod
    def error_body(self, problem: Problem, received: Received) -> Json:
        """The document for an error."""

    @abstractmethod
    def headers(self, received: Received, problem: Problem | None) -> Pairs:
        """What every answer has: the request's id and the limits."""

    @abstractmethod
    def document(self, received: Received) -> Json:
        """The whole answer."""

    @abstractmethod
    def events(self, received: Received) -> list[bytes]:
        """The whole answer, as a stream."""

    @abstractmethod
    def broken_event(self, received: Received) -> bytes:
        """An event whose data is no JSON."""

    @abstractmethod
    def error_event(self, received: Received, index: int, *, failed: bool) -> bytes:
        """The event, number `index` of its stream, that says that something went wrong.

        With `failed` it is the other one, for a provider that has two.
        """

    @abstractmethod
    def failure(self, received: Received, *, failed: bool) -> Json:
        """The document of a 200 that is an error."""

    def accepts(self, key: str) -> bool:
        """Whether the key is good."""
        return key.startswith("sk-") if self._keys is None else key in self._keys

    # What is the same for all.

    def _answer(self, received: Received) -> ServerResponse:
        headers = self.headers(received, None)
        if not received.streamed:
            return ServerResponse(200, (("content-type", JSON_TYPE), *headers), encode(self.document(received)))
        return ServerResponse(200, _stream_headers(headers), _body(self.events(received), self.pause))

    def _refuse(self, problem: Problem, received: Received) -> ServerResponse:
        headers = (("content-type", JSON_TYPE), *self.headers(received, problem), *problem.headers)
        return ServerResponse(problem.status, headers, encode(self.error_body(problem, received)))

    def _fault(self, received: Received) -> str | None:
        name = received.headers.get("x-scenario", "")
        if not name:
            found = _SCENARIO.search(received.text)
            if found is None:
                return None
            name = found[1]
        times = _TIMES.fullmatch(name.replace("-", "_"))
        assert times is not None  # any text matches
        with self._lock:
            self._attempts[name, received.text] += 1
            attempt = self._attempts[name, received.text]
        return None if times[2] and attempt > int(times[2]) else times[1]

    def _misbehave(self, fault: str, received: Received) -> ServerResponse | Awaitable[ServerResponse]:
        status = _STATUS.fullmatch(fault)
        if status is not None:
            problem = self.trouble(int(status[1]), received)
            if status[2] == "html":
                return ServerResponse(problem.status, (("content-type", "text/html"),), _HTML)
            extra = {
                "ms": (("retry-after-ms", f"{self.retry_after * 1000:g}"),),
                "after": (("retry-after", f"{self.retry_after:g}"),),
                "retry": (("x-should-retry", "true"),),
                "noretry": (("x-should-retry", "false"),),
            }.get(status[2], ())
            return self._refuse(replace(problem, headers=extra), received)
        if fault not in FAULTS:
            known = ", ".join(sorted(FAULTS))
            problem = Problem(400, f"no scenario {fault!r}: a status, or one of {known}", "invalid_request_error")
            return self._refuse(problem, received)
        match fault:
            case "hard_quota":
                return self._refuse(self.out_of_money(), received)
            case "drop":
                return _drop()
            case "stall_before":
                return _never()
        headers = self.headers(received, None)
        match fault:
            case "empty":
                kind = STREAM_TYPE if received.streamed else JSON_TYPE
                return ServerResponse(200, (("content-type", kind), *headers), b"")
            case "html":
                return ServerResponse(200, (("content-type", "text/html; charset=utf-8"), *headers), _HTML)
        return self._misanswer(fault, received, headers)

    def _misanswer(self, fault: str, received: Received, headers: Pairs) -> ServerResponse:
        """A 200 that goes wrong on its way."""
        ends: dict[str, End] = {"drop_mid": "reset", "stall": "stall"}
        if received.streamed:
            events = self.events(received)
            half = len(events) // 2
            first, rest, end = events[:half], events[half:], ends.get(fault, "end")
            match fault:
                case "malformed":
                    first += [self.broken_event(received), *rest]
                case "error_event" | "failed":
                    first.append(self.error_event(received, half, failed=fault == "failed"))
                case "error_first":
                    first = [self.error_event(received, 0, failed=False)]
                case "wrong_type":
                    first += rest
            kind = "text/plain; charset=utf-8" if fault == "wrong_type" else STREAM_TYPE
            return ServerResponse(200, (("content-type", kind), *headers), _body(first, self.pause, end))
        if fault in {"error_event", "error_first", "failed"}:
            document = encode(self.failure(received, failed=fault == "failed"))
            return ServerResponse(200, (("content-type", JSON_TYPE), *headers), document)
        document = encode(self.document(received))
        half = len(document) // 2
        if fault == "wrong_type":
            return ServerResponse(200, (("content-type", "text/plain; charset=utf-8"), *headers), document)
        if fault == "malformed":
            return ServerResponse(200, (("content-type", JSON_TYPE), *headers), document[:half])
        body = _body([document[:half]], end=ends.get(fault, "cut"))
        return ServerResponse(200, (("content-type", JSON_TYPE), *headers), body, length=len(document))


# How a connection ends.


async def _body(parts: Sequence[bytes], pause: float = 0.0, end: End = "end") -> AsyncIterator[bytes]:
    for index, part in enumerate(parts):
        if index and pause:
            await asyncio.sleep(pause)
        yield part
    match end:
        case "cut":
            raise ConnectionAbortedError  # the server then closes, with a FIN
        case "reset":
            await asyncio.sleep(0.02)  # what was sent shall have been read: a reset may overtake it
            await _reset()
        case "stall":
            await _wait_for_client()


async def _later(seconds: float, response: ServerResponse) -> ServerResponse:
    await asyncio.sleep(seconds)
    return response


async def _drop() -> ServerResponse:
    await _reset()


async def _never() -> ServerResponse:
    await _wait_for_client()


async def _wait_for_client() -> NoReturn:
    """Do nothing until the connection is lost: the server then cancels the task."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def _reset() -> NoReturn:
    """Close the connection that is being answered with a RST.

    A server shows its apps no socket, as an app could do anything with it. The task that answers belongs to the
    connection, though.
    """
    task = asyncio.current_task()
    assert task is not None
    coroutine = task.get_coro()
    assert inspect.iscoroutine(coroutine)
    connection = cast("_Connection", inspect.getcoroutinelocals(coroutine)["self"])
    sock = cast("socket.socket", connection._transport.get_extra_info("socket"))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.abort()
    await _wait_for_client()


# What is answered.


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that may be called, with the schema of its arguments."""

    name: str
    schema: Json


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an answer depends on, whoever the provider is.

    Attributes:
        text: The last text of the user, or the last result of a tool.
        words: How many there are in the whole input.
        tools: What may be called.
        call: Whether a tool must be called, mustn't be, or is if the text begins with `call `.
        tool: The one that must be called.
        schema: Of the JSON to answer with; an empty one stands for any object.
        limit: The most words of the answer.
        stops: What ends the answer.
    """

    text: str
    words: int
    tools: tuple[Tool, ...] = ()
    call: Literal["must", "may", "never"] = "may"
    tool: str | None = None
    schema: Json | None = None
    limit: int | None = None
    stops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call, its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens; a token is a word. `input` has `cached` and `cache_write` in it, and `output` has `reasoning`."""

    input: int
    cached: int
    cache_write: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says.

    Attributes:
        pieces: The text, in the pieces that a stream sends.
        calls: The calls of tools, in place of a text.
        end: Why it ended.
        stop: Which stop sequence ended it.
        usage: What it cost.
    """

    pieces: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    end: Literal["whole", "length", "calls", "stop"]
    stop: str | None
    usage: Usage

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def answer(prompt: Prompt) -> Answer:
    """Answer a prompt, the same one always in the same way.

    It is `echo: ` and the last text. With a schema it is JSON that fits it, with the text for every string. If there
    are tools and the text is `call NAME TEXT`, it is a call of the tool of that name (of the first one, without a name)
    with arguments that fit its schema, with TEXT for every string; if TEXT is an object of JSON, it is the arguments.
    `call NAME TEXT; call NAME TEXT` are two calls.
    """
    calls = _calls(prompt)
    if calls:
        return Answer(
            (), calls, "calls", None, _usage(prompt.words, sum(len(each.arguments.split()) for each in calls))
        )
    if prompt.schema is None:
        text = f"echo: {prompt.text}"
    elif prompt.schema:
        text = json.dumps(fitting(prompt.schema, prompt.text), ensure_ascii=False)
    else:
        text = json.dumps({"echo": prompt.text}, ensure_ascii=False)
    found = min(((text.find(stop), stop) for stop in prompt.stops if stop in text), default=None)
    if found is not None:
        text = text[: found[0]]
    pieces = tuple(_PIECES.findall(text))
    if prompt.limit is not None and prompt.limit < len(pieces):
        pieces = pieces[: prompt.limit]
        return Answer(pieces, (), "length", None, _usage(prompt.words, len(pieces)))
    usage = _usage(prompt.words, len(pieces))
    return Answer(pieces, (), "stop" if found else "whole", found[1] if found else None, usage)


def _calls(prompt: Prompt) -> tuple[ToolCall, ...]:
    if not prompt.tools or prompt.call == "never":
        return ()
    if not prompt.text.startswith("call ") and prompt.call == "may":
        return ()
    calls = []
    for part in prompt.text.removeprefix("call ").split("; call "):
        first, _, rest = part.partition(" ")
        tool = next((each for each in prompt.tools if each.name == (prompt.tool or first)), prompt.tools[0])
        text = rest if first == tool.name else part
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            arguments = fitting(tool.schema, text) if tool.schema.get("properties") else {"text": text}
        calls.append(ToolCall(tool.name, json.dumps(arguments, ensure_ascii=False)))
    return tuple(calls)


def _usage(words: int, output: int) -> Usage:
    return Usage(words, words // 2, words // 4, output, output // 4)


def fitting(schema: Json, text: str, root: Json | None = None, depth: int = 0) -> object:
    """Make a value that fits a JSON schema, with the text for every string and its length for every integer."""
    root = schema if root is None else root
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target: object = root
        for name in reference.removeprefix("#/").split("/"):
            target = as_map(target).get(name)
        return fitting(as_map(target), text, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if options := as_list(schema.get("enum")):
        return options[0]
    for word in ("anyOf", "oneOf", "allOf"):
        if choices := as_list(schema.get(word)):
            nulls = [choice for choice in choices if as_map(choice).get("type") == "null"]
            values = [choice for choice in choices if choice not in nulls]
            # A type that may hold itself must end somewhere.
            return fitting(as_map((nulls if nulls and depth > 6 else values or nulls)[0]), text, root, depth + 1)
    kind = schema.get("type")
    kinds = as_list(kind) or [kind]
    match next((each for each in kinds if each != "null"), "null"):
        case "string":
            longest = schema.get("maxLength")
            return text[:longest] if isinstance(longest, int) else text
        case "integer":
            return _within(schema, len(text))
        case "number":
            return _within(schema, len(text) / 2)
        case "boolean":
            return True
        case "array":
            least = schema.get("minItems")
            count = least if isinstance(least, int) else int(depth <= 6)
            return [fitting(as_map(schema.get("items")), text, root, depth + 1) for _ in range(count)]
        case "null" if "type" in schema:
            return None
    properties = as_map(schema.get("properties"))
    return {name: fitting(as_map(value), text, root, depth + 1) for name, value in properties.items()}


def _within(schema: Json, value: float) -> float:
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(least, int | float):
        value = max(value, least)
    return min(value, most) if isinstance(most, int | float) else value


# Reading and writing JSON.


def as_map(value: object) -> Json:
    """The value if it is an object, else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """The value if it is an array, else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The text of a content: it is one, or parts of which some have a text."""
    if isinstance(value, str):
        return value
    return "".join(str(part["text"]) for part in map(as_map, as_list(value)) if isinstance(part.get("text"), str))


def as_int(value: object) -> int | None:
    """The value if it is a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_texts(value: object) -> tuple[str, ...]:
    """The value, a text or an array of texts, as texts."""
    return (value,) if isinstance(value, str) else tuple(str(each) for each in as_list(value))


def count_words(*values: object) -> int:
    """How many words there are in contents."""
    return sum(len(as_text(value).split()) for value in values)


def encode(value: object) -> bytes:
    """JSON as the providers send it: compact, and not escaped to ASCII."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def event(data: object, name: str = "") -> bytes:
    """An event, as in the HTML standard, 9.2 (server-sent events)."""
    head = f"event: {name}\n" if name else ""
    return b"%bdata: %b\n\n" % (head.encode(), encode(data))


def split(text: str, size: int = 6) -> list[str]:
    """The text in pieces of that many characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def _stream_headers(headers: Pairs) -> Pairs:
    return (("content-type", STREAM_TYPE), ("cache-control", "no-cache"), *headers)
