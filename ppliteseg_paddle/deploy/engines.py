"""Where engines are kept that were built for one GPU and one version, and what they are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.deploy.folder import ENGINES_FOLDER
from ppliteseg_paddle.errors import ConfigError


def engines_folder(artifact_folder: str, cache_dir: str | None = None) -> str:
    """The folder for engines, made if need be: `cache_dir`, else beside the graph, else the user's cache.

    Raises: ConfigError: if none can be written.
    """
    beside = os.path.join(os.path.abspath(artifact_folder), ENGINES_FOLDER)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    reason: Any = "no place is writable"
    for folder in [cache_dir] if cache_dir else [beside, os.path.join(home, "ppliteseg_paddle", ENGINES_FOLDER)]:
        try:
            os.makedirs(folder, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
            reason = f"{folder} is not writable"
        except OSError as error:
            reason = f"{folder}: {error.strerror or error}"
    raise ConfigError(f"engines cannot be kept: {reason}; give a folder as cache_dir.")


def has_engine(artifact_folder: str, runtime: str) -> bool:
    """Whether a runtime has built an engine for it that is kept beside the graph."""
    folder = os.path.join(artifact_folder, ENGINES_FOLDER)
    return os.path.isdir(folder) and any(name.startswith(runtime) for name in os.listdir(folder))


def engine_name(runtime: str, version: str, gpu: str, precision: str, made_of: Mapping[str, Any]) -> str:
    """A name that differs wherever an engine could not serve: "tensorrt-10.13.0-NVIDIA-A10-8.6-fp16-1f0c9a7b4d21".

    Args: made_of: everything else that the engine depends on, the graph's hash among it; plain values.
    """
    digest = hashlib.sha256(
        json.dumps([runtime, version, gpu, precision, made_of], sort_keys=True).encode()
    ).hexdigest()
    return "-".join(
        [runtime, *(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in (version, gpu, precision)), digest[:12]]
    )


def read_bytes(path: str) -> bytes:
    """A file's content, b"" where it does not exist."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
