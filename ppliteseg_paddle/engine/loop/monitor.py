"""What a training run has done so far, told to whoever shows or records it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.engine.checkpoint import OPTIMIZER, PARAMS, STATES, BestModel, has_finite_weights
from ppliteseg_paddle.engine.loop.distributed import ranks, sum_over_ranks
from ppliteseg_paddle.errors import PPLiteSegError

_ITER_PATH = re.compile(r"iter_(\d+)$")
FP16_PATIENCE = 3  # logged windows in a row without a finite loss that fp16 may have while its loss scale is calibrated


class Callback:
    """Something that watches a run. Each method is called with the run's `Monitor` when its event has happened."""

    def on_step(self, monitor: Monitor, read: float, whole: float) -> None:
        """A step is done: seconds of waiting for its data, and of all of it."""

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        """`log_iters` steps are summed up in `row`, as in train.json."""

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        """`model` was evaluated, after `monitor.steps` iterations."""

    def on_save(self, monitor: Monitor) -> None:
        """A checkpoint is on disk, and the evaluations before it have their iteration."""

    def on_best(self, monitor: Monitor, best: BestModel) -> None:
        """The best model, plain or averaged, was replaced by a better one."""


def _stopwatch() -> Callable[[], float]:
    begin = time.monotonic()
    return lambda: time.monotonic() - begin


@dataclass
class Window:
    """Sums over the steps since the last line of the log."""

    steps: int = 0
    images: int = 0
    read: float = 0.0
    whole: float = 0.0
    losses: np.ndarray = field(default_factory=lambda: np.zeros(0))  # all of it, then that of each output

    def add(self, losses: np.ndarray, read: float, whole: float, images: int) -> None:
        self.losses = losses if not self.steps else self.losses + losses
        self.steps, self.images = self.steps + 1, self.images + images
        self.read, self.whole = self.read + read, self.whole + whole


