"""Checkpoints on disk: checked before a run resumes from them. `loop.saving` writes them."""

from __future__ import annotations

import os
import re
from typing import Any

from ppliteseg_paddle.errors import ConfigError, WeightsError
from ppliteseg_paddle.files import read_json, sha256_of

PARAMS, OPTIMIZER, EMA_PARAMS, STATE = "model.pdparams", "model.pdopt", "ema_model.pdparams", "state.json"
MANIFEST = "checkpoint.json"  # written last: what the others have to be
_VERSION = 1
_ITER_FOLDER = re.compile(r"iter_(\d+)")


def iteration_of(folder: str) -> int | None:
    """The iteration that a checkpoint holds, by its name, where PaddleSeg's loop reads it, too; None for another
    name."""
    match = _ITER_FOLDER.fullmatch(os.path.basename(os.path.normpath(folder)))
    return int(match.group(1)) if match else None


# --------------------------------------------------------------------------------------------
# What is whole
# --------------------------------------------------------------------------------------------
def manifest_of(folder: str, iteration: int, **more: Any) -> dict[str, Any]:
    """The contents of checkpoint.json for the files in `folder`: the size and the SHA-256 of each, and `more`."""
    files = {
        name: {"size": os.path.getsize(os.path.join(folder, name)), "sha256": sha256_of(os.path.join(folder, name))}
        for name in sorted(os.listdir(folder))
    }
    return {"version": _VERSION, "iteration": iteration, **more, "files": files}


def damage(folder: str, hashes: bool = True) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence; None if it is complete.

    Args: hashes: whether to read the files, or only to compare their sizes.
    Returns: None, too, for a checkpoint of PaddleSeg or of an earlier version, which has no checkpoint.json, if its two
        files are there.
    """
    if not os.path.isdir(folder):
        return "is a file" if os.path.isfile(folder) else "does not exist"
    if not os.path.lexists(os.path.join(folder, MANIFEST)):
        missing = [name for name in (PARAMS, OPTIMIZER) if not _size(os.path.join(folder, name))]
        return f"lacks {missing[0]}, or it is empty" if missing else None
    manifest = read_json(os.path.join(folder, MANIFEST)) or {}
    version, files = manifest.get("version"), manifest.get("files")
    if isinstance(version, int) and version > _VERSION:
        return f"has a {MANIFEST} of version {version:d}, and this release reads up to {_VERSION:d}"
    if not isinstance(files, dict) or not all(
        isinstance(files.get(name), dict) for name in (PARAMS, OPTIMIZER, *files)
    ):
        return f"has a damaged {MANIFEST}"
    if manifest.get("iteration") != iteration_of(folder):
        return f"holds iteration {manifest.get('iteration')}, so it was renamed"
    for name, expected in files.items():
        path = os.path.join(folder, os.path.basename(name))
        size = _size(path)
        if size is None or size != expected.get("size"):
            return f"lacks {name}" if size is None else f"has {size:d} bytes of {name}, not {expected.get('size')}"
        try:
            differs = hashes and sha256_of(path) != expected.get("sha256")
        except OSError as problem:
            return f"has a {name} that cannot be read ({problem.strerror})"
        if differs:
            return f"has a {name} that was changed after it was written (its SHA-256 differs)"
    return None


def _size(path: str) -> int | None:
    return os.path.getsize(path) if os.path.isfile(path) else None


# --------------------------------------------------------------------------------------------
# What can be loaded
# --------------------------------------------------------------------------------------------
def check_fits(model, folder: str, by_time: bool = False) -> None:
    """See that a checkpoint's weights are those of `model`: Paddle itself only warns and keeps random ones.

    Args: by_time: whether the run has a budget of time.
    Raises: WeightsError: if a file cannot be read or asks to run code, or a name or shape differs; ConfigError: for a
        checkpoint of a run by time, if this one is not.
    """
    import paddle

    check_files(folder)
    expected = {name: list(value.shape) for name, value in model.state_dict().items()}
    for file in (PARAMS, EMA_PARAMS):
        if os.path.isfile(os.path.join(folder, file)):
            _check_names_and_shapes(os.path.join(folder, file), expected)
    path = os.path.join(folder, OPTIMIZER)
    saved = paddle.load(path, return_numpy=True)
    if not isinstance(saved, dict) or "LR_Scheduler" not in saved:
        raise WeightsError(
            f"{path} holds no state of an optimizer with a learning-rate scheduler, so the run cannot resume from it: "
            f"start from the weights alone, with --model_path {os.path.join(folder, PARAMS)}."
        )
    seconds = saved["LR_Scheduler"].get("seconds")
    if seconds is not None and not by_time:
        raise ConfigError(
            f"--resume_model {folder}: its learning rate follows the time of a run with --max_minutes, of which "
            f"{seconds / 60:.1f} were used: give "
            "--max_minutes, too, and more than that, or start from its weights alone, with --model_path "
            f"{os.path.join(folder, PARAMS)}."
        )


def check_files(folder: str) -> None:
    """See that a checkpoint's files hold arrays and numbers only, before Paddle's own reader gets them, which runs
    whatever a pickle asks for.

    Raises: WeightsError
    """
    from ppliteseg_paddle.weights.read import check_pickle

    for file in (PARAMS, OPTIMIZER, EMA_PARAMS):
        if os.path.isfile(os.path.join(folder, file)):
            check_pickle(os.path.join(folder, file))


def _check_names_and_shapes(path: str, expected: dict[str, list]) -> None:
    import paddle

    saved = paddle.load(path, return_numpy=True)
    if not isinstance(saved, dict):
        raise WeightsError(f"{path} holds a {type(saved).__name__}, not names and arrays.")
    missing = [name for name in expected if name not in saved]
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing):d} of the model's {len(expected):d} weights, the first {missing[0]}: it "
            "belongs to another configuration."
        )
    for name, shape in expected.items():
        found = list(getattr(saved[name], "shape", ()))
        if found != shape:
            raise WeightsError(
                f"{path}: {name} has the shape {found}, the model expects {shape}: it belongs to another configuration."
            )
    check_finite(path, saved)


def check_finite(path: str, saved: dict[str, Any] | None = None) -> None:
    """See that a file of weights holds neither NaN nor infinity: only what saves them first says where they come from.

    Args: saved: its arrays, where they are loaded already.
    Raises: WeightsError
    """
    import numpy as np
    import paddle

    for name, value in (saved if saved is not None else paddle.load(path, return_numpy=True)).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            raise WeightsError(f"{path}: {name} is not finite, so nothing can be trained from it: take an earlier one.")
