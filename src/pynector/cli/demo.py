"""What the demo does: the same requests through both clients, and what came of them. No terminal here."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import anyio

from .. import AsyncPynector, BatchResult, Outcome, Pynector, RetryPolicy
from .._messages.outcome import Summary
from ..errors import PynectorError
from ..testing import LocalServer

ASYNC: Final = AsyncPynector.__name__
BLOCKING: Final = Pynector.__name__

Progress: TypeAlias = Callable[[int, int | None], object]
"""Called with the number of finished requests and of all."""

Bar: TypeAlias = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a progress bar, given the name of a client and the number of its requests."""


@dataclass(frozen=True)
class Plan:
    """What each client is to do. Equal plans give equal requests.

    Attributes:
        requests: How many requests the batch has.
        concurrency: How many of them may be under way at once.
        stream_bytes: How long the streamed answer is.
    """

    requests: int = 1000
    concurrency: int = 50
    stream_bytes: int = 16_000_000

    def batch(self) -> list[dict[str, Any]]:
        """The requests, in order."""
        return [_request(index) for index in range(self.requests)]

    def stream(self) -> dict[str, Any]:
        """The request whose answer is read piece by piece."""
        return {"path": "/big", "params": {"bytes": self.stream_bytes}}


def _request(index: int) -> dict[str, Any]:
    """Most are quick; of 20, one is slow, one is posted, and two fail before they succeed."""
    match index % 20:
        case 4:
            return {"path": f"/slow/{index}", "params": {"ms": 50}}
        case 9:
            return {"method": "POST", "path": "/echo", "json": {"index": index}}
        case 14:
            return {"path": f"/flaky/{index}", "params": {"fail": 1 + index // 20 % 2, "status": 503}}
        case 19:
            # Retry-After counts in whole seconds, and holds everything: the first is asked for one, the rest for none.
            seconds = 1 if index < 20 else 0
            return {"path": f"/flaky/{index}", "params": {"fail": 1, "status": 429, "retry_after": seconds}}
        case _:
            return {"path": f"/items/{index}"}


class Answer(NamedTuple):
    """What one request ended in, as far as both clients must agree on it."""

    status: int
    content: bytes
    error: str

    @classmethod
    def of(cls, outcome: Outcome[Any]) -> "Answer":
        """Take it from the outcome: of a failure the type, as its text may tell of times."""
        if outcome.error is None:
            response = outcome.unwrap()
            return cls(response.status_code, response.content, "")
        return cls(getattr(outcome.error, "status_code", None) or 0, b"", type(outcome.error).__name__)

    def __str__(self) -> str:
        return self.error or f"{self.status} with {len(self.content)} bytes"


@dataclass(slots=True)
class StreamRead:
    """What was read of the stream: the number of bytes, their digest, and the error that ended it, if one did."""

    size: int = 0
    error: str = ""
    _digest: Any = field(default_factory=hashlib.sha256, repr=False)

    @property
    def sha256(self) -> str:
        """The digest of all bytes, in hexadecimal."""
        digest: str = self._digest.hexdigest()
        return digest

    def add(self, chunk: bytes) -> None:
        """Count the next piece."""
        self.size += len(chunk)
        self._digest.update(chunk)

    def fail(self, error: PynectorError) -> None:
        """Note why it ended early."""
        self.error = f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class Run:
    """What one client got.

    Attributes:
        client: The name of its class.
        summary: The figures of its batch.
        answers: One per request, in order.
        errors: The texts of those that failed, by their place.
        stream: What it read of the stream.
    """

    client: str
    summary: Summary
    answers: tuple[Answer, ...]
    errors: dict[int, str]
    stream: StreamRead

    @classmethod
    def of(cls, client: str, result: BatchResult[Any], stream: StreamRead) -> "Run":
        """Take it from what the client returned."""
        errors = {outcome.index: f"{type(outcome.error).__name__}: {outcome.error}" for outcome in result.failed}
        return cls(client, result.summary(), tuple(map(Answer.of, result.outcomes)), errors, stream)

    @property
    def failures(self) -> list[str]:
        """What failed, one line each."""
        lines = [f"{self.client}, request {index}: {error}" for index, error in self.errors.items()]
        return [*lines, f"{self.client}, stream: {self.stream.error}"] if self.stream.error else lines


@dataclass(frozen=True, slots=True)
class Comparison:
    """The runs of both clients, side by side."""

    plan: Plan
    runs: tuple[Run, Run]

    @property
    def differences(self) -> list[str]:
        """Where the answers differ, one line each."""
        first, second = self.runs
        lines = [
            f"request {index}: {first.client} got {one}, {second.client} {other}"
            for index, (one, other) in enumerate(zip(first.answers, second.answers, strict=True))
            if one != other
        ]
        if first.stream.sha256 != second.stream.sha256:
            sizes = f"{first.client} read {first.stream.size} bytes, {second.client} {second.stream.size}"
            lines.append(f"stream: {sizes}, and not the same ones")
        return lines

    @property
    def failures(self) -> list[str]:
        """What failed, one line each."""
        return [line for run in self.runs for line in run.failures]


def compare(plan: Plan, bar: Bar) -> Comparison:
    """Run the plan through both clients, one after the other, against a server in this process."""
    with LocalServer(log_size=1) as server:
        first = anyio.run(run_async, server.url, plan, bar)
        server.reset()  # else nothing would fail at first any more
        second = run_blocking(server.url, plan, bar)
    return Comparison(plan, (first, second))


def options(plan: Plan) -> dict[str, Any]:
    """What both clients are made with. It leaves nothing that could change an answer to the environment."""
    return {
        "retry": RetryPolicy(max_retries=3, backoff_factor=0.05),
        "timeout": None,
        "max_connections": plan.concurrency,
        "trust_env": False,
    }


async def run_async(url: str, plan: Plan, bar: Bar) -> Run:
    """Run the plan through `AsyncPynector`."""
    read = StreamRead()
    async with AsyncPynector(base_url=url, **options(plan)) as client:
        with bar(ASYNC, plan.requests) as progress:
            result = await client.batch_request(plan.batch(), max_concurrency=plan.concurrency, progress=progress)
        try:
            async with client.stream(plan.stream()) as response:
                async for chunk in response:
                    read.add(chunk)
        except PynectorError as error:
            read.fail(error)
    return Run.of(ASYNC, result, read)


def run_blocking(url: str, plan: Plan, bar: Bar) -> Run:
    """Run the plan through `Pynector`: the same lines, without `async` and `await`."""
    read = StreamRead()
    with Pynector(base_url=url, **options(plan)) as client:
        with bar(BLOCKING, plan.requests) as progress:
            result = client.batch_request(plan.batch(), max_concurrency=plan.concurrency, progress=progress)
        try:
            with client.stream(plan.stream()) as response:
                for chunk in response:
                    read.add(chunk)
        except PynectorError as error:
            read.fail(error)
    return Run.of(BLOCKING, result, read)
