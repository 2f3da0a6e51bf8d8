"""What 8 bits cost in mIoU, on labelled images at the labels' own size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.export.int8.calibration import Calibration, progress_bar

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.predictor import Predictor

MAX_LOST_POINTS = 1.0


def measure_loss(exact: Predictor, quantized: Mapping[str, Predictor], calibration: Calibration) -> dict[str, Any]:
    """mIoU of a float export and of the 8-bit ones on the validation pairs, else on the labelled calibration images.

    Args: exact: the float export; quantized: one for each format.
    Returns: the format that loses most, and all of them under "formats"; {} where there are no labels.
    Raises: ArtifactError: if more than `MAX_LOST_POINTS` are lost. DataError: for an image or label that cannot be
        read.
    """
    from ppliteseg_paddle.engine.metrics import confusion_matrix
    from ppliteseg_paddle.reading.labels import read_label
    from ppliteseg_paddle.reading.pairs import check_sizes

    pairs = list(calibration.validation) or [(image, label) for image, label in calibration.images if label is not None]
    if not pairs:
        return {}
    predictors, label_set = {"": exact, **quantized}, exact.label_set
    matrices: dict[str, Any] = dict.fromkeys(predictors, 0)
    differing = dict.fromkeys(quantized, 0.0)
    with progress_bar(calibration, len(pairs), "validating", "image") as bar:
        for image, path in pairs:
            label = read_label(path)
            masks = {name: np.asarray(predictor.predict(image)) for name, predictor in predictors.items()}
            check_sizes(masks[""], label, image, path)
            for name, mask in masks.items():
                matrices[name] += confusion_matrix(mask, label, label_set.num_classes, label_set.ignore_index)
            for name in differing:
                differing[name] += float(np.mean(masks[name] != masks[""])) / len(pairs)
            bar.update()
    float_miou = miou(matrices[""])
    formats: dict[str, dict[str, Any]] = {
        name: {
            "int8_mIoU": miou(matrices[name]),
            "lost_points": 100 * (float_miou - miou(matrices[name])),
            "differing_pixels": differing[name],
            "backend": quantized[name].backend.name,
        }
        for name in quantized
    }
    worst = max(formats.values(), key=lambda values: values["lost_points"])
    on = "validation" if calibration.validation else "calibration"
    if worst["lost_points"] > MAX_LOST_POINTS:
        raise ArtifactError(
            f"INT8 loses {worst['lost_points']:.2f} points of mIoU on {len(pairs):d} {on} images (allowed: "
            f"{MAX_LOST_POINTS:g}), so nothing was written. Give more images with --calib_data, try another "
            "--calib_method, or export with --precision fp16."
        )
    return {"images": len(pairs), "on": on, "fp32_mIoU": float_miou, **worst, "formats": formats}


def miou(matrix: NDArray[Any]) -> float:
    """mIoU of a confusion matrix."""
    from ppliteseg_paddle.engine.metrics import scores

    return float(scores(matrix)["mIoU"])
