"""Networks whose speed is measured with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

# The share of windows of a small mask that hold more than one class. With it a border crosses about a third of the
# tiles in which logits are upsampled, as in labels of street scenes; random weights alone let one cross nearly all.
_CROSSED, _WINDOW = 1 / 4, (2, 5)

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


def draw_borders(model: Any, batch: np.ndarray, classifier: Any) -> None:
    """Let one class win in so many places that a mask has about as many borders as one of a street scene: where a mask
    is brought to the image's size, they decide on the time.

    Args: model: has `small_logits`; classifier: the convolution that makes them, after a ReLU and without bias.
    Shape: batch (1, 3, H, W) float32.
    """
    import paddle

    def logits() -> np.ndarray:
        with paddle.no_grad():
            return np.asarray(model.small_logits(paddle.to_tensor(batch))[0].numpy())[0]

    model.eval()
    before, weight = logits(), classifier.weight.numpy()
    raised = weight.copy()
    raised[0] += 1.0
    classifier.weight.set_value(raised)
    added = logits()[0] - before[0]
    lead = before[1:].max(axis=0) - before[0]  # of the best other class: one class wins all where `added` is larger
    needed = lead / np.maximum(added, 1e-6)
    low, high = 0.0, max(float(needed.max()), 0.0)
    winners = before.argmax(axis=0)
    for _ in range(30):
        middle = (low + high) / 2
        if crossed_windows(np.where(needed <= middle, 0, winners)) > _CROSSED:
            low = middle
        else:
            high = middle
    weight[0] += high
    classifier.weight.set_value(weight)


def crossed_windows(mask: np.ndarray) -> float:
    """The share of a mask's windows that hold more than one class."""
    windows = np.lib.stride_tricks.sliding_window_view(mask, _WINDOW)
    return float(np.mean(windows.max(axis=(2, 3)) != windows.min(axis=(2, 3))))
