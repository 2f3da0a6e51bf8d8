"""Whether a run can continue from a checkpoint, and whether as the undisturbed run would have done."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
from typing import Any

from ppliteseg_paddle import environment
from ppliteseg_paddle.config.keys import TOP_LEVEL, value_of
from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine.best import BEST_FILE, BestModel
from ppliteseg_paddle.engine.checkpoint import OPTIMIZER, PARAMS
from ppliteseg_paddle.engine.loop.budget import CLOCK
from ppliteseg_paddle.engine.loop.distributed import ranks
from ppliteseg_paddle.engine.loop.state import read_state, slots
from ppliteseg_paddle.errors import ConfigError, WeightsError
from ppliteseg_paddle.files import save_atomic, save_folder
from ppliteseg_paddle.reading.run_files import EVENTS, HISTORY_FILE, PICTURES_FOLDER

# Parts of a configuration on which the numbers of a training step depend, and keys in them on which they do not.
_PARTS = ("model", "loss", "optimizer", "lr_scheduler", "train_dataset", "to_static_training")
_NUMBERS = ("ema_decay", "precise_bn")
_ADDED = ("gradient_accumulation_steps", "freeze")  # that checkpoints of earlier versions do not name
_WITHOUT_EFFECT = {"pretrained", "dataset_root", "train_path", "val_path", "test_path", "separator"}
BEST, EMA_BEST = "best_model", "ema_best_model"
SHOWN = 6  # differences that the line names


# --------------------------------------------------------------------------------------------
# What a run depends on
# --------------------------------------------------------------------------------------------
def configured(config: Any) -> dict[str, Any]:
    """What a configuration says of the numbers of a run, under dotted keys. To be read before anything is built, as
    building changes a configuration."""
    found = {key: value_of(config.dic, key) for key in _NUMBERS}
    found.update({key: value for key in _ADDED if (value := value_of(config.dic, key)) != TOP_LEVEL[key].default})
    for part in _PARTS:
        found.update(_flat(part, config.dic.get(part)))
    return found


def conditions_of(config: Any, said: dict[str, Any], options: TrainOptions, parts: Any, device: str) -> dict[str, Any]:
    """What the numbers of a run depend on, beside its state: noted in each checkpoint, compared on a resume.

    Args: said: by `configured`; parts: of the run, as built; device: as set.
    Returns: key -> plain value. `optimizer` and `schedule` are classes; keys of the configuration have a dot, or are
        as there.
    """
    import cv2
    import numpy
    import paddle
    import paddleseg

    from ppliteseg_paddle import __version__

    on_cpu = device.startswith("cpu")
    found: dict[str, Any] = {
        "optimizer": type(parts.optimizer).__name__,
        "schedule": _schedule(parts.optimizer),
        "ranks": ranks(),
        "batch_size": config.batch_size,
        "max_minutes": options.max_minutes,
        "iters": config.iters,
        "precision": options.precision,
        "amp_level": options.amp_level if options.precision != "fp32" else None,
        "use_ema": options.use_ema,
        "images": len(parts.train_dataset),
        "list of images": _digest(parts.train_dataset),
        "device": device.partition(":")[0],
        "processor": environment.processor() if on_cpu else None,
        "instruction sets": environment.instruction_sets() if on_cpu else None,
        "threads": environment.compute_threads() if on_cpu else None,
        "Paddle": paddle.__version__,
        "PaddleSeg": paddleseg.__version__,
        "NumPy": numpy.__version__,
        "OpenCV": cv2.__version__,
        "ppliteseg_paddle": __version__,
        **said,
    }
    return json.loads(json.dumps(found, default=str))


def _schedule(optimizer: Any) -> str:
    """As in "LinearWarmup, PolynomialDecay": a schedule and the one inside it."""
    schedule, names = optimizer._learning_rate, []
    while hasattr(schedule, "last_lr"):
        inner = getattr(schedule, "schedule", None)  # of `budget.ScheduleByTime`, around the configured one
        if inner is None:
            names.append(type(schedule).__name__)
            inner = getattr(schedule, "learning_rate", None)
        schedule = inner
    return ", ".join(names) or "a constant rate"


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Nested values under dotted keys."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {key: value}
    return {
        name: part
        for inner, item in value.items()
        if inner not in _WITHOUT_EFFECT
        for name, part in _flat(f"{key}.{inner}", item).items()
    }


def _digest(dataset: Any) -> str | None:
    """Of the names of the images and labels, in their order, wherever they lie; None if the data set does not tell."""
    pairs, root = getattr(dataset, "file_list", None), str(getattr(dataset, "dataset_root", ""))
    if not pairs:
        return None
    names = [str(path)[len(root) :] if str(path).startswith(root) else str(path) for pair in pairs for path in pair]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


# --------------------------------------------------------------------------------------------
# Comparing
# --------------------------------------------------------------------------------------------
def check_optimizer(optimizer: Any, folder: str) -> None:
    """See that a checkpoint's optimizer and schedule are those of the run, and that the former's state is complete.

    Raises: ConfigError: for another optimizer or schedule; WeightsError: if a parameter's state is missing.
    """
    import paddle

    state = read_state(folder)
    noted = state.get("conditions", {})
    here = {"optimizer": type(optimizer).__name__, "schedule": _schedule(optimizer)}
    for key, name in (("optimizer", "optimizer"), ("schedule", "learning-rate schedule")):
        if noted.get(key, here[key]) != here[key]:
            raise _refusal(folder, f"the state of the {name} {noted[key]}, and the run has {here[key]}")
    path = os.path.join(folder, OPTIMIZER)
    saved = paddle.load(path, return_numpy=True)
    theirs, ours = (set(part) for part in (saved["LR_Scheduler"], optimizer._learning_rate.state_dict()))
    if (theirs ^ ours) - set(CLOCK):
        raise _refusal(folder, f"the state of another learning-rate schedule than the run's {here['schedule']}")
    _check_slots(optimizer, saved, path, folder, state.get("without_gradient", []))


def _check_slots(optimizer: Any, saved: dict[str, Any], path: str, folder: str, exempt: list[str]) -> None:
    kinds = {name: getattr(optimizer, name) for name in dir(type(optimizer)) if name.endswith("_str")}
    allowed = {kind for kind in kinds.values() if isinstance(kind, str)}
    needed = {kind for name, kind in kinds.items() if name.endswith("_acc_str")}
    found = slots(optimizer, saved)
    # With O2, the slots of weights in float32 have these words before their names.
    held = {name: {kind.partition("master_0_")[2] or kind for kind in parts} for name, parts in found.items()}
    there = set().union(*held.values()) if held else set()
    if there - allowed or (needed and not there & needed):
        names = ", ".join(sorted(kind.strip("_") for kind in there)) or "no state of weights"
        raise _refusal(folder, f"the state of another optimizer ({names}) than the run's {type(optimizer).__name__}")
    missing = [name for name, parts in held.items() if needed - parts and name not in exempt]
    if missing:
        raise WeightsError(
            f"{path} lacks the optimizer's state of {len(missing):d} of {len(held):d} weights, the first {missing[0]}: "
            f"{_instead(folder)}."
        )


def _refusal(folder: str, fault: str) -> ConfigError:
    return ConfigError(f"--resume_model {folder} holds {fault}: change the configuration back, or {_instead(folder)}.")


def _instead(folder: str) -> str:
    return f"start from the checkpoint's weights alone, with --model_path {os.path.join(folder, PARAMS)}"


def differences(noted: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The conditions of a run that are not those of the checkpoint, as in "ranks 1 (was 2)"."""
    found = []
    for key in dict.fromkeys((*now, *noted)):
        before, after = noted.get(key), now.get(key)
        if before != after:
            found.append(key if key == "list of images" else f"{key} {_short(after)} (was {_short(before)})")
    return found


