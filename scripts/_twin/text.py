"""Converts text (comments, docstrings, other strings), which `unasync` leaves alone.

The keywords `await` and `async` are dropped only where the text is code: in backticks, after a doctest
prompt, below `Example:` or a line that ends in `::`, or in a string that is Python source as a whole.
Elsewhere they are English, which no rule can reword: `leftovers` reports them.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator

from _twin.table import Phrase, Table

#: A space in running text: it may be a line break, in a comment followed by the next line's `#`.
_BREAK = r"[ \t]*\n[ \t]*(?:\#[ \t]*)?"
_SPACE = rf"(?:{_BREAK}|[ \t]+)"
#: Where a word begins, also right behind an escape such as a backslash and `n`.
_BEGIN = r"(?:(?<![\w.])|(?<=\\[nrt]))"

_WORD = re.compile(r"\\.|\w+", re.DOTALL)
_BACKTICKS = re.compile(r"(?<!`)(`{1,2})(?!`)((?:(?!\n[ \t]*\n)[^`])+)\1(?!`)|(?<!`)(```)(?!`)(.*?)```", re.DOTALL)
_DOCTEST = re.compile(r"^[ \t]*(?:>>>|\.\.\.)[ \t]([^\n]*)", re.MULTILINE)
_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*)(?:(?:Examples?|Usage):|[^\n]*::(?:[ ]\w+)?)[ \t]*\n"
    r"(?P<body>(?:[ \t]*\n|(?P=indent)[ \t]+[^\n]*(?:\n|\Z))+)",
    re.MULTILINE,
)
_PARAGRAPH_END = re.compile(r"(\n[ \t]*\n)")
_KEYWORD = re.compile(r"(?<![\w.])(?:await[ \t]+|async[ \t]+(?=(?:with|for|def)\b))")
_HAS_KEYWORD = re.compile(r"(?<![\w.])(?:await|async)(?!\w)")
_ARTICLE = re.compile(rf"(?<![\w'])([Aa])n?({_SPACE}[`'\"*(]*(?::[a-z:]+:`~?)?)\Z")
_VOWEL_SOUND = re.compile(r"(?!(?i:uni|us[aei]|one|eu))(?:[aeiouAEIOU]|[FHLMNRSX][A-Z0-9]|Sdk)")
_NOQA = re.compile(r"#[ ]?noqa:[ ]?(?P<codes>[A-Z]+[0-9]+(?:[, ]+[A-Z]+[0-9]+)*)")

_LEFTOVER = re.compile(
    r"(?<!\w)(?:\w*await\w*|\w*coroutine\w*|\w*async\w*|(?:\w*_)?(?:anyio|asyncio|trio)(?:_\w*)?)(?!\w)",
    re.IGNORECASE,
)
_SYNC_NAME = re.compile(r"(?<![A-Za-z0-9])_*Sync[A-Z]\w*")


def convert(text: str, table: Table) -> str:
    """Convert a text without its quotes."""
    if _HAS_KEYWORD.search(text):
        text = _convert_code(text)
    for old, new in table.dotted.items():
        text = _substitute(dotted_pattern(old, new), text, _counted(table, ("dotted", old), new))
    text = _substitute(_WORD, text, lambda match: table.rename(match[0]))
    for phrase in table.prose:
        text = _substitute(_phrase_pattern(phrase), text, _counted(table, phrase, phrase.replacement))
    return text


def without_async_noqa(comment: str) -> str:
    """Take the codes of flake8-async, which blocking code never violates, out of a `noqa` comment."""

    def keep(match: re.Match[str]) -> str:
        codes = [code for code in re.split(r"[, ]+", match["codes"]) if not code.startswith("ASYNC")]
        return f"# noqa: {', '.join(codes)}" if codes else ""

    return _NOQA.sub(keep, comment).rstrip()


def leftovers(text: str) -> Iterator[tuple[int, str]]:
    """Find async words in a converted text: pairs of a line (from 0) and the word."""
    # An escape is no part of the word behind it.
    plain = re.sub(r"\\[^\n]", "  ", text)
    for pattern in (_LEFTOVER, _SYNC_NAME):
        for match in pattern.finditer(plain):
            yield plain.count("\n", 0, match.start()), match[0]


def keywords(text: str) -> Iterator[tuple[int, str]]:
    """Find the words `await` and `async` in a text: pairs of a line (from 0) and the word."""
    for match in _HAS_KEYWORD.finditer(text):
        yield text.count("\n", 0, match.start()), match[0]


def dotted_pattern(old: str, new: str) -> re.Pattern[str]:
    """A pattern for a dotted name that is not yet what it is to become."""
    done = rf"(?!{re.escape(new[len(old) :])}(?!\w))" if new.startswith(old) else ""
    return re.compile(rf"{_BEGIN}{re.escape(old)}{done}(?!\w)")


def _convert_code(text: str) -> str:
    if "\n" in text.strip() and _is_python(text):
        return _without_keywords(text)
    text = _BLOCK.sub(_block, text)
    text = _DOCTEST.sub(lambda match: _without_keywords(match[0]), text)
    return _BACKTICKS.sub(lambda match: _without_keywords(match[0]), text)


def _block(match: re.Match[str]) -> str:
    head, body = match[0][: match.start("body") - match.start()], match["body"]
    if not _HAS_KEYWORD.search(body):
        return match[0]
    if _is_python(body):
        return head + _without_keywords(body)
    # Code between sentences: a paragraph is code if it is Python.
    parts = _PARAGRAPH_END.split(_BLOCK.sub(_block, body))
    return head + "".join(_without_keywords(part) if _is_python(part) else part for part in parts)


def _is_python(text: str) -> bool:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        # Comments alone are Python too, but no code.
        return bool(compile(textwrap.dedent(text).strip(), "<text>", "exec", flags).body)
    except (SyntaxError, ValueError):
        return False


def _without_keywords(code: str) -> str:
    lines = []
    for line in code.split("\n"):
        # A comment inside an example is English again.
        statement, sign, comment = line.partition("#")
        lines.append(_KEYWORD.sub("", statement) + sign + comment)
    return "\n".join(lines)


def _phrase_pattern(phrase: Phrase) -> re.Pattern[str]:
    words = phrase.words
    first = rf"[{words[0].upper()}{words[0]}]"
    pattern = _BEGIN + first + re.escape(words[1:]).replace(r"\ ", _SPACE)
    if phrase.before:
        # A dropped word takes the space behind it along; a replaced one leaves it.
        before = phrase.before.replace(" ", _SPACE)
        pattern += rf"(?={_SPACE}(?:{before}))" if phrase.replacement else rf"(?P<gap>{_SPACE})(?={before})"
    return re.compile(pattern + ("" if phrase.before else r"(?!\w)"))


def _counted(table: Table, key: object, replacement: str) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        table.used.add(key)
        return replacement

    return replace


def _substitute(pattern: re.Pattern[str], text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Like `pattern.sub`, but keeps line breaks and a capital first letter, and puts articles right."""
    done = ""
    position = 0
    for match in pattern.finditer(text):
        old, new = match[0], replace(match)
        if new == old:
            continue
        done += text[position : match.start()]
        position = match.end()
        if new:
            if old[0].isupper() and new[0].islower():
                new = new[0].upper() + new[1:]
            line_break = re.search(_BREAK, old)
            if line_break and " " in new:
                new = new.replace(" ", line_break[0], 1)
            elif line_break:
                done = done.rstrip(" \t") + line_break[0]
            next_word = new
        else:
            gap = match.groupdict().get("gap") or ""
            if "\n" in gap:
                done = done.rstrip(" \t") + gap
            if old[0].isupper():
                text = text[:position] + text[position : position + 1].upper() + text[position + 1 :]
            next_word = text[position:]
        article = _ARTICLE.search(done, max(0, len(done) - 80))
        if article:
            right = article[1] + ("n" if _VOWEL_SOUND.match(next_word.lstrip("_")) else "")
            done = done[: article.start()] + right + article[2]
        done += new
    return done + text[position:]
