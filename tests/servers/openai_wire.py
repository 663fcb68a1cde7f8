"""A server that speaks the API of OpenAI, so that the real SDK can talk to it.

The shapes are those of the API reference of OpenAI: "Chat Completions" and its "Streaming", "Responses" and its
"Streaming events", "Embeddings", "Error codes" and "Debugging requests" (the headers), and of the types of the `openai`
package.
"""

import base64
import struct
import zlib
from collections.abc import Callable
from typing import ClassVar, Literal

from servers.provider import (
    CREATED,
    Answer,
    Json,
    Pairs,
    Problem,
    Prompt,
    ProviderApp,
    Received,
    Tool,
    answer,
    as_int,
    as_list,
    as_map,
    as_text,
    as_texts,
    count_words,
    encode,
    event,
    split,
)

MODELS = ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-")
"""What the name of a model that exists begins with."""

_INVALID = "invalid_request_error"
_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid value: 'robot'. Supported values are: 'system', 'assistant' and 'user'.", _INVALID, "invalid_value"),
    401: ("Incorrect API key provided. You can find your API key in your account.", _INVALID, "invalid_api_key"),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: ("Invalid URL", _INVALID, None),
    408: ("Request timed out.", "timeout", "request_timeout"),
    409: ("The resource was changed at the same time.", _INVALID, "conflict"),
    413: ("Maximum content size limit exceeded", _INVALID, "request_too_large"),
    422: ("The request could not be processed.", _INVALID, None),
    429: ("Rate limit reached on requests per min (RPM). Please try again.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later", "server_error", None),
}
_FINISH = {"whole": "stop", "length": "length", "calls": "tool_calls", "stop": "stop"}


class OpenAIApp(ProviderApp):
    """`POST /v1/chat/completions`, `/v1/responses` and `/v1/embeddings`, also without `/v1`.

    A good key begins with `sk-`, and a model that exists as in `MODELS`. What is answered is in `servers.provider`.
    """

    endpoints: ClassVar = frozenset({"/chat/completions", "/responses", "/embeddings"})

    def text_of(self, path: str, body: Json) -> str:
        if path == "/embeddings":
            return "\n".join(_inputs(body))
        return _last(_messages(body))[0]

    def objection(self, received: Received) -> Problem | None:
        """As in the API reference of OpenAI, "Error codes"."""
        scheme, _, key = received.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            return Problem(
                401, "You didn't provide an API key. Use an Authorization header with Bearer auth.", _INVALID
            )
        if not self.accepts(key):
            # What it says of the key is what the real one says: a little of both ends.
            shown = f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 16 else "*" * len(key)
            return Problem(401, f"Incorrect API key provided: {shown}.", _INVALID, "invalid_api_key")
        body = received.body
        if not body:
            return Problem(400, "We could not parse the JSON body of your request.", _INVALID)
        if not body.get("model"):
            return Problem(400, "you must provide a model parameter", _INVALID)
        needed = "messages" if received.path == "/chat/completions" else "input"
        if not body.get(needed):
            message = f"Missing required parameter: '{needed}'."
            return Problem(400, message, _INVALID, "missing_required_parameter", needed)
        if not str(body["model"]).startswith(MODELS):
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            return Problem(404, message, _INVALID, "model_not_found")
        return None

    def trouble(self, status: int, received: Received) -> Problem:
        overloaded = ("The server is overloaded or not ready yet.", "server_error", None)
        message, kind, code = _ERRORS.get(status, overloaded)
        if message == "Invalid URL":
            message = f"Invalid URL (POST /v1{received.path})"
        return Problem(status, message, kind, code)

    def out_of_money(self) -> Problem:
        message = "You exceeded your current quota, please check your plan and billing details."
        return Problem(429, message, "insufficient_quota", "insufficient_quota")

    def error_body(self, problem: Problem, received: Received) -> Json:
        error = {"message": problem.message, "type": problem.type, "param": problem.param, "code": problem.code}
        return {"error": error}

    def headers(self, received: Received, problem: Problem | None) -> Pairs:
        """As in the API reference of OpenAI, "Debugging requests"."""
        refused = problem is not None and problem.status == 429
        pairs = [
            ("x-request-id", f"req_{received.number:032x}"),
            ("openai-processing-ms", "12"),
            ("openai-organization", "org-of-the-tests"),
            ("openai-version", "2020-10-01"),
        ]
        for name, limit, used in (
            ("requests", self.requests_per_minute, 1),
            ("tokens", self.tokens_per_minute, _words(received.body)),
        ):
            pairs += [
                (f"x-ratelimit-limit-{name}", str(limit)),
                (f"x-ratelimit-remaining-{name}", str(0 if refused else max(limit - used, 0))),
                (f"x-ratelimit-reset-{name}", _duration(self.retry_after if refused else used * 60 / limit)),
            ]
        return tuple(pairs)

    def document(self, received: Received) -> Json:
        match received.path:
            case "/embeddings":
                return _embeddings(received)
            case "/responses":
                return _response(received, answer(_prompt(received)))
        return _completion(received, answer(_prompt(received)))

    def events(self, received: Received) -> list[bytes]:
        said = answer(_prompt(received))
        return _response_events(received, said) if received.path == "/responses" else _chunks(received, said)

    def broken_event(self, received: Received) -> bytes:
        if received.path == "/responses":
            return b'event: response.output_text.delta\ndata: {"type":"response.output_te\n\n'
        return b'data: {"id":"chatcmpl-\n\n'

    def error_event(self, received: Received, index: int, *, failed: bool) -> bytes:
        """As in the API reference of OpenAI, "Responses", "Streaming events": `error`, `response.failed`."""
        if received.path != "/responses":
            return event(self.failure(received, failed=failed))
        if failed:
            return _event({"type": "response.failed", "response": self.failure(received, failed=True)}, index)
        problem = self.trouble(500, received)
        return _event({"type": "error", "code": "server_error", "message": problem.message, "param": None}, index)

    def failure(self, received: Received, *, failed: bool) -> Json:
        problem = self.trouble(500, received)
        if received.path == "/responses" and failed:
            error = {"code": "server_error", "message": problem.message}
            return {**_started(received, "failed"), "error": error}
        return self.error_body(problem, received)


