"""The scalars of a run under the names that VisualDL and TensorBoard show: those of PaddleSeg's loop, and each class's
IoU, kappa and images/s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.engine.loop.monitor import Monitor


def train_scalars(monitor: Monitor, row: dict[str, Any]) -> dict[str, float]:
    """Of `log_iters` steps, with the loss of each output where there are several."""
    found = {f"Train/{name}": row[name] for name in ("loss", "lr", "batch_cost", "reader_cost", "ips")}
    outputs = monitor.losses[1:]
    if len(outputs) > 1:
        found.update({f"Train/loss_{index:d}": float(loss) for index, loss in enumerate(outputs)})
    return found


def evaluation_scalars(evaluation: dict[str, Any], classes: Sequence[str]) -> dict[str, float]:
    """Args: classes: their names, by `tag`."""
    ema = evaluation["ema"]
    names = (("mIoU", "mIoU"), ("Acc", "acc"), ("Kappa", "kappa"))
    found = {f"Evaluate/{'Ema_' if ema else ''}{name}": evaluation[key] for name, key in names}
    found.update({f"{'IoU_Ema' if ema else 'IoU'}/{name}": iou for name, iou in zip(classes, evaluation["class_iou"])})
    return found


def tag(name: str) -> str:
    """A name as a part of a tag: `/` would begin a group, and VisualDL refuses `%`."""
    return str(name).replace("/", "-").replace("%", "")
