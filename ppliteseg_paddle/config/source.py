"""The YAML of a configuration: its bases, the changes of --opts, and where each value came from.

A file means what it means to PaddleSeg; `read.load` adds variables and checks.
"""

from __future__ import annotations

import copy
import os
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ppliteseg_paddle.config.kinds import kind_of, shortened
from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.reading.plain_yaml import PlainYamlError, read_plain_yaml

MAX_FILES = 100  # read for one configuration: bases of bases multiply


@dataclass
class Source:
    """Where values came from, so that an error can name the file that set a key."""

    path: str
    files: list[tuple[str, Any]] = field(default_factory=list)  # (file, its own content), first one wins
    options: list[str] = field(default_factory=list)  # keys set by --opts or another flag
    variables: dict[str, str] = field(default_factory=dict)  # key -> environment variable that its value names

    def of(self, key: str) -> str:
        """'FILE: KEY' for the file, or '--opts', that sets `key`."""
        if any(key == option or key.startswith(option + ".") for option in self.options):
            return f"--opts {key}"
        parts = key.split(".")
        best = max(self.files, key=lambda item: _depth(item[1], parts), default=(self.path, None))
        return f"{best[0]}: {key}"


# --------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------
def read_yaml(path: str) -> dict[str, Any]:
    """One YAML file as a dict, its bases not yet followed.

    Raises: ConfigError: if it is missing, not YAML (with the line), or not a mapping.
    """
    if not str(path).endswith((".yml", ".yaml")):
        raise ConfigError(f"configuration {path} must end in .yml or .yaml.")
    try:
        values = read_plain_yaml(path)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []
        near = suggest(os.path.basename(path), [name for name in names if name.endswith((".yml", ".yaml"))])
        raise ConfigError(f"configuration {path} does not exist.{near}") from None
    except PlainYamlError as error:
        raise ConfigError(f"{path}{error.place}: no valid YAML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {('nothing' if values is None else kind_of(values))}, not 'key: value' lines.")
    return values


def read_with_bases(path: str, source: Source, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """A YAML file over its bases; `source` notes each file. Raises: ConfigError: also if the bases form a circle."""
    real = os.path.realpath(path)
    if real in chain:
        raise ConfigError(
            f"{source.path}: _base_ leads back to itself: {' -> '.join(chain[chain.index(real) :] + (real,))}."
        )
    if len(source.files) >= MAX_FILES:
        raise ConfigError(f"{source.path}: _base_ leads to more than {MAX_FILES:d} files.")
    values = read_yaml(path)
    bases = values.pop("_base_", None) or []
    bases = bases if isinstance(bases, list) else [bases]
    source.files.append((path, copy.deepcopy(values)))
    for base in bases:
        if not isinstance(base, str):
            raise ConfigError(f"{path}: _base_ must be a path or a list of paths, but holds {shortened(repr(base))}.")
        base_path = os.path.normpath(os.path.join(os.path.dirname(path), base))
        if not os.path.isfile(base_path):
            raise ConfigError(f"{path}: _base_ '{base}' does not exist (looked for {base_path}).")
        values = merge(values, read_with_bases(base_path, source, chain + (real,)))
    return values


def merge(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """`values` over `base`, dict by dict; a dict with `_inherited_: False` takes nothing from its base.

    Source: PaddleSeg `cvlibs/config.py::merge_config_dicts`, also in that of several bases the first one wins.
    """
    merged, values = dict(base), dict(values)
    if not values.get("_inherited_", True):
        del values["_inherited_"]
        return values
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(value, merged[key])
        else:
            merged[key] = value
    return merged


def without_marks(value: Any) -> Any:
    """Drop `_inherited_` where there was no base to merge with: it is no argument of any component."""
    if isinstance(value, dict):
        return {key: without_marks(item) for key, item in value.items() if key != "_inherited_"}
    if isinstance(value, list):
        return [without_marks(item) for item in value]
    return value


def unshared(value: Any) -> Any:
    """A copy in which YAML anchors no longer share an object, so that an option changes one place only."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unshared(item) for item in value)
    return value


# --------------------------------------------------------------------------------------------
# Changing
# --------------------------------------------------------------------------------------------
_YAML_WORDS = {"true": True, "false": False, "null": None}


def apply_option(values: dict[str, Any], option: str, source: Source) -> None:
    """Apply one `key=value` of --opts in place.

    The value is read as a Python literal (0.5, [1, 2], 'text', None), else as text; `true`, `false` and
    `null` mean what they do in YAML: the text 'false' would count as true, and 'null' as a file's name.
    The key must lead to an existing place; its last part may be new.

    Raises: ConfigError: if it has no '=', or the place does not exist (with the nearest keys).
    Source: PaddleSeg `cvlibs/config.py::update_config_dict`.
    """
    key, equals, text = option.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--opts wants key=value, as in batch_size=2, but got '{shortened(option)}'.")
    value: Any
    if text in _YAML_WORDS:
        value = _YAML_WORDS[text]
    else:
        try:
            value = literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last two: nested too deep
            value = text
    set_value(values, key.strip(), value, source)


def set_value(values: dict[str, Any], key: str, value: Any, source: Source) -> None:
    """Set the value under a dotted key in place, and note in `source` that an option did it. Raises: ConfigError."""
    parts = key.split(".")
    if parts[0] == "test_config" and len(parts) > 1:
        values.setdefault("test_config", {})  # optional in a file, and the place that one most often sets by hand
    place: Any = values
    for depth, part in enumerate(parts[:-1]):
        place = place[_existing(place, part, key, ".".join(parts[:depth]))]
    last = parts[-1]
    if isinstance(place, dict):
        place[last] = value
    else:
        place[_existing(place, last, key, ".".join(parts[:-1]))] = value
    source.options.append(key)


def _existing(place: Any, part: str, key: str, parent: str) -> Any:
    """The key or index under which `part` is found in `place`."""
    where = f"'{shortened(parent)}'" if parent else "the configuration"
    key, quoted = shortened(key), shortened(part)
    if isinstance(place, dict):
        if part in place:
            return part
        raise ConfigError(f"--opts {key}: {where} has no key '{quoted}'.{suggest(part, place)}")
    if isinstance(place, list):
        if re.fullmatch("-?[0-9]{1,9}", part) and -len(place) <= int(part) < len(place):
            return int(part)
        raise ConfigError(
            f"--opts {key}: {where} is a list of {len(place):d}: give an index from 0 to {len(place) - 1:d} in place "
            f"of '{quoted}'."
        )
    raise ConfigError(f"--opts {key}: {where} is {kind_of(place)} and holds no keys.")


def _depth(values: Any, parts: Sequence[str]) -> int:
    """How many of `parts` lead somewhere in `values`."""
    for depth, part in enumerate(parts):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and re.fullmatch("[0-9]{1,9}", part) and int(part) < len(values):
            values = values[int(part)]
        else:
            return depth
    return len(parts)