# Chat completions.


def _completion(received: Received, said: Answer) -> Json:
    """As in the API reference of OpenAI, "Chat Completions": the chat completion object."""
    message: Json = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    if said.calls:
        message["content"] = None
        message["tool_calls"] = [
            {
                "id": f"call_{received.number:020d}{index:02d}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(said.calls)
        ]
    return {
        "id": f"chatcmpl-{received.number:024d}",
        "object": "chat.completion",
        "created": CREATED,
        "model": received.body["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[said.end]}],
        "usage": _chat_usage(said),
        "service_tier": "default",
        "system_fingerprint": "fp_of_the_tests",
    }


def _chunks(received: Received, said: Answer) -> list[bytes]:
    """As in the API reference of OpenAI, "Chat Completions", "Streaming": the chat completion chunk object."""
    first: Json = {"role": "assistant", "content": None if said.calls else "", "refusal": None}
    deltas: list[Json] = [{"content": piece} for piece in said.pieces]
    for index, call in enumerate(said.calls):
        head: Json = {"index": index, "id": f"call_{received.number:020d}{index:02d}", "type": "function"}
        head["function"] = {"name": call.name, "arguments": ""}
        deltas.append({"tool_calls": [head]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in split(call.arguments)
        ]
    if said.calls:  # the head of the first call comes with the role
        first["tool_calls"] = deltas.pop(0)["tool_calls"]
    with_usage = as_map(received.body.get("stream_options")).get("include_usage") is True
    chunk: Json = {
        "id": f"chatcmpl-{received.number:024d}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": received.body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_of_the_tests",
    }
    usage: Json = {"usage": None} if with_usage else {}
    pad = _padding(received)
    ends: list[str | None] = [None] * (len(deltas) + 1)
    events = [
        event(
            {
                **chunk,
                "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}],
                **usage,
                **pad(delta),
            }
        )
        for delta, end in zip([first, *deltas, {}], [*ends, _FINISH[said.end]], strict=True)
    ]
    if with_usage:
        events.append(event({**chunk, "choices": [], "usage": _chat_usage(said)}))
    return [*events, b"data: [DONE]\n\n"]


def _choice(delta: Json, end: str | None) -> Json:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}


def _padding(received: Received) -> Callable[[object], Json]:
    """What hides how long a piece is, unless the request says otherwise: `stream_options`, `include_obfuscation`."""
    if as_map(received.body.get("stream_options")).get("include_obfuscation") is False:
        return lambda _: {}
    return lambda piece: {"obfuscation": "AbCdEfGhIjKlMnOp"[len(encode(piece)) % 16 :]}


def _chat_usage(said: Answer) -> Json:
    used = said.usage
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": {
            "cached_tokens": used.cached,
            "cache_write_tokens": used.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# Responses.


def _started(received: Received, status: str) -> Json:
    """A response that has no output yet."""
    body = received.body
    return {
        "id": f"resp_{received.number:048d}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text", {"format": {"type": "text"}}),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": body.get("metadata", {}),
    }


def _response(received: Received, said: Answer) -> Json:
    """As in the API reference of OpenAI, "Responses": the response object."""
    used = said.usage
    response = _started(received, "incomplete" if said.end == "length" else "completed")
    if said.end == "length":
        response["incomplete_details"] = {"reason": "max_output_tokens"}
    response["output"] = _items(received, said)
    response["usage"] = {
        "input_tokens": used.input,
        "input_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": used.cache_write},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
        "total_tokens": used.input + used.output,
    }
    return response


