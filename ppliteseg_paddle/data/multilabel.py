"""Multi-label data sets: labels of a plane of 0 and 1 for each class, `test_config.use_multilabel`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ppliteseg_paddle.data.check_transforms import FILLING
from ppliteseg_paddle.errors import ConfigError


class AddMultiLabelAuxiliaryCategory:
    """Add a plane in front: 1 where a pixel is of no class. PaddleSeg 2.9 has it under this name, 2.8 has not.

    Shape: label (H, W, C); becomes (H, W, 1 + C).
    Source: PaddleSeg 2.9 `transforms/transforms.py`.
    """

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        if "label" in data:
            label = data["label"]
            data["label"] = np.concatenate([(label == 0).all(axis=-1, keepdims=True).astype(label.dtype), label], -1)
        return data


def adds_plane(transform: Any) -> bool:
    """Whether a transform adds a class that the label files do not hold."""
    return type(transform).__name__ == AddMultiLabelAuxiliaryCategory.__name__


def check_multilabel(dataset: Any) -> None:
    """Raises: ConfigError: for what takes one class a pixel only."""
    if dataset.edge:
        raise ConfigError("edge finds the borders of class ids: leave it out with test_config.use_multilabel.")
    if dataset.ignore_index in (0, 1):
        raise ConfigError(
            f"ignore_index is {dataset.ignore_index}, but with test_config.use_multilabel labels are 0 and 1: give 255."
        )
    for step in dataset.transforms.transforms:
        if dataset.mode == "train" and type(step).__name__ in FILLING:
            raise ConfigError(
                f"PaddleSeg's {type(step).__name__} fills in the first plane of a multi-label file only: use "
                "FusedAugment, or transforms without padding and rotation, such as Resize and RandomHorizontalFlip."
            )


def planes_first(label: np.ndarray, composed: bool = True) -> np.ndarray:
    """Planes as tensors have them. Shape: (H, W, C), or (H, W) of one plane, -> (C, H, W).

    Args: composed: whether PaddleSeg's `Compose` has had the label.
    """
    if label.ndim == 2:  # OpenCV drops a single channel
        return label[np.newaxis]
    return label if composed and _compose_transposes() else np.ascontiguousarray(label.transpose(2, 0, 1))


@functools.cache
def _compose_transposes() -> bool:
    """Whether PaddleSeg's `Compose` puts a label's planes first: 2.9 does, 2.8 does not."""
    from paddleseg.transforms import Compose

    data = {"img": np.zeros((2, 3, 3), np.float32), "label": np.zeros((2, 3, 4), np.uint8)}
    return bool(Compose([])(data)["label"].shape[0] == 4)
