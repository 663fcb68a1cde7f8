"""`pynector request`: one request, its answer on standard output."""

import json
import sys
from typing import Any

import click

from .. import RetryPolicy
from .._config import resolve
from .._messages.http import HttpMessage
from .._messages.media import readable_body
from ..errors import ConfigurationError, HTTPStatusError, PynectorError
from . import INTERRUPTED
from .interrupts import Interrupted, Interrupts
from .shared import API_KEY, ENGINE, HEADER, all_headers, given, seconds


def _pairs(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [(name, text) for name, equals, text in (each.partition("=") for each in value) if name and equals]
    if len(pairs) < len(value):
        raise click.BadParameter("give it as NAME=VALUE", ctx, param)
    return pairs


@click.command(short_help="Send one request, and print the answer.")
@click.argument("method", metavar="METHOD")
@click.argument("url", metavar="URL")
@HEADER
@API_KEY
@click.option(
    "--json",
    "json_text",
    metavar="TEXT",
    help="A body to send as JSON; @FILE reads it from a file, '-' from standard input.",
)
@click.option("--data", metavar="TEXT", help="A body to send as it is; @FILE and '-' as with --json.")
@click.option(
    "--param",
    "params",
    callback=_pairs,
    multiple=True,
    metavar="NAME=VALUE",
    help="A query parameter, which is encoded; may be given more than once.",
)
@click.option(
    "--timeout",
    type=float,
    callback=seconds,
    metavar="S",
    help="Seconds for everything: all attempts, the waits between them, and reading. By default PYNECTOR_TIMEOUT, or "
    "none, but a server may be silent for 30 s at most.",
)
@click.option(
    "--max-retries",
    type=click.IntRange(min=0),
    metavar="N",
    help="How often it is sent again after what is transient, if its method is safe to repeat. By default "
    "PYNECTOR_MAX_RETRIES, or 3.",
)
@ENGINE
@click.option("-i", "--include", is_flag=True, help="Print the status and the headers before the body.")
@click.option("-o", "--output", metavar="FILE", help="Write the body there, as it is, and not to standard output.")
def request(
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    api_key_env: str | None,
    json_text: str | None,
    data: str | None,
    params: list[tuple[str, str]],
    timeout: float | None,
    max_retries: int | None,
    engine: str | None,
    include: bool,
    output: str | None,
) -> None:
    """Send one request to URL, and print the body of the answer.

    On a terminal JSON is indented; into a file or a pipe every body goes as it came. Redirects are followed.

    \b
    Example:
      pynector request POST https://api.example.com/users --json '{"name": "Ada"}'

    \b
    Exit codes:
      0    the status is below 400
      1    it is not, or there was no answer: one line on standard error says why
      2    the call was wrong; nothing was sent
      130  Ctrl-C (143 after SIGTERM)
    """  # noqa: D301 - click looks for the character \b, which a raw string does not have
    all_of_them = all_headers(headers, api_key_env)
    message: dict[str, Any] = {"method": method, "url": url, "headers": all_of_them} | _body(json_text, data)
    if json_text is not None and "content-type" not in map(str.lower, all_of_them):
        all_of_them["Content-Type"] = "application/json"
    if params:
        message["params"] = params
    try:
        with Interrupts():
            answer, reason = _send(message, max_retries, given(timeout=timeout), given(engine=engine))
    except KeyboardInterrupt as error:
        click.echo("interrupted", err=True)
        sys.exit(error.exit_code if isinstance(error, Interrupted) else INTERRUPTED)
    if answer is not None:
        _print(answer, include=include, output=output)
    if reason:
        click.echo(reason, err=True)
        sys.exit(1)


def _send(
    message: dict[str, Any], max_retries: int | None, options: Any, transport: Any
) -> tuple[HttpMessage | None, str]:
    """The answer if there is one, and why that is not good if it is not."""
    from .. import Pynector  # loads much, which no --help needs

    try:
        retries = resolve("max_retries") if max_retries is None else max_retries
        with Pynector(retry=RetryPolicy(max_retries=retries), **transport) as client:
            return client.request(message, **options), ""
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except HTTPStatusError as error:
        answer = error.response
        return answer if isinstance(answer, HttpMessage) else None, str(error)
    except PynectorError as error:
        return None, " ".join(str(error).split())


def _body(json_text: str | None, data: str | None) -> dict[str, Any]:
    if json_text is not None and data is not None:
        raise click.UsageError("--json and --data were given, but a request has one body")
    if data is not None:
        return {"content": _read(data, "--data")}
    if json_text is None:
        return {}
    content = _read(json_text, "--json")
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--json: this is not JSON: {error}") from None
    # As it is: whatever is in it reaches the server as it was written.
    return {"content": content}


def _read(value: str, option: str) -> bytes:
    if value == "-":
        return sys.stdin.buffer.read()
    if not value.startswith("@"):
        return value.encode("utf-8", "surrogateescape")
    try:
        with open(value[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise click.UsageError(f"{option}: {value[1:]}: {error.strerror or error}") from None


def _print(answer: HttpMessage, *, include: bool, output: str | None) -> None:
    stdout = sys.stdout.buffer
    if include:
        lines = [f"{answer.http_version} {answer.status_code} {answer.reason_phrase}".rstrip()]
        lines += [f"{name}: {value}" for name, value in answer.headers.multi_items()]
        stdout.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1", "replace"))
    if output is not None:
        try:
            with open(output, "wb") as file:
                file.write(answer.content)
        except OSError as error:
            click.echo(f"{output}: {error.strerror or error}", err=True)
            sys.exit(1)
    elif sys.stdout.isatty():
        body = readable_body(answer)
        if isinstance(body, bytes):
            click.echo(f"({len(body)} bytes, not text: add -o FILE)", err=True)
        elif body != "":
            text = body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
            stdout.write(text.encode("utf-8", "replace") + (b"" if text.endswith("\n") else b"\n"))
    else:
        stdout.write(answer.content)
    stdout.flush()
