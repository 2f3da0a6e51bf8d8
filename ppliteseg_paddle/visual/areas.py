"""How much of a mask each class covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

_BLOCK_ROWS = 512  # counting may take 8 bytes a pixel
# OpenCV counts bytes in a fifth of the time, in float32, which is exact up to this number.
_VALUES, _EXACT = 256, 2**24


def class_areas(mask: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels of each class; those of no class are not counted.

    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes) of 0 and 1; returns (num_classes,) int64.
    """
    areas = np.zeros(num_classes, np.int64)
    for top in range(0, len(mask), _BLOCK_ROWS):
        block = mask[top : top + _BLOCK_ROWS]
        if mask.ndim == 3:
            areas += np.count_nonzero(block == 1, axis=(0, 1))
        elif block.dtype == np.uint8 and block.size <= _EXACT:
            counts = cv2.calcHist([block], [0], None, [_VALUES], [0, _VALUES])[:, 0].astype(np.int64)
            areas[:_VALUES] += counts[:num_classes]
        else:
            areas += np.bincount(block.reshape(-1), minlength=num_classes)[:num_classes]
    return areas


def class_regions(mask: np.ndarray, ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The pixels of each of the classes `ids` that is in a mask: (class id, (H, W) bool).

    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes) of 0 and 1.
    """
    areas = class_areas(mask, max(ids, default=-1) + 1)
    for number in ids:
        if areas[number]:
            yield number, mask[..., number] == 1 if mask.ndim == 3 else mask == number
