"""Every name that telemetry has: spans, attributes, metrics, events. Nothing of it is spelled anywhere else.

HTTP names are the stable ones of the semantic conventions of OpenTelemetry, version 1.44.0. Those of language models
are still in development; these are the names that are in use today. What no convention has a name for begins with
`pynector.`.
"""

from typing import Final, NamedTuple

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""Which version of the conventions the names are of."""

SCOPE: Final = "pynector"
"""The name of the instrumentation scope, of spans and of metrics."""

# Spans

REQUEST: Final = "pynector.request"
BATCH: Final = "pynector.batch"
STREAM: Final = "pynector.stream"
DOWNLOAD: Final = "pynector.download"
UNKNOWN_METHOD: Final = "HTTP"

SPANS: Final[dict[str, str]] = {
    REQUEST: "INTERNAL. One request of a client, with all its attempts and the waits between them.",
    STREAM: "INTERNAL. The same for an answer that is read piece by piece, until it is left.",
    DOWNLOAD: "INTERNAL. The same for a download to a file.",
    BATCH: "INTERNAL. One batch, from its first request to its last.",
    "{http.request.method}": "CLIENT. One request on the wire: each attempt, and each step of a redirect. Until the "
    "body was read.",
    "{gen_ai.operation.name} {gen_ai.request.model}": "CLIENT. One question to a language model, in place of "
    "`pynector.request` and `pynector.stream`: with all its attempts, until its answer was read.",
}

# Of HTTP

HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_REQUEST_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
URL_FULL: Final = "url.full"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
NETWORK_PEER_PORT: Final = "network.peer.port"
ERROR_TYPE: Final = "error.type"

# Of language models

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - of the other kind

# Our own

ATTEMPTS: Final = "pynector.request.attempts"
REFUSALS: Final = "pynector.request.refusals"
BATCH_SIZE: Final = "pynector.batch.size"
BATCH_MAX_CONCURRENCY: Final = "pynector.batch.max_concurrency"
BATCH_OK: Final = "pynector.batch.ok"
BATCH_FAILED: Final = "pynector.batch.failed"
BATCH_NOT_SENT: Final = "pynector.batch.not_sent"
BATCH_UNKNOWN: Final = "pynector.batch.unknown"
BATCH_RETRIES: Final = "pynector.batch.retries"
BATCH_INDEX: Final = "pynector.batch.index"
RETRY_REASON: Final = "pynector.retry.reason"

ATTRIBUTES: Final[dict[str, str]] = {
    HTTP_REQUEST_METHOD: "The method; `_OTHER` for one that is not known.",
    HTTP_REQUEST_METHOD_ORIGINAL: "The method, if it is not known.",
    HTTP_REQUEST_RESEND_COUNT: "How often this request was sent before, for whatever reason: retries, redirects, "
    "authentication. Not on the first one.",
    HTTP_RESPONSE_STATUS_CODE: "The status of the answer.",
    SERVER_ADDRESS: "The host of the URL.",
    SERVER_PORT: "The port, also where it is the usual one.",
    URL_FULL: "The URL, redacted.",
    NETWORK_PROTOCOL_VERSION: "`1.1` or `2`.",
    NETWORK_PEER_ADDRESS: "The address at the other end of the connection, which may be that of a proxy; or the path "
    "of a Unix socket. Of the engines `httpx` and `httpx2`.",
    NETWORK_PEER_PORT: "The port at the other end.",
    ERROR_TYPE: "What went wrong: a status, or the name of an exception. Only on what has failed.",
    GEN_AI_OPERATION_NAME: "`chat` or `embeddings`.",
    GEN_AI_PROVIDER_NAME: "`openai`, `anthropic`, or the name of an adapter.",
    GEN_AI_OUTPUT_TYPE: "`json`, if the answer has to have a form.",
    GEN_AI_REQUEST_MODEL: "The model that was asked.",
    GEN_AI_REQUEST_STREAM: "True for an answer that is read as it comes.",
    GEN_AI_REQUEST_MAX_TOKENS: "The most tokens of the answer.",
    GEN_AI_REQUEST_TEMPERATURE: "As it was given.",
    GEN_AI_REQUEST_TOP_P: "As it was given.",
    GEN_AI_REQUEST_STOP_SEQUENCES: "As they were given.",
    GEN_AI_RESPONSE_ID: "The provider's id of the answer.",
    GEN_AI_RESPONSE_MODEL: "The model that has answered.",
    GEN_AI_RESPONSE_FINISH_REASONS: "Why the answer ended; `error` for a stream that broke off.",
    GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: "Of an answer that is read as it comes: the seconds until its first piece, "
    "retries included.",
    GEN_AI_USAGE_INPUT_TOKENS: "Tokens that were sent, cached ones included.",
    GEN_AI_USAGE_OUTPUT_TOKENS: "Tokens of the answer, reasoning included.",
    GEN_AI_USAGE_CACHE_READ: "Of the tokens that were sent, those from the provider's cache.",
    GEN_AI_USAGE_CACHE_CREATION: "Of the tokens that were sent, those written to the provider's cache.",
    GEN_AI_USAGE_REASONING: "Of the tokens of the answer, those that were not shown.",
    GEN_AI_TOKEN_TYPE: "`input` or `output`; of the metric only.",
    ATTEMPTS: "How often a request was tried. Where it was put off does not count.",
    REFUSALS: "How often it was put off, as its server had too much to do. Not where that is 0.",
    BATCH_SIZE: "How many items there are, if the input has a length.",
    BATCH_MAX_CONCURRENCY: "The most requests at once.",
    BATCH_OK: "How many items have an answer.",
    BATCH_FAILED: "How many have failed.",
    BATCH_NOT_SENT: "How many were never sent.",
    BATCH_UNKNOWN: "How many were sent, with no answer seen.",
    BATCH_RETRIES: "How often items were sent again, all together.",
    BATCH_INDEX: "The place of a request in its batch.",
    RETRY_REASON: "Why a request was sent again: a status, or the name of an exception.",
}

# Metrics


class Metric(NamedTuple):
    """What a metric is.

    Attributes:
        name: Its name.
        kind: Which instrument of OpenTelemetry it is.
        unit: By UCUM.
        description: What it measures.
        boundaries: Of the buckets of a histogram.
    """

    name: str
    kind: str
    unit: str
    description: str
    boundaries: tuple[float, ...] = ()


_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_GEN_AI_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

REQUEST_DURATION: Final = Metric(
    "http.client.request.duration",
    "histogram",
    "s",
    "Duration of HTTP client requests: each attempt on its own, as its span.",
    _SECONDS,
)
GEN_AI_DURATION: Final = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "Duration of a question to a language model, with all its attempts.",
    _GEN_AI_SECONDS,
)
GEN_AI_FIRST_CHUNK: Final = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "Time to the first piece of an answer that is read as it comes, with all attempts up to it.",
    _GEN_AI_SECONDS,
)
GEN_AI_TOKENS: Final = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens that a question to a language model has used, by `gen_ai.token.type`.",
    tuple(4.0**power for power in range(14)),
)
RETRIES: Final = Metric(
    "pynector.client.retries", "counter", "{retry}", "Requests that are sent again, by `pynector.retry.reason`."
)
LIMITER_WAIT: Final = Metric(
    "pynector.client.limiter.wait",
    "histogram",
    "s",
    "How long an attempt was held back by rate limits, pauses and the limit to requests at once.",
    (*_SECONDS, 30, 60),
)
QUEUE_WAIT: Final = Metric(
    "pynector.batch.queue.wait",
    "histogram",
    "s",
    "How long an item of a batch waited for a worker after it was read; items that workers read themselves never do.",
    (*_SECONDS, 30, 60),
)
IN_FLIGHT: Final = Metric(
    "pynector.batch.in_flight", "observable up-down counter", "{request}", "Items of batches that are under way."
)
HELD: Final = Metric(
    "pynector.batch.held", "observable up-down counter", "{request}", "Items of batches that limits hold back."
)
CONCURRENCY: Final = Metric(
    "pynector.batch.concurrency_limit",
    "observable up-down counter",
    "{request}",
    "How many items may be under way at this moment, over all batches that run.",
)

METRICS: Final = (
    REQUEST_DURATION,
    GEN_AI_DURATION,
    GEN_AI_FIRST_CHUNK,
    GEN_AI_TOKENS,
    RETRIES,
    LIMITER_WAIT,
    QUEUE_WAIT,
    IN_FLIGHT,
    HELD,
    CONCURRENCY,
)