def _short(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def comparison(folder: str, state: dict[str, Any], now: dict[str, Any]) -> str | None:
    """One line on why a resumed run will not equal the undisturbed one; None if it will, bit for bit on a CPU."""
    if not state.get("conditions"):
        return (
            f"{folder} does not hold the state of its run (it is of PaddleSeg or of an earlier version): the run "
            "continues with the images to come, but not exactly as the undisturbed run would."
        )
    found = differences(state["conditions"], now)
    if not found:
        return None
    more = f", and {len(found) - SHOWN:d} more" if len(found) > SHOWN else ""
    return (
        f"the run does not continue exactly as the undisturbed run would, as these differ: {', '.join(found[:SHOWN])}"
        f"{more}."
    )


def schedule_differs(state: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the learning rate follows other numbers than before, so that a checkpoint's rate is not the next one."""
    noted = state.get("conditions")
    if not noted:
        return True
    keys = {key for key in (*noted, *now) if key.startswith("lr_scheduler.") or key == "iters"}
    return any(noted.get(key) != now.get(key) for key in keys)


# --------------------------------------------------------------------------------------------
# What a run leaves beside its checkpoints
# --------------------------------------------------------------------------------------------
def carry_over(folder: str, save_dir: str) -> str | None:
    """Copy record, best models, pictures and the boards' records of a checkpoint's run, if this one writes elsewhere.

    Returns: a line that says so; None if it writes into the same folder.
    Raises: ConfigError: if they cannot be written.
    """
    source = os.path.dirname(os.path.normpath(folder)) or "."
    if os.path.isdir(save_dir) and os.path.samefile(source, save_dir):
        return None
    records = sorted(glob.glob(os.path.join(glob.escape(source), "vdlrecords.*.log")))[-1:]
    records += sorted(glob.glob(os.path.join(glob.escape(source), EVENTS)))
    files = [path for path in (os.path.join(source, HISTORY_FILE), *records) if os.path.isfile(path)]
    for path in files:
        with save_atomic(os.path.join(save_dir, os.path.basename(path))) as temporary:
            shutil.copyfile(path, temporary)
    folders = []
    for name in (BEST, EMA_BEST):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(save_dir, name, BEST_FILE))  # the score of another run
        if os.path.isfile(os.path.join(source, name, BEST_FILE)):
            folders.append(os.path.join(source, name))
    if os.path.isdir(os.path.join(source, PICTURES_FOLDER)):
        folders.append(os.path.join(source, PICTURES_FOLDER))
    for path in folders:
        with save_folder(os.path.join(save_dir, os.path.basename(path))) as temporary:
            shutil.copytree(path, temporary, dirs_exist_ok=True)
    names = ", ".join(os.path.basename(path) for path in (*files, *folders))
    return f"{save_dir} is not the folder of the checkpoint's run; copied from {source}: {names or 'nothing'}"


def rewind_best(best: BestModel, folder: str, evaluations: list[dict[str, Any]]) -> str | None:
    """Let the best model be that of the evaluations up to the checkpoint, by the run's metric, as far as their weights
    are still there. Where the one on disk is a later one, as the run goes back behind it, or was chosen by another
    metric, it is kept beside the new one.

    Args: folder: checkpoint; evaluations: those of this kind of model up to there.
    Returns: a line that says so; None if there is nothing to do.
    Raises: ConfigError: if it cannot be written.
    """
    run, name = os.path.split(os.path.normpath(folder))
    if best.iteration is None:
        return None
    later = best.iteration > int(name.rpartition("_")[2])
    if not later and best.by == best.metric.name:
        return None

    def checkpoint(row: dict[str, Any]) -> str:
        return os.path.join(run, f"iter_{row['iter']:d}")

    scored = [
        row
        for row in evaluations
        if best.metric.value(row) == best.metric.value(row)
        and (os.path.isfile(os.path.join(checkpoint(row), best.file)) or (row["iter"] == best.iteration and not later))
    ]
    top = max(scored, key=best.metric.value, default=None)
    if top is not None and not later and top["iter"] == best.iteration:
        before = best.by
        best.keep(top)
        return f"{best.folder} was chosen by {before}, and is the best one by {best.metric.name}, too"
    said = f"held the model of iteration {best.iteration:d}, after the checkpoint"
    suffix = f"of_iter_{best.iteration:d}"
    if not later:
        said, suffix = f"was chosen by {best.by}, not {best.metric.name}", f"by_{re.sub('[^0-9A-Za-z]', '_', best.by)}"
    aside = f"{best.folder}_{suffix}"
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(best.folder, aside)
    said = f"{best.folder} {said}: it is now {aside}"
    best.forget()
    if top is None:
        return f"{said}; the next evaluation gives a new best model"
    best.take(checkpoint(top), top)
    return f"{said}; the best one so far is that of iteration {top['iter']:d}"
