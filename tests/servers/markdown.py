"""Markdown as far as the tests of the documentation read it: fenced blocks and links."""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<ticks>`{3,}|~{3,})(?P<language>[^`]*)")
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_NOT_A_WORD = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        file: The file, relative to the repository.
        line: The line of its first fence, from 1.
        language: What stands behind that fence.
        text: What is inside.
        follows: The block right before it, if nothing but blank lines lies between.
        index: Its place among the blocks of the file.
    """

    file: str
    line: int
    language: str
    text: str
    follows: "Block | None"
    index: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def read_blocks(root: Path, file: str) -> list[Block]:
    """All fenced blocks of a file.

    Raises:
        ValueError: A fence is indented, is not made of three backticks, or is not closed.
    """
    blocks: list[Block] = []
    start, language, inside = 0, "", []
    before: Block | None = None
    for number, line in enumerate((root / file).read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if not start:
            if fence is None:
                before = None if line.strip() else before
                continue
            if fence["indent"] or fence["ticks"] != "```":
                raise ValueError(f"{file}:{number}: write a fence as three backticks at the start of the line")
            start, language, inside = number, fence["language"].strip(), []
        elif line == "```":
            before = Block(file, start, language, "\n".join(inside) + "\n", before, len(blocks))
            blocks.append(before)
            start = 0
        elif fence is not None:
            raise ValueError(f"{file}:{number}: a fence inside the block that begins in line {start}")
        else:
            inside.append(line)
    if start:
        raise ValueError(f"{file}:{start}: this block is not closed")
    return blocks


def read_prose(root: Path, file: str) -> list[tuple[int, str]]:
    """The lines outside of fenced blocks, with their numbers."""
    lines, inside = [], False
    for number, line in enumerate((root / file).read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            lines.append((number, line))
    return lines


def read_links(root: Path, file: str) -> list[tuple[int, str]]:
    """The targets of all links outside of fenced blocks, with their lines."""
    return [(number, match["target"]) for number, line in read_prose(root, file) for match in _LINK.finditer(line)]


def anchors(root: Path, file: str) -> set[str]:
    """What a link may name behind `#`: the headings, as GitHub spells them."""
    headings = [line.lstrip("#").strip() for _, line in read_prose(root, file) if line.startswith("#")]
    return {_NOT_A_WORD.sub("", heading.lower()).replace(" ", "-") for heading in headings}
