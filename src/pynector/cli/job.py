"""A batch from lines to rows: what is sent, what is written, what is counted."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from .. import Outcome
from .._messages.http import HttpMessage
from .._messages.outcome import RunStats
from .._messages.redact import is_sensitive_header
from . import rows
from .interrupts import Interrupts
from .output import Output, OutputError, digest

_PORTS: Final = {"http": 80, "https": 443}


class Run(Protocol):
    """What hands out outcomes, as `stream_batch` does."""

    def __iter__(self) -> Iterator[Outcome[Any]]: ...
    def __next__(self) -> Outcome[Any]: ...
    @property
    def stats(self) -> RunStats:
        """How far it is."""
        ...


class Server:
    """The server of the base URL, and what is sent to it alone.

    Args:
        base_url: An absolute URL, or `""` for none: then every row needs one.
        headers: Those of `--header` and the key.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(base_url)
        self._base_path = parts.path
        self._origin = _origin(parts) if base_url else None
        self.root = urlunsplit((parts.scheme, parts.netloc, "", "", ""))
        """What paths are appended to."""
        self.public = dict(headers)
        """The headers of every request, wherever it goes."""
        self._private: dict[str, str] = {}
        if base_url:
            # A row may name any server: it does not get the key of this one.
            self._private = {name: value for name, value in headers.items() if is_sensitive_header(name)}
            self.public = {name: value for name, value in headers.items() if name not in self._private}

    def request(self, row: rows.Request) -> dict[str, Any] | rows.Malformed:
        """What the client sends for a row."""
        url, headers = row.url, self._private
        if rows.is_absolute(url):
            try:
                at_home = _origin(urlsplit(url)) == self._origin
            except ValueError as error:
                return rows.Malformed(row.custom_id, "invalid_url", f"url is not valid: {error}")
            if not at_home:
                headers = {}
        elif self._origin is None:
            return rows.Malformed(row.custom_id, "invalid_url", "url is a path, and there is no --base-url")
        else:
            url = rows.join_path(self._base_path, url)
        request: dict[str, Any] = {"method": row.method, "url": url}
        if row.body is not None:
            request["json"] = row.body
        if headers:
            request["headers"] = headers
        return request


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme.lower(), parts.hostname, parts.port or _PORTS.get(parts.scheme.lower())


@dataclass(slots=True)
class Tally:
    """What was counted in this run.

    Attributes:
        ok: Rows with an answer below 400.
        failed: All other rows.
        malformed: How many of those were no requests.
        skipped: Requests that an earlier run has done.
        retries: Attempts beyond the first.
        statuses: How often each status came.
        codes: How often each error without a status came.
        started: When the run began, on `time.monotonic()`.
    """

    ok: int = 0
    failed: int = 0
    malformed: int = 0
    skipped: int = 0
    retries: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def count(self, row: Mapping[str, Any]) -> None:
        """Count a row."""
        if row["error"] is not None:
            self.failed += 1
            self.codes[row["error"]["code"]] += 1
            return
        status = row["response"]["status_code"]
        self.statuses[status] += 1
        if status < 400:
            self.ok += 1
        else:
            self.failed += 1

    def __str__(self) -> str:
        elapsed = time.monotonic() - self.started
        done = self.ok + self.failed
        parts = [f"{done} rows in {elapsed:.1f} s ({done / max(elapsed, 1e-9):.1f}/s)", f"{self.ok} ok"]
        parts += [f"{self.failed} failed"]
        parts += [f"{self.malformed} malformed"] if self.malformed else []
        parts += [f"{self.skipped} skipped, done before"] if self.skipped else []
        parts += [f"{self.retries} retries"] if self.retries else []
        parts += [f"{status} x {count}" for status, count in sorted(self.statuses.items())]
        parts += [f"{code} x {count}" for code, count in sorted(self.codes.items())]
        return ", ".join(parts)


