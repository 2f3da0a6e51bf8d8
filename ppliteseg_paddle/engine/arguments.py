"""What `train`, `val` and `export` take when they are called as functions, checked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ppliteseg_paddle.engine.build import load_config
from ppliteseg_paddle.errors import ConfigError, suggest


def loaded(config: Any, opts: Sequence[str] = (), *values: Any) -> Any:
    """A configuration from its file's path or its name; one that is loaded already as it is.

    Args: values: iterations, batch size and learning rate, where they are given.
    Raises: ConfigError: for a file that is not a configuration, or changes of one that is loaded already.
    """
    if isinstance(config, (str, os.PathLike)):
        return load_config(os.fspath(config), list(opts), *values)
    if not (hasattr(config, "dic") and hasattr(config, "source")):
        raise ConfigError(
            f"config is a {type(config).__name__}: give a YAML file, the name of a shipped configuration, or what "
            "engine.build.load_config returns."
        )
    if opts or any(value is not None for value in values):
        raise ConfigError("config is loaded already: give its changes to engine.build.load_config.")
    return config


def names_of(options: Any) -> list[str]:
    """The fields of a dataclass of options."""
    return [field.name for field in dataclasses.fields(options)]


def check_names(function: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises: ConfigError: for an option that the function does not have."""
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise ConfigError(f"{function} has no option '{unknown}'.{suggest(unknown, known)}")
