"""What is known of an item before it is sent: its key, the answer of an earlier run, an equal item of this run."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..._checkpoint.file import CheckpointFile
from ..._checkpoint.keys import KEYLESS, ItemKeys, KeyFunction, item_key, request_key, split_key
from ..._messages.outcome import Outcome, make_outcome
from ..._mutex import ProcessMutex
from ...errors import CheckpointError, SerializationError
from .job import Job


class _Equal:
    """A request that several items have in common.

    Args:
        name: What they have in common.

    Attributes:
        answer: What became of the first of them, once it has an answer.
        followers: The others, while it has none.
    """

    __slots__ = ("answer", "followers", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Outcome[Any] | None = None
        self.followers: list[Job] = []


class Memo:
    """Finds the items that need no request, and keeps what became of the others.

    Args:
        checkpoint: Where outcomes are kept for the next run; None for nowhere.
        key: The user's function for keys, which is called by whoever reads the input.
        dedupe: Whether equal requests share one call.
        http: Whether items are HTTP requests.
        own: Whether the transport is ours, so that keys are taken out of what is sent.

    Attributes:
        plain: Whether there is nothing to find or to keep, but the keys that items bring along.
        error: Why nothing can be kept any more.
    """

    def __init__(
        self, *, checkpoint: CheckpointFile | None, key: KeyFunction | None, dedupe: bool, http: bool, own: bool
    ) -> None:
        self.checkpoint = checkpoint
        self.key = key
        self.plain = checkpoint is None and key is None and not dedupe
        self._http = http
        self._own = own
        self._keys = None if checkpoint is None else ItemKeys(key, http=http)
        self._equal: dict[str, _Equal] | None = {} if dedupe else None
        self._leaders: dict[int, _Equal] = {}
        self._mutex = ProcessMutex()
        self.error: CheckpointError | None = None

    def name(self, job: Job) -> None:
        """Give an item its key, and take that out of what is sent.

        Raises:
            PynectorError: It has none, or one that is another's.
        """
        if self._keys is not None:
            with self._mutex:
                job.key = self._keys.take(job.data, job.index)
        elif self.key is not None:
            job.key = item_key(job.data, job.index, self.key, http=self._http)
        own, job.request = split_key(job.data, take_out=self._own)
        if job.key is None:
            job.key = own

    def concerns(self, job: Job) -> bool:
        """Whether `begin` has anything to do for an item."""
        if not self.plain:
            return True
        data = job.data
        kind = type(data)
        if kind is dict:
            return "custom_id" in data or "key" in data
        # To look into a mapping that is not the usual one may run any code.
        return kind not in KEYLESS and isinstance(data, Mapping)

    def label(self, job: Job) -> None:
        """Give an item that is left out its key, if it has a usable one."""
        with suppress(Exception):
            self.name(job)

    def begin(self, job: Job) -> list[Outcome[Any]] | None:
        """Take up an item.

        Returns:
            Its outcome, if that is known; nothing, if it waits for that of an equal item; None if it is to be sent.
        """
        try:
            if job.key is None or self.key is None:
                self.name(job)
            if self.checkpoint is not None and job.key is not None:
                outcome = self.checkpoint.outcome(job.key, job.index, job.data)
                if outcome is not None:
                    return [outcome]
            return None if self._equal is None else self._join(job, self._equal)
        except CheckpointError as error:
            self.error = self.error or error
            return [job.fail(error, 0.0)]
        except Exception as error:  # also what the code of an item raises when it is looked at
            return [job.fail(error, 0.0)]

    def _join(self, job: Job, equal: dict[str, _Equal]) -> list[Outcome[Any]] | None:
        try:
            name = request_key(job.request, http=self._http) + _told(job.options)
        except SerializationError:
            return None  # who knows what is in a file
        with self._mutex:
            known = equal.get(name)
            if known is None:
                equal[name] = self._leaders[job.index] = _Equal(name)
                return None
            if known.answer is None:
                known.followers.append(job)
                return []
        return [self._keep(_copy(known.answer, job))]

    def conclude(self, job: Job, outcome: Outcome[Any], *, cut: bool = False) -> list[Outcome[Any]]:
        """An item has its outcome: so have those that waited for it.

        Args:
            job: The item.
            outcome: What became of it.
            cut: Whether it was cut short: if it was not sent, there is nothing to keep for a later run.
        """
        # What was sent and not answered is kept, for those who never want to send anything twice.
        keep = _unchanged if cut and outcome.state != "unknown" else self._keep
        outcomes = [keep(outcome)]
        if self._equal is None:
            return outcomes
        with self._mutex:
            leader = self._leaders.pop(job.index, None)
            if leader is None:
                return outcomes
            followers, leader.followers = leader.followers, []
            if outcome.error is None:
                leader.answer = outcome
            else:
                # The next one tries anew.
                self._equal.pop(leader.name, None)
        outcomes += [keep(_copy(outcome, follower)) for follower in followers]
        return outcomes

    def sync(self) -> None:
        """Wait until the checkpoint is on the disk."""
        try:
            if self.checkpoint is not None:
                self.checkpoint.sync()
        except CheckpointError as error:
            self.error = error

    def _keep(self, outcome: Outcome[Any]) -> Outcome[Any]:
        if self.checkpoint is not None and outcome.key is not None and self.error is None:
            try:
                self.checkpoint.write(outcome, outcome.key)
            except CheckpointError as error:
                self.error = error
            except SerializationError as error:
                # It was answered all the same, and that is delivered; the next run asks again.
                self.error = CheckpointError(f"the answer of item {outcome.index} cannot be kept: {error}")
                self.error.__cause__ = error
        return outcome


def _unchanged(outcome: Outcome[Any]) -> Outcome[Any]:
    return outcome


def _told(options: Mapping[str, Any]) -> str:
    return repr(sorted(options.items(), key=str)) if options else ""


def _copy(outcome: Outcome[Any], job: Job) -> Outcome[Any]:
    """The outcome of an equal item, as that of another one."""
    state = outcome.state
    return make_outcome(job.index, job.data, outcome.value, outcome.error, state, 0, 0.0, job.key, "duplicate")
