"""What a training run has done so far, told to whoever shows or records it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.config.command import resume_command
from ppliteseg_paddle.engine.best import BestModel, Metric
from ppliteseg_paddle.engine.checkpoint import EMA_PARAMS, PARAMS, damage
from ppliteseg_paddle.engine.loop.distributed import ranks, sum_over_ranks
from ppliteseg_paddle.engine.loop.early_stop import EarlyStop
from ppliteseg_paddle.engine.loop.output import warn
from ppliteseg_paddle.engine.pick import UNNAMED, Lineage
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError

FP16_PATIENCE = 3  # logged windows in a row without a finite loss that fp16 may have while its loss scale is calibrated


class Callback:
    """Something that watches a run. Each method is called with the run's `Monitor` when its event has happened."""

    def on_step(self, monitor: Monitor, read: float, whole: float) -> None:
        """A step is done: seconds of waiting for its data, and of all of it."""

    def on_gradients(self, monitor: Monitor, model: Any) -> None:
        """`model` was updated, and still has its gradients; the step does not count yet. Every `log_iters` steps."""

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        """`log_iters` steps are summed up in `row`, as in train.json."""

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        """`model` was evaluated, after `monitor.steps` iterations."""

    def on_saving(self, monitor: Monitor) -> None:
        """A checkpoint is about to be written."""

    def on_save(self, monitor: Monitor) -> None:
        """A checkpoint is on disk; the evaluation of its step, if there is one, comes after it."""

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
        start: iteration from which the run resumes; 0 for a fresh one.
        checkpoints: complete ones of this run so far, oldest first: its folder may hold those of others.
        lineage: tells them from those of others.
        log_iters: iterations between rows of the record.
        fp16: with a loss scale, a few steps may overflow and are skipped; without, one is the end.
        callbacks: told of everything; those of other ranks than the first see nothing.
        clock: seconds that the run has taken, with those before a resume.
        command: that started the run, for what is said of resuming it.
        metric: by which the best model is chosen; early_stop: counts evaluations that do not improve.
        first: whether this is the first of the ranks, which alone ends the run for a loss that is no number.
    """

    optimizer: Any
    save_dir: str
    start: int = 0
    log_iters: int = 10
    fp16: bool = False
    callbacks: list[Callback] = field(default_factory=list)
    clock: Callable[[], float] = field(default_factory=_stopwatch)
    checkpoints: list[str] = field(default_factory=list)
    lineage: Lineage = UNNAMED
    command: Sequence[str] = ()
    metric: Metric = Metric()
    early_stop: EarlyStop | None = None
    first: bool = True

    def __post_init__(self) -> None:
        self.callbacks = list(self.callbacks)
        self.steps = self.start
        self.epoch = 1  # that the sampler has begun, from 1
        self.rows: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.best, self.ema_best = (
            BestModel(os.path.join(self.save_dir, name), file, resumed=self.start > 0, metric=self.metric)
            for name, file in (("best_model", PARAMS), ("ema_best_model", EMA_PARAMS))
        )
        self.losses: np.ndarray = np.zeros(0)  # means of the last window: all of it, then that of each output
        self.window = Window()
        self.not_finite = 0
        self.never_predicted: Sequence[int] = ()  # classes that labels hold, in the last evaluation
        self.evaluation_fault: str | None = None  # of the first evaluation that failed
        self._warned: set[Any] = set()
        self._step_losses: Sequence[Any] = ()
        self._rate = 0.0

    @property
    def saved(self) -> str | None:
        """The last checkpoint of this run that is complete."""
        return next((folder for folder in reversed(self.checkpoints) if damage(folder, hashes=False) is None), None)

    def how_to_resume(self) -> str:
        """What to tell whoever has stopped the run."""
        return (
            f"resume with: {resume_command(self.command, self.saved)}"
            if self.saved
            else "no checkpoint was written yet (a smaller --save_interval writes them earlier)"
        )

    def how_to_make_room(self) -> str:
        """What to tell whoever has a disk on which the run cannot be saved."""
        if not self.saved:
            return f"Make room or give another --save_dir, and start again: {self.how_to_resume()}."
        return f"Make room and {self.how_to_resume()} (or into another folder: add --save_dir DIR)."

    def how_to_restart(self) -> str:
        """What to tell whoever has lost the weights."""
        rates = [row["lr"] for row in self.rows] or [self.optimizer.get_lr()]
        return (
            f"{f'resume from {self.saved}' if self.saved else 'start again'} with a lower --learning_rate (its highest "
            f"was {max(rates):g}), and look at the labels if it happens again."
        )

    def best_so_far(self) -> str:
        """The best model, plain or averaged, in words."""
        scored = [best for best in (self.best, self.ema_best) if best.value is not None]
        top = max(scored, key=lambda best: best.value or 0.0, default=None)
        return "none was scored" if top is None else f"the best is {top.line()}, in {top.folder}"

    def tell(self, event: str, *arguments: Any) -> None:
        """Call one method of all callbacks. None of them ends the run: one that cannot read or write is told of the
        next event again, one that fails otherwise is dropped; either is reported once."""
        for callback in list(self.callbacks):
            try:
                getattr(callback, event)(self, *arguments)
            except Exception as error:
                stays = isinstance(error, (OSError, PPLiteSegError))
                if not stays:
                    self.callbacks.remove(callback)
                self.warn_once(
                    f"{type(callback).__name__}.{event} failed at iteration {self.steps:d} "
                    f"({type(error).__name__}: {error}); training continues "
                    f"{'and tries it again' if stays else 'without this callback'}.",
                    key=(callback, type(error)),
                )

    def warn_once(self, message: str, key: Any = None) -> None:
        """Print a warning, unless that with the same key, by default the message, was printed before."""
        key = message if key is None else key
        if key not in self._warned:
            warn(message)
        self._warned.add(key)

    # --- what the seams tell ---
    def computed(self, total: Any, losses: Sequence[Any]) -> None:
        """Take note of a step's loss, before its update: tensors, read when the step is done, as reading waits."""
        self._step_losses, self._rate = (total, *losses), self.optimizer.get_lr()

    def stepped(self, read: float, whole: float, images: int = 0) -> None:
        """Take note of a step; each `log_iters` steps become a row. All ranks have to call it.

        Raises: PPLiteSegError: if the loss is no finite number any more.
        """
        self.steps += 1
        # The mean over the ranks, so that each knows all of it. The gradients' transfer has just brought them together.
        losses = np.array([float(loss) for loss in self._step_losses] or [np.nan])
        self.window.add(sum_over_ranks(losses, in_step=True) / ranks(), read, whole, images)
        self._step_losses = ()
        self.tell("on_step", read, whole)
        if self.steps % self.log_iters == 0:
            self._sum_up(self.window)
            self.window = Window()

    def _sum_up(self, window: Window) -> None:
        self.losses = window.losses / window.steps
        row = {
            "iter": self.steps,
            "epoch": self.epoch,
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
            raise PPLiteSegError(
                f"the loss is {loss} at iteration {self.steps:d}, so the weights are lost: {self.how_to_restart()}"
            )

    def checkpoint_written(self, folder: str) -> None:
        """Take note of a complete checkpoint."""
        self.checkpoints.append(folder)
        self.tell("on_save")

    def evaluated(self, result: dict[str, Any], seconds: float, model: Any = None, ema: bool = False) -> None:
        """Take note of an evaluation of the step that is just done, and of the best model, if that is it."""
        evaluation: dict[str, Any] = {
            "iter": self.steps,
            **{key: float(result[key]) for key in ("mIoU", "acc", "kappa")},
            "class_iou": [float(value) for value in result["class_iou"]],
            "ema": ema,
            "seconds": round(seconds, 3),
            "elapsed": round(self.clock(), 3),
        }
        best, checkpoint = self.ema_best if ema else self.best, self.saved if self.first else None
        improved = best.improved_by(evaluation)
        if improved and checkpoint:  # before the record names the evaluation: a run killed in between evaluates again
            try:
                best.take(checkpoint, evaluation)
            except ConfigError as error:
                raise ConfigError(f"{error} {self.how_to_make_room()}") from error
        self.evaluations.append(evaluation)
        if self.early_stop is not None:
            self.early_stop.note(evaluation)
        self.tell("on_eval", model, evaluation)
        if improved and checkpoint:
            self.tell("on_best", best)

    def evaluation_failed(self, error: Exception) -> None:
        """Take note of an evaluation that came to nothing. The run continues without its scores."""
        text = " ".join(str(error).split()) or type(error).__name__
        self.evaluation_fault = self.evaluation_fault or text
        self.warn_once(
            f"the evaluation at iteration {self.steps:d} failed: {text} Training continues without its scores; the "
            "next evaluation tries again.",
            key=text,
        )

    def check_evaluated(self, earlier: Sequence[Any] = ()) -> None:
        """See at the end of a run that not all of its evaluations have failed.

        Args: earlier: evaluations before a resume.
        Raises: PPLiteSegError
        """
        if self.evaluation_fault and not self.evaluations and not earlier:
            raise PPLiteSegError(
                f"the training is complete, and its last checkpoint is {self.saved}, but no evaluation succeeded, so "
                f"there is no best model: {self.evaluation_fault} Fix it, and run `val` on the checkpoints."
            )
