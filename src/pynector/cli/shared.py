"""What the commands have in common: options, and the client they send with."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import click

from .._messages.headers import Headers
from ..errors import ConfigurationError

ENGINES: Final = ("httpx", "httpx2", "pyreqwest")


def split_headers(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read `Name: value` texts. What is wrong is told without the value, which may be a credential."""
    found = []
    for header in value:
        name, colon, text = (part.strip() for part in header.partition(":"))
        if not colon:
            raise click.BadParameter("give it as 'Name: value', with a colon", ctx, param)
        try:
            Headers({name: text})
        except ConfigurationError:
            raise click.BadParameter("its name or its value has a character that none may have", ctx, param) from None
        found.append((name, text))
    return found


def seconds(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Check a number of seconds."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is no number of seconds above 0", ctx, param)
    return value


HEADER: Final = click.option(
    "-H", "--header", "headers", callback=split_headers, multiple=True, metavar="'NAME: VALUE'",
    help="A header for every request; may be given more than once. Values are never shown.",
)  # fmt: skip
API_KEY: Final = click.option(
    "--api-key-env", metavar="NAME",
    help="Send 'Authorization: Bearer ...' with what this environment variable holds: so the key is in no "
    "process list and no shell history.",
)  # fmt: skip
ENGINE: Final = click.option(
    "--engine", type=click.Choice(ENGINES), envvar="PYNECTOR_HTTP_ENGINE", show_default="httpx",
    help="What sends the bytes; httpx2 and pyreqwest need the extras httpx2 and fast.",
)  # fmt: skip


def all_headers(headers: list[tuple[str, str]], api_key_env: str | None) -> dict[str, str]:
    """The headers of every request, a later one in the place of an earlier one of the same name.

    Raises:
        click.UsageError: The variable of the key is not there, or holds what no header can.
    """
    found = {name.lower(): (name, value) for name, value in headers}
    if api_key_env is not None:
        key = os.environ.get(api_key_env, "").strip()
        if not key:
            raise click.UsageError(f"--api-key-env: the variable {api_key_env} is not set, or empty")
        try:
            Headers({"Authorization": f"Bearer {key}"})
        except ConfigurationError:
            raise click.UsageError(f"--api-key-env: {api_key_env} holds what no header can") from None
        found["authorization"] = ("Authorization", f"Bearer {key}")
    return dict(found.values())


def given(**options: object) -> Mapping[str, Any]:
    """The options that were given, for a call whose defaults are right otherwise."""
    return {name: value for name, value in options.items() if value is not None}


@contextmanager
def usage_errors() -> Iterator[None]:
    """Make of what the library refuses a wrong call: one line, exit code 2."""
    try:
        yield
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
