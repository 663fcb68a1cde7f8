"""Prepares one async source for `unasync`: everything that package cannot do, done on the tokens.

It runs before `unasync`, not after it, so that the lines are still those of the source, and so that no string
and no f-string (which `unasync` treats differently from Python 3.12 on) has anything left for it to change.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import tokenize_rt  # type: ignore[import-untyped]
from tokenize_rt import Token

from _twin import text
from _twin.table import Table

#: Parameters that only anyio's pytest plugin fills in; the twin has no event loop to choose.
BACKEND_FIXTURES = ("anyio_backend", "anyio_backend_name", "anyio_backend_options")

_BLANK = ("UNIMPORTANT_WS", "NL", "COMMENT", "ESCAPED_NL")
_OPEN, _CLOSE = "([{", ")]}"
_STRING = re.compile(r"([A-Za-z]*)('''|\"\"\"|'|\")(.*)\2", re.DOTALL)


@dataclass(frozen=True, order=True)
class Problem:
    """Something that cannot be converted, and where."""

    path: PurePosixPath
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


@dataclass
class Source:
    """One file on its way.

    Args:
        path: Path of the source, relative to the repository.
        content: Its text.
        table: The renaming rules.
        strict: Whether no async word may stay in its text (the library; tests may speak of both colours).
    """

    path: PurePosixPath
    content: str
    table: Table
    strict: bool = True

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []
        self.tokens = tokens_of(self.content)

    def report(self, line: int | None, message: str) -> None:
        """Remember a problem of this file."""
        self.problems.append(Problem(self.path, line or 0, message))

    def prepare(self) -> str:
        """Convert what `unasync` cannot, and return the new text."""
        self._check_keywords()
        self._drop_backend_parameters()
        self._unwrap_types()
        self._rename_dotted()
        self._convert_comments()
        for index, token in enumerate(self.tokens):
            if token.name == "STRING":
                self.tokens[index] = self._convert_string(token)
        return str(tokenize_rt.tokens_to_src(self.tokens))

    def names(self) -> set[str]:
        """Every identifier of the code."""
        return {token.src for token in self.tokens if token.name == "NAME"}

    def _check_keywords(self) -> None:
        # `unasync` drops the token behind the keyword, whatever it is.
        for index, token in enumerate(self.tokens[:-2]):
            if token.src in ("async", "await") and token.name == "NAME":
                space, after = self.tokens[index + 1 : index + 3]
                if space.name != "UNIMPORTANT_WS" or after.name in _BLANK:
                    self.report(token.line, f"write a single space behind `{token.src}`, and no line break")

    def _convert_string(self, token: Token) -> Token:
        match = _STRING.fullmatch(token.src)
        assert match, token.src
        prefix, quote, body = match.groups()
        body = text.convert(body, self.table)
        line = token.line or 0
        if "f" in prefix.lower():
            for offset, word in text.keywords(body):
                self.report(line + offset, f"`{word}` in an f-string: use a variable")
        if self.strict:
            self._report_leftovers(body, line)
        return token._replace(src=prefix + quote + body + quote)

    def _convert_comments(self) -> None:
        for block in self._comment_blocks():
            first = self.tokens[block[0]].line or 0
            lines = [text.without_async_noqa(self.tokens[index].src) for index in block]
            new = text.convert("\n".join(lines), self.table).split("\n")
            if len(new) != len(lines):
                new = [text.convert(line, self.table) for line in lines]
            if self.strict:
                self._report_leftovers("\n".join(new), first)
            for index, comment in zip(block, new, strict=True):
                self.tokens[index] = self.tokens[index]._replace(src=comment)

    def _report_leftovers(self, converted: str, line: int) -> None:
        for offset, word in text.leftovers(converted):
            code = ", put code in backticks" if word in ("async", "await") else ""
            self.report(
                line + offset,
                f"{word!r} would stay in the text of the twin: reword it{code}, "
                "or add an entry to scripts/_twin/table.py",
            )

    def _comment_blocks(self) -> Iterator[list[int]]:
        """Comments on lines of their own that follow each other, as one; every other comment alone."""
        lines = self.content.split("\n")
        block: list[int] = []
        for index, token in enumerate(self.tokens):
            if token.name != "COMMENT":
                continue
            own_line = not lines[(token.line or 1) - 1][: token.utf8_byte_offset].strip()
            if block and own_line and token.line == (self.tokens[block[-1]].line or 0) + 1:
                block.append(index)
                continue
            if block:
                yield block
            block = [index]
            if not own_line:
                yield block
                block = []
        if block:
            yield block

    def _rename_dotted(self) -> None:
        for old, new in self.table.dotted.items():
            parts = old.split(".")
            tail = [part for part in new[len(old) :].split(".") if part] if new.startswith(f"{old}.") else []
            index = 0
            while index < len(self.tokens):
                end = self._match_dotted(index, parts)
                if end is None or (tail and self._match_dotted(index, parts + tail)):
                    index += 1
                    continue
                self.table.used.add(("dotted", old))
                self.tokens[index:end] = tokens_of(new)[: 2 * new.count(".") + 1]
                index += 1

    def _match_dotted(self, index: int, parts: list[str]) -> int | None:
        if self.tokens[index].src != parts[0] or (index and self.tokens[index - 1].src == "."):
            return None
        end = index + 2 * len(parts) - 1
        found = "".join(token.src for token in self.tokens[index:end])
        return end if found == ".".join(parts) and self.tokens[index].name == "NAME" else None

    def _drop_backend_parameters(self) -> None:
        positions = {
            (node.lineno, node.col_offset)
            for node in ast.walk(ast.parse(self.content))
            if isinstance(node, ast.arg) and node.arg in BACKEND_FIXTURES
        }
        for index in reversed(range(len(self.tokens))):
            token = self.tokens[index]
            if token.name == "NAME" and (token.line, token.utf8_byte_offset) in positions:
                start, end = index, self._end_of_item(index)
                if self.tokens[end].src == ",":
                    end += 1
                    while self.tokens[end].name == "UNIMPORTANT_WS":
                        end += 1
                else:
                    before = self._previous(start)
                    if self.tokens[before].src == ",":
                        start = before
                del self.tokens[start:end]

    def _unwrap_types(self) -> None:
        """`Awaitable[T]` and `Coroutine[A, B, T]` become `T`; `AsyncGenerator[Y, S]` gets a third one."""
        for index in reversed(range(len(self.tokens) - 1)):
            token = self.tokens[index]
            if token.name != "NAME" or self.tokens[index + 1].src != "[":
                continue
            if token.src in ("Awaitable", "Coroutine"):
                self._unwrap(index, keep=0 if token.src == "Awaitable" else 2)
            elif token.src == "AsyncGenerator":
                items, end = self._items(index + 1)
                if len(items) == 2:
                    self.tokens[items[1][1] : end] = tokens_of(", None")[:3]

    def _unwrap(self, index: int, keep: int) -> None:
        items, end = self._items(index + 1)
        if len(items) != keep + 1:
            self.report(self.tokens[index].line, f"`{self.tokens[index].src}` needs {keep + 1} argument(s)")
            return
        inner = self.tokens[items[keep][0] : items[keep][1]]
        start = index
        while start >= 2 and self.tokens[start - 1].src == "." and self.tokens[start - 2].name == "NAME":
            start -= 2  # the module in `abc.Awaitable[T]`
        if any(token.name in ("NL", "COMMENT") for token in self.tokens[index:end]):
            # The bracket may be what allows the line breaks.
            before, after = self.tokens[index : items[keep][0]], self.tokens[items[keep][1] : end]
            inner = [
                Token("OP", "("),
                *(token for token in before if token.name in _BLANK),
                *inner,
                *(token for token in after if token.name in _BLANK),
                Token("OP", ")"),
            ]
        self.tokens[start : end + 1] = inner

    def _items(self, bracket: int) -> tuple[list[tuple[int, int]], int]:
        """Start and end of every item between an opening bracket and its match, and where that match is."""
        items = []
        start = bracket + 1
        while True:
            end = self._end_of_item(start)
            while start < end and self.tokens[start].name in _BLANK:
                start += 1
            last = self._previous(end) + 1
            if start < last:
                items.append((start, last))
            if self.tokens[end].src != ",":
                return items, end
            start = end + 1

    def _end_of_item(self, index: int) -> int:
        depth = 0
        while depth or self.tokens[index].src not in (",", *_CLOSE):
            source = self.tokens[index].src if self.tokens[index].name == "OP" else ""
            depth += (source in _OPEN and bool(source)) - (source in _CLOSE and bool(source))
            index += 1
        return index

    def _previous(self, index: int) -> int:
        index -= 1
        while self.tokens[index].name in _BLANK:
            index -= 1
        return index


def tokens_of(content: str) -> list[Token]:
    """Split a source into tokens, with every f-string as a single one as before Python 3.12."""
    tokens: list[Token] = []
    depth = 0
    for token in tokenize_rt.src_to_tokens(content):
        inside = depth > 0
        depth += token.name in ("FSTRING_START", "TSTRING_START")
        depth -= token.name in ("FSTRING_END", "TSTRING_END")
        if inside:
            tokens[-1] = tokens[-1]._replace(src=tokens[-1].src + token.src)
        elif depth:
            tokens.append(token._replace(name="STRING"))
        else:
            tokens.append(token)
    return tokens
