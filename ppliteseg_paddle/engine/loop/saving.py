"""The loop's checkpoints: complete or absent, written before the evaluation of their step."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from typing import Any, Callable

from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, MANIFEST, OPTIMIZER, PARAMS, STATE, manifest_of
from ppliteseg_paddle.engine.loop.distributed import rank
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.state import gather
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError
from ppliteseg_paddle.files import finite, remove_folder, save_folder


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
    if rank():
        return folder
    parts = {PARAMS: run.model, OPTIMIZER: run.optimizer}
    if run.ema_model is not None:
        parts[EMA_PARAMS] = run.ema_model
    tensors = {name: part.state_dict() for name, part in parts.items()}
    for name, values in tensors.items():
        _check_finite(run, values, name, steps)
    monitor.tell("on_saving")
    state = gather(run)
    details = {"run": monitor.lineage.stored(), "evaluation": run.evaluates_now}
    try:
        _write_or_make_room(run, folder, lambda temporary: _fill(temporary, tensors, state, steps, details))
    except ConfigError as error:
        raise ConfigError(f"{error} {monitor.how_to_make_room()}") from error
    monitor.checkpoint_written(folder)
    _prune(run, run.keep_checkpoint_max)
    return folder


def _fill(folder: str, tensors: dict[str, Any], state: dict[str, Any], iteration: int, details: dict[str, Any]) -> None:
    import paddle

    for name, values in tensors.items():
        paddle.save(values, os.path.join(folder, name))
    _dump(os.path.join(folder, STATE), state)
    _dump(os.path.join(folder, MANIFEST), manifest_of(folder, iteration, **details))


def _dump(path: str, values: dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(finite(values), file, indent=2)


def _write_or_make_room(run: LoopRun, folder: str, fill: Callable[[str], None]) -> None:
    """Where the disk is full, what would be deleted after the save is deleted before it, but never the newest one."""
    try:
        _write(folder, fill)
    except ConfigError as error:
        full = getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if not full or not _prune(run, max(run.keep_checkpoint_max - 1, 1 if run.keep_checkpoint_max else 0)):
            raise
        _write(folder, fill)


def _write(folder: str, fill: Callable[[str], None]) -> None:
    with save_folder(folder) as temporary:
        fill(temporary)


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


def _prune(run: LoopRun, keep: int) -> bool:
    """Delete the oldest checkpoints of this run in its folder above a number; 0 keeps all. Returns: whether there were
    any."""
    written, save_dir = run.monitor.checkpoints, os.path.abspath(run.monitor.save_dir)
    own = [folder for folder in written if os.path.dirname(os.path.abspath(folder)) == save_dir]
    old = own[:-keep] if keep else []
    for folder in old:
        remove_folder(folder)
        written.remove(folder)
    return bool(old)


@contextlib.contextmanager
def saving_at_faults(run: LoopRun) -> Iterator[None]:
    """Save the last complete step when the images of the next one cannot be had, as for a fault in a label."""
    try:
        yield
    except Exception as error:
        if run.reading and rank() == 0:
            run.reading = False
            try:
                save_checkpoint(run)
            except PPLiteSegError as problem:
                run.monitor.warn_once(str(problem))
            if isinstance(error, PPLiteSegError):
                error.args = (f"{error} Iteration {run.done:d} was the last; {run.monitor.how_to_resume()}",)
        raise


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
