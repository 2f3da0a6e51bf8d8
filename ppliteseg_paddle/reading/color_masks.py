"""Masks whose classes are colors: reading them, listing their colors, turning colors into class ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.files import opened


def read_rgb(path: str) -> NDArray[np.uint8]:
    """A mask's colors, whatever its mode; transparency is dropped.

    Shape: (H, W, 3) uint8, RGB.
    Raises: UnreadableError: if the file is missing, empty or no image.
    """
    with opened("mask", path) as (_, image):
        return np.asarray(image.convert("RGB"))


def codes(rgb: NDArray[Any]) -> NDArray[np.uint32]:
    """One number a pixel: 65536 R + 256 G + B. Shape: (..., 3) -> (...), uint32."""
    values = rgb.astype(np.uint32)
    packed: NDArray[np.uint32] = values[..., 0] << np.uint32(16) | values[..., 1] << np.uint32(8) | values[..., 2]
    return packed


def color_of(code: int) -> tuple[int, int, int]:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def color_text(code: int) -> str:
    """A color for messages: "R G B"."""
    return " ".join(map(str, color_of(code)))


def count_codes(values: NDArray[Any]) -> dict[int, int]:
    """How often each number occurs. Masks are made of long runs: counting run by run is far quicker than sorting
    pixels."""
    flat = values.ravel()
    if not flat.size:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    found, inverse = np.unique(flat[starts], return_inverse=True)
    return dict(zip(found.tolist(), np.bincount(inverse.ravel(), weights=lengths).astype(np.int64).tolist()))


def ids_of_colors(
    rgb: NDArray[Any], colors: NDArray[Any], ids: NDArray[Any], path: str, unknown: int | None = None
) -> NDArray[Any]:
    """Class ids of a color mask.

    Args:
        colors: (N, 3), the known ones; ids: (N,) theirs.
        path: for the error message.
        unknown: id for other colors; None refuses them.
    Shape: rgb (H, W, 3) uint8; returns (H, W) of the type of `ids`.
    Raises: DataError: naming the colors that are not known.
    """
    table = codes(np.asarray(colors, np.uint8))
    order = np.argsort(table)
    pixels = codes(rgb)
    place = np.minimum(np.searchsorted(table[order], pixels), len(table) - 1)
    known = table[order][place] == pixels
    result: NDArray[Any] = np.asarray(ids)[order][place]
    if known.all():
        return result
    if unknown is None:
        others = count_codes(pixels[~known])
        shown = ", ".join(color_text(code) for code in sorted(others, key=lambda code: -others[code])[:4])
        raise DataError(
            f"mask {path} holds {len(others):d} color{'s' if len(others) > 1 else ''} that the table does not know "
            f"({shown}{', ...' if len(others) > 4 else ''}), in {int((~known).sum()):d} pixels. Add them to the table; "
            "masks must not be JPEG or smoothed."
        )
    return np.where(known, result, result.dtype.type(unknown))
