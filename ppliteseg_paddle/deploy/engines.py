"""Where engines are kept that were built for one GPU and one version, and what they are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ppliteseg_paddle.deploy.folder import ENGINES_FOLDER, METADATA_FILE
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import home_folder


def engines_folder(artifact_folder: str, cache_dir: str | None = None) -> str:
    """The folder for engines, made if need be: `cache_dir`, else the artifact's own in the user's cache.

    Never the exported folder: an engine is a program, and the folder may come from someone else.

    Raises: ConfigError: if it cannot be written.
    """
    folder = cache_dir or _own_folder(artifact_folder)
    try:
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
        reason: Any = f"{folder} is not writable"
    except OSError as error:
        reason = f"{folder}: {error.strerror or error}"
    raise ConfigError(f"engines cannot be kept: {reason}; give a folder as cache_dir.")


def has_engine(artifact_folder: str, runtime: str) -> bool:
    """Whether a runtime has built an engine for it that is kept in the user's cache."""
    folder = _own_folder(artifact_folder)
    return os.path.isdir(folder) and any(name.startswith(runtime) for name in os.listdir(folder))


def _own_folder(artifact_folder: str) -> str:
    export = hashlib.sha256(read_bytes(os.path.join(artifact_folder, METADATA_FILE))).hexdigest()[:16]
    return os.path.join(home_folder(), ENGINES_FOLDER, export)


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
