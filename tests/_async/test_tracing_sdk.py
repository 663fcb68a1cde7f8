"""Spans of questions to language models, through the real SDKs."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from pynector import AsyncPynector, RetryPolicy
from pynector.errors import IncompleteStreamError, SdkTransportError
from pynector.transport.sdk import AsyncSdkTransport
from servers.provider_server import ProviderServer
from servers.recorded import Recorded, attributes, id_of, is_client, is_unset, recording, trace_of

pytestmark = pytest.mark.usefixtures("no_proxies_around")

QUICK = RetryPolicy(max_retries=2, backoff_factor=0.001, budget=None)


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recording() as recorded:
        yield recorded


def client_of(provider: ProviderServer, **options: Any) -> AsyncPynector:
    return AsyncPynector(**provider.options(**options), retry=QUICK)


def context_of(provider: ProviderServer) -> list[str]:
    return [
        value
        for request in provider.server.requests.recent
        for name, value in request.headers
        if name.lower() == "traceparent"
    ]


async def test_a_question(provider: ProviderServer, spans: Recorded) -> None:
    provider.server.reset()
    async with client_of(provider) as client:
        message = await client.request("Name three rivers.", max_tokens=50, temperature=0.5)
    span, attempt = spans.one(f"chat {provider.model}"), spans.one("POST")
    assert is_client(span)
    assert is_unset(span)
    found = attributes(span)
    assert found.pop("gen_ai.response.id")
    usage = message.usage
    optional = {
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    assert found == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider.name,
        "gen_ai.request.model": provider.model,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.model": message.model,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": message.usage.input_tokens,
        "gen_ai.usage.output_tokens": message.usage.output_tokens,
        "server.address": "127.0.0.1",
        "server.port": provider.server.port,
        "pynector.request.attempts": 1,
        **{name: tokens for name, tokens in optional.items() if tokens},
    }
    # Those of the SDK of Anthropic would be a third one.
    assert spans.children(span) == [attempt]
    assert len(spans.spans) == 2
    assert [context.split("-")[1:3] for context in context_of(provider)] == [
        [f"{trace_of(attempt):032x}", f"{id_of(attempt):016x}"]
    ]
    assert "rivers" not in repr([attributes(each) for each in spans.spans])
    (duration,) = spans.metric("gen_ai.client.operation.duration")
    assert span.start_time is not None
    assert span.end_time is not None
    assert duration.sum == (span.end_time - span.start_time) / 1e9
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in spans.metric("gen_ai.client.token.usage")}
    assert tokens == {"input": message.usage.input_tokens, "output": message.usage.output_tokens}
    assert not spans.metric("gen_ai.client.operation.time_to_first_chunk")


async def test_retries_are_inside(provider: ProviderServer, spans: Recorded) -> None:
    async with client_of(provider) as client:
        await client.request("scenario=503x2 traced")
    span = spans.one(f"chat {provider.model}")
    assert is_unset(span)
    found = [attributes(each) for each in spans.children(span)]
    assert [each["http.response.status_code"] for each in found] == [503, 503, 200]
    assert [each.get("http.request.resend_count") for each in found] == [None, 1, 2]


async def test_a_refusal(provider: ProviderServer, spans: Recorded) -> None:
    async with client_of(provider) as client:
        with pytest.raises(SdkTransportError):
            await client.request("scenario=400")
    span = spans.one(f"chat {provider.model}")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "pynector.errors.InvalidRequestError"
    assert "gen_ai.response.model" not in attributes(span)
    (duration,) = spans.metric("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "pynector.errors.InvalidRequestError"


async def test_a_stream(provider: ProviderServer, spans: Recorded) -> None:
    async with client_of(provider) as client:
        async with client.stream("Name three rivers.") as answer:
            await anext(aiter(answer))
            assert not spans.named(f"chat {provider.model}")
            message = await answer.read()
            assert spans.named(f"chat {provider.model}")
    span = spans.one(f"chat {provider.model}")
    found = attributes(span)
    assert is_unset(span)
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["gen_ai.usage.output_tokens"] == message.usage.output_tokens
    assert [each.name for each in spans.children(span)] == ["POST"]
    assert len(spans.spans) == 2
    assert span.start_time is not None
    assert span.end_time is not None
    (first,) = spans.metric("gen_ai.client.operation.time_to_first_chunk")
    assert first.sum == found["gen_ai.response.time_to_first_chunk"]
    assert 0 < first.sum <= (span.end_time - span.start_time) / 1e9
    assert first.attributes["gen_ai.request.model"] == provider.model


async def test_a_stream_that_breaks_off(provider: ProviderServer, spans: Recorded) -> None:
    async with client_of(provider) as client:
        with pytest.raises(IncompleteStreamError):
            async with client.stream("scenario=truncate traced") as answer:
                await answer.read()
    span = spans.one(f"chat {provider.model}")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "pynector.errors.IncompleteStreamError"
    assert attributes(span)["gen_ai.response.finish_reasons"] == ("error",)


async def test_a_stream_that_is_left(provider: ProviderServer, spans: Recorded) -> None:
    async with client_of(provider) as client:
        async with client.stream("Name three rivers.") as answer:
            await anext(aiter(answer))
    gc.collect()
    assert {span.name for span in spans.spans} == {"POST", f"chat {provider.model}"}
    assert all(is_unset(span) for span in spans.spans)


async def test_a_batch(provider: ProviderServer, spans: Recorded) -> None:
    async with client_of(provider) as client:
        await client.batch_request([f"Question {number}" for number in range(10)], max_concurrency=4)
    batch = spans.one("pynector.batch")
    questions = spans.children(batch)
    assert {span.name for span in questions} == {f"chat {provider.model}"}
    assert sorted(attributes(span)["pynector.batch.index"] for span in questions) == list(range(10))
    assert all(len(spans.children(span)) == 1 for span in questions)


async def test_embeddings(openai_server: ProviderServer, spans: Recorded) -> None:
    async with client_of(openai_server) as client:
        await client.request({"input": ["one", "two"], "model": "text-embedding-3-small"})
    found = attributes(spans.one("embeddings text-embedding-3-small"))
    assert found["gen_ai.operation.name"] == "embeddings"
    assert "gen_ai.response.finish_reasons" not in found


async def test_a_bare_transport(provider: ProviderServer, spans: Recorded) -> None:
    options = provider.options()
    del options["transport_type"]
    async with AsyncSdkTransport(**options) as transport:
        await transport.request("Name three rivers.")
        async with transport.stream("Name three rivers.") as answer:
            await answer.read()
    assert [span.name for span in spans.spans if "gen_ai.operation.name" in attributes(span)] == [
        f"chat {provider.model}"
    ] * 2
    assert len(spans.attempts) == 2


async def test_a_client_without_telemetry(provider: ProviderServer, spans: Recorded) -> None:
    provider.server.reset()
    async with client_of(provider, enable_telemetry=False) as client:
        await client.request("Name three rivers.")
        async with client.stream("Name three rivers.") as answer:
            await answer.read()
    assert not spans.spans
    assert not spans.metric("gen_ai.client.operation.duration")
    assert not context_of(provider)
