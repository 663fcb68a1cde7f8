"""What a content type says about a body."""

import codecs
import re
from typing import Any, Final, Protocol

from ..errors import DeserializationError
from .headers import Headers

_find_charset: Final = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE).search
_is_json: Final = re.compile(r"[^;]*[/+]json\s*(;|$)", re.IGNORECASE).match
_is_text: Final = re.compile(
    r"\s*text/|[^;]*[/+](xml|javascript|ecmascript|yaml|x-ndjson|jsonl|x-www-form-urlencoded)\s*(;|$)|.*;\s*charset=",
    re.IGNORECASE,
).match

# What else Python calls a text encoding: they raise or warn whatever they are told to do with what does not fit.
_OF_PYTHON: Final = frozenset({"punycode", "unicode-escape", "raw-unicode-escape"})


class Body(Protocol):
    """What `readable_body` reads; `HttpMessage` has it."""

    headers: Headers

    @property
    def content(self) -> bytes: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...


def charset(content_type: str) -> str | None:
    """Return the charset that a content type names, in lower case, if Python knows it."""
    match = _find_charset(content_type)
    if match is None:
        return None
    try:
        if codecs.lookup(match[1]).name in _OF_PYTHON:
            return None
        # Not of empty bytes, which are never given to a codec; some codecs (idna) refuse to replace.
        b"  ".decode(match[1], "replace")
    except (LookupError, ValueError):
        return None
    return match[1].lower()


def readable_body(message: Body) -> Any:
    """Return the parsed JSON of a body, else its text, else its bytes: what its content type says.

    JSON under the name of plain text, or under none, is recognised when it is an object or an array. A body
    that is announced as JSON and is not comes back as text.
    """
    kind = message.headers.get("content-type", "").strip()
    content = message.content
    if _is_json(kind) or ((not kind or kind.lower().startswith("text/plain")) and content[:1] in (b"{", b"[")):
        try:
            return message.json()
        except DeserializationError:
            pass
    elif not kind:
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content
    elif not _is_text(kind):
        return content
    return message.text
