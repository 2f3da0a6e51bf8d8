"""The averaged weights (EMA) that the loop keeps beside the model."""

from __future__ import annotations

import os
from typing import Any, Callable

from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS
from ppliteseg_paddle.engine.loop.run import LoopRun


def resumed_average(run: LoopRun, original: Callable) -> Callable:
    """`init_ema_params` that takes the average which the checkpoint holds, where it holds one."""
    path = os.path.join(run.resume_model, EMA_PARAMS) if run.resume_model else ""
    if not os.path.isfile(path):
        return original

    def load_average(ema_model: Any, model: Any) -> None:
        import paddle

        ema_model.set_state_dict(paddle.load(path))

    return load_average


def average_in_place(run: LoopRun, original: Callable) -> Callable:
    """`update_ema_model` with the same values, in less time: the loop multiplies with a number that is broadcast, and
    then loads the whole state again, 4 % of a training step on two cores. And with the configuration's `ema_decay`."""

    def update(ema_model: Any, model: Any, step: int = 0, decay: float = run.ema_decay) -> None:
        import paddle

        decay = min(1 - 1 / (step + 1), decay)
        current = model.state_dict()
        with paddle.no_grad():
            for name, average in ema_model.state_dict().items():
                if name not in run.frozen and paddle.is_floating_point(average):
                    average.scale_(decay)
                    average.add_(current[name].detach().scale(1.0 - decay))

    return update


def note_average(run: LoopRun, update: Callable) -> Callable:
    """`update_ema_model` that shows the averaged model, which lives inside the loop, to the run."""

    def update_and_note(ema_model: Any, *args: Any, **kwargs: Any) -> None:
        run.ema_model = ema_model
        update(ema_model, *args, **kwargs)

    return update_and_note
