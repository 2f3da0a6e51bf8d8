"""Figures of merit of a segmentation, from one confusion matrix, equal to PaddleSeg's.

The conventions are PaddleSeg's, so that figures compare: ignored pixels count nowhere, and a class that occurs neither
in the labels nor in the predictions has an IoU and a Dice of 0 and lowers the mean. `mIoU_present` omits such classes,
as the evaluation of `cityscapesscripts` does; `present` tells which ones occur. The two are equal where every class
occurs.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def confusion_matrix(pred: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int = 255) -> np.ndarray:
    """Count pixels by their labelled and predicted class.

    Shape: pred and label of one shape, integer; returns int64 (num_classes, num_classes), rows are labels.
    Raises: ValueError: if the shapes differ.
    """
    if pred.shape != label.shape:
        raise ValueError(f"pred and label must have one shape, but are {pred.shape} and {label.shape}.")
    known = label != ignore_index
    codes = num_classes * label[known].astype(np.int64) + pred[known].astype(np.int64)
    return np.bincount(codes, minlength=num_classes**2)[: num_classes**2].reshape(num_classes, num_classes)


def confusion_on_device(pred, label, num_classes: int, ignore_index: int = 255):
    """`confusion_matrix` of two tensors, computed where they are and left there.

    Shape: pred and label of one shape, integer, pred below num_classes; returns int64 (num_classes, num_classes), rows
        are labels.
    """
    import paddle

    codes, bins = label.astype("int32") * num_classes + pred.astype("int32"), 256 * num_classes
    if label.dtype != paddle.uint8:  # may be negative, or large
        bins = num_classes**2 + 1
        codes = paddle.where((label >= 0).logical_and(label < num_classes), codes, paddle.full_like(codes, bins - 1))
    # Labels beyond the classes, among them the usual ignore_index 255, land beyond the matrix.
    matrix = (
        paddle.bincount(codes.flatten(), minlength=bins)[: num_classes**2]
        .astype("int64")
        .reshape([num_classes, num_classes])
    )
    if 0 <= ignore_index < num_classes:
        matrix = matrix * (paddle.arange(num_classes, dtype="int64") != ignore_index).astype("int64").unsqueeze(1)
    return matrix


def areas_on_device(pred, label, ignore_index: int = 255):
    """What a confusion matrix is where a pixel may be of several classes: for each class the pixels in which prediction
    and label agree on it, those predicted and those labelled.

    Shape: pred (N, C, H, W), truth values; label (N, C, H, W), 0, 1 and `ignore_index`; returns int64 (3, C).
    Source: PaddleSeg 2.9 `utils/metrics.py::calculate_area`, which knows no ignored pixels.
    """
    import paddle

    truth = label == 1
    pred = pred.astype("bool").logical_and(label != ignore_index)
    return paddle.stack([each.astype("int64").sum([0, 2, 3]) for each in (pred.logical_and(truth), pred, truth)])


def scores(matrix: np.ndarray) -> dict[str, Any]:
    """Everything that we report, from a confusion matrix.

    Returns: floats "mIoU", "mIoU_present" (NaN where no class occurs), "acc" (correct pixels of all), "kappa", "dice"
        (mean); lists with one
        float a class: "class_iou", "class_dice", "class_precision", "class_recall"; lists "present" and
        "predicted": whether a class occurs at all, and among the predictions.
    Source: PaddleSeg `utils/metrics.py`: mean_iou, class_measurement, kappa, dice.
    """
    matrix = matrix.astype(np.int64)
    return scores_of_areas(np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1))


def scores_of_areas(hit: np.ndarray, predicted: np.ndarray, labelled: np.ndarray) -> dict[str, Any]:
    """`scores` from each class's pixels: agreeing, predicted, labelled. Shape: (C,) each."""
    class_iou = _ratio(hit, predicted + labelled - hit)
    present = (predicted + labelled) > 0
    class_dice = _ratio(2 * hit, predicted + labelled)
    return {
        "mIoU": float(class_iou.mean()),
        "mIoU_present": float(class_iou[present].mean()) if present.any() else float("nan"),
        "acc": float(_ratio(hit.sum(), predicted.sum())),
        "kappa": _kappa(hit, predicted, labelled),
        "dice": float(class_dice.mean()),
        "class_iou": class_iou.tolist(),
        "class_dice": class_dice.tolist(),
        "class_precision": _ratio(hit, predicted).tolist(),
        "class_recall": _ratio(hit, labelled).tolist(),
        "present": present.tolist(),
        "predicted": (predicted > 0).tolist(),
    }


def _ratio(part, whole):
    """part / whole, and 0 where whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


def _kappa(hit, predicted, labelled) -> float:
    """Agreement beyond chance. Where all is one class, chance agrees fully and kappa is not defined: NaN."""
    total = float(labelled.sum())
    if not total:
        return float("nan")
    agreed = hit.sum() / total
    by_chance = float((predicted.astype(np.float64) * labelled).sum()) / (total * total)
    return float((agreed - by_chance) / (1 - by_chance)) if by_chance != 1 else float("nan")


def scores_line(result: dict[str, Any]) -> str:
    """What was measured, in one line."""
    names = {"mIoU": "mIoU", "Acc": "acc", "Kappa": "kappa", "Dice": "dice"}
    return " ".join([f"#Images: {result['images']:d}"] + [f"{name}: {result[key]:.4f}" for name, key in names.items()])
