"""Sliding windows: a large image is segmented piece by piece, and the pieces are joined.

Scores are averaged where windows overlap, as PaddleSeg does it. Where only class ids leave the graph there is nothing
to average: each pixel then takes the class from the window in which it lies farthest from the border, where a window
sees least of what is around.

Source: PaddleSeg `core/infer.py::slide_inference`, for positions and averaging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import ConfigError


class Box(NamedTuple):
    """A window's place: rows `top` to `bottom`, columns `left` to `right`, the last ones excluded."""

    top: int
    bottom: int
    left: int
    right: int


class Windows(NamedTuple):
    """Size and step of a sliding window, both (width, height) in pixels."""

    crop_size: tuple[int, int]
    stride: tuple[int, int]

    @classmethod
    def checked(cls, crop_size: Sequence[int], stride: Sequence[int] | None = None) -> Windows:
        """Args: stride: None takes two thirds of `crop_size`.

        Raises: ConfigError: for a pair that is no size, or a step that leaves gaps.
        """
        crop = _pair("crop_size", crop_size)
        step = (max(1, crop[0] * 2 // 3), max(1, crop[1] * 2 // 3)) if stride is None else _pair("stride", stride)
        if step[0] > crop[0] or step[1] > crop[1]:
            raise ConfigError(
                f"stride {step[0]} {step[1]} is larger than crop_size {crop[0]} {crop[1]} and would skip pixels; make "
                "it smaller (width, height)."
            )
        return cls(crop, step)

    def rows(self, height: int, width: int) -> list[list[Box]]:
        """The windows over an image, row by row. The last one of a row or column is moved back until it ends at the
        border; an image smaller than a window is one window."""
        across = _places(width, self.crop_size[0], self.stride[0])
        return [
            [Box(top, bottom, left, right) for left, right in across]
            for top, bottom in _places(height, self.crop_size[1], self.stride[1])
        ]


def averaged(rows: Sequence[Sequence[Box]], scores: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Average the scores of overlapping windows.

    Only as many rows of pixels as a window has are held at once: the scores of a large image take gigabytes.

    Args: rows: from `Windows.rows`; scores: (C, h, w) of each window, in order.
    Returns: the image's scores from top to bottom, as strips (C, rows of pixels, W).
    """
    pieces, width = iter(scores), rows[0][-1].right
    total: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
    count: NDArray[np.float32] = np.zeros((0, 0), np.float32)
    start = 0  # the row of pixels at which `total` begins
    for i, row in enumerate(rows):
        height = row[0].bottom - row[0].top
        for box in row:
            piece = next(pieces)
            if not total.size:
                total, count = np.zeros((len(piece), height, width), np.float32), np.zeros((height, width), np.float32)
            columns = slice(box.left, box.right)
            total[:, :, columns] += piece
            count[:, columns] += 1
        upto = rows[i + 1][0].top if i + 1 < len(rows) else row[0].bottom
        done = upto - start
        yield total[:, :done] / count[:done]
        total[:, : height - done], count[: height - done] = total[:, done:].copy(), count[done:].copy()
        total[:, height - done :], count[height - done :] = 0, 0
        start = upto


def stitched(rows: Sequence[Sequence[Box]], masks: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Join windows of class ids in the middle of their overlaps.

    Args: rows: from `Windows.rows`; masks: (h, w) of each window, in order.
    Shape: returns (H, W).
    """
    pieces = iter(masks)
    result: NDArray[Any] = np.empty((0, 0))
    for i, row in enumerate(rows):
        top, bottom = _own(i, [(r[0].top, r[0].bottom) for r in rows])
        for j, box in enumerate(row):
            mask = next(pieces)
            if not result.size:
                result = np.empty((rows[-1][0].bottom, row[-1].right), mask.dtype)
            left, right = _own(j, [(b.left, b.right) for b in row])
            result[top:bottom, left:right] = mask[top - box.top : bottom - box.top, left - box.left : right - box.left]
    return result


def _places(length: int, crop: int, stride: int) -> list[tuple[int, int]]:
    if length <= crop:
        return [(0, length)]
    count = -(-(length - crop) // stride) + 1
    ends = [min(i * stride + crop, length) for i in range(count)]
    return [(end - crop, end) for end in ends]


def _own(index: int, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The part of a place that is nearer to its middle than to any other's."""
    start = 0 if index == 0 else (places[index][0] + places[index - 1][1]) // 2
    end = places[index][1] if index + 1 == len(places) else (places[index + 1][0] + places[index][1]) // 2
    return start, end


def _pair(name: str, value: Sequence[int]) -> tuple[int, int]:
    if not (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in value)
    ):
        raise ConfigError(f"{name} is {value!r}; give width and height in pixels.")
    return value[0], value[1]
