"""Whether a network is as often right as it is sure: labelled pixels by their confidence, the data of a reliability
diagram, and the expected calibration error.

Source: Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2, whose 15 bins these are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15  # of equal width; each holds its upper limit


def confidences_on_device(logits: Any, pred: Any, label: Any, ignore_index: int = 255) -> Any:
    """Count labelled pixels by their confidence, the softmax of the class that is predicted.

    Shape: logits (N, C, H, W); pred and label (N, 1, H, W), or without the 1; returns float64 (3, BINS): pixels, those
        that are right, and the sum of their confidences.
    """
    import paddle
    import paddle.nn.functional as F

    classes = logits.shape[1]
    confidence = paddle.amax(F.softmax(logits.astype("float32"), axis=1), axis=1).flatten().nan_to_num()
    pred, label = pred.flatten().astype("int32"), label.flatten().astype("int32")
    known = (label != ignore_index).logical_and(label >= 0).logical_and(label < classes)
    places = paddle.clip(paddle.ceil(confidence * BINS), 1, BINS).astype("int32") - 1
    places = paddle.where(known, places, paddle.full_like(places, BINS))  # beyond those that are returned
    rows = (paddle.ones_like(confidence), pred == label, confidence)
    return paddle.stack(
        [paddle.bincount(places, row.astype("float64"), minlength=BINS + 1)[:BINS].astype("float64") for row in rows]
    )


def reliability(counted: np.ndarray) -> dict[str, Any]:
    """What is stored of a model's confidence.

    Args: counted: of `confidences_on_device`, summed over the images.
    Returns: "ece", the mean distance of confidence and accuracy, "confidence" and "accuracy" of all pixels, each None
        without a pixel; "bins": "from", "to", "pixels", and "confidence" and "accuracy", None where there is no pixel.
    """
    pixels, right, sure = counted
    total = float(pixels.sum())
    return {
        "ece": float(np.abs(right - sure).sum() / total) if total else None,
        "confidence": _mean(sure.sum(), total),
        "accuracy": _mean(right.sum(), total),
        "bins": [
            {
                "from": place / BINS,
                "to": (place + 1) / BINS,
                "pixels": int(pixels[place]),
                "confidence": _mean(sure[place], pixels[place]),
                "accuracy": _mean(right[place], pixels[place]),
            }
            for place in range(BINS)
        ],
    }


def _mean(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
