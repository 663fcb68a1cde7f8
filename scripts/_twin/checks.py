"""What a source and its twin must not contain: it would give a twin that imports and is silently wrong."""

import ast
import re
from collections.abc import Iterator

from _twin.code import BACKEND_FIXTURES, Source, tokens_of

_FORBIDDEN = re.compile(
    r"\w*[Aa]sync\w*|_*Sync[A-Z]\w*|(?:\w*_)?(?:anyio|asyncio|trio)(?:_\w*)?"
    r"|\w*[Cc]oroutine\w*|\w*[Aa]wait\w*|__a(?:enter|exit|iter|next)__"
    r"|aclose|aclosing|aiter|anext|aread|aiter_\w+|asend|athrow|isasyncgen\w*"
)
#: Standard classes that exist in both colours, so that meeting both in one file is no mistake.
_PAIRS = {
    "AbstractContextManager", "ContextDecorator", "ExitStack", "Generator", "Iterable", "Iterator",
    "MagicMock", "Mock", "StopIteration",
}  # fmt: skip
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def check_source(source: Source) -> None:
    """Report what must not be in an async source."""
    _check_collisions(source)
    for node in ast.walk(ast.parse(source.content)):
        match node:
            case ast.Expr(value=ast.Await(value=ast.Name() | ast.Attribute())):
                source.report(node.lineno, "this awaits no call: the twin would do nothing here")
            case ast.ImportFrom(module=str(module), level=0):
                for alias in node.names:
                    if f"{module}.{alias.name}" in source.table.dotted:
                        source.report(
                            node.lineno,
                            f"import from {module}.{alias.name} itself, so that it can be renamed",
                        )


def check_twin(source: Source, twin: str, *, final: bool) -> None:
    """Report what must not be in a twin.

    Args:
        source: Where it came from; it gets the problems.
        twin: The text of the twin.
        final: Whether it is finished. Before that it has the lines of its source, and unused imports.
    """
    where = " (line of the twin)" if final else ""
    try:
        tree = ast.parse(twin)
        compile(twin, str(source.path), "exec", dont_inherit=True)
    except SyntaxError as error:
        source.report(error.lineno, f"the twin is no Python: {error.msg}{where}")
        return
    removable = () if final else ("Awaitable", "Coroutine")
    for token in tokens_of(twin):
        if token.name == "NAME" and _FORBIDDEN.fullmatch(token.src):
            if token.src in removable and _only_imported(tree, token.src):
                continue
            hint = "add it to scripts/_twin/table.py or use another name"
            if token.src in BACKEND_FIXTURES:
                hint = "it may only be a parameter, which the twin drops"
            source.report(token.line, f"the name {token.src!r} would stay in the twin: {hint}{where}")
    for line, message in _tree_problems(tree):
        source.report(line, message + where)


def _check_collisions(source: Source) -> None:
    names: dict[str, dict[str, int]] = {}
    previous = ""
    for token in source.tokens:
        if token.name == "NAME" and previous != ".":
            new = re.sub("Async(?=[A-Z])", "", token.src)
            names.setdefault(new, {}).setdefault(token.src, token.line or 0)
        previous = token.src if token.src.strip() else previous
    for new, found in names.items():
        if len(found) > 1 and new not in _PAIRS:
            source.report(max(found.values()), f"{' and '.join(sorted(found))} would both be {new!r} in the twin")


def _only_imported(tree: ast.Module, name: str) -> bool:
    """Whether a name has no use but its import, which `ruff` then removes."""
    return not any(
        (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)
        for node in ast.walk(tree)
    )


def _tree_problems(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                yield node.lineno, "async code would stay in the twin"
            case ast.comprehension(is_async=1):
                yield node.iter.lineno, "async code would stay in the twin"
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=value)) if name == value:
                yield node.lineno, f"{name!r} would be assigned to itself in the twin"
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts) | ast.Tuple(elts)):
                listed = [element.value for element in elts if isinstance(element, ast.Constant)]
                for double in sorted({str(name) for name in listed if listed.count(name) > 1}):
                    yield node.lineno, f"{double!r} would be listed twice in the twin"
            case ast.FunctionDef() if _yields(node):
                for inner in _own_nodes(node):
                    if isinstance(inner, ast.Raise) and "StopIteration" in ast.unparse(inner):
                        yield (
                            inner.lineno,
                            "StopIteration raised in a generator is a RuntimeError: return instead",
                        )
        if isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS)):
            yield from _duplicates(node.body)


def _duplicates(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if node.target.id in seen:
                yield node.lineno, f"{node.target.id!r} would be defined twice in the twin"
            seen.add(node.target.id)
        elif isinstance(node, (ast.ClassDef, *_FUNCTIONS)):
            if node.name in seen and not any(_redefines(decorator) for decorator in node.decorator_list):
                yield node.lineno, f"{node.name!r} would be defined twice in the twin"
            if not any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list):
                seen.add(node.name)


def _redefines(decorator: ast.expr) -> bool:
    name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return name.endswith((".setter", ".deleter", ".getter", ".register", "overload"))


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside it."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (ast.Lambda, ast.ClassDef, *_FUNCTIONS)):
            stack.extend(ast.iter_child_nodes(node))


def _yields(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _own_nodes(function))
