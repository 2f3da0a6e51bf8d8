"""Multi-label files: a plane of 0 and 1 for each class, where a pixel may be of several classes or of none.

The form is PaddleSeg's: one gray image with the planes side by side, the first class at the left. Planes one below the
other, channels and pages (PNG, TIFF, NPY) are read, too.

Source: PaddleSeg `transforms/transforms.py::Compose` and `tools/data/convert_multilabel.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.images import read_raster_file
from ppliteseg_paddle.reading.labels import read_stored


def read_planes(path: str, count: int, size: tuple[int, int] | None, ignore_index: int = 255) -> NDArray[np.uint8]:
    """The planes of a multi-label file.

    Args: count: of the classes; size: (H, W) of the image; None takes planes that lie side by side.
    Shape: returns (H, W, count), values 0, 1 and, for ignored pixels, `ignore_index`.
    Raises: UnreadableError: if the file is missing, empty or no image. DataError: if it does not hold these planes.
    """
    raster = read_raster_file(path, "label")
    pixels = read_stored(path).pixels if raster is None else raster.pixels
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    planes = pixels if pixels.ndim == 3 else _apart(pixels, count, size)
    if planes is None or planes.shape[2] != count or (size is not None and planes.shape[:2] != size):
        raise DataError(_misfit(path, pixels, count, size))
    return _checked(planes, path, ignore_index)


def side_by_side(planes: NDArray[Any]) -> NDArray[Any]:
    """Planes as PaddleSeg stores them. Shape: (H, W, C) -> (H, C * W)."""
    height, width, count = planes.shape
    return planes.transpose(0, 2, 1).reshape(height, count * width)


def _apart(pixels: NDArray[Any], count: int, size: tuple[int, int] | None) -> NDArray[Any] | None:
    """Planes side by side, or one below the other, as (H, W, count); None if the size is not theirs."""
    height, width = size or (pixels.shape[0], pixels.shape[1] // count)
    if pixels.shape == (height, count * width):
        return pixels.reshape(height, count, width).transpose(0, 2, 1)
    if pixels.shape == (count * height, width):
        return pixels.reshape(count, height, width).transpose(1, 2, 0)
    return None


def _misfit(path: str, pixels: NDArray[Any], count: int, size: tuple[int, int] | None) -> str:
    found = f"label {path} is {pixels.shape[1]:d}x{pixels.shape[0]:d} pixels"
    if pixels.ndim == 3:
        found += f" of {pixels.shape[2]:d} channels"
    if size is None:
        return f"{found}, which is not the width of {count:d} planes side by side."
    height, width = size
    if count > 1 and pixels.shape == size:
        return (
            f"{found}, as its image, so it holds one class a pixel: remove use_multilabel from test_config, or save "
            f"the {count:d} planes of 0 and 1 side by side ({count * width:d}x{height:d})."
        )
    return (
        f"{found}, but {count:d} classes of its image ({width:d}x{height:d}) take {count * width:d}x{height:d}: a "
        "plane of 0 and 1 for each class, side by side. Correct num_classes, or make the label again."
    )


def _checked(planes: NDArray[Any], path: str, ignore_index: int) -> NDArray[np.uint8]:
    wrong = (planes != 0) & (planes != 1) & (planes != ignore_index)
    if wrong.any():
        raise DataError(
            f"label {path} holds the value {planes[wrong].flat[0]:g} ({int(wrong.sum()):d} pixels): each plane of a "
            f"multi-label file holds 0 and 1, and {ignore_index:d} where a pixel is ignored. Map its values to these."
        )
    return np.ascontiguousarray(planes, np.uint8)
