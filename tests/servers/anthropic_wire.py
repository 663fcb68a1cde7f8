"""A server that speaks the messages API of Anthropic, so that the real SDK can talk to it.

The shapes are those of the API reference of Anthropic: "Messages", "Streaming messages" (the order of the events),
"Errors" (the bodies, `request-id`) and "Rate limits" (the headers), and of the types of the `anthropic` package.
"""

import datetime as dt
import json
from typing import ClassVar

from servers.provider import (
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
    event,
    split,
)

_ERRORS = {
    400: ("invalid_request_error", "messages: text content blocks must be non-empty"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    408: ("timeout_error", "Request timed out."),
    409: ("conflict_error", "The resource was changed at the same time."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    422: ("invalid_request_error", "The request could not be processed."),
    429: ("rate_limit_error", "This request would exceed the rate limit for your organization."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out while processing."),
    529: ("overloaded_error", "Overloaded"),
}
_SPEND_LIMIT = "contract_spend_limit_reached"
_STOP_REASONS = {"whole": "end_turn", "length": "max_tokens", "calls": "tool_use", "stop": "stop_sequence"}


class AnthropicApp(ProviderApp):
    """`POST /v1/messages`, plain and streamed.

    A good key begins with `sk-`, and a model that exists with `claude-`. What is answered is in `servers.provider`.
    """

    endpoints: ClassVar = frozenset({"/messages"})

    def text_of(self, path: str, body: Json) -> str:
        return _last(body)[0]

    def objection(self, received: Received) -> Problem | None:
        """As in the API reference of Anthropic, "Errors"; a field that is missing is named as it does it."""
        # The API reference and older SDKs have it in the one header, the SDK of today in the other.
        scheme, _, bearer = received.headers.get("authorization", "").partition(" ")
        key = received.headers.get("x-api-key") or (bearer if scheme == "Bearer" else "")
        if not key:
            return Problem(401, "x-api-key header is required", "authentication_error")
        if not self.accepts(key):
            return self.trouble(401, received)
        if "anthropic-version" not in received.headers:
            return _invalid("anthropic-version: header is required")
        body = received.body
        if not body:
            return _invalid("The request body is not valid JSON.")
        for name in ("model", "messages", "max_tokens"):
            if name not in body:
                return _invalid(f"{name}: Field required")
        messages = as_list(body["messages"])
        if not messages:
            return _invalid("messages: at least one message is required")
        if (as_int(body["max_tokens"]) or 0) < 1:
            return _invalid("max_tokens: Input should be greater than or equal to 1")
        for index, message in enumerate(map(as_map, messages)):
            role = message.get("role")
            # A system message may stand between the turns, but what comes first has its own place.
            if role not in {"user", "assistant", "system"} or (role == "system" and index == 0):
                return _invalid(f'messages.{index}: Unexpected role "{role}". Use the top-level `system` parameter')
            if not message.get("content"):
                return _invalid(f"messages.{index}: content must be non-empty")
        if not str(body["model"]).startswith("claude-"):
            return Problem(404, f"model: {body['model']}", "not_found_error")
        return None

    def trouble(self, status: int, received: Received) -> Problem:
        kind, message = _ERRORS.get(status, ("api_error", "Service unavailable"))
        return Problem(status, message, kind)

    def out_of_money(self) -> Problem:
        """A 429 with the `error_code` that the SDK makes a `ContractSpendLimitReachedError` of."""
        message = "Your organization has reached the spend limit of its contract."
        return Problem(429, message, "rate_limit_error", code=_SPEND_LIMIT)

    def error_body(self, problem: Problem, received: Received) -> Json:
        error: Json = {"type": problem.type, "message": problem.message}
        if problem.code is not None:
            error["details"] = {"error_code": problem.code}
        return {"type": "error", "error": error, "request_id": _request_id(received)}

    def headers(self, received: Received, problem: Problem | None) -> Pairs:
        """As in the API reference of Anthropic, "Rate limits", "Response headers"."""
        refused = problem is not None and problem.status == 429
        words = _words(received.body)
        tokens = self.tokens_per_minute
        now = dt.datetime.now(dt.UTC)
        pairs = [("request-id", _request_id(received)), ("anthropic-organization-id", "org-of-the-tests")]
        for name, limit, used in (
            ("requests", self.requests_per_minute, 1),
            ("tokens", tokens, words),
            ("input-tokens", tokens * 4 // 5, words),
            ("output-tokens", tokens // 5, 0),
        ):
            left = 0 if refused else max(limit - used, 0)
            reset = now + dt.timedelta(seconds=self.retry_after if refused else used * 60 / limit)
            pairs += [
                (f"anthropic-ratelimit-{name}-limit", str(limit)),
                (f"anthropic-ratelimit-{name}-remaining", str(left)),
                (f"anthropic-ratelimit-{name}-reset", f"{reset:%Y-%m-%dT%H:%M:%SZ}"),
            ]
        return tuple(pairs)

    def document(self, received: Received) -> Json:
        """As in the API reference of Anthropic, "Messages": a message."""
        said = answer(_prompt(received.body))
        content: list[Json] = [
            {
                "type": "tool_use",
                "id": f"toolu_{received.number:020d}{index:02d}",
                "name": call.name,
                "input": json.loads(call.arguments),
            }
            for index, call in enumerate(said.calls)
        ] or [{"type": "text", "text": said.text}]
        message = _message(received, said)
        message.update(content=content, stop_reason=_STOP_REASONS[said.end], stop_sequence=said.stop)
        return message

    def events(self, received: Received) -> list[bytes]:
        """As in the API reference of Anthropic, "Streaming messages"."""
        said = answer(_prompt(received.body))
        message = _message(received, said)
        message["usage"] = {**as_map(message["usage"]), "output_tokens": 1}
        out: list[Json] = [{"type": "message_start", "message": message}]
        for index, call in enumerate(said.calls):
            block: Json = {"type": "tool_use", "id": f"toolu_{received.number:020d}{index:02d}", "name": call.name}
            deltas: list[Json] = [
                {"type": "input_json_delta", "partial_json": piece} for piece in ["", *split(call.arguments)]
            ]
            out += _block(index, {**block, "input": {}}, deltas)
        if not said.calls:
            deltas = [{"type": "text_delta", "text": piece} for piece in said.pieces]
            out += _block(0, {"type": "text", "text": ""}, deltas)
        usage = as_map(_message(received, said)["usage"])
        cumulative = "input_tokens cache_creation_input_tokens cache_read_input_tokens output_tokens".split()
        delta = {"stop_reason": _STOP_REASONS[said.end], "stop_sequence": said.stop}
        out += [
            {
                "type": "message_delta",
                "delta": delta,
                "usage": {
                    **{name: usage[name] for name in cumulative},
                    "output_tokens_details": usage["output_tokens_details"],
                },
            },
            {"type": "message_stop"},
        ]
        return [event(each, str(each["type"])) for each in out]

    def broken_event(self, received: Received) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"te\n\n'

    def error_event(self, received: Received, index: int, *, failed: bool) -> bytes:
        """As in the API reference of Anthropic, "Streaming messages", "Error events"."""
        return event(self.failure(received, failed=failed), "error")

    def failure(self, received: Received, *, failed: bool) -> Json:
        return self.error_body(self.trouble(529, received), received)


def _invalid(message: str) -> Problem:
    return Problem(400, message, "invalid_request_error")


def _request_id(received: Received) -> str:
    return f"req_{received.number:024d}"


def _message(received: Received, said: Answer) -> Json:
    """The message before anything was said."""
    used = said.usage
    return {
        "id": f"msg_{received.number:024d}",
        "type": "message",
        "role": "assistant",
        "model": received.body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            # Unlike elsewhere, what came from the cache and what went into it is not in the first number.
            "input_tokens": used.input - used.cached - used.cache_write,
            "cache_creation_input_tokens": used.cache_write,
            "cache_read_input_tokens": used.cached,
            "cache_creation": {"ephemeral_5m_input_tokens": used.cache_write, "ephemeral_1h_input_tokens": 0},
            "output_tokens": used.output,
            "output_tokens_details": {"thinking_tokens": used.reasoning},
            "service_tier": "standard",
        },
    }


def _block(index: int, block: Json, deltas: list[Json]) -> list[Json]:
    start: list[Json] = [{"type": "content_block_start", "index": index, "content_block": block}]
    if index == 0:
        start.append({"type": "ping"})
    parts: list[Json] = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*start, *parts, {"type": "content_block_stop", "index": index}]


def _last(body: Json) -> tuple[str, bool]:
    """The last text of the user, and whether it is the result of a tool."""
    for message in map(as_map, reversed(as_list(body.get("messages")))):
        if message.get("role") == "user":
            parts = map(as_map, as_list(message.get("content")))
            results = [part for part in parts if part.get("type") == "tool_result"]
            if results:
                return "".join(as_text(part.get("content")) for part in results), True
            return as_text(message.get("content")), False
    return "", False


def _words(body: Json) -> int:
    return count_words(body.get("system"), *(as_map(each).get("content") for each in as_list(body.get("messages"))))


def _prompt(body: Json) -> Prompt:
    text, is_result = _last(body)
    choice = as_map(body.get("tool_choice"))
    kind = choice.get("type", "auto")
    wanted = as_map(as_map(body.get("output_config")).get("format"))
    return Prompt(
        text,
        _words(body),
        tuple(
            Tool(str(tool["name"]), as_map(tool.get("input_schema")))
            for tool in map(as_map, as_list(body.get("tools")))
        ),
        "never" if kind == "none" or is_result else "must" if kind in {"any", "tool"} else "may",
        str(choice["name"]) if kind == "tool" else None,
        as_map(wanted.get("schema")) if wanted.get("type") == "json_schema" else None,
        as_int(body.get("max_tokens")),
        as_texts(body.get("stop_sequences")),
    )
