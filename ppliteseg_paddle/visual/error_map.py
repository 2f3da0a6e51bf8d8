"""Where a prediction is wrong, as a picture."""

from __future__ import annotations

import cv2
import numpy as np

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.visual.draw import RGB

# Red, gray and the dark shades of the image: what is right, wrong or ignored is told apart without the legend.
WRONG: RGB = (255, 59, 48)
IGNORED: RGB = (174, 177, 184)
DARKEST, DIM = 18, 0.36  # where the prediction is right: of black, and of the image's brightness above it


def wrong_pixels(truth: np.ndarray, prediction: np.ndarray, ignore_index: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that are predicted wrong, and those that are ignored. Of planes, a pixel is wrong where one of its classes
    is, and ignored where all of them are.

    Shape: truth and prediction (H, W), or planes (H, W, classes); returns two (H, W) bool.
    Raises: DataError: if the shapes differ.
    """
    if truth.shape != prediction.shape:
        raise DataError(f"a label of shape {truth.shape} and a prediction of shape {prediction.shape} do not compare.")
    ignored = truth == ignore_index
    wrong = (truth != prediction) & ~ignored
    return (wrong.any(axis=-1), ignored.all(axis=-1)) if truth.ndim == 3 else (wrong, ignored)


def draw_errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, ignore_index: int = 255) -> np.ndarray:
    """Draw wrong pixels red and ignored ones gray over the image, which is dim and without colors.

    Shape: image (H, W, 3) uint8, BGR; truth and prediction as for `wrong_pixels`; returns (H, W, 3) uint8, BGR.
    Raises: DataError: if the sizes differ.
    """
    if image.shape[:2] != truth.shape[:2]:
        raise DataError(f"an image of shape {image.shape[:2]} and a label of shape {truth.shape[:2]} do not compare.")
    wrong, ignored = wrong_pixels(truth, prediction, ignore_index)
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    drawn = cv2.cvtColor(np.rint(DARKEST + DIM * gray).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    drawn[ignored] = IGNORED[::-1]
    drawn[wrong] = WRONG[::-1]
    return drawn
