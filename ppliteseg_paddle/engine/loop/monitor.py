"""What a training run has done so far, told to whoever shows or records it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.engine.checkpoint import OPTIMIZER, PARAMS, BestModel, has_finite_weights
from ppliteseg_paddle.errors import PPLiteSegError

_TRAIN_LINE = re.compile(
    r"\[TRAIN\] epoch: (\d+), iter: (\d+)/\d+, loss: (\S+), lr: (\S+), batch_cost: (\S+), "
    r"reader_cost: (\S+), ips: (\S+) "
)
_BEST_LINE = re.compile(r"\[EVAL\] The (EMA )?model with the best validation mIoU")
_ITER_PATH = re.compile(r"iter_(\d+)$")
FP16_PATIENCE = 3  # logged windows in a row without a finite loss that fp16 may have while its loss scale settles


class Callback:
    """Something that shows a run to a person. Each method is called with the run's `Monitor` when its event has
    happened."""

    def stepped(self, watch, read: float, whole: float) -> None:
        """A step is done: seconds of waiting for its data, and of all of it."""

    def logged(self, watch, row: dict[str, Any]) -> None:
        """The loop has summed up `log_iters` steps."""

    def evaluated(self, watch, model, evaluation: dict[str, Any]) -> None:
        """`model` was evaluated, after `watch.steps` iterations."""

    def saved(self, watch) -> None:
        """A checkpoint is on disk, and the evaluations before it have their iteration."""


class Monitor:
    """What a run has done so far, gathered from the loop's own log lines, evaluations and saves.

    Args:
        optimizer: asked for the learning rate when a message wants it.
        save_dir: the loop's output folder.
        start: iteration from which the run goes on; 0 for a fresh one; resumed: the checkpoint that holds it.
        log_iters: iterations between the loop's log lines.
        fp16: with a loss scale, a few steps may overflow and are skipped; without, one is the end.
        on_progress: called with no argument after each row and each save.
        callbacks: told of everything, on the first rank.
        clock: seconds that the run has taken, with those before a resume.
    """

    def __init__(
        self,
        optimizer,
        save_dir: str,
        start: int = 0,
        log_iters: int = 10,
        fp16: bool = False,
        on_progress=None,
        callbacks: Sequence[Callback] = (),
        clock=None,
        resumed: str | None = None,
    ):
        self.optimizer, self.save_dir, self.start, self.log_iters, self.fp16 = (
            optimizer,
            save_dir,
            start,
            log_iters,
            fp16,
        )
        self.on_progress = on_progress or (lambda: None)
        self.callbacks, self.steps, self.correction = list(callbacks), start, 1.0
        begin = time.monotonic()
        self.clock = clock or (lambda: time.monotonic() - begin)
        self.rows: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.pending: list[dict[str, Any]] = []  # evaluated, but the loop has not yet said at which iteration
        self.checkpoints = [resumed] if resumed else []  # of this run: its folder may hold those of others
        self.best = BestModel(os.path.join(save_dir, "best_model"), resumed=start > 0)
        self.ema_best = BestModel(os.path.join(save_dir, "ema_best_model"), resumed=start > 0)
        self.not_finite = 0

    @property
    def saved(self) -> str | None:
        """The last checkpoint of this run."""
        return self.checkpoints[-1] if self.checkpoints else None

    @property
    def iteration(self) -> int:
        """The last iteration that the loop has logged or saved."""
        saved = int(_ITER_PATH.search(os.path.normpath(self.saved)).group(1)) if self.saved else self.start
        return max([saved] + [row["iter"] for row in self.rows[-1:]])

    def how_to_go_on(self) -> str:
        """What to tell whoever has stopped the run."""
        return (
            f"go on with: --resume_model {self.saved}"
            if self.saved
            else "no checkpoint was written yet (a smaller --save_interval writes them earlier)"
        )

    def logged(self, message: str) -> str:
        """Take note of a log line; returns what to print in its place.

        Raises: PPLiteSegError: if the loss is no finite number any more.
        """
        match = _TRAIN_LINE.search(message)
        if match:
            epoch, iteration = int(match.group(1)), int(match.group(2))
            loss, lr, batch_cost, reader_cost, ips = (float(text) for text in match.groups()[2:])
            # The loop divides by log_iters also after a resume in the middle of a window, where it has summed fewer.
            self.correction = self.log_iters / min(self.log_iters, iteration - self.start)
            if self.correction != 1:
                loss *= self.correction
                message = message.replace("loss: " + match.group(3), f"loss: {loss:.4f}")
            self.rows.append(
                {
                    "iter": iteration,
                    "epoch": epoch,
                    "loss": loss,
                    "lr": lr,
                    "batch_cost": batch_cost,
                    "reader_cost": reader_cost,
                    "ips": ips,
                    "elapsed": round(self.clock(), 3),
                }
            )
            for callback in self.callbacks:
                callback.logged(self, self.rows[-1])
            self._watch_loss(iteration, loss)
            self.on_progress()
            return message
        match = _BEST_LINE.search(message)
        if match:
            best = self.ema_best if match.group(1) else self.best
            whose = "EMA" if match.group(1) else "model's"
            return f"[EVAL] Best {whose} mIoU: {best.miou:.4f}, at iter {best.iteration}."
        return message

    def _watch_loss(self, iteration: int, loss: float) -> None:
        self.not_finite = 0 if abs(loss) < float("inf") else self.not_finite + 1
        if self.not_finite > (FP16_PATIENCE if self.fp16 else 0):
            sound = next((folder for folder in reversed(self.checkpoints) if has_finite_weights(folder)), None)
            advice = f"go on from {sound}" if sound else "start again"
            raise PPLiteSegError(
                f"the loss is {loss} at iteration {iteration:d}, so the weights are lost: {advice} with a lower "
                "--learning_rate "
                f"(it is {self.optimizer.get_lr():g} now), and look at the labels if it happens again."
            )

    def stepped(self, read: float, whole: float) -> None:
        """Take note of a step; the loop counts steps before it logs, evaluates and saves."""
        self.steps += 1
        for callback in self.callbacks:
            callback.stepped(self, read, whole)

    def evaluated(self, result, seconds: float, model=None) -> None:
        """Take note of what `paddleseg.core.evaluate` returned; the loop evaluates the EMA model second."""
        miou, accuracy, class_iou, _, kappa = result
        self.pending.append(
            {
                "mIoU": float(miou),
                "acc": float(accuracy),
                "kappa": float(kappa),
                "class_iou": [float(value) for value in class_iou],
                "ema": bool(self.pending),
                "seconds": round(seconds, 3),
                "elapsed": round(self.clock(), 3),
            }
        )
        for callback in self.callbacks:
            callback.evaluated(self, model, self.pending[-1])

    def may_save(self, path: str) -> bool:
        """Whether the loop's save to `path` is to happen: not where it would put a worse model over the best one."""
        best = self._best_of(path)
        return best is None or best.improved_by(self._score(best))

    def saving_done(self, path: str) -> None:
        """Take note of a file that is on disk now."""
        best = self._best_of(path)
        match = _ITER_PATH.search(os.path.dirname(path))
        if best is not None:
            best.set(self._score(best), self.evaluations[-1]["iter"])
        elif match and os.path.basename(path) == PARAMS:
            self.evaluations += [{"iter": int(match.group(1)), **evaluation} for evaluation in self.pending]
            self.pending = []
        elif match and os.path.basename(path) == OPTIMIZER:  # the second and last file that a resume needs
            self.checkpoints.append(os.path.dirname(path))
            for callback in self.callbacks:
                callback.saved(self)
        self.on_progress()

    def _best_of(self, path: str) -> BestModel | None:
        return {"best_model": self.best, "ema_best_model": self.ema_best}.get(os.path.basename(os.path.dirname(path)))

    def _score(self, best: BestModel) -> float:
        return next(e["mIoU"] for e in reversed(self.evaluations) if e["ema"] == (best is self.ema_best))
