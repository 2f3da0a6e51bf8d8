"""state.json: what a checkpoint holds beside tensors, so that a resumed run continues as if nothing had happened."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.engine.checkpoint import STATE
from ppliteseg_paddle.engine.loop.monitor import Window
from ppliteseg_paddle.engine.loop.precision import scale_state
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.sampling import Place
from ppliteseg_paddle.files import read_json

VERSION = 1


def gather(run: LoopRun) -> dict[str, Any]:
    """The state of a run after a complete step: plain values for JSON."""
    monitor = run.monitor
    return {
        "version": VERSION,
        "iteration": monitor.steps,
        "seconds": round(monitor.clock(), 3),
        "seed": run.seed,
        "place": None if run.place is None else dataclasses.asdict(run.place),
        "log": {**vars(monitor.window), "losses": monitor.window.losses.tolist()},
        "not_finite": monitor.not_finite,
        "loss_scale": scale_state(run.loss_scaler),
        "best": monitor.best.stored(),
        "ema_best": monitor.ema_best.stored(),
        "early_stop": None if monitor.early_stop is None else monitor.early_stop.state(),
        "without_gradient": without_slots(run.optimizer),
        "conditions": run.conditions,
    }


def restore(run: LoopRun, state: dict[str, Any], evaluations: Sequence[dict[str, Any]] = ()) -> None:
    """Let a run continue from the state of a checkpoint. Its tensors are loaded by the loop.

    Args: evaluations: of the run's record, up to the checkpoint's iteration, whose own came after the checkpoint.
    """
    monitor, place = run.monitor, state.get("place")
    run.place = Place(**place) if place else None
    run.loss_scale = state.get("loss_scale")
    monitor.not_finite = state.get("not_finite", 0)
    if monitor.early_stop is not None:
        monitor.early_stop.restore(state.get("early_stop"), evaluations)
    log = state.get("log")
    if log:
        losses = [np.nan if loss is None else loss for loss in log["losses"]]  # JSON has no NaN
        monitor.window = Window(**{**log, "losses": np.array(losses, np.float64)})


def slots(optimizer: Any, saved: Iterable[str]) -> dict[str, set[str]]:
    """What an optimizer's state holds for each of its parameters, as in {"conv2d_0.w_0": {"velocity"}}.

    Args: saved: the names in the state; those of no parameter are skipped.
    """
    found: dict[str, set[str]] = {parameter.name: set() for parameter in parameters_of(optimizer)}
    for name in saved:
        parts = name.split("_")  # parameter_slot_number
        for end in range(len(parts) - 2, 0, -1):
            parameter = "_".join(parts[:end])
            if parameter in found:
                found[parameter].add("_".join(parts[end:-1]))
                break
    return found


def parameters_of(optimizer: Any) -> list[Any]:
    """The parameters that an optimizer trains, those of its groups in one list."""
    listed = getattr(optimizer, "_parameter_list", None) or []
    groups = [part["params"] if isinstance(part, dict) else [part] for part in listed]
    return [parameter for group in groups for parameter in group if not parameter.stop_gradient]


def without_slots(optimizer: Any) -> list[str]:
    """The parameters for which an optimizer has no state, as they never had a gradient; none for one without states."""
    found = slots(optimizer, optimizer.state_dict())
    return [name for name, kinds in found.items() if not kinds] if any(found.values()) else []


def read_state(folder: str | None) -> dict[str, Any]:
    """The state that a checkpoint holds; empty for one of PaddleSeg or of an earlier version, and without a folder."""
    state = (read_json(os.path.join(folder, STATE)) or {}) if folder else {}
    return state if state.get("version") == VERSION else {}
