"""Masks as GeoTIFF: class ids that lie on Earth where their image does."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.visual.draw import RGB, color_table
from ppliteseg_paddle.visual.png import Write


def write_geo_mask(path: str, mask: np.ndarray, palette: Sequence[RGB], geo_tags: Sequence[Any], write: Write) -> None:
    """Write a mask as a TIFF whose values are the class ids; in 8 bits with the classes' colors as its palette. Planes
    become bands of 0 and 1.

    Args: geo_tags: of the image, from `reading.rasters.geo_tags`: mask and image have one size, so they hold for both.
    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes) uint8.
    Raises: DataError: if the file cannot be written; none is left half-written.
    """
    import tifffile

    colors: dict[str, Any] = {"photometric": "minisblack"}
    if mask.ndim == 3:
        mask, colors = np.ascontiguousarray(np.moveaxis(mask, -1, 0)), {**colors, "planarconfig": "separate"}
    elif mask.dtype == np.uint8:
        table = color_table(palette)[:, ::-1].T.astype(np.uint16) * 257  # (3, 256), RGB in 16 bits
        colors = {"photometric": "palette", "colormap": table}
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, mask, compression="zlib", metadata=None, extratags=list(geo_tags), software="ppliteseg_paddle", **colors
    )
    write(path, buffer.getvalue())
