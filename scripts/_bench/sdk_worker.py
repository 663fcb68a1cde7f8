"""One measurement of completions in a process of its own: `python -m _bench.sdk_worker ours openai async 99 64 URL`."""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from time import perf_counter
from typing import Any

from .http.work import ANSWER

MODELS = {"openai": "gpt-5", "anthropic": "claude-sonnet-5-5"}
PROMPT = "Name three rivers."
MAX_TOKENS = 64


def check(text: str | None) -> None:
    if text != ANSWER:
        raise AssertionError(f"not the answer of the server: {text!r}")


def url_of(provider: str, origin: str) -> str:
    return f"{origin}/v1" if provider == "openai" else origin


def options_of(provider: str, origin: str, who: str) -> dict[str, Any]:
    engine = who.partition(": ")[2]
    return {
        "transport_type": "sdk",
        "sdk_type": provider,
        "api_key": "sk-bench",
        "base_url": url_of(provider, origin),
        "model": MODELS[provider],
        "max_tokens": MAX_TOKENS,
        "enable_telemetry": False,
        **({"engine": engine} if engine else {}),
    }


def arguments_of(provider: str) -> dict[str, Any]:
    limit = {"max_completion_tokens" if provider == "openai" else "max_tokens": MAX_TOKENS}
    return {"model": MODELS[provider], "messages": [{"role": "user", "content": PROMPT}], **limit}


def text_of(answer: Any, provider: str) -> str | None:
    text: str | None = answer.choices[0].message.content if provider == "openai" else answer.content[0].text
    return text


async def ours_async(provider: str, count: int, limit: int, origin: str, who: str) -> float:
    from pynector import AsyncPynector

    async with AsyncPynector(**options_of(provider, origin, who)) as client:
        await client.batch_request([PROMPT] * limit, max_concurrency=limit)
        started = perf_counter()
        results = await client.batch_request((PROMPT for _ in range(count)), max_concurrency=limit)
        seconds = perf_counter() - started
    for outcome in results.outcomes:
        check(outcome.unwrap().text)
    return seconds / count


def ours_blocking(provider: str, count: int, limit: int, origin: str, who: str) -> float:
    from pynector import Pynector

    with Pynector(**options_of(provider, origin, who)) as client:
        client.batch_request([PROMPT] * limit, max_concurrency=limit)
        started = perf_counter()
        results = client.batch_request((PROMPT for _ in range(count)), max_concurrency=limit)
        seconds = perf_counter() - started
    for outcome in results.outcomes:
        check(outcome.unwrap().text)
    return seconds / count


async def bare_async(provider: str, count: int, limit: int, origin: str) -> float:
    sdk: Any = import_module(provider)
    make = sdk.AsyncOpenAI if provider == "openai" else sdk.AsyncAnthropic
    async with make(api_key="sk-bench", base_url=url_of(provider, origin)) as client:
        create = client.chat.completions.create if provider == "openai" else client.messages.create
        semaphore = asyncio.Semaphore(limit)

        async def one() -> Any:
            async with semaphore:
                return await create(**arguments_of(provider))

        await asyncio.gather(*(one() for _ in range(limit)))
        started = perf_counter()
        answers = await asyncio.gather(*(one() for _ in range(count)))
        seconds = perf_counter() - started
    for answer in answers:
        check(text_of(answer, provider))
    return seconds / count


def bare_blocking(provider: str, count: int, limit: int, origin: str) -> float:
    sdk: Any = import_module(provider)
    make = sdk.OpenAI if provider == "openai" else sdk.Anthropic
    with make(api_key="sk-bench", base_url=url_of(provider, origin)) as client, ThreadPoolExecutor(limit) as pool:
        create = client.chat.completions.create if provider == "openai" else client.messages.create

        def one(_: int) -> Any:
            return create(**arguments_of(provider))

        list(pool.map(one, range(limit)))
        started = perf_counter()
        answers = list(pool.map(one, range(count)))
        seconds = perf_counter() - started
    for answer in answers:
        check(text_of(answer, provider))
    return seconds / count


def main(who: str, provider: str, colour: str, count: str, limit: str, origin: str) -> dict[str, Any]:
    """Measure once.

    Returns:
        What it took; or under `unavailable` why this contestant can't take part.
    """
    from pynector.errors import ConfigurationError

    asked = provider, int(count), int(limit), origin
    try:
        if who == "bare SDK":
            return {"seconds": asyncio.run(bare_async(*asked)) if colour == "async" else bare_blocking(*asked)}
        return {"seconds": asyncio.run(ours_async(*asked, who)) if colour == "async" else ours_blocking(*asked, who)}
    except (ModuleNotFoundError, ConfigurationError) as exc:
        return {"unavailable": str(exc).splitlines()[0]}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
