"""The two colours are one library: the same names, signatures and words, modulo colour."""

import importlib
import inspect
import pkgutil
import re
import typing
from types import ModuleType
from typing import Any

import pytest

import pynector._async
import pynector._sync
from servers.extras import WITHOUT_EXTRAS
from servers.hints import checking_names

RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "traced_async_operation": "traced_operation",
    "handle_async_request": "handle_request",
}


def modules(package: ModuleType) -> dict[str, ModuleType]:
    prefix = package.__name__ + "."
    found = {"": package}
    for info in pkgutil.walk_packages(package.__path__, prefix):
        try:
            found[info.name.removeprefix(prefix)] = importlib.import_module(info.name)
        except ModuleNotFoundError:
            if not WITHOUT_EXTRAS:
                raise
    return found


ASYNC = modules(pynector._async)
SYNC = modules(pynector._sync)


def twin_name(name: str) -> str:
    return RENAMED.get(name, re.sub(r"^(_?)Async(?=[A-Z])", r"\1", name))


def own(module: ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


PAIRS = [
    pytest.param(value, getattr(SYNC[name], twin_name(key), None), id=f"{name or '_async'}.{key}")
    for name, module in ASYNC.items()
    for key, value in own(module).items()
]


def test_the_same_modules() -> None:
    assert ASYNC.keys() == SYNC.keys()


@pytest.mark.parametrize("name", sorted(ASYNC))
def test_the_same_names(name: str) -> None:
    assert {twin_name(key) for key in own(ASYNC[name])} == set(own(SYNC[name]))
    exported = [twin_name(key) for key in getattr(ASYNC[name], "__all__", [])]
    assert sorted(exported) == sorted(getattr(SYNC[name], "__all__", []))


def signature(function: Any) -> list[tuple[str, Any, Any]]:
    return [
        (p.name, p.kind, repr(p.default).replace("_async", "_sync"))
        for p in inspect.signature(function).parameters.values()
    ]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_the_same_signatures(ours: Any, theirs: Any) -> None:
    if inspect.isfunction(ours):
        assert signature(ours) == signature(theirs)
        return
    members = {key: value for key, value in vars(ours).items() if inspect.isfunction(value)}
    twins = {key: value for key, value in vars(theirs).items() if inspect.isfunction(value)}
    assert {twin_name(key) for key in members} == set(twins)
    for key, value in members.items():
        assert not inspect.iscoroutinefunction(twins[twin_name(key)])
        assert signature(value) == signature(twins[twin_name(key)]), key


def words(text: str | None) -> list[str]:
    """The words of a docstring that do not tell the colour."""
    text = re.sub(r"\b(async|await|an?|blocking)\b|Async(?=[A-Z])", "", text or "", flags=re.IGNORECASE)
    return [twin_name(word) for word in re.findall(r"\w+", text)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_the_same_words(ours: Any, theirs: Any) -> None:
    assert words(ours.__doc__) == words(theirs.__doc__)
    if inspect.isclass(ours):
        for key, value in vars(ours).items():
            if inspect.isfunction(value):
                assert words(value.__doc__) == words(vars(theirs)[twin_name(key)].__doc__), key


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_type_hints_resolve(ours: Any, theirs: Any) -> None:
    for value in (ours, theirs):
        names = checking_names(importlib.import_module(value.__module__))
        for function in [value, *vars(value).values()] if inspect.isclass(value) else [value]:
            if inspect.isclass(function) and not all(map(is_ours, function.__mro__[1:-1])):
                inspect.get_annotations(function, locals=names, eval_str=True)  # those of a base of others are theirs
            elif inspect.isfunction(function) or inspect.isclass(function):
                typing.get_type_hints(function, localns=names)


def is_ours(base: type) -> bool:
    return not base.__module__.startswith(("openai", "httpx2"))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_public_names_have_docstrings(ours: Any, theirs: Any) -> None:
    if ours.__name__.startswith("_"):
        return
    assert ours.__doc__
    for key, value in vars(ours).items() if inspect.isclass(ours) else ():
        if inspect.isfunction(value) and not key.startswith("_"):
            assert value.__doc__, key
