"""How the arrays of a backbone are called: the form in which a backbone tells its own names.

A backbone `package.module:Class` of the registry tells them in `package.module_names`, as `NAMES`; that module is apart
so that weight files are looked into without Paddle. A backbone without one keeps its names wherever it goes.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ppliteseg_paddle.registry import COMPONENTS

StateDict = dict[str, NDArray[Any]]
Rows = Sequence[tuple[str, str]]  # (ours, theirs); {} stands for a number


class BackboneNames:
    """The names of one family of backbones, all without "backbone." before them.

    Attributes:
        ours: what such a file is called where its names are ours, such as "our STDC backbone".
        our_names: a regular expression that each of our names matches fully.
        foreign: what a file of somebody else's is called -> the same for those names.
        ignored: the same for the beginning of names in a foreign file that no segmentation model uses.
        rows: for `to_ours` and `to_paddleseg`, which subclasses may do in another way.
    """

    ours: str
    our_names: str
    foreign: Mapping[str, str] = {}
    ignored = "$."
    rows: Rows = ()

    def source(self, names: Collection[str]) -> str | None:
        """Whose names these are: `ours`, a key of `foreign`, or None if they are not this family's."""
        for source, pattern in ((self.ours, self.our_names), *self.foreign.items()):
            used = names if source == self.ours else [name for name in names if not self.is_ignored(name)]
            if used and all(re.fullmatch(pattern, name) for name in used):
                return source
        return None

    def is_ignored(self, name: str) -> bool:
        return re.match(self.ignored, name) is not None

    def to_ours(self, names: Collection[str]) -> dict[str, str]:
        """Foreign name -> our name, of all that are not ignored."""
        return {name: translated(name, self.rows, 1, 0) for name in names if not self.is_ignored(name)}

    def to_paddleseg(self, names: Collection[str]) -> dict[str, str]:
        """Our name -> PaddleSeg's."""
        return {name: translated(name, self.rows, 0, 1) for name in names}

    def variant(self, names: Collection[str]) -> str | None:
        """Which of the family these are, by our names; None if it has one only, or for one that has no name."""
        return None

    def form(self, names: Collection[str]) -> str | None:
        """What tells it from others of the family whose arrays fit as well, in words, by our names."""
        return self.variant(names)


def families() -> list[BackboneNames]:
    """Of the backbones in the registry, those that tell their names."""
    found = []
    for module in dict.fromkeys(target.split(":")[0] + "_names" for target in COMPONENTS["BACKBONES"]):
        if module in sys.modules or importlib.util.find_spec(module) is not None:
            found.append(importlib.import_module(module).NAMES)
    return found


def family_of(names: Collection[str]) -> tuple[BackboneNames, str] | None:
    """The family whose names these are, and whose of them; None if no backbone knows them."""
    for family in families():
        source = family.source(names)
        if source is not None:
            return family, source
    return None


def translated(name: str, rows: Rows, source: int, target: int, layers: Rows | None = None) -> str:
    """`name` with its beginning replaced by the first row that fits; then, if given, the layer after it likewise.

    Args: source, target: the column (0 ours, 1 theirs) that `name` is in, and the one wanted.
    """
    for row in rows:
        match = re.match(re.escape(row[source]).replace(r"\{\}", r"(\d+)"), name)
        if match:
            rest = name[match.end() :]
            return row[target].format(*match.groups()) + (translated(rest, layers, source, target) if layers else rest)
    return name


def numbers(names: Collection[str], pattern: str) -> list[int]:
    """What the first group of `pattern` finds at the beginning of names, each once, rising."""
    return sorted({int(match.group(1)) for match in (re.match(pattern, name) for name in names) if match})