def _items(received: Received, said: Answer) -> list[Json]:
    """The items of the output: a message, or the calls of tools."""
    if not said.calls:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        status = "incomplete" if said.end == "length" else "completed"
        item = f"msg_{received.number:048d}"
        return [{"id": item, "type": "message", "status": status, "role": "assistant", "content": [part]}]
    return [
        {
            "id": f"fc_{received.number:046d}{index:02d}",
            "type": "function_call",
            "status": "completed",
            "name": call.name,
            "call_id": f"call_{received.number:020d}{index:02d}",
            "arguments": call.arguments,
        }
        for index, call in enumerate(said.calls)
    ]


def _response_events(received: Received, said: Answer) -> list[bytes]:
    """As in the API reference of OpenAI, "Responses", "Streaming events"."""
    out: list[Json] = [
        {"type": f"response.{status}", "response": _started(received, "in_progress")}
        for status in ("created", "in_progress")
    ]
    pad = _padding(received)
    for index, item in enumerate(_items(received, said)):
        place: Json = {"item_id": item["id"], "output_index": index}
        empty: Json = {"arguments": ""} if said.calls else {"content": []}
        out.append(
            {
                "type": "response.output_item.added",
                "output_index": index,
                "item": {**item, **empty, "status": "in_progress"},
            }
        )
        if said.calls:
            arguments, name = said.calls[index].arguments, "response.function_call_arguments"
            out += [{"type": f"{name}.delta", **place, "delta": piece, **pad(piece)} for piece in split(arguments)]
            out.append({"type": f"{name}.done", **place, "arguments": arguments})
        else:
            place["content_index"] = 0
            part, name = as_map(as_list(item["content"])[0]), "response.output_text"
            out.append({"type": "response.content_part.added", **place, "part": {**part, "text": ""}})
            for piece in said.pieces:
                out.append({"type": f"{name}.delta", **place, "delta": piece, "logprobs": [], **pad(piece)})
            out.append({"type": f"{name}.done", **place, "text": said.text, "logprobs": []})
            out.append({"type": "response.content_part.done", **place, "part": part})
        out.append({"type": "response.output_item.done", "output_index": index, "item": item})
    response = _response(received, said)
    out.append({"type": f"response.{response['status']}", "response": response})
    return [_event(each, number) for number, each in enumerate(out)]


def _event(data: Json, number: int) -> bytes:
    kind = str(data["type"])
    return event({"type": kind, "sequence_number": number, **data}, kind)


# Embeddings.


def embedding(text: str, dimensions: int) -> list[float]:
    """The vector of a text: the same for the same text, and exact as a 32 bit number."""
    return [(zlib.crc32(f"{index} {text}".encode()) % 2048 - 1024) / 1024 for index in range(dimensions)]


def _embeddings(received: Received) -> Json:
    """As in the API reference of OpenAI, "Embeddings": 16 dimensions, if the request says no other number."""
    body = received.body
    dimensions = as_int(body.get("dimensions")) or 16
    vectors = [embedding(text, dimensions) for text in _inputs(body)]
    packed = body.get("encoding_format") == "base64"
    tokens = count_words(*_inputs(body))
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() if packed else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "model": body["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


# Reading a request.


def _inputs(body: Json) -> tuple[str, ...]:
    return as_texts(body.get("input"))


def _messages(body: Json) -> list[Json]:
    """The messages of a chat, or the items of a response's input."""
    given = body.get("messages", body.get("input"))
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return [as_map(each) for each in as_list(given)]


def _last(messages: list[Json]) -> tuple[str, bool]:
    """The last text of the user, and whether it is the result of a tool."""
    for message in reversed(messages):
        if message.get("role") == "tool":
            return as_text(message.get("content")), True
        if message.get("type") == "function_call_output":
            return as_text(message.get("output")), True
        if message.get("role") == "user":
            return as_text(message.get("content")), False
    return "", False


def _words(body: Json) -> int:
    contents = (message.get("content", message.get("output")) for message in _messages(body))
    return count_words(body.get("instructions"), *contents)


def _prompt(received: Received) -> Prompt:
    body = received.body
    text, is_result = _last(_messages(body))
    choice = body.get("tool_choice", "auto")
    # A chat has what a function is in an object below, a response has it in the tool itself.
    functions = [as_map(tool.get("function", tool)) for tool in map(as_map, as_list(body.get("tools")))]
    named = as_map(as_map(choice).get("function", choice)).get("name")
    call: Literal["must", "may", "never"] = "must" if choice == "required" or named is not None else "may"
    wanted = as_map(body.get("response_format") or as_map(body.get("text")).get("format"))
    schema: Json | None = None
    if wanted.get("type") == "json_schema":
        schema = as_map(as_map(wanted.get("json_schema", wanted)).get("schema"))
    elif wanted.get("type") == "json_object":
        schema = {}
    limits = (as_int(body.get(name)) for name in ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    return Prompt(
        text,
        _words(body),
        tuple(Tool(str(each["name"]), as_map(each.get("parameters"))) for each in functions if "name" in each),
        "never" if choice == "none" or is_result else call,
        None if named is None else str(named),
        schema,
        next((limit for limit in limits if limit is not None), None),
        as_texts(body.get("stop")),
    )


def _duration(seconds: float) -> str:
    """A time as Go writes it, which is what the real headers have: `8ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
