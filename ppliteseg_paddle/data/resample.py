"""Resize an image and keep a window of the result, reading only the source pixels that the window needs."""

from __future__ import annotations

import cv2
import numpy as np

# Largest displacement, in source pixels, that a window may have against the resized whole image; an eighth of the steps
# to which OpenCV's warpAffine and remap round.
MAX_SHIFT = 1 / 256
_EXACT_PERIOD = 64  # result pixels to go back at most for a start without any displacement


def resize_window(image: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]) -> np.ndarray:
    """`cv2.resize(image, size, INTER_LINEAR)[y0:y1, x0:x1]` without computing the rest.

    OpenCV resizes sub-images only from whole source pixels on. So the window is widened to where a whole source pixel
    begins with a whole result pixel: exactly where the scale is a simple fraction of the size (steps of 1/8 on 480, 960
    or 2048 pixels), else to within `MAX_SHIFT`. The image's corner is always such a place.

    Args: size: (width, height) of the resized whole image; window: (x0, y0, x1, y1) in it.
    Shape: image (H, W) or (H, W, C); returns (y1 - y0, x1 - x0) or with C. It may share memory with `image`.
    """
    height, width = image.shape[:2]
    if size == (width, height):
        return image[window[1] : window[3], window[0] : window[2]]
    left, right, out_left, out_right = source_span(width, size[0], window[0], window[2])
    top, bottom, out_top, out_bottom = source_span(height, size[1], window[1], window[3])
    resized = cv2.resize(
        image[top:bottom, left:right], (out_right - out_left, out_bottom - out_top), interpolation=cv2.INTER_LINEAR
    )
    return resized[window[1] - out_top : window[3] - out_top, window[0] - out_left : window[2] - out_left]


def source_span(source: int, target: int, start: int, end: int) -> tuple[int, int, int, int]:
    """The stretch of an axis to resize for the pixels `start` to `end` (not included) of the result.

    Args: source, target: lengths of the whole axis before and after.
    Returns: source start and end, and the result's start and end that they become.
    """
    ratio = source / target
    # The pixels that linear interpolation needs must lie inside, or the border would be repeated in their place.
    first = int(np.floor((start + 0.5) * ratio - 0.5))
    last = int(np.floor((end - 0.5) * ratio - 0.5)) + 1
    out_start = _whole_start(source, target, min(start, max(int(first / ratio), 0)), first)
    # The same, seen from the other end of the axis.
    out_end = target - _whole_start(
        source, target, min(target - end, max(int((source - 1 - last) / ratio), 0)), source - 1 - last
    )
    return round(out_start * ratio), round(out_end * ratio), out_start, out_end


def _whole_start(source: int, target: int, latest: int, first: int) -> int:
    """The last result pixel, not after `latest`, that begins where a source pixel not after `first` does."""
    period = target // int(np.gcd(source, target))
    if period <= _EXACT_PERIOD:
        return latest // period * period
    candidates = np.arange(latest, -1, -1, dtype=np.int64)
    rest = candidates * source % target
    good = (np.minimum(rest, target - rest) <= MAX_SHIFT * target) & (
        (candidates * source + target // 2) // target <= max(first, 0)
    )
    return int(candidates[np.argmax(good)])  # the axis' own start is always good


def resize_label_window(label: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]) -> np.ndarray:
    """`cv2.resize(label, size, INTER_NEAREST)[y0:y1, x0:x1]`, exactly, without computing the rest.

    Shape: label (H, W) or (H, W, C); returns (y1 - y0, x1 - x0) or with C.
    """
    height, width = label.shape[:2]
    if size == (width, height):
        return label[window[1] : window[3], window[0] : window[2]]
    columns, rows = _nearest(width, size[0], window[0], window[2]), _nearest(height, size[1], window[1], window[3])
    stripe = label[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return stripe[rows - rows[0]].take(columns - columns[0], axis=1)


def _nearest(source: int, target: int, start: int, end: int) -> np.ndarray:
    step = 1.0 / (target / source)  # in OpenCV's order, whose rounding decides ties
    return np.minimum(np.floor(np.arange(start, end) * step).astype(np.intp), source - 1)
