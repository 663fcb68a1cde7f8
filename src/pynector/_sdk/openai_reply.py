"""What the endpoints of OpenAI have in common: the HTTP side of an answer, errors in it, tokens, calls of tools."""

import json
from collections.abc import Mapping
from typing import Any, Final

from .._messages.sdk import FinishReason, ToolCall
from .._messages.usage import Usage
from ..errors import ConfigurationError, DeserializationError, IncompleteStreamError, SdkTransportError
from .failures import translate
from .reading import count
from .request import SdkRequest
from .settings import hidden
from .unexpected import unexpected

PROVIDER: Final = "openai"


class Reply:
    """An answer as it came over HTTP.

    Args:
        raw: What `with_raw_response.create` of the SDK has returned.

    Attributes:
        raw: As given.
        request_id: The id of the request at the provider.
        headers: The headers of the answer.
    """

    __slots__ = ("headers", "raw", "request_id")

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.request_id: str | None = raw.request_id
        self.headers: Mapping[str, str] = raw.headers

    def parse(self, wanted: str) -> Any:
        """Read it as an object of the SDK.

        Args:
            wanted: What it should be, for the error.

        Raises:
            SdkTransportError: It is no JSON, or says that it is none.
        """
        media_type = self._media_type
        if media_type and not media_type.endswith("json"):
            raise self.unexpected(wanted)
        try:
            return self.raw.parse()
        except (ValueError, RecursionError) as error:  # of json, and of the SDK where it was told to be strict
            raise self.unexpected(wanted) from error

    @property
    def is_document(self) -> bool:
        """Whether it says that it is a document, where a stream of events was asked for."""
        return self._media_type in ("application/json", "text/html")

    @property
    def _media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def unexpected(self, wanted: str) -> SdkTransportError:
        """Make the error for an answer that is something else, and whose body has been read.

        Gateways report errors of whom they have asked with the status 200 as well: then it is that error.
        """
        content: bytes = self.raw.content
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, Mapping) and body.get("error"):
            return told(body["error"], self.request_id)
        return unexpected(
            PROVIDER,
            wanted,
            status_code=self.raw.status_code,
            headers=self.headers,
            content=content,
            request_id=self.request_id,
        )

    def no_stream(self) -> SdkTransportError:
        """Make the error for a document that came in place of a stream, and that has been read."""
        error = self.unexpected("a stream of events")
        return error if error.code is not None else self.incomplete("", str(error).removeprefix(f"{PROVIDER}: "))

    def incomplete(self, partial: str, what: str) -> IncompleteStreamError:
        """Make the error for a stream that did not come to its end.

        Args:
            partial: The text that did come.
            what: What happened instead.
        """
        return IncompleteStreamError(
            f"{PROVIDER}: {what}, after {len(partial)} characters",
            partial=partial,
            provider=PROVIDER,
            request_id=self.request_id,
        )


def is_told(error: Exception) -> bool:
    """Tell an error that the provider reports, in the middle of a stream too, from one of the way to it.

    Args:
        error: What the SDK has raised. Those of the connection are built as the others are, but with no body.
    """
    return getattr(error, "body", None) is not None


class _Told(Exception):
    """An error that is told in an answer of status 200, with the attributes that errors of the SDK have."""

    def __init__(self, message: str, code: str | None, type: str | None, status_code: int | None) -> None:
        super().__init__(message, code, type, status_code)
        self.message = message
        self.code = code
        self.type = type
        self.status_code = status_code
        self.body: Mapping[str, str | None] = {"message": message, "code": code, "type": type}


def told(error: object, request_id: str | None) -> SdkTransportError:
    """Make the error that an answer of status 200 tells of.

    Args:
        error: What it has as `error`: a text, a mapping, or an object of the SDK.
        request_id: The id of the request.

    Returns:
        The error that it would have been with a status of its own. Whether another attempt may help follows from the
        code.
    """
    if isinstance(error, Mapping):
        message, code, kind = error.get("message"), error.get("code"), error.get("type")
    else:
        message, code, kind = (getattr(error, name, None) for name in ("message", "code", "type"))
    text = message if isinstance(message, str) else error if isinstance(error, str) else "it gave no reason"
    # Some gateways have the status of whom they asked for a code.
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    ours = translate(
        _Told(text, code if isinstance(code, str) else None, kind if isinstance(kind, str) else None, status), PROVIDER
    )
    assert isinstance(ours, SdkTransportError)  # noqa: S101 - it has a body, as those of the provider do
    ours.request_id = request_id
    return ours


def checked_model(request: SdkRequest) -> str:
    """The model to ask.

    Raises:
        ConfigurationError: There is none, or `extra` has what belongs elsewhere.
    """
    if "stream" in request.extra:
        raise ConfigurationError("extra: `stream` is not accepted; call stream() for a stream")
    model = request.extra.get("model", request.model)
    if not isinstance(model, str) or not model:
        raise ConfigurationError('no model: give model="...", to the client or to the request')
    return model


def passed_on(request: SdkRequest) -> dict[str, Any]:
    """What goes to the provider as the user has given it."""
    passed: dict[str, Any] = {}
    if request.extra:
        passed["extra_body"] = request.extra
    if request.headers:
        passed["extra_headers"] = hidden(request.headers)
    return passed


def usage_of(usage: Any) -> Usage | None:
    """Count the tokens of any endpoint: chat and embeddings have other names for them than responses."""
    if usage is None:
        return None
    sent = getattr(usage, "prompt_tokens_details", None) or getattr(usage, "input_tokens_details", None)
    said = getattr(usage, "completion_tokens_details", None) or getattr(usage, "output_tokens_details", None)
    return Usage(
        input_tokens=count(usage, "prompt_tokens") or count(usage, "input_tokens"),
        output_tokens=count(usage, "completion_tokens") or count(usage, "output_tokens"),
        cached_tokens=count(sent, "cached_tokens"),
        cache_write_tokens=count(sent, "cache_write_tokens"),
        reasoning_tokens=count(said, "reasoning_tokens"),
    )


def tool_call(id: str, name: str, arguments: str, reply: Reply, *, cut: bool) -> ToolCall:
    """Make a call of a tool of what the model has written.

    Args:
        id: Of the call.
        name: Of the tool.
        arguments: JSON, or nothing at all.
        reply: Where it stands.
        cut: Whether the answer came to an end before it was all said.

    Raises:
        SdkTransportError: The arguments are no object of JSON.
    """
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        why = ": the answer was cut short, so allow more max_tokens" if cut else ""
        raise SdkTransportError(
            f"{PROVIDER}: the arguments for the tool {name!r:.80} are no JSON object{why}",
            provider=PROVIDER,
            status_code=reply.raw.status_code,
            request_id=reply.request_id,
        )
    return ToolCall(id, name, parsed)


def parsed_as(request: SdkRequest, answer: str, finish_reason: FinishReason, reply: Reply) -> Any:
    """Read the text of an answer in the form that was asked for; None if none was, or the answer is not whole.

    Raises:
        DeserializationError: It has another form.
    """
    if request.response_format is None or finish_reason != "stop":
        return None
    try:
        return request.response_format.parse(answer)
    except DeserializationError as error:
        raise DeserializationError(f"{PROVIDER}: {error} (request {reply.request_id})") from error.__cause__