@dataclass
class Monitor:
    """What a run has done so far. The loop's seams tell it of each event, and it tells the callbacks.

    Args:
        optimizer: asked for the learning rate.
        save_dir: the loop's output folder.
        start: iteration from which the run resumes; 0 for a fresh one; resumed: the checkpoint that holds it.
        log_iters: iterations between rows of the record.
        fp16: with a loss scale, a few steps may overflow and are skipped; without, one is the end.
        callbacks: told of everything; those of other ranks than the first see nothing.
        clock: seconds that the run has taken, with those before a resume.
        first: whether this is the first of the ranks, which alone ends the run for a loss that is no number.
    """

    optimizer: Any
    save_dir: str
    start: int = 0
    log_iters: int = 10
    fp16: bool = False
    callbacks: Sequence[Callback] = ()
    clock: Callable[[], float] = field(default_factory=_stopwatch)
    resumed: str | None = None
    first: bool = True

    def __post_init__(self) -> None:
        self.callbacks = list(self.callbacks)
        self.steps = self.start
        self.steps_per_epoch = 1
        self.rows: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.pending: list[dict[str, Any]] = []  # evaluated, but not yet saved
        self.checkpoints = [self.resumed] if self.resumed else []  # of this run: its folder may hold those of others
        self.best = BestModel(os.path.join(self.save_dir, "best_model"), resumed=self.start > 0)
        self.ema_best = BestModel(os.path.join(self.save_dir, "ema_best_model"), resumed=self.start > 0)
        self.losses: np.ndarray = np.zeros(0)  # means of the last window: all of it, then that of each output
        self.window = Window()
        self.not_finite = 0
        self._step_losses: Sequence[Any] = ()
        self._rate = 0.0

    @property
    def saved(self) -> str | None:
        """The last checkpoint of this run."""
        return self.checkpoints[-1] if self.checkpoints else None

    def how_to_resume(self) -> str:
        """What to tell whoever has stopped the run."""
        return (
            f"resume with: --resume_model {self.saved}"
            if self.saved
            else "no checkpoint was written yet (a smaller --save_interval writes them earlier)"
        )

    def tell(self, event: str, *arguments: Any) -> None:
        """Call one method of all callbacks."""
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    # --- what the seams tell ---
    def computed(self, total: Any, losses: Sequence[Any]) -> None:
        """Take note of a step's loss, before its update: tensors, read when the step is done, as reading waits."""
        self._step_losses, self._rate = (total, *losses), self.optimizer.get_lr()

    def stepped(self, read: float, whole: float, images: int = 0) -> None:
        """Take note of a step; each `log_iters` steps become a row. All ranks have to call it.

        Raises: PPLiteSegError: if the loss is no finite number any more.
        """
        self.steps += 1
        self.window.add(np.array([float(loss) for loss in self._step_losses] or [np.nan]), read, whole, images)
        self._step_losses = ()
        self.tell("on_step", read, whole)
        if self.steps % self.log_iters == 0:
            self._sum_up(self.window)
            self.window = Window()

    def _sum_up(self, window: Window) -> None:
        # The gradients' transfer has just brought the ranks together.
        self.losses = sum_over_ranks(window.losses, in_step=True) / (window.steps * ranks())
        row = {
            "iter": self.steps,
            "epoch": (self.steps - 1) // self.steps_per_epoch + 1,
            "loss": float(self.losses[0]),
            "lr": float(self._rate),
            "batch_cost": round(window.whole / window.steps, 4),
            "reader_cost": round(window.read / window.steps, 5),
            "ips": round(window.images / max(window.whole, 1e-9), 4),
            "elapsed": round(self.clock(), 3),
        }
        self.rows.append(row)
        # Told first: the line on which the loss stopped being a number belongs into the log, too.
        self.tell("on_log", row)
        self._check_loss(row["loss"])

    def _check_loss(self, loss: float) -> None:
        self.not_finite = 0 if abs(loss) < float("inf") else self.not_finite + 1
        if self.first and self.not_finite > (FP16_PATIENCE if self.fp16 else 0):
            sound = next((folder for folder in reversed(self.checkpoints) if has_finite_weights(folder)), None)
            advice = f"resume from {sound}" if sound else "start again"
            raise PPLiteSegError(
                f"the loss is {loss} at iteration {self.steps:d}, so the weights are lost: {advice} with a lower "
                f"--learning_rate (it is {self.optimizer.get_lr():g} now), and look at the labels if it happens again."
            )

    def evaluated(self, result: dict[str, Any], seconds: float, model: Any = None) -> None:
        """Take note of an evaluation; the loop evaluates the averaged (EMA) model second."""
        self.pending.append(
            {
                **{key: float(result[key]) for key in ("mIoU", "acc", "kappa")},
                "class_iou": [float(value) for value in result["class_iou"]],
                "ema": bool(self.pending),
                "seconds": round(seconds, 3),
                "elapsed": round(self.clock(), 3),
            }
        )
        self.tell("on_eval", model, self.pending[-1])

    def may_save(self, path: str) -> bool:
        """Whether the loop's save to `path` is to happen: not where it would put a worse model over the best one, nor a
        score where nothing was evaluated."""
        best = self._best_of(path)
        if not self.evaluations:
            return best is None and not path.endswith(STATES)
        if best is None:
            return True
        score = self._last_score(best)
        return best.improved_by(score[0]) or score == (best.miou, best.iteration)  # weights, then their score

    def saving_done(self, path: str) -> None:
        """Take note of a file that is on disk now."""
        best = self._best_of(path)
        match = _ITER_PATH.search(os.path.dirname(path))
        if best is not None:
            score = self._last_score(best)
            if best.improved_by(score[0]):
                best.set(*score)
                self.tell("on_best", best)
        elif match and os.path.basename(path) == PARAMS:
            self.evaluations += [{"iter": int(match.group(1)), **evaluation} for evaluation in self.pending]
            self.pending = []
        elif match and os.path.basename(path) == OPTIMIZER:  # the second and last file that a resume needs
            self.checkpoints.append(os.path.dirname(path))
            self.tell("on_save")

    def _best_of(self, path: str) -> BestModel | None:
        return {"best_model": self.best, "ema_best_model": self.ema_best}.get(os.path.basename(os.path.dirname(path)))

    def _last_score(self, best: BestModel) -> tuple[float, int]:
        ema = best is self.ema_best
        return next((e["mIoU"], e["iter"]) for e in reversed(self.evaluations) if e["ema"] == ema)
