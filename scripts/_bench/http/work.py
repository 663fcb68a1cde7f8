"""What every contestant does, and the check that it was done."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


class Unavailable(Exception):
    """A contestant can't take part here; the text says why."""


class WrongAnswer(Exception):
    """A contestant got something else than the server sends."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request, and its answer.

    Args:
        name: As the reports call it.
        method: GET or POST.
        path: Where the server has it.
        received: Bytes of the body of the answer.
        parsed: Whether the body is parsed as JSON, by the means of each contestant.
        sent: The JSON to send; None for nothing.
        share: How many requests make a block, as a share of the usual number.
    """

    name: str
    method: str
    path: str
    received: int
    parsed: bool
    sent: dict[str, Any] | None = None
    share: float = 1.0


def document(size: int) -> dict[str, Any]:
    """What is exactly `size` bytes long as compact JSON."""
    frame = len(encode({"id": 1, "text": ""}))
    return {"id": 1, "text": "x" * (size - frame)}


def encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


SMALL, MEDIUM, LARGE = 100, 10_000, 1_000_000

ANSWER = "Three rivers are the Rhine, the Danube and the Elbe."
COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "gpt-5",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 11,
        "total_tokens": 23,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
"""An answer of OpenAI, as its API reference has it (chat completions)."""
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [{"type": "text", "text": ANSWER}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 12,
        "output_tokens": 11,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    },
}
"""An answer of Anthropic, as its API reference has it (messages)."""

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("GET 100 B", "GET", "/small", SMALL, parsed=True),
        Workload("GET 10 KB", "GET", "/medium", MEDIUM, parsed=False),
        Workload("GET 1 MB", "GET", "/large", LARGE, parsed=False, share=0.05),
        Workload("POST 100 B", "POST", "/post", SMALL, parsed=True, sent=document(SMALL)),
        Workload("POST 10 KB", "POST", "/post", SMALL, parsed=True, sent=document(MEDIUM)),
        Workload("POST 1 MB", "POST", "/upload", SMALL, parsed=True, sent=document(LARGE), share=0.05),
    )
}


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement, as it goes to the process that does it.

    Args:
        contestant: Who.
        workload: What, by its name in `WORKLOADS`.
        concurrency: How many requests at once.
        requests: How many make a block; the clock is looked at after each block.
        seconds: Blocks are repeated until so much time has passed.
        origin: The server, `http://127.0.0.1:12345`.
    """

    contestant: str
    workload: str
    concurrency: int
    requests: int
    seconds: float
    origin: str

    @property
    def work(self) -> Workload:
        return WORKLOADS[self.workload]

    @property
    def url(self) -> str:
        return self.origin + self.work.path

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Job":
        return cls(**json.loads(text))

    def check(self, status: int, length: int) -> None:
        """Every contestant calls this for every answer.

        Raises:
            WrongAnswer: It is not what the server sends.
        """
        if status != 200 or length != self.work.received:
            raise WrongAnswer(f"{self.contestant}, {self.workload}: status {status}, {length} bytes")

    def check_all(self, status: int, length: int, parse: Callable[[], Any]) -> None:
        """`check`, and then what `parse` (the contestant's own `.json`) gives, if the workload has it."""
        self.check(status, length)
        if self.work.parsed:
            self.check_document(parse())

    def check_document(self, parsed: Any) -> None:
        """The same for a parsed body.

        Raises:
            WrongAnswer: It is not what the server sends.
        """
        if parsed["id"] != 1:
            raise WrongAnswer(f"{self.contestant}, {self.workload}: {parsed!r:.80}")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one measurement found, in seconds for one request.

    Args:
        wall: By the clock on the wall.
        cpu: By the clock of the client's process, all its threads together.
        requests: How many requests that is the mean of.
    """

    wall: float
    cpu: float
    requests: int
