"""`Checkpoint`: how a batch is kept for a later run."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._messages.usage import Usage
from ..errors import ConfigurationError
from .file import CheckpointFile


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file that a batch can be resumed from, and how. A path alone is as good, if nothing else is to be said.

    Args:
        path: The file. It is made if there is none; if it is of another job, the run refuses it.
        retry_failed: Whether items that have failed are tried again in the next run. With False their error is their
            outcome there too.
        encode: Turns an answer into what JSON can hold; for answers of a kind that this library does not know.
        decode: Turns that into an answer again.

    Raises:
        ConfigurationError: The path is none.

    Example:
        ```python
        with client.stream_batch(requests, checkpoint=Checkpoint("run.jsonl", retry_failed=False)) as run:
            for outcome in run:
                print(outcome.key, outcome.source)
        ```
    """

    path: str | os.PathLike[str]
    retry_failed: bool = True
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ConfigurationError(
                f"argument `checkpoint`: {self.path!r:.80} is not accepted; give the path of a file, or a Checkpoint"
            )

    def file(self, fingerprint: str) -> CheckpointFile:
        """The file itself, not yet open, for the job with this fingerprint."""
        return CheckpointFile(
            self.path,
            fingerprint,
            retry_failed=self.retry_failed,
            encode=self.encode,
            decode=self.decode,
            usage_type=Usage,
            # The run waits for the disk itself, where that keeps nobody else waiting.
            syncs=False,
        )
