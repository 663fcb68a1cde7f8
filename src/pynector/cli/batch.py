"""`pynector batch`: every line of a file is a request, every outcome a row of another one."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from .. import RetryPolicy
from .._config import resolve
from ..errors import SourceError
from . import INTERRUPTED
from .interrupts import Interrupted, Interrupts
from .job import Job, Server
from .lines import lines_of
from .output import Output, OutputError, StreamOutput, open_output
from .shared import API_KEY, ENGINE, HEADER, all_headers, given, seconds, usage_errors

if TYPE_CHECKING:
    from .. import Pynector

SILENCE: Final = 600.0
"""Seconds that a server may be silent: a long answer of a model comes all at once. Both SDKs wait as long."""

_AUTO: Final = "auto"


def _concurrency(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == _AUTO:
        return value
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise click.BadParameter(f"{value!r:.40} is neither a number of 1 or more nor 'auto'", ctx, param)


@click.command(short_help="Send the requests of a JSONL file, and write an answer for each.")
@click.argument("input", metavar="INPUT")
@click.option(
    "-o",
    "--output",
    "path",
    required=True,
    metavar="FILE",
    help="Where the rows go, one for each request, as they come; '-' for standard output.",
)
@click.option(
    "--base-url",
    envvar="PYNECTOR_BASE_URL",
    default="",
    metavar="URL",
    help="What the url of a request is appended to, such as https://api.example.com/v1. A path that both have, as in "
    "/v1/chat/completions, is not doubled. Without it every url must be absolute.",
)
@HEADER
@API_KEY
@click.option(
    "--max-concurrency",
    callback=_concurrency,
    metavar="auto|N",
    help="The most requests at once, or 'auto' to find out what the server bears. By default "
    "PYNECTOR_MAX_CONCURRENCY, or 10.",
)
@click.option(
    "--rpm", type=click.IntRange(min=1), metavar="N", help="The most requests in a minute. No limit by default."
)
@click.option(
    "--tpm",
    type=click.IntRange(min=1),
    metavar="N",
    help="The most tokens in a minute, of models: estimated before, counted after. No limit by default.",
)
@click.option(
    "--max-retries",
    type=click.IntRange(min=0),
    metavar="N",
    help="How often a request is sent again after a broken connection, silence, or a status such as 503, POST too. "
    "A 429 is waited for and does not count, but with 0 nothing is sent again. By default PYNECTOR_MAX_RETRIES, or 3.",
)
@click.option(
    "--timeout",
    type=float,
    callback=seconds,
    metavar="S",
    help="Seconds for each request: all attempts, reading, and all waits, those for --rpm and --tpm too. By default "
    f"PYNECTOR_TIMEOUT, or none, but a server may be silent for {SILENCE:.0f} s at most.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the output of an earlier run: what succeeded is not sent again, what failed is, and its old row "
    "removed. Without an output yet, begin.",
)
@ENGINE
@click.option(
    "--progress/--no-progress",
    default=None,
    help="A progress bar on standard error. By default if that is a terminal.",
)
def batch(
    input: str,
    path: str,
    base_url: str,
    headers: list[tuple[str, str]],
    api_key_env: str | None,
    max_concurrency: int | str | None,
    rpm: int | None,
    tpm: int | None,
    max_retries: int | None,
    timeout: float | None,
    resume: bool,
    engine: str | None,
    progress: bool | None,
) -> None:
    """Send the requests of INPUT ('-' for standard input), and write a row for each.

    Both files have the format of the OpenAI Batch API, so that such a file runs unchanged against any server. A line
    of INPUT has custom_id, method, url and body:

    \b
      {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
       "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}}

    A row of the output has id, custom_id, response (status_code, request_id, body) and error (code, message). A 4xx
    or 5xx is a response; error is for requests that got none, and for lines that are no requests, whose numbers are
    told on standard error. Rows come in the order in which requests finish.

    INPUT is read as it is needed, and each row is written at once: if this process is killed, run the same command
    with --resume to go on. Ctrl-C writes what has finished, and ends.

    \b
    Example:
      pynector batch in.jsonl -o out.jsonl --base-url https://api.example.com/v1 \\
        --api-key-env API_KEY --max-concurrency 50 --resume

    \b
    Exit codes:
      0    every row of the output has an answer below 400
      1    some rows have not, or the output could not be written
      2    the call was wrong; nothing was sent
      130  Ctrl-C (143 after SIGTERM)
    """  # noqa: D301 - click looks for the character \b, which a raw string does not have
    job: Job | None = None
    output: Output | None = None
    try:
        with ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts())
            with usage_errors():
                server = Server(resolve("base_url", base_url), all_headers(headers, api_key_env))
                client = stack.enter_context(_client(server, engine, timeout, max_retries, max_concurrency, rpm, tpm))
            source = stack.enter_context(_input(input))
            output = stack.enter_context(closing(_output(path, input, resume=resume)))
            show, step = stack.enter_context(_bar(source, progress))
            job = Job(lines_of(source), server, output, interrupts=interrupts, complain=show, progress=step)
            _run(job, client, max_concurrency, timeout)
    except KeyboardInterrupt as error:
        click.echo(f"interrupted{_done(job)}{_hint(output)}", err=True)
        sys.exit(error.exit_code if isinstance(error, Interrupted) else INTERRUPTED)
    except OutputError as error:
        click.echo(f"stopped{_done(job)}: {error}{_hint(output)}", err=True)
        sys.exit(1)
    if not job.exhausted:
        # The client went on no further, as every other request would fail in the same way.
        click.echo(f"stopped{_done(job)}: {job.last_error}{_hint(output)}", err=True)
        sys.exit(1)
    click.echo(str(job.tally), err=True)
    sys.exit(1 if job.tally.failed else 0)


def _done(job: Job | None) -> str:
    return "" if job is None else f" after {job.tally}"


def _hint(output: Output | None) -> str:
    return "; the same command with --resume goes on" if output is not None and output.resumable else ""


def _run(job: Job, client: "Pynector", max_concurrency: int | str | None, timeout: float | None) -> None:
    # Without a buffer, requests are sent only as rows are written. So if the process is killed, no more than the limit
    # were sent and have no row.
    options = given(max_concurrency=max_concurrency, item_timeout=timeout)
    with usage_errors():
        outcomes = client.stream_batch(job.requests(), buffer=0, **options)
    try:
        with outcomes as run:
            job.consume(run)
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, OutputError | BrokenPipeError):  # of a row for a malformed line
            raise cause from None
        raise OutputError(f"the input can't be read: {cause}") from None


def _client(
    server: Server,
    engine: str | None,
    timeout: float | None,
    max_retries: int | None,
    max_concurrency: int | str | None,
    rpm: int | None,
    tpm: int | None,
) -> "Pynector":
    from .. import Pynector  # loads much, which no --help needs
    from .._sync.transports.http import HTTPTransport

    limits: dict[str, Any] = {}
    if rpm is not None or tpm is not None:
        from .. import RateLimit

        limits["rate_limit"] = RateLimit(requests_per_minute=rpm, tokens_per_minute=tpm)
    retries = resolve("max_retries") if max_retries is None else max_retries
    connections = max_concurrency if isinstance(max_concurrency, int) else resolve("max_concurrency")
    transport = HTTPTransport(
        server.root,
        server.public,
        # With a limit for all of it, silence needs none of its own.
        timeout=SILENCE if timeout is None else None,
        max_connections=max(connections, 1000),
        **given(engine=engine),
    )
    # A row is a request that a file asks for once: whatever its method, to send it again is what resuming does too.
    return Pynector(transport, retry=RetryPolicy(max_retries=retries, retry_non_idempotent=True), **limits)


@contextmanager
def _input(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with _usable(path):
        file = open(path, "rb")  # noqa: SIM115  # what reading raises is none of the errors told of here
    with file:
        yield file


def _output(path: str, input: str, *, resume: bool) -> Output:
    with _usable(path):
        if path == "-":
            if resume:
                raise OutputError("--resume needs an output file: standard output can't be read")
            return StreamOutput(sys.stdout.buffer, "standard output")
        if input != "-" and os.path.exists(path) and os.path.samefile(input, path):
            raise OutputError(f"{path} is the input as well: name another file")
        return open_output(path, resume=resume)


@contextmanager
def _usable(path: str) -> Iterator[None]:
    """Make a wrong call of a file that can't be used."""
    try:
        yield
    except OutputError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror or error}") from None


@contextmanager
def _bar(input: BinaryIO, wanted: bool | None) -> Iterator[tuple[Callable[[str], object], Callable[[int], object]]]:
    """How to show a line of text, and that lines have come to an end: with a bar, or without."""
    show: Callable[[str], object] = lambda text: click.echo(text, err=True)  # noqa: E731
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield show, _nothing
        return
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        if wanted:
            raise click.UsageError("--progress needs tqdm: pip install 'pynector[cli]'") from None
        yield show, _nothing
        return
    with tqdm(total=_count(input), unit="req", dynamic_ncols=True, file=sys.stderr) as bar:
        yield (lambda text: tqdm.write(text, file=sys.stderr)), bar.update


def _count(input: BinaryIO) -> int | None:
    """How many lines a file has; None for what is read only once."""
    try:
        if not stat.S_ISREG(os.fstat(input.fileno()).st_mode):
            return None
        at = input.tell()
        pieces = iter(lambda: input.read(1 << 20), b"")
        lines = sum(piece.count(b"\n") for piece in pieces)
        input.seek(at)
    except OSError:
        return None
    return lines


def _nothing(count: int) -> None:
    pass
