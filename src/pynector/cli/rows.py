"""The OpenAI Batch file format: from a line of the input to a request, from an outcome to a row of the output.

Nothing here reads or writes. The format is that of https://platform.openai.com/docs/api-reference/batch: a request
line has `custom_id`, `method`, `url` and `body`; a row has `id`, `custom_id`, `response` and `error`. `error` is for
requests that got no answer. A 4xx or 5xx is an answer: it stands in `response`, and `error` is null.
"""

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from uuid import uuid4

from .. import Outcome
from .._messages.http import HttpMessage
from .._messages.media import readable_body
from .._messages.told import request_id_in
from ..errors import HTTPStatusError, TimeoutError

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_absolute: Final = re.compile(r"https?://", re.IGNORECASE).match
_scheme: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match


@dataclass(frozen=True, slots=True)
class Request:
    """A line of the input.

    Attributes:
        custom_id: The name of the request, which its row has too.
        method: In upper case.
        url: A path, or an absolute URL.
        body: What is sent as JSON; None for no body.
    """

    custom_id: str
    method: str
    url: str
    body: dict[str, Any] | list[Any] | None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line of the input that is no request.

    Attributes:
        custom_id: Its name, if it has a usable one.
        code: What is wrong, as the Batch API calls it.
        message: The same for people.
    """

    custom_id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What an output says of one request.

    Attributes:
        custom_id: Its name.
        ok: Whether it was answered, and not with a 4xx or 5xx.
    """

    custom_id: str
    ok: bool


def read_request(line: bytes) -> Request | Malformed:
    """Read a line of the input. Keys that the format does not know are ignored."""
    try:
        data = json.loads(line, parse_constant=_no_number)
    except UnicodeDecodeError:
        return Malformed(None, "invalid_json_line", "it is not UTF-8")
    except RecursionError:
        return Malformed(None, "invalid_json_line", "it is nested too deeply")
    except ValueError as error:
        return Malformed(None, "invalid_json_line", f"it is not JSON: {error}")
    if not isinstance(data, dict):
        return Malformed(None, "invalid_json_line", f"it is a JSON {_kind(data)}, not an object")
    custom_id = data.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        if "custom_id" not in data:
            return Malformed(None, "missing_required_parameter", "custom_id is missing")
        return Malformed(None, "invalid_custom_id", f"custom_id is {_found(custom_id)}, not a text")
    return _checked(custom_id, data)


def _checked(custom_id: str, data: dict[str, Any]) -> Request | Malformed:
    for name in ("method", "url"):
        if name not in data:
            return Malformed(custom_id, "missing_required_parameter", f"{name} is missing")
    method, url, body = data["method"], data["url"], data.get("body")
    if not isinstance(method, str) or method.upper() not in METHODS:
        return Malformed(custom_id, "invalid_method", f"method is {_found(method)}, not one of {', '.join(METHODS)}")
    if not isinstance(url, str) or not url:
        return Malformed(custom_id, "invalid_url", f"url is {_found(url)}, not a path or an absolute URL")
    if _scheme(url) and not _absolute(url):
        return Malformed(custom_id, "invalid_url", "url has a scheme that is neither http nor https")
    if body is not None and not isinstance(body, dict | list):
        return Malformed(custom_id, "invalid_body", f"body is {_found(body)}, not a JSON object or array")
    return Request(custom_id, method.upper(), url, body)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case int() | float():
            return "number"
        case list():
            return "array"
        case _:
            return "object"


def _found(value: object) -> str:
    # A short text is shown, for it may be misspelt; anything longer may be what should not be on a screen.
    return f"{value!r}" if isinstance(value, str) and len(value) <= 20 else f"a JSON {_kind(value)}"


def is_absolute(url: str) -> bool:
    """Whether a URL has its own server."""
    return _absolute(url) is not None


def join_path(base: str, url: str) -> str:
    """Append a path to that of a base URL, without what both have.

    That is the longest run of segments which `url` begins with, and `base` ends or begins with: `/v1` and `/v1/models`
    are `/v1/models`, `/openai/v1` and `/v1/models` are `/openai/v1/models`, `/v1/openai` and `/v1/models` are
    `/v1/openai/models`.

    Args:
        base: The path of the base URL.
        url: A path; a query may be behind it.
    """
    end = min((at for at in map(url.find, "?#") if at >= 0), default=len(url))
    path, rest = url[:end], url[end:]
    front = [segment for segment in base.split("/") if segment]
    segments = path.lstrip("/").split("/")
    for size in range(min(len(front), len(segments)), 0, -1):
        if segments[:size] in (front[-size:], front[:size]):
            del segments[:size]
            break
    return f"/{'/'.join([*front, *segments])}{rest}"


def row_of(custom_id: str, outcome: Outcome[HttpMessage]) -> dict[str, Any]:
    """The row for what became of a request."""
    answer: object = outcome.value
    if isinstance(outcome.error, HTTPStatusError):
        answer = outcome.error.response
    if isinstance(answer, HttpMessage):
        response = {
            "status_code": answer.status_code,
            "request_id": outcome.request_id or request_id_in(answer),
            "body": body_of(answer),
        }
        return _row(custom_id, response, None)
    message = str(outcome.error)
    if outcome.state == "unknown":
        message += " (it was sent, and may have been processed)"
    ended = outcome.state == "not_sent" and not isinstance(outcome.error, TimeoutError)
    return error_row(custom_id, "not_sent" if ended else code_of(outcome.error), message)


def error_row(custom_id: str, code: str, message: str) -> dict[str, Any]:
    """The row for a request that has no answer."""
    return _row(custom_id, None, {"code": code, "message": message})


def _row(custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> dict[str, Any]:
    return {"id": f"batch_req_{uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}


def body_of(answer: HttpMessage) -> Any:
    """The body of an answer as JSON has it.

    JSON as it is, text as text, none as null, and anything else as `{"content_type", "base64"}`.
    """
    if not answer.content:
        return None
    body = readable_body(answer)
    if isinstance(body, bytes):
        return {
            "content_type": answer.headers.get("content-type"),
            "base64": base64.b64encode(body).decode("ascii"),
        }
    return body


def code_of(error: BaseException | None) -> str:
    """The name of an error in snake case, without its `Error`: `connection_refused`, `timeout`, `http_incomplete`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(error).__name__)
    return name.lower().removesuffix("_error")


def dump_row(row: dict[str, Any]) -> bytes:
    """A row as a line: in ASCII, so that no reader takes a character in it for the end of a line."""
    try:
        text = json.dumps(row, allow_nan=False)
    except (ValueError, RecursionError):
        # Python reads NaN in an answer, and what is nested a little less deeply than it can write. Kept as text then.
        row["response"]["body"] = json.dumps(row["response"]["body"])
        text = json.dumps(row)
    return text.encode("ascii") + b"\n"


def read_row(line: bytes) -> Finished | None:
    """Read a row of an output, of this program or another one; None if it is not a whole row."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not isinstance(data.get("custom_id"), str):
        return None
    response = data.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    ok = data.get("error") is None and isinstance(status, int) and 200 <= status < 400
    return Finished(data["custom_id"], ok)
