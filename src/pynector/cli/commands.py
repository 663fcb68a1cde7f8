"""The commands, as click reads them."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from . import INTERRUPTED
from .batch import batch
from .request import request

if TYPE_CHECKING:
    from .demo import Progress

_PIPED_WIDTH = 100  # a file or a pipe has none, and no line of the table needs more
_REQUESTS, _CONCURRENCY = 1000, 50


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pynector")
def pynector() -> None:
    """Requests to HTTP APIs and LLM providers in bulk.

    \b
    Examples:
      pynector batch in.jsonl -o out.jsonl --base-url https://api.example.com/v1
      pynector request GET https://api.example.com/users --param limit=10
      pynector demo

    'pynector COMMAND --help' tells all about a command.
    """  # noqa: D301 - click looks for the character \b, which a raw string does not have


pynector.add_command(batch)
pynector.add_command(request)


@pynector.command(short_help="Send the same requests through both clients.")
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    default=_REQUESTS,
    metavar="N",
    show_default=True,
    help="How many requests each client sends.",
)
@click.option(
    "--concurrency",
    # Client and server are one process here, so each connection takes two of its descriptors, often 1024 in all.
    type=click.IntRange(min=1, max=400),
    default=_CONCURRENCY,
    metavar="N",
    show_default=True,
    help="How many requests may be under way at once.",
)
@click.option("--json", "machine", is_flag=True, help="Print the result as JSON instead of a table.")
@click.version_option(__version__, prog_name="pynector")
def demo(requests: int, concurrency: int, machine: bool) -> None:
    """Send the same requests through AsyncPynector and Pynector, and compare.

    The server runs in this process: quick answers, slow ones, some that fail at first with 429 and Retry-After or
    with 503, and one big stream. No network is needed. Exits with 1 if a request failed or an answer differs.
    """
    try:
        # Only now: the other commands need neither the async client nor what draws tables.
        from rich.console import Console
        from tqdm.auto import tqdm

        from .demo import Plan, compare
        from .report import as_json, show
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    # Under `python -X dev`, asyncio tells of every step that took long, and the first one loads the HTTP engine.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        comparison = compare(Plan(requests, concurrency), partial(_bar, tqdm))
        if machine:
            click.echo(json.dumps(as_json(comparison), indent=2))
        else:
            console = Console(highlight=False)
            if not console.is_terminal:
                console.width = _PIPED_WIDTH
            show(comparison, console)
    except KeyboardInterrupt:
        # Not left to click, which would exit with 1.
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(1 if comparison.differences or comparison.failures else 0)


@contextmanager
def _bar(tqdm: Callable[..., Any], client: str, total: int) -> "Iterator[Progress]":
    from .demo import ASYNC

    # In a file or a pipe every step is kept: there the first and the last one are enough.
    interval = 0.1 if sys.stderr.isatty() else 60.0
    with tqdm(
        desc=client.rjust(len(ASYNC)),
        total=total,
        unit="req",
        mininterval=interval,
        dynamic_ncols=True,
        file=sys.stderr,
    ) as bar:
        yield lambda done, _total: bar.update(done - bar.n)
