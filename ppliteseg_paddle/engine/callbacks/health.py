"""Signs that a run learns nothing, each told once with its usual cause."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Sequence
from typing import Any

from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor

STUCK_ROWS, STUCK_BAND = 20, 1e-4  # rows whose losses lie within this share of each other
LEARNING_ROWS, LEARNING_ITERS, LEARNED = 50, 500, 0.98  # by then the loss has fallen below this share of the first
EXPLODED, NORMS = 100.0, 5  # times the median of the norms before, of which there are that many


class Health(Callback):
    """Warns of a loss that does not move, gradients that explode, and classes that are never predicted.

    Args:
        classes: their names; total: iterations at the end; may be a `budget.OpenEnd`.
        fresh: whether the run begins without trained weights, so that its loss has to fall.
        fp16: whether gradients may overflow now and then.
    """

    def __init__(self, classes: Sequence[str], total: int, fresh: bool, fp16: bool = False):
        self.classes, self.total, self.fresh, self.fp16 = classes, total, fresh, fp16
        self.norms: collections.deque[float] = collections.deque(maxlen=50)
        self.told: set[str] = set()

    def on_gradients(self, monitor: Monitor, model: Any) -> None:
        norm = gradient_norm(model)
        finite = abs(norm) < float("inf")
        usual = statistics.median(self.norms) if len(self.norms) >= NORMS else None
        if (finite and usual and norm > EXPLODED * usual) or not (finite or self.fp16):
            before = "" if usual is None else f", and was {usual:.3g} before"
            self._warn(
                monitor,
                "gradients",
                f"the gradients explode at iteration {monitor.steps + 1:d}: their norm is {norm:.3g}{before}. The "
                "usual cause is a learning rate that is too high, or a warm-up that is too short: lower "
                "--learning_rate, or raise lr_scheduler.warmup_iters.",
            )
        if finite:
            self.norms.append(norm)

    def on_log(self, monitor: Monitor, row: dict[str, Any]) -> None:
        losses = [row["loss"] for row in monitor.rows]
        last = losses[-STUCK_ROWS:]
        if len(last) == STUCK_ROWS and max(last) - min(last) <= STUCK_BAND * abs(last[-1]):
            self._warn(
                monitor,
                "loss",
                f"the loss has not moved for {STUCK_ROWS * monitor.log_iters:d} iterations: it is {last[-1]:.4g}. The "
                f"usual cause is a learning rate near 0 (it is {row['lr']:.3g}), or labels of which all pixels are "
                "ignored: `data check` counts them.",
            )
        if self.fresh and len(losses) >= LEARNING_ROWS and row["iter"] >= LEARNING_ITERS:
            self.fresh, fifth = False, len(losses) // 5
            first, now = statistics.mean(losses[:fifth]), statistics.mean(losses[-fifth:])
            if now > LEARNED * first:
                self._warn(
                    monitor,
                    "loss",
                    f"the loss has not fallen in {row['iter']:d} iterations: it was {first:.4g} and is {now:.4g}. The "
                    "usual causes are a learning rate that is too low or too high, and labels that do not belong to "
                    "their images.",
                )

    def on_eval(self, monitor: Monitor, model: Any, evaluation: dict[str, Any]) -> None:
        if 2 * evaluation["iter"] < int(str(self.total)):  # early on many are missing
            return
        names = [str(self.classes[number]) for number in monitor.never_predicted if number < len(self.classes)]
        if names:
            self._warn(
                monitor,
                "classes",
                f"never predicted at iteration {evaluation['iter']:d}, though validation labels hold them: "
                f"{', '.join(names)}. The usual cause is that few training images hold them (`data stats` counts them "
                "and gives weights for the loss).",
            )

    def _warn(self, monitor: Monitor, kind: str, message: str) -> None:
        if kind not in self.told:
            self.told.add(kind)
            monitor.warn_once(message)


def gradient_norm(model: Any) -> float:
    """The norm of all gradients of a model together."""
    import paddle

    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    with paddle.no_grad():
        squares = [gradient.astype("float32").square().sum() for gradient in gradients]
        return float(paddle.add_n(squares)) ** 0.5 if squares else 0.0