class Job:
    """One run of the command.

    Args:
        lines: The input; None where the next line is not there yet.
        server: Where paths lead.
        output: Where rows go.
        interrupts: Held up while a row is written.
        complain: Told of malformed lines.
        progress: Told how many lines have come to an end.

    Attributes:
        tally: What was counted.
        exhausted: Whether the input was read to its end. The client reads no further when there is no use in it.
        last_error: Why the last request failed that did.
    """

    def __init__(
        self,
        lines: Iterable[bytes | None],
        server: Server,
        output: Output,
        *,
        interrupts: Interrupts,
        complain: Callable[[str], object],
        progress: Callable[[int], object],
    ) -> None:
        self._lines = lines
        self._server = server
        self._output = output
        self._interrupts = interrupts
        self._complain = complain
        self._progress = progress
        self._seen: set[bytes] = set()
        # Those that are under way, by their place among the requests: never more than the limit.
        self._names: dict[int, str] = {}
        self._sent = 0
        self._over = False
        self.tally = Tally()
        self.exhausted = False
        self.last_error = ""

    def requests(self) -> Iterator[Any]:
        """What is to be sent, read as it is needed. Rows for malformed lines are written on the way."""
        from .._sync.bulk.source import NOT_YET  # loads much, which no --help needs

        number = 0
        for line in self._lines:
            if self._over:
                return
            if line is None:
                yield NOT_YET  # so that what has finished is written meanwhile
                continue
            number += 1
            content = line.removeprefix(_BOM) if number == 1 else line
            if not content.strip():
                continue
            row = rows.read_request(content)
            name = row.custom_id
            if name is not None and not self._claim(name):
                if self._is_done(name):
                    continue
                row = rows.Malformed(None, "duplicate_custom_id", f"custom_id {name!r:.80} stands on an earlier line")
            request = self._server.request(row) if isinstance(row, rows.Request) else row
            if isinstance(request, rows.Malformed):
                self._refuse(request, number)
                continue
            self._names[self._sent] = row.custom_id or ""
            self._sent += 1
            yield request
        self.exhausted = True

    def _claim(self, name: str) -> bool:
        """Whether a name is neither that of another line nor done."""
        key = digest(name)
        if key in self._seen or key in self._output.done:
            return False
        self._seen.add(key)
        return True

    def _is_done(self, name: str) -> bool:
        """Whether an earlier run has done the request of this name; true once, as a second one is a duplicate."""
        key = digest(name)
        if key in self._seen:
            return False
        self._seen.add(key)
        self.tally.skipped += 1
        self._progress(1)
        return True

    def _refuse(self, line: rows.Malformed, number: int) -> None:
        name, extra = line.custom_id, 1
        if name is None:
            # Its row must have a name all the same, and one that no other row has.
            name = f"line-{number}"
            while not self._claim(name):
                extra += 1
                name = f"line-{number}-{extra}"
        message = f"line {number}: {line.message}"
        self._complain(message)
        with self._interrupts.held():
            self._write(rows.error_row(name, line.code, message))
            self.tally.malformed += 1

    def consume(self, run: Run) -> None:
        """Write a row for each outcome. If that is interrupted, all that has come is written first."""
        try:
            for outcome in run:
                with self._interrupts.held():
                    self._finish(outcome)
        except KeyboardInterrupt:
            self._over = True
            with self._interrupts.held():
                while run.stats.ready:
                    self._finish(next(run))
            raise

    def _finish(self, outcome: Outcome[HttpMessage]) -> None:
        self.tally.retries += max(outcome.attempts - 1, 0)
        if outcome.error is not None:
            self.last_error = str(outcome.error)
        self._write(rows.row_of(self._names[outcome.index], outcome))
        del self._names[outcome.index]

    def _write(self, row: dict[str, Any]) -> None:
        try:
            self._output.write(rows.dump_row(row))
        except BrokenPipeError:
            raise  # whoever read it has enough: that is no failure to tell of
        except OSError as error:
            raise OutputError(f"{self._output.name}: {error.strerror or error}") from None
        self.tally.count(row)
        self._progress(1)


_BOM: Final = b"\xef\xbb\xbf"
