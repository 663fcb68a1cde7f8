"""What an object, or an error, shows to whoever looks inside: no secret may be there."""

import contextlib
import traceback
from types import ModuleType
from typing import Any


def everything(thing: Any, depth: int = 6) -> str:
    """What a curious user or a crash reporter sees of an object."""
    text = repr(thing) + str(thing)
    if isinstance(thing, ModuleType):
        return text  # behind a module is the whole process, its environment and all
    slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    inside = {**getattr(thing, "__dict__", {}), **{name: getattr(thing, name, None) for name in slots}}
    for name, value in inside.items() if depth else ():
        if name != "_value":  # of a Secret, which is where it belongs
            text += everything(value, depth - 1)
    return text


def variables(error: BaseException | None) -> str:
    """What a crash report shows of the functions of ours that an error went through."""
    shown = []
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"].startswith("pynector."):
                for name, value in frame.f_locals.items():
                    with contextlib.suppress(RuntimeError):  # of a request of pyreqwest that was sent
                        shown.append(f"{name}={value!r}")
        error = error.__cause__ or error.__context__
    assert "proxy" in "".join(shown)
    return "\n".join(shown)
