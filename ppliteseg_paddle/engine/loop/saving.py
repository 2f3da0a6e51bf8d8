"""The loop's checkpoints: complete or absent, written before the evaluation of their step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any, Callable

from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, MANIFEST, OPTIMIZER, PARAMS, STATE, manifest_of
from ppliteseg_paddle.engine.loop.distributed import rank
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.files import save_folder, write_json


def save_checkpoint(run: LoopRun) -> str | None:
    """Write the checkpoint of the step that is just done, if it is not there yet. Called on every rank; the first one
    writes.

    All files are written into a hidden folder, brought to the disk, and listed with their sizes and hashes in
    checkpoint.json; then the folder gets its name. So a folder iter_N is a complete checkpoint, whenever the run ends.

    Returns: the folder; None for a run that has made no step yet.
    Raises: PPLiteSegError: if a weight is not finite; ConfigError: if the checkpoint cannot be written. In both cases
        the earlier checkpoints are as they were.
    """
    steps, monitor = run.done + run.updating, run.monitor
    if steps == monitor.start:
        return monitor.saved
    folder = os.path.join(monitor.save_dir, f"iter_{steps:d}")
    if folder in monitor.checkpoints:
        return folder
    state: dict[str, Any] = {}
    if rank():
        return folder
    parts = {PARAMS: run.model, OPTIMIZER: run.optimizer}
    if run.ema_model is not None:
        parts[EMA_PARAMS] = run.ema_model
    tensors = {name: part.state_dict() for name, part in parts.items()}
    for name, values in tensors.items():
        _check_finite(run, values, name, steps)
    monitor.tell("on_saving")
    try:
        _write(folder, steps, tensors, state)
    except ConfigError as error:
        raise ConfigError(f"{error} Make room, or give another --save_dir; {run.monitor.how_to_resume()}") from error
    monitor.checkpoint_written(folder)
    _prune(run)
    return folder


def _write(folder: str, iteration: int, tensors: dict[str, Any], state: dict[str, Any]) -> None:
    import paddle

    with save_folder(folder) as temporary:
        for name, values in tensors.items():
            paddle.save(values, os.path.join(temporary, name))
        write_json(os.path.join(temporary, STATE), state)
        write_json(os.path.join(temporary, MANIFEST), manifest_of(temporary, iteration))


def _check_finite(run: LoopRun, values: Any, file: str, steps: int) -> None:
    import paddle

    for name, tensor in _floats(values):
        if not bool(paddle.isfinite(tensor).all()):
            raise PPLiteSegError(
                f"{name} is not finite after iteration {steps:d}, so the weights are lost and no {file} was written: "
                f"{run.monitor.how_to_restart()}"
            )


def _floats(values: dict[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and floating-point tensors of a state dict, which for optimizers has others inside."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _floats(value, f"{name}{key}.")
        elif hasattr(value, "is_floating_point") and value.is_floating_point():
            yield f"{name}{key}", value


def _prune(run: LoopRun) -> None:
    """Delete the oldest checkpoints of this run above `keep_checkpoint_max`."""
    written = run.monitor.checkpoints
    while len(written) > run.keep_checkpoint_max > 0:
        shutil.rmtree(written.pop(0), ignore_errors=True)


# --------------------------------------------------------------------------------------------
# What the loop itself saves
# --------------------------------------------------------------------------------------------
def no_saves(run: LoopRun, original: Callable) -> Callable:
    """`paddle.save` that drops what the loop saves: by then the checkpoint is on disk, and the best models, too.

    Reason: it writes file by file in place, after the evaluation, and saves a worse model over the best one after a
    resume.
    """

    def drop(obj: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(path, str):
            original(obj, path, *args, **kwargs)

    return drop
