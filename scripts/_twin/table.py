"""What is renamed on the way to the blocking twin: the only file to edit for a new async word.

An entry that no source uses is reported, so the tables hold what is needed and no more; an async name without
an entry is refused by `checks`, so forgetting one cannot go unnoticed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: Whole identifiers, in code and in text alike. Names with `Async` before a capital letter (`AsyncPynector`,
#: `_AsyncRun`, `AsyncExitStack`) need no entry: they lose that part.
NAMES: dict[str, str] = {
    "aio": "threads",
    "aclose": "close",
    "aiter": "iter",
    "anext": "next",
    "aiter_bytes": "iter_bytes",
    "aiter_raw": "iter_raw",
    "handle_async_request": "handle_request",
    "aread": "read",
    "asend": "send",
    "async_auth_flow": "sync_auth_flow",
    "traced_async_operation": "traced_operation",
}

#: Dotted names, in code and in text. A value may begin with its key: what already reads like the value stays.
DOTTED: dict[str, str] = {
    "pynector._async": "pynector._sync",
    "pynector.transports.async": "pynector.transports.sync",
    "pynector.adapters.async": "pynector.adapters.sync",
    "pynector.concurrency": "pynector.concurrency.sync",
    "pynector.telemetry": "pynector.telemetry.sync",
}

#: The protocol names of the language, which `unasync` knows too; they are not counted.
STANDARD: dict[str, str] = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "asynccontextmanager": "contextmanager",
}

_ASYNC_PREFIX = re.compile(r"Async(?=[A-Z])")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Phrase:
    """A phrase of English and what the twin says instead.

    Args:
        words: What is replaced. A space also stands for a line break; case of the first letter is kept.
        replacement: What the twin says; empty to drop the words.
        before: A regular expression for what has to follow, which stays.
    """

    words: str
    replacement: str
    before: str = ""


#: English, in comments, docstrings and strings. The first entry that matches wins.
PROSE: tuple[Phrase, ...] = (Phrase("async", "", before=r"iterable|iterator|generator|context manager|function"),)


@dataclass(frozen=True)
class Table:
    """One set of renaming rules, and a record of which of them were used.

    Raises:
        ValueError: If the result of one entry is the key of another, so that the order would matter.
    """

    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    dotted: Mapping[str, str] = field(default_factory=lambda: DOTTED)
    prose: tuple[Phrase, ...] = PROSE
    used: set[object] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        chained = sorted((self.names.keys() | STANDARD.keys()) & {*self.names.values(), *STANDARD.values()})
        if chained:
            raise ValueError(f"renamed twice: {', '.join(chained)} is a result and a key")
        for key in (*self.names, *(part for dotted in self.dotted for part in dotted.split("."))):
            if not _IDENTIFIER.fullmatch(key):
                raise ValueError(f"{key!r} is not an identifier")

    def rename(self, name: str) -> str:
        """The twin's name for one identifier."""
        if name in self.names:
            self.used.add(("name", name))
            return self.names[name]
        if name in STANDARD:
            return STANDARD[name]
        name = _ASYNC_PREFIX.sub("", name)
        if name.startswith("test_") and "async" in name:
            name = "_".join(part for part in name.split("_") if part != "async")
        return name

    def replacements(self, names: Iterable[str]) -> dict[str, str]:
        """The entries to give to `unasync` for these identifiers."""
        return {name: new for name in sorted(names) if (new := self.rename(name)) != name}

    def unused(self) -> list[str]:
        """Describe every entry that was not used since this table was made."""
        problems = [
            f"{kind} entry {key!r} is used by no source: remove it from scripts/_twin/table.py"
            for kind, keys in (("name", self.names), ("dotted", self.dotted))
            for key in keys
            if (kind, key) not in self.used
        ]
        problems += [
            f"prose entry {phrase.words!r} (before={phrase.before!r}) is used by no source: "
            "remove it from scripts/_twin/table.py"
            for phrase in self.prose
            if phrase not in self.used
        ]
        return problems
