"""Networks whose speed is measured with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

NOTE = (
    "Random weights, on which the speed of a network does not depend, with one exception: our ONNX and OpenVINO graphs "
    "upsample a mask by blocks and compute only those that a border between classes crosses. Random weights give masks "
    "full of borders, so our networks are rather slower here than with trained weights."
)


def calibrate(model: Any, batch: np.ndarray, classifiers: Iterable[Any], iterations: int = 10) -> None:
    """Give a network the batch statistics of a few images, and equal chances to all classes.

    So values stay in a usual range and masks show many classes; without that a comparison of masks would say nothing.

    Args: classifiers: the convolutions that make the scores.
    Shape: batch (N, 3, H, W) float32.
    """
    import paddle

    model.train()
    with paddle.no_grad():
        for _ in range(iterations):
            model(paddle.to_tensor(batch))
        for layer in classifiers:
            # Without a mean over the inputs, which are all positive: else one class would win everywhere.
            layer.weight.set_value(layer.weight - layer.weight.mean(axis=1, keepdim=True))
    model.eval()
