"""Code of users that registers components of its own: `--plugin`.

A plugin is a Python file or module whose import adds classes to PaddleSeg's component managers. It runs with the user's
rights, so only the command line can ask for it: a configuration may say that it needs one (`plugin:`), and is refused
until the user names the same one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ppliteseg_paddle.config.source import Source
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.registry import register

_loaded: dict[str, str] = {}  # identity -> as the user named it


def load_plugins(names: Sequence[str]) -> None:
    """Import plugins, in their order. Each is imported once.

    Args: names: paths of .py files, or modules as in "package.module", also of the working directory.
    Raises: ConfigError: if one does not exist, or its import fails, or it replaces a component of this package.
    """
    for name in names:
        identity = _identity(name)
        if identity in _loaded:
            continue
        register()  # Paddle and PaddleSeg are imported as this package needs them, before the plugin does
        try:
            _import_file(identity) if name.endswith(".py") else _import_module(name)
            register()
        except PPLiteSegError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"--plugin {name} cannot be imported: {_cause(error, identity)}.") from error
        _loaded[identity] = name


def check_plugins(names: Sequence[str], source: Source) -> None:
    """See that the user has agreed to each plugin that a configuration needs.

    Raises: ConfigError
    """
    missing = [name for name in names if _identity(name) not in _loaded]
    if missing:
        raise ConfigError(
            f"{source.of('plugin')}: it needs code of {', '.join(missing)}, which no configuration runs by itself: "
            f"read it, and add --plugin {' '.join(missing)}."
        )


def loaded_plugins() -> list[str]:
    """What was loaded: absolute paths, and names of modules."""
    return list(_loaded)


def _identity(name: str) -> str:
    return os.path.realpath(name) if name.endswith(".py") else name


def _import_file(path: str) -> ModuleType:
    """Import a file under its own name, so that processes which are started anew find its classes, too."""
    if not os.path.isfile(path):
        raise ConfigError(f"--plugin {path} does not exist: give a .py file, or the name of a module.")
    folder, name = os.path.dirname(path), os.path.basename(path)[: -len(".py")]
    found = importlib.util.find_spec(name) if name.isidentifier() and name not in sys.modules else None
    itself = found is not None and os.path.realpath(found.origin or "") == path  # where Python looks in this folder
    if not name.isidentifier() or name in sys.modules or (found is not None and not itself):
        raise ConfigError(f"--plugin {path}: '{name}' is the name of another module, or of none: rename the file.")
    sys.path.append(folder)
    return importlib.import_module(name)


def _import_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ConfigError(
            f"--plugin {name}: there is no such module in {os.getcwd()} or on Python's path. Files end in .py."
        )
    return importlib.import_module(name)


def _cause(error: BaseException, path: str) -> str:
    """What went wrong and, where it is in the plugin itself, on which line."""
    text: Any = " ".join(str(error).split()) or "no message"
    line, trace = None, error.__traceback__
    while trace is not None:
        if os.path.realpath(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f" (line {line:d})" if line is not None else ""
    return f"{type(error).__name__}: {text.rstrip('.')}{where}"
