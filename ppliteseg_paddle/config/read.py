"""Read a configuration in PaddleSeg's YAML dialect, and say in one line what is wrong with it.

A file that PaddleSeg accepts means the same here. What is added: names of shipped configurations in place of paths,
`${VARIABLE:-default}` in any text, list indices in `--opts`, and checks before anything is built.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.config.check import check_form
from ppliteseg_paddle.config.source import Source, apply_option, read_with_bases, set_value, unshared, without_marks
from ppliteseg_paddle.errors import ConfigError, suggest
from ppliteseg_paddle.files import SOURCE_ROOT

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")


def load(
    path: str,
    opts: Sequence[str] | None = None,
    iters: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> tuple[dict[str, Any], Source]:
    """Read a configuration with its bases, apply what the command line changes, expand variables, check its form.

    Args:
        path: a .yml or .yaml file, or the name of a shipped configuration.
        opts: `key=value` texts; keys with dots, list indices as numbers.
        iters, batch_size, learning_rate: override the file, after `opts`. A warm-up that would start at or above the
            learning rate is scaled with it.

    Returns: the values, and where they came from.
    Raises: ConfigError: one line for whatever is wrong with the file or a flag.
    Source: PaddleSeg `cvlibs/config.py`.
    """
    source = Source(find(path))
    values = unshared(without_marks(read_with_bases(source.path, source)))
    for option in opts or ():
        apply_option(values, option, source)
    start = _warm_up_start(values, learning_rate)
    flags = {
        **{"batch_size": batch_size, "iters": iters, "lr_scheduler.learning_rate": learning_rate},
        "lr_scheduler.warmup_start_lr": start,
    }
    for key, value in flags.items():
        if value is not None:
            set_value(values, key, value, source)
    values = expand_values(values, "", source)
    check_form(values, source)
    return values, source


def _warm_up_start(values: Mapping[str, Any], learning_rate: float | None) -> float | None:
    """Where a warm-up that would start at or above the given learning rate starts instead: at the same share of it as
    in the file. None where nothing is to be changed."""
    block = values.get("lr_scheduler")
    start, rate = (
        (block.get("warmup_start_lr"), block.get("learning_rate")) if isinstance(block, dict) else (None, None)
    )
    if not (learning_rate and isinstance(start, (int, float)) and isinstance(rate, (int, float)) and rate > 0):
        return None
    return start * learning_rate / rate if start >= learning_rate else None


def find(name: str) -> str:
    """The path of a configuration. A name without folder and extension is one of those shipped.

    Raises: ConfigError: if there is no such shipped file; the text gives the nearest names.
    """
    if os.path.basename(name) != name or name.endswith((".yml", ".yaml")) or os.path.exists(name):
        return name
    shipped = shipped_configs()
    if name not in shipped:
        raise ConfigError(
            f"configuration '{name}' does not exist: give a .yml file, or the name of a shipped "
            f"configuration.{suggest(name, shipped)}"
        )
    return shipped[name]


def shipped_configs() -> dict[str, str]:
    """Names and paths of the shipped configurations: a source checkout's, else the installed package's."""
    folders = (os.path.join(root, "configs") for root in (SOURCE_ROOT, os.path.join(SOURCE_ROOT, "ppliteseg_paddle")))
    folder = next((folder for folder in folders if os.path.isdir(os.path.join(folder, "_base_"))), "")
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "[!_]*", "*.yml"))) if folder else []
    return {os.path.basename(path)[: -len(".yml")]: path for path in paths}


def expand_env(text: str) -> str:
    """Replace `${VARIABLE:-default}` and `${VARIABLE}` as a shell does: the default serves where the variable is unset
    or empty.

    Raises: ConfigError: if a variable without default is not set.
    """

    def value_of(match: re.Match[str]) -> str:
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
