"""Read a configuration in PaddleSeg's YAML dialect and say in one line what is wrong with it.

A file that PaddleSeg accepts means the same here. What is added: `${VARIABLE:-default}` in any
text, list indices in `--opts`, and checks (`config_check`) before anything is built.
"""

from __future__ import annotations

import copy
import os
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ppliteseg_paddle.config.check import check_form, kind_of
from ppliteseg_paddle.errors import ConfigError, suggest

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


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
def load(
    path: str,
    opts: Sequence[str] | None = None,
    iters: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> tuple[dict[str, Any], Source]:
    """Read a configuration with its bases, apply what the command line changes, expand variables, check its form.

    Args:
        path: a .yml or .yaml file.
        opts: `key=value` texts; keys with dots, list indices as numbers.
        iters, batch_size, learning_rate: override the file, after `opts`.

    Returns: the values, and where they came from.
    Raises: ConfigError: one line for whatever is wrong with the file or a flag.
    Source: PaddleSeg `cvlibs/config.py`.
    """
    source = Source(path)
    values = _unshared(_without_marks(_read_with_bases(path, source, ())))
    for option in opts or ():
        apply_option(values, option, source)
    for key, value in (("batch_size", batch_size), ("iters", iters), ("lr_scheduler.learning_rate", learning_rate)):
        if value is not None:
            _set(values, key, value, source)
    values = expand_values(values, "", source)
    check_form(values, source)
    return values, source


def read_yaml(path: str) -> dict[str, Any]:
    """One YAML file as a dict, its bases not yet followed.

    Raises: ConfigError: if it is missing, no YAML (with the line), or no mapping.
    """
    if not str(path).endswith((".yml", ".yaml")):
        raise ConfigError(f"configuration {path} must end in .yml or .yaml.")
    try:
        with open(path, encoding="utf-8") as file:
            # The loader that PaddleSeg uses; since PyYAML 5.4 it creates plain data only.
            values = yaml.load(file, Loader=yaml.FullLoader)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []
        near = suggest(os.path.basename(path), [name for name in names if name.endswith((".yml", ".yaml"))])
        raise ConfigError(f"configuration {path} does not exist.{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{(mark.line + 1):d}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path}{place}: no valid YAML: {' '.join(problem.split())}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {('nothing' if values is None else kind_of(values))}, not 'key: value' lines.")
    return values


def _read_with_bases(path: str, source: Source, chain: tuple[str, ...]) -> dict[str, Any]:
    real = os.path.realpath(path)
    if real in chain:
        raise ConfigError(
            f"{source.path}: _base_ leads back to itself: {' -> '.join(chain[chain.index(real) :] + (real,))}."
        )
    values = read_yaml(path)
    bases = values.pop("_base_", None) or []
    bases = bases if isinstance(bases, list) else [bases]
    source.files.append((path, copy.deepcopy(values)))
    for base in bases:
        if not isinstance(base, str):
            raise ConfigError(f"{path}: _base_ must be a path or a list of paths, but holds {base!r}.")
        base_path = os.path.normpath(os.path.join(os.path.dirname(path), base))
        if not os.path.isfile(base_path):
            raise ConfigError(f"{path}: _base_ '{base}' does not exist (looked for {base_path}).")
        values = merge(values, _read_with_bases(base_path, source, chain + (real,)))
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


def _without_marks(value: Any) -> Any:
    """Drop `_inherited_` where there was no base to merge with: it is no argument of any component."""
    if isinstance(value, dict):
        return {key: _without_marks(item) for key, item in value.items() if key != "_inherited_"}
    if isinstance(value, list):
        return [_without_marks(item) for item in value]
    return value


def _unshared(value: Any) -> Any:
    """A copy in which YAML anchors no longer share an object, so that an option changes one place only."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_unshared(item) for item in value)
    return value


# --------------------------------------------------------------------------------------------
# Changing
# --------------------------------------------------------------------------------------------
def apply_option(values: dict[str, Any], option: str, source: Source) -> None:
    """Apply one `key=value` of --opts in place.

    The value is read as a Python literal (0.5, [1, 2], 'text', None), else as text; `true` and
    `false` are booleans, since the text 'false' would count as true. The key must lead to an
    existing place; its last part may be new.

    Raises: ConfigError: if it has no '=', or the place does not exist (with the nearest keys).
    Source: PaddleSeg `cvlibs/config.py::update_config_dict`.
    """
    key, equals, text = option.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--opts wants key=value, as in batch_size=2, but got '{option}'.")
    if text in ("true", "false"):
        value = text == "true"
    else:
        try:
            value = literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
    _set(values, key.strip(), value, source)


def _set(values: dict[str, Any], key: str, value: Any, source: Source) -> None:
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


def _existing(place: Any, part: str, key: str, parent: str):
    """The key or index under which `part` is found in `place`."""
    where = f"'{parent}'" if parent else "the configuration"
    if isinstance(place, dict):
        if part in place:
            return part
        raise ConfigError(f"--opts {key}: {where} has no key '{part}'.{suggest(part, place)}")
    if isinstance(place, list):
        if part.lstrip("-").isdigit() and -len(place) <= int(part) < len(place):
            return int(part)
        raise ConfigError(
            f"--opts {key}: {where} is a list of {len(place):d}: give an index from 0 to {len(place) - 1:d} in place "
            f"of '{part}'."
        )
    raise ConfigError(f"--opts {key}: {where} is {kind_of(place)} and holds no keys.")


def expand_env(text: str) -> str:
    """Replace `${VARIABLE:-default}` and `${VARIABLE}` as a shell does: the default serves where the variable is unset
    or empty.

    Raises: ConfigError: if a variable without default is not set.
    """

    def value_of(match):
        name, default = match.groups()
        value = os.environ.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            raise ConfigError(
                f"'{text}': the environment variable {name} is not set. Set it, or write ${{{name}:-default}}."
            )
        return default

    return _VARIABLE.sub(value_of, text)


def expand_values(value: Any, key: str, source: Source) -> Any:
    """`expand_env` for every text in nested dicts and lists; `source.variables` notes which keys name a variable."""
    if isinstance(value, str):
        match = _VARIABLE.search(value)
        if match:
            source.variables[key] = match.group(1)
        return expand_env(value)
    if isinstance(value, dict):
        return {name: expand_values(item, _joined(key, name), source) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(expand_values(item, _joined(key, index), source) for index, item in enumerate(value))
    return value


def _joined(key: str, part: Any) -> str:
    return f"{key}.{part}" if key else str(part)


def _depth(values: Any, parts: Sequence[str]) -> int:
    """How many of `parts` lead somewhere in `values`."""
    for depth, part in enumerate(parts):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return depth
    return len(parts)
