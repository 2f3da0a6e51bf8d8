"""Images of a validation set beside their label, a model's prediction and its errors, as rows of a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppliteseg_paddle.data.multilabel import adds_plane
from ppliteseg_paddle.engine.loop.precision import autocast
from ppliteseg_paddle.engine.metrics import confusion_matrix, scores, scores_of_areas
from ppliteseg_paddle.engine.modes import evaluating
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import write_bytes
from ppliteseg_paddle.reading.run_files import BEST_PICTURE, WORST_PICTURE

if TYPE_CHECKING:
    from ppliteseg_paddle.visual.grid import Row

CELL_WIDTH = 400  # pixels of an image, its label, its prediction and the errors each
EXTREMES = 3  # images that `write_extremes` shows of either kind


class SampleRows:
    """Predicts images of a data set as the evaluation does. Nothing is drawn at random, and the model stays as it was.

    Args:
        dataset: the validation set, as `data.dataset.CheckedDataset`.
        config: says how predictions are made, see `predict.EvaluationPredictor`; test_config: in place of its own.
        precision, amp_level: of the predictions.
    """

    def __init__(
        self,
        dataset: Any,
        config: Any,
        precision: str = "fp32",
        amp_level: str = "O1",
        test_config: Mapping[str, Any] | None = None,
    ):
        self.dataset, self.config, self.precision = dataset, config, (precision, amp_level)
        self.test_config = test_config
        self.label_set: Any = None  # of the last prediction

    def rows(self, model: Any, indices: Sequence[int]) -> list[Row | None]:
        """Args: indices: of images in the data set. Returns: None for one that cannot be read, which is reported where
        all images are read."""
        from ppliteseg_paddle.engine.predict import EvaluationPredictor

        with evaluating(model):
            predictor = EvaluationPredictor(model, self.config)
            self.label_set = predictor.label_set
            if self.test_config is not None:
                predictor.test_config = dict(self.test_config)
            return [self._row(predictor, index) for index in indices]

    def drawn(self, rows: Sequence[Row], subtitle: str) -> np.ndarray:
        """Rows of this object in one picture. Shape: (H, W, 3) uint8, BGR."""
        from ppliteseg_paddle.visual.grid import grid

        return grid(rows, self.label_set, subtitle=subtitle, cell_width=CELL_WIDTH)

    def _row(self, predictor: Any, index: int) -> Row | None:
        from ppliteseg_paddle.visual.bands import shown_image
        from ppliteseg_paddle.visual.error_map import draw_errors
        from ppliteseg_paddle.visual.grid import Row

        try:
            image, label = self.dataset.read(index)
        except PPLiteSegError:
            return None
        label = self._evaluated(label)
        with autocast(*self.precision):
            mask = predictor.predict(image)
        shown, ignored = shown_image(image), self.dataset.ignore_index
        measured = image_scores(label, mask, self.label_set.num_classes, ignored)
        caption = os.path.basename(self.dataset.file_list[index][0])
        if any(measured["present"]):
            caption += f"   mIoU {100 * measured['mIoU_present']:.1f} %"
            caption += f", pixels right {100 * measured['acc']:.1f} %" if label.ndim == 2 else ""
        return Row(shown, label, mask, caption, draw_errors(shown, label, mask, ignored))

    def _evaluated(self, label: np.ndarray) -> np.ndarray:
        """A label of planes as it is compared with predictions."""
        if not getattr(self.dataset, "planes", 0):
            return label
        data = {"label": label if label.ndim == 3 else label[..., np.newaxis]}
        for step in self.dataset.transforms.transforms:
            if adds_plane(step):
                data = step(data)
        return data["label"]


def image_scores(label: np.ndarray, mask: np.ndarray, num_classes: int, ignore_index: int) -> dict[str, Any]:
    """`metrics.scores` of one image.

    Shape: label and mask (H, W), or planes (H, W, classes).
    """
    if label.ndim == 2:
        return scores(confusion_matrix(mask, label, num_classes, ignore_index))
    known, truth, predicted = label != ignore_index, label == 1, mask == 1
    return scores_of_areas(*((part & known).sum(axis=(0, 1)) for part in (truth & predicted, predicted, truth)))


def write_extremes(folder: str, model: Any, samples: SampleRows, scored: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write pictures of the worst and of the best images.

    Args: scored: rows of `image_scores.Counts.rows`, the worst first.
    Returns: their paths; none where no image has a score.
    Raises: ConfigError: if one cannot be written.
    """
    import cv2

    numbers, paths = [row["index"] for row in scored if row["mIoU"] is not None], []
    for name, word, chosen in (
        (WORST_PICTURE, "worst", numbers[:EXTREMES]),
        (BEST_PICTURE, "best", numbers[::-1][:EXTREMES]),
    ):
        rows = [row for row in samples.rows(model, chosen) if row is not None]
        if rows:
            paths.append(os.path.join(folder, name))
            picture = samples.drawn(rows, f"the {word} of {len(numbers):d} images, by the mIoU of each")
            write_bytes(paths[-1], cv2.imencode(".png", picture)[1].tobytes())
    return paths
