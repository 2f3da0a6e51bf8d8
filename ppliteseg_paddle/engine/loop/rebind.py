"""A function of another package, unmodified, over names of its own: nothing changes for anybody else in the process."""

from __future__ import annotations

import builtins
import dis
import types
from collections.abc import Iterator, Mapping
from typing import Any, Callable


class View:
    """A module as it is, but for some of its attributes.

    Args: module: asked for all others; own: attribute -> value.
    """

    def __init__(self, module: Any, own: Mapping[str, Any]):
        self.__dict__.update(own)
        self.__dict__["_module"] = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def rebound(function: Callable, names: Mapping[str, Any]) -> Callable:
    """The function's own code over a private copy of its module's names, some of which mean something else there.

    Args: names: dotted name, as the function looks it up -> its value for this function alone.
    """
    found = function.__globals__
    tree: dict[str, Any] = {}
    for name, value in names.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    own = {name: _view(value, found.get(name)) for name, value in tree.items()}
    copy = types.FunctionType(
        function.__code__, {**found, **own}, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _view(value: Any, module: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return View(module, {name: _view(part, getattr(module, name, None)) for name, part in value.items()})


def look_up(function: Callable, name: str) -> Any:
    """What a function finds under a dotted name. Raises: AttributeError: if there is nothing."""
    first, *path = name.split(".")
    found = function.__globals__[first] if first in function.__globals__ else getattr(builtins, first)
    for part in path:
        found = getattr(found, part)
    return found


def looked_up_by(function: Callable) -> set[str]:
    """The dotted names that a function looks up outside of itself, as in "paddle", "paddle.io"."""
    return set(_looked_up(function.__code__))


def _looked_up(code: types.CodeType) -> Iterator[str]:
    chain = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            chain = instruction.argval
            yield chain
        elif chain and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = f"{chain}.{instruction.argval}"
            yield chain
        elif instruction.opname not in ("EXTENDED_ARG", "CACHE"):
            chain = ""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _looked_up(constant)
