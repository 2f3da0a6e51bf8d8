"""Masks, confidences and images become files: PNGs whose values are class ids, with the classes' colors as palette."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Callable

import cv2
import numpy as np

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.files import write_bytes
from ppliteseg_paddle.reading.planes import side_by_side
from ppliteseg_paddle.visual.draw import RGB, color_table, confidence_values

# zlib's Z_RLE: masks of 8 bits take a third of the time that its default takes, for files a tenth larger.
_RLE = {"compress_type": 3}

# Writes a file: path, content.
Write = Callable[[str, bytes], None]


def _write(path: str, content: bytes) -> None:
    write_bytes(path, content, DataError)


def write_mask(path: str, mask: np.ndarray, palette: Sequence[RGB], write: Write = _write) -> None:
    """Write a mask as a PNG whose values are the class ids. In 8 bits it has a palette, so that viewers show the
    classes' colors; in 16 bits, for which PNG has no palettes, it is gray. Planes are written side by side, 0 and 1,
    which viewers show as black and white: a file that `reading.planes` reads.

    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes) uint8.
    Raises: DataError: if the file cannot be written; none is left half-written.
    """
    if mask.ndim == 3:
        write(path, _indexed(side_by_side(mask), color_table([(0, 0, 0), (255, 255, 255)]), **_RLE))
    elif mask.dtype == np.uint8:
        write(path, _indexed(mask, color_table(palette), **_RLE))
    else:
        write(path, _indexed(mask, None))


def write_confidence(path: str, confidence: np.ndarray, write: Write = _write) -> None:
    """Write confidences as a palette PNG whose values are 0 (none) to 255 (certain); viewers show `draw_confidence`'s
    colors. Those of planes are written side by side.

    Shape: confidence (H, W), or (H, W, classes), 0 to 1.
    Raises: DataError: if the file cannot be written; none is left half-written.
    """
    colors = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS).reshape(256, 3)
    values = confidence_values(confidence)
    write(path, _indexed(side_by_side(values) if values.ndim == 3 else values, colors))


def _indexed(values: np.ndarray, table: np.ndarray | None, **options: int) -> bytes:
    """A PNG. Args: table: (256, 3) uint8, BGR; None makes it gray; options: of Pillow's writer."""
    from PIL import Image

    drawn = Image.fromarray(np.ascontiguousarray(values))
    if table is not None:
        drawn.putpalette(np.ascontiguousarray(table[:, ::-1]).tobytes(), "RGB")
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", **options)
    return buffer.getvalue()


def write_image(path: str, image: np.ndarray, write: Write = _write) -> None:
    """Write an image; the extension of `path` says in which format.

    Shape: image (H, W, 3) uint8, BGR.
    Raises: DataError: if the format is unknown or too small for the image, or the file cannot be written; none is left
        half-written.
    """
    extension = os.path.splitext(path)[1]
    if not extension or not cv2.haveImageWriter("image" + extension):
        raise DataError(f"cannot write {path}: OpenCV has no image format '{extension}'; use .png or .jpg.")
    try:
        complete, content = cv2.imencode(extension, image)
    except cv2.error:  # OpenCV before 4.14; later ones return False
        complete = False
    if not complete:  # JPEG ends at 65500 pixels a side, WebP at 16383
        raise DataError(
            f"cannot write {path}: {image.shape[1]:d}x{image.shape[0]:d} pixels are too many for its format; use .png."
        )
    write(path, content.tobytes())
