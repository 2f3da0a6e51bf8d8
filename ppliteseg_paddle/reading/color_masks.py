"""Masks whose classes are colors: reading them, listing their colors, turning colors into class ids."""

from __future__ import annotations

import numpy as np
from PIL import Image, UnidentifiedImageError

from ppliteseg_paddle.errors import DataError


def read_rgb(path: str) -> np.ndarray:
    """A mask's colors, whatever its mode; transparency is dropped.

    Shape: (H, W, 3) uint8, RGB.
    Raises: DataError: if it cannot be decoded.
    """
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        raise DataError(f"mask {path} cannot be decoded: it is damaged or no image.") from None


def codes(rgb: np.ndarray) -> np.ndarray:
    """One number a pixel: 65536 R + 256 G + B. Shape: (..., 3) -> (...), uint32."""
    rgb = rgb.astype(np.uint32)
    return (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]


def color_of(code: int) -> tuple[int, int, int]:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def count_codes(values: np.ndarray) -> dict[int, int]:
    """How often each number occurs. Masks are made of long runs: counted run by run, which is far quicker than sorting
    pixels."""
    flat = values.ravel()
    if not flat.size:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    found, inverse = np.unique(flat[starts], return_inverse=True)
    return dict(zip(found.tolist(), np.bincount(inverse.ravel(), weights=lengths).astype(np.int64).tolist()))


def ids_of_colors(
    rgb: np.ndarray, colors: np.ndarray, ids: np.ndarray, path: str, unknown: int | None = None
) -> np.ndarray:
    """Class ids of a color mask.

    Args:
        colors: (N, 3), the known ones; ids: (N,) uint8, theirs.
        path: for the error message.
        unknown: id for other colors; None refuses them.
    Shape: rgb (H, W, 3) uint8; returns (H, W) uint8.
    Raises: DataError: naming the colors that are not known.
    """
    table = codes(np.asarray(colors, np.uint8))
    order = np.argsort(table)
    pixels = codes(rgb)
    place = np.minimum(np.searchsorted(table[order], pixels), len(table) - 1)
    known = table[order][place] == pixels
    result = np.asarray(ids, np.uint8)[order][place]
    if known.all():
        return result
    if unknown is None:
        others = count_codes(pixels[~known])
        shown = ", ".join(
            "{} {} {}".format(*color_of(code)) for code in sorted(others, key=others.get, reverse=True)[:4]
        )
        raise DataError(
            f"mask {path} holds {len(others):d} color{('s' if len(others) > 1 else '')} that the table does not know "
            f"({shown}{(', ...' if len(others) > 4 else '')}), in {int((~known).sum()):d} pixels. Add them to the "
            "table; masks must "
            "not be JPEG or smoothed."
        )
    return np.where(known, result, np.uint8(unknown))
