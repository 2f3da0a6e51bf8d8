"""Images as arrays: what the predictor takes, and one to try a model on without a photograph."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError


def check_image(image: Any, what: str = "the image") -> NDArray[Any]:
    """See that an array is an image as `Predictor` takes it: (H, W, 3) uint8, BGR, not empty.

    Raises: DataError: with what it is instead, and how to convert it.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"{what} is a {type(image).__name__}; give a path or a NumPy array of (H, W, 3) uint8, BGR.")
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        fix = "it is gray; convert it with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    elif image.ndim == 3 and image.shape[2] == 4:
        fix = "it has 4 channels; drop the fourth with image[:, :, :3]"
    elif image.ndim != 3 or image.shape[2] != 3:
        fix = "expected (H, W, 3)"
    elif image.dtype != np.uint8:
        fix = "expected uint8 with values 0 to 255; convert floats of 0 to 1 with (image * 255).astype('uint8')"
    elif image.size == 0:
        fix = "it holds no pixels"
    else:
        return image
    raise DataError(f"{what} has shape {tuple(image.shape)} and dtype {image.dtype}: {fix}.")


def generated_image(height: int, width: int, seed: int = 0) -> NDArray[Any]:
    """An image with large shapes and fine grain, the same each time, for trials without a photograph. Shape: (H, W, 3)
    uint8."""
    random = np.random.RandomState(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 80), (16, 40), (64, 20)):
        noise = random.randn(cells, cells, 3).astype(np.float32)
        image += strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 128, 0, 255).astype(np.uint8)
