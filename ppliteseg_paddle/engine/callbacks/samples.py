"""A few validation images, the same at every evaluation, beside their label, the prediction of the very weights that
are evaluated, and its errors.

They are predicted once an evaluation, for all that show them. Nothing is drawn at random and the model is left as it
was, so that a run with pictures equals one without.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.data.multilabel import adds_plane
from ppliteseg_paddle.engine.callbacks.scalars import tag
from ppliteseg_paddle.engine.loop.monitor import Callback, Monitor
from ppliteseg_paddle.engine.loop.precision import autocast
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores, scores_of_areas
from ppliteseg_paddle.errors import PPLiteSegError

if TYPE_CHECKING:
    from ppliteseg_paddle.visual.grid import Row

SAMPLES = 3  # validation images whose predictions are shown
CELL_WIDTH = 400  # pixels of an image, its label, its prediction and the errors each


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
        self.dataset, self.config, self.ema, self.precision = dataset, config, ema, (precision, amp_level)
        self.chosen: list[tuple[int, str]] = []
        count = min(count, len(dataset)) if hasattr(dataset, "read") else 0
        for number in range(count):
            index = (2 * number + 1) * len(dataset) // (2 * count)
            stem = os.path.splitext(os.path.basename(dataset.file_list[index][0]))[0]
            self.chosen.append((index, f"{number + 1:d} {tag(stem)}"))
        self._predictor: Any = None
        self._predicted: tuple[Any, list[tuple[str, Row]]] = (None, [])  # of which evaluation

    def on_step(self, monitor: Monitor, read: float, whole: float) -> None:
        self._predicted = (None, [])  # large images are not held in memory

    def pictures(self, model: Any, evaluation: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
        """Name and picture of each image; none for an evaluation of other weights than those that are shown.

        Shape: (H, W, 3) uint8, BGR.
        """
        return [(name, self._drawn([row], evaluation)) for name, row in self._rows(model, evaluation)]

    def sheet(self, model: Any, evaluation: dict[str, Any]) -> np.ndarray | None:
        """All images in one picture; None where `pictures` gives none. Shape: (H, W, 3) uint8, BGR."""
        rows = [row for _, row in self._rows(model, evaluation)]
        return self._drawn(rows, evaluation) if rows else None

    def _drawn(self, rows: list[Row], evaluation: dict[str, Any]) -> np.ndarray:
        from ppliteseg_paddle.visual.grid import grid

        subtitle = (
            f"iteration {evaluation['iter']:d}{', averaged weights' if self.ema else ''}: "
            f"mIoU {100 * evaluation['mIoU']:.2f} % of all validation images"
        )
        return grid(rows, self._predictor.label_set, subtitle=subtitle, cell_width=CELL_WIDTH)

    def _rows(self, model: Any, evaluation: dict[str, Any]) -> list[tuple[str, Row]]:
        if evaluation["ema"] != self.ema or signals.came():  # a run that is to end does not predict any more
            return []
        if self._predicted[0] is not evaluation:
            self._predicted = evaluation, self._predict(model)
        return self._predicted[1]

    def _predict(self, model: Any) -> list[tuple[str, Row]]:
        from ppliteseg_paddle.engine.predict import EvaluationPredictor

        modes, rows = [(layer, layer.training) for layer in model.sublayers(include_self=True)], []
        model.eval()
        try:
            self._predictor = EvaluationPredictor(model, self.config)
            for index, name in self.chosen:
                try:
                    image, label = self.dataset.read(index)
                except PPLiteSegError:
                    continue  # reported where all images are read
                with autocast(*self.precision):
                    mask = self._predictor.predict(image)
                rows.append((name, self._row(index, image, self._evaluated(label), mask)))
        finally:
            for layer, training in modes:
                layer.training = training
        return rows

    def _evaluated(self, label: np.ndarray) -> np.ndarray:
        """A label of planes as it is compared with predictions."""
        if not getattr(self.dataset, "planes", 0):
            return label
        data = {"label": label if label.ndim == 3 else label[..., np.newaxis]}
        for step in self.dataset.transforms.transforms:
            if adds_plane(step):
                data = step(data)
        return data["label"]

    def _row(self, index: int, image: np.ndarray, label: np.ndarray, mask: np.ndarray) -> Row:
        from ppliteseg_paddle.visual.bands import shown_image
        from ppliteseg_paddle.visual.error_map import draw_errors
        from ppliteseg_paddle.visual.grid import Row

        shown, ignored = shown_image(image), self.dataset.ignore_index
        measured = image_scores(label, mask, self._predictor.label_set.num_classes, ignored)
        caption = os.path.basename(self.dataset.file_list[index][0])
        if any(measured["present"]):
            caption += f"   mIoU {100 * measured['mIoU_present']:.1f} %"
            caption += f", pixels right {100 * measured['acc']:.1f} %" if label.ndim == 2 else ""
        return Row(shown, label, mask, caption, draw_errors(shown, label, mask, ignored))


def image_scores(label: np.ndarray, mask: np.ndarray, num_classes: int, ignore_index: int) -> dict[str, Any]:
    """`metrics.scores` of one image.

    Shape: label and mask (H, W), or planes (H, W, classes).
    """
    if label.ndim == 2:
        return scores(confusion_matrix(mask, label, num_classes, ignore_index))
    known, truth, predicted = label != ignore_index, label == 1, mask == 1
    return scores_of_areas(*((part & known).sum(axis=(0, 1)) for part in (truth & predicted, predicted, truth)))
