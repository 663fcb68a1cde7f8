"""What the application has asked for, as a span: a request with all its attempts, a question to a model, a batch."""

from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from .._messages.sdk import SdkMessage
from .._messages.usage import Usage
from .._sdk.request import SdkRequest
from ..errors import IncompleteStreamError
from . import semconv
from .guard import report_failure
from .metrics import Instruments, instruments
from .tracing import Attributes, Lasting, Tracing, tracing


class Counted(Protocol):
    """The record of a call."""

    attempts: int
    refusals: int


class Operation(Lasting):
    """One call of the application.

    Args:
        found: What spans are made with.
        measured: The instruments; None for none.
        record: What happens to the call.
    """

    __slots__ = ("_record",)

    def __init__(self, found: Tracing, measured: Instruments | None, record: Counted) -> None:
        Lasting.__init__(self, found, measured)
        self._record = record

    def begun(self) -> None:
        """The answer begins to come in."""

    def answered(self, answer: Any) -> None:
        """The whole answer is there."""

    def _attributes(self) -> Attributes:
        attributes: Attributes = {semconv.ATTEMPTS: self._record.attempts}
        if self._record.refusals:
            attributes[semconv.REFUSALS] = self._record.refusals
        return attributes


class Generation(Operation):
    """One question to a language model.

    Args:
        found: What spans are made with.
        measured: The instruments; None for none.
        record: What happens to the call.
        request: The question.
        provider: Who is asked.
        base_url: Where; None if that is not known.
        streamed: Whether the answer is read as it comes.
    """

    __slots__ = ("_about", "_broken", "_first", "_message", "_request", "_streamed", "_usage")

    def __init__(
        self,
        found: Tracing,
        measured: Instruments | None,
        record: Counted,
        request: SdkRequest,
        provider: str,
        base_url: str | None,
        *,
        streamed: bool,
    ) -> None:
        Operation.__init__(self, found, measured, record)
        self._request = request
        self._streamed = streamed
        self._message: SdkMessage | None = None
        self._usage: Usage | None = None
        self._broken = False
        self._first: float | None = None
        self._about: Attributes = {
            semconv.GEN_AI_OPERATION_NAME: "chat" if request.input is None else "embeddings",
            semconv.GEN_AI_PROVIDER_NAME: provider,
        }
        if request.model:
            self._about[semconv.GEN_AI_REQUEST_MODEL] = request.model
        if base_url:
            url = urlsplit(base_url)
            if url.hostname:
                self._about[semconv.SERVER_ADDRESS] = url.hostname
                self._about[semconv.SERVER_PORT] = url.port or _PORTS.get(url.scheme, 443)

    def begin(self, tracer: Any, attributes: Mapping[str, Any]) -> None:
        """Start the span."""
        request = self._request
        operation = self._about[semconv.GEN_AI_OPERATION_NAME]
        given: Attributes = {
            **self._about,
            **attributes,
            semconv.GEN_AI_REQUEST_STREAM: self._streamed or None,
            semconv.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
            semconv.GEN_AI_REQUEST_TEMPERATURE: request.temperature,
            semconv.GEN_AI_REQUEST_TOP_P: request.top_p,
            semconv.GEN_AI_REQUEST_STOP_SEQUENCES: request.stop or None,
            semconv.GEN_AI_OUTPUT_TYPE: None if request.response_format is None else "json",
        }
        name = f"{operation} {request.model}" if request.model else operation
        self.start(tracer, name, "CLIENT", {key: value for key, value in given.items() if value is not None})

    def answered(self, answer: Any) -> None:
        """The whole answer is there."""
        if isinstance(answer, SdkMessage):
            self._message = answer
            self.used(answer.usage)

    def begun(self) -> None:
        """The answer begins to come in."""
        if self._streamed:
            self._first = self.lasts()

    def used(self, usage: Usage | None) -> None:
        """It has taken so many tokens, as far as is known by now."""
        self._usage = usage or self._usage

    def _outcome(self, error: BaseException | None) -> tuple[str, str] | None:
        self._broken = isinstance(error, IncompleteStreamError)
        return Operation._outcome(self, error)

    def _attributes(self) -> Attributes:
        attributes = Operation._attributes(self)
        message, usage = self._message, self._usage
        if message is not None:
            if message.model:
                attributes[semconv.GEN_AI_RESPONSE_MODEL] = message.model
            if message.embeddings is None:
                attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] = [message.finish_reason]
            if isinstance(found := getattr(message.raw, "id", None), str):
                attributes[semconv.GEN_AI_RESPONSE_ID] = found
        elif self._broken:
            attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] = ["error"]
        if self._first is not None:
            attributes[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = self._first
        if usage is not None:
            attributes[semconv.GEN_AI_USAGE_INPUT_TOKENS] = usage.input_tokens
            attributes[semconv.GEN_AI_USAGE_OUTPUT_TOKENS] = usage.output_tokens
            for name, tokens in (
                (semconv.GEN_AI_USAGE_CACHE_READ, usage.cached_tokens),
                (semconv.GEN_AI_USAGE_CACHE_CREATION, usage.cache_write_tokens),
                (semconv.GEN_AI_USAGE_REASONING, usage.reasoning_tokens),
            ):
                if tokens:
                    attributes[name] = tokens
        return attributes

    def _measure(self, seconds: float, error: tuple[str, str] | None) -> None:
        measured, usage = self.measured, self._usage
        if measured is None:
            return
        about = dict(self._about)
        if self._message is not None and self._message.model:
            about[semconv.GEN_AI_RESPONSE_MODEL] = self._message.model
        if usage is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                measured.record(semconv.GEN_AI_TOKENS, tokens, {**about, semconv.GEN_AI_TOKEN_TYPE: kind})
        if self._first is not None:
            measured.record(semconv.GEN_AI_FIRST_CHUNK, self._first, about)
        if error is not None:
            about[semconv.ERROR_TYPE] = error[0]
        measured.record(semconv.GEN_AI_DURATION, seconds, about)


_PORTS: Final = {"http": 80, "https": 443}


class BatchOperation(Lasting):
    """One batch.

    Attributes:
        counts: What became of its items, by the name of an attribute.
    """

    __slots__ = ("counts",)

    def __init__(self, found: Tracing) -> None:
        Lasting.__init__(self, found, None)
        self.counts: dict[str, int] = {}

    def _attributes(self) -> Attributes:
        return dict(self.counts)


def start_operation(name: str, record: Counted, attributes: Mapping[str, Any]) -> Operation | None:
    """Start the span of a call; None if nothing would be recorded."""
    found = tracing()
    tracer = None if found is None else found.tracer()
    if found is None or tracer is None:
        return None
    operation = Operation(found, None, record)
    operation.start(tracer, name, "INTERNAL", dict(attributes))
    return operation


def start_generation(
    request: SdkRequest,
    record: Counted,
    attributes: Mapping[str, Any],
    *,
    provider: str,
    base_url: str | None,
    streamed: bool,
    spans: bool,
) -> Generation | None:
    """Start the span of a question to a language model; None if nothing would be recorded.

    Args:
        request: The question.
        record: What happens to it.
        attributes: What else the span has.
        provider: Who is asked.
        base_url: Where; None if that is not known.
        streamed: Whether the answer is read as it comes.
        spans: Whether there is a span; else it is measured only.
    """
    found, measured = tracing(), instruments()
    tracer = found.tracer() if found is not None and spans else None
    if found is None or (tracer is None and measured is None):
        return None
    try:
        generation = Generation(found, measured, record, request, provider, base_url, streamed=streamed)
        if tracer is not None:
            generation.begin(tracer, attributes)
    except Exception as exc:  # noqa: BLE001 - an adapter of the application's may have said anything
        report_failure("span start", exc)
        return None
    return generation


def start_batch(size: int | None, limit: int) -> BatchOperation | None:
    """Start the span of a batch; None if nothing would be recorded.

    Args:
        size: How many items it has, if that is known.
        limit: The most requests at once.
    """
    found = tracing()
    tracer = None if found is None else found.tracer()
    if found is None or tracer is None:
        return None
    operation = BatchOperation(found)
    attributes: Attributes = {semconv.BATCH_MAX_CONCURRENCY: limit}
    if size is not None:
        attributes[semconv.BATCH_SIZE] = size
    operation.start(tracer, semconv.BATCH, "INTERNAL", attributes)
    return operation
