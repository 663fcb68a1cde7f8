"""What a module defines for type checkers only: needed to resolve its annotations."""

import ast
import inspect
from types import ModuleType
from typing import Any


def checking_names(module: ModuleType) -> dict[str, Any]:
    """The names of a module, those of its `if TYPE_CHECKING:` blocks included."""
    names = dict(vars(module))
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(statement.body, []), module.__file__ or "", "exec"), names)
    return names
