"""The reference of all keys, from the table in `keys`: rows for `configs keys`, and the page `docs/configuration.md`,
which this writes:

python -m ppliteseg_paddle.config.reference
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ppliteseg_paddle.config.keys import KEYS, REQUIRED, SIGNATURE, Key, keys_of
from ppliteseg_paddle.files import SOURCE_ROOT, save_atomic
from ppliteseg_paddle.registry import COMPONENTS

PATH = os.path.join(SOURCE_ROOT, "docs", "configuration.md")
_INTRO = """# Configuration keys

<!-- Written by `python -m ppliteseg_paddle.config.reference` from the table in ppliteseg_paddle/config/keys.py. -->

A configuration is a YAML file in PaddleSeg's dialect. `_base_` names the files that it is based on,
`_inherited_: False` in a block takes nothing from them, `${VARIABLE:-default}` in a text is expanded, and `--opts`
changes single keys, as in `--opts batch_size=2 test_config.is_slide=True`.

The keys marked "ours" exist in this package only. At the top level, PaddleSeg's own tools ignore them; in blocks, they
are arguments of our classes. The others mean what they mean to PaddleSeg. Of PaddleSeg's classes, only the arguments
that are checked here are listed. "Read by" names the commands that use a key; every command checks the whole file.
"""


class Row(NamedTuple):
    """A key as people read it; code stands between backticks."""

    key: str
    value: str
    default: str
    meaning: str
    commands: str
    origin: str


def rows(place: str) -> list[Row]:
    """The keys of a block or the arguments of a `type`; "" is the top level."""
    return [
        Row(key.name, _value(key), _default(key), key.meaning, key.commands, key.origin)
        for key in keys_of(place).values()
    ]


def text() -> str:
    """The page."""
    return "\n".join([_INTRO, *(_section(title, keys) for title, keys in _sections())])


def _sections() -> Iterator[tuple[str, list[Row]]]:
    """(title, keys); blocks and types with the same keys share a section."""
    tables: list[tuple[list[str], list[Row]]] = []
    for place in dict.fromkeys(key.place for key in KEYS):
        keys = rows(place)
        twin = next((names for names, others in tables if others == keys), None)
        if twin is None:
            tables.append(([place], keys))
        else:
            twin.append(place)
    for names, keys in tables:
        title = ", ".join(f"`{name}`" if name else "Top level" for name in names)
        yield (f"`type`: {title}" if names[0][:1].isupper() else title), keys


def _section(title: str, keys: list[Row]) -> str:
    head = "| Key | Value | Default | Meaning | Read by | Whose |\n|---|---|---|---|---|---|\n"
    lines = (" | ".join(cell.replace("|", "\\|") for cell in (f"`{row.key}`", *row[1:])) for row in keys)
    return f"## {title}\n\n{head}" + "".join(f"| {line} |\n" for line in lines)


def _value(key: Key) -> str:
    if key.choices:
        module, name = key.choices.split(":")
        words = ", ".join(f"`{choice}`" for choice in getattr(importlib.import_module(module), name))
    else:
        words = key.kind.words
    return words + (", or null" if key.kind.null else "")


def _default(key: Key) -> str:
    default = key.default
    if default == SIGNATURE:
        parameter = inspect.signature(_components()[key.place]).parameters[key.name]
        if parameter.default is parameter.empty:
            return "the data set's" if (key.place, key.name) == ("PPLiteSegNet", "num_classes") else REQUIRED
        return f"`{_yaml(parameter.default)}`"
    if default is None or key.name.endswith(".*"):
        return ""
    return REQUIRED if default == REQUIRED else f"`{_yaml(default)}`"


def _components() -> dict[str, Any]:
    pairs = [target.split(":") for targets in COMPONENTS.values() for target in targets]
    return {name: getattr(importlib.import_module(module), name) for module, name in pairs}


def _yaml(value: Any) -> str:
    """A default as a file would have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value if value.strip() else f"'{value}'"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value)


if __name__ == "__main__":
    with save_atomic(PATH) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text())
    print(PATH)
