"""Reading the objects that an SDK makes of an answer.

The SDKs build them from whatever has come, without checking it: so every field may be missing or of another type than
its annotation says, and is looked at before it is used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

PLAIN: tuple[type[object], ...] = (str, int, float, list, type(None))
"""What an SDK gives back in place of one of its objects where JSON of another kind has come."""


def items(thing: object, name: str) -> Sequence[Any]:
    """A list in an object of an SDK; empty if there is none."""
    found = getattr(thing, name, None)
    return found if isinstance(found, list) else ()


def text(thing: object, name: str) -> str:
    """A text in an object of an SDK, or in a mapping that it has left as it was; empty if there is none."""
    found = thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
    return found if isinstance(found, str) else ""


def count(thing: object, name: str) -> int:
    """A number in an object of an SDK; 0 if there is none."""
    found = getattr(thing, name, None)
    return found if isinstance(found, int) else 0


def words(thing: object, name: str) -> str | None:
    """What a model says, in an object of an SDK.

    Returns:
        A text, or that of all parts, as some servers send them; empty if there is nothing; None if it is something
        else, of which a piece would be lost.
    """
    found = getattr(thing, name, None)
    if found is None or isinstance(found, str):
        return found or ""
    if not isinstance(found, list):
        return None
    parts = [part.get("text", "") for part in found if isinstance(part, Mapping)]
    if len(parts) != len(found) or not all(isinstance(each, str) for each in parts):
        return None
    return "".join(parts)
