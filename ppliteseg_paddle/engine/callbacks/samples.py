"""A few validation images, the same at every evaluation, beside their label, the prediction of the very weights that
are evaluated, and its errors.

They are predicted once an evaluation, for all that show them. A run with pictures equals one without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.callbacks.scalars import tag
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.engine.sample_rows import SampleRows

if TYPE_CHECKING:
    from ppliteseg_paddle.visual.grid import Row

SAMPLES = 3  # validation images whose predictions are shown


class Samples(Callback):
    """Images of a data set, and what a model makes of them.

    Args:
        dataset: the validation set, or None; count: images out of it, spread evenly.
        config: says how predictions are made, see `predict.EvaluationPredictor`.
        ema: whether the averaged weights' predictions are shown, or the plain ones'.
        precision, amp_level: in which the run evaluates.
    Attributes: `chosen`: number in the data set and name of each; none where the data set cannot be read by number.
    """

    def __init__(
        self,
        dataset: Any,
        config: Any,
        ema: bool = False,
        count: int = SAMPLES,
        precision: str = "fp32",
        amp_level: str = "O1",
    ):
        self.ema, self.samples = ema, SampleRows(dataset, config, precision, amp_level)
        self.chosen: list[tuple[int, str]] = []
        count = min(count, len(dataset)) if hasattr(dataset, "read") else 0
        for number in range(count):
            index = (2 * number + 1) * len(dataset) // (2 * count)
            stem = os.path.splitext(os.path.basename(dataset.file_list[index][0]))[0]
            self.chosen.append((index, f"{number + 1:d} {tag(stem)}"))
        self._predicted: tuple[Any, list[tuple[str, Row]]] = (None, [])  # of which evaluation

    def on_step(self, monitor: Monitor, read: float, whole: float) -> None:
        self._predicted = (None, [])  # large images are not held in memory

    def pictures(self, model: Any, evaluation: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
        """Name and picture of each image; none for an evaluation of other weights than those that are shown.

        Shape: (H, W, 3) uint8, BGR.
        """
        subtitle = self._subtitle(evaluation)
        return [(name, self.samples.drawn([row], subtitle)) for name, row in self._rows(model, evaluation)]

    def sheet(self, model: Any, evaluation: dict[str, Any]) -> np.ndarray | None:
        """All images in one picture; None where `pictures` gives none. Shape: (H, W, 3) uint8, BGR."""
        rows = [row for _, row in self._rows(model, evaluation)]
        return self.samples.drawn(rows, self._subtitle(evaluation)) if rows else None

    def _subtitle(self, evaluation: dict[str, Any]) -> str:
        return (
            f"iteration {evaluation['iter']:d}{', averaged weights' if self.ema else ''}: "
            f"mIoU {100 * evaluation['mIoU']:.2f} % of all validation images"
        )

    def _rows(self, model: Any, evaluation: dict[str, Any]) -> list[tuple[str, Row]]:
        if evaluation["ema"] != self.ema or signals.came():  # a run that is to end does not predict any more
            return []
        if self._predicted[0] is not evaluation:
            rows = self.samples.rows(model, [index for index, _ in self.chosen])
            self._predicted = evaluation, [(name, row) for (_, name), row in zip(self.chosen, rows) if row is not None]
        return self._predicted[1]
