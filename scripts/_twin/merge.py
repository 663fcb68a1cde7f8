"""Merges what was two things in async code and is the same thing twice in the twin.

`AsyncIterable[T] | Iterable[T]` and `isinstance(source, (AsyncIterable, Iterable))` are the usual cases.
"""

import ast


def merge(twin: str) -> str:
    """Drop repeated members of unions, and of the tuples given to `isinstance` and `except`."""
    # One at a time, as every change moves what is behind it.
    while (change := _next_change(twin)) is not None:
        start, end, replacement = change
        twin = twin[:start] + replacement + twin[end:]
    return twin


def _next_change(twin: str) -> tuple[int, int, str] | None:
    for node in ast.walk(ast.parse(twin)):
        whole: ast.Tuple | None = None
        match node:
            case ast.BinOp(op=ast.BitOr()):
                pass
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, ast.Tuple() as classes]):
                whole = classes
            case ast.ExceptHandler(type=ast.Tuple() as classes):
                whole = classes
            case _:
                continue
        members = whole.elts if whole else _members(node)
        for index, member in enumerate(members):
            if index and ast.dump(member) in map(ast.dump, members[:index]):
                if whole and len(members) == 2:
                    # A tuple of one is better written without the tuple.
                    return *_span(twin, whole), twin[slice(*_span(twin, members[0]))]
                return _span(twin, members[index - 1])[1], _span(twin, member)[1], ""
    return None


def _members(union: ast.AST) -> list[ast.expr]:
    match union:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return [*_members(left), *_members(right)]
        case ast.expr():
            return [union]
    return []


def _span(text: str, node: ast.expr) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return _position(text, node.lineno, node.col_offset), _position(text, node.end_lineno, node.end_col_offset)


def _position(text: str, line: int, column: int) -> int:
    """Where a line (from 1) and a column (in bytes) are in the text."""
    start = 0
    for _ in range(line - 1):
        start = text.index("\n", start) + 1
    end = text.find("\n", start)
    content = text[start:] if end < 0 else text[start:end]
    return start + len(content.encode()[:column].decode())
