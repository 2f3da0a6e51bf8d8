"""Masks as colours: palette files, overlays on their images."""
from __future__ import annotations

import io
import os
import tempfile
from typing import Sequence, Tuple

import cv2
import numpy as np

from ppliteseg_paddle.errors import DataError

RGB = Tuple[int, int, int]

# Pixels of no class: dark with lighter stripes, which no palette colour resembles.
VOID_COLOUR: RGB = (38, 38, 42)
VOID_STRIPE: RGB = (84, 84, 92)
_STRIPE_PERIOD, _STRIPE_WIDTH = 10, 2  # pixels


def colour_table(palette: Sequence[RGB], void: RGB = VOID_COLOUR) -> np.ndarray:
    """(256, 3) uint8 BGR: the colour of every value that a mask may hold; values without a class are void."""
    table = np.empty((256, 3), np.uint8)
    table[:] = void[::-1]
    table[:len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)[:, ::-1]
    return table


def colourise(mask: np.ndarray, palette: Sequence[RGB], stripes: bool = True) -> np.ndarray:
    """Draw a mask in its classes' colours.

    Args: stripes: whether pixels of no class are striped, or plainly dark.
    Shape: mask (H, W) uint8; returns (H, W, 3) uint8, BGR.
    """
    picture = cv2.LUT(cv2.merge([mask] * 3), colour_table(palette).reshape(256, 1, 3))
    if stripes:
        void = mask >= len(palette)
        if void.any():
            picture[void & stripe_pattern(*mask.shape)] = VOID_STRIPE[::-1]
    return picture


def stripe_pattern(height: int, width: int) -> np.ndarray:
    """(H, W) bool: diagonal stripes."""
    rows, columns = np.ogrid[:height, :width]
    return (rows + columns) % _STRIPE_PERIOD < _STRIPE_WIDTH


def overlay(image: np.ndarray, mask: np.ndarray, palette: Sequence[RGB], opacity: float = 0.55) -> np.ndarray:
    """Lay a mask's colours over its image. Pixels of no class stay as they are; borders between classes are drawn.

    Args: opacity: of the colours, 0 to 1.
    Shape: image (H, W, 3) uint8, BGR; mask (H, W) uint8; returns (H, W, 3) uint8, BGR.
    Raises: DataError: if image and mask differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise DataError("the mask has %dx%d pixels and its image %dx%d; they must be of one size."
                        % (mask.shape[1], mask.shape[0], image.shape[1], image.shape[0]))
    coloured = colourise(mask, palette, stripes=False)
    blended = cv2.addWeighted(image, 1 - opacity, coloured, opacity, 0)
    borders = class_borders(mask)
    blended[borders] = coloured[borders]
    void = mask >= len(palette)
    blended[void] = image[void]
    return blended


def class_borders(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour has another value."""
    borders = np.zeros(mask.shape, bool)
    borders[:, :-1] = mask[:, :-1] != mask[:, 1:]
    borders[:-1] |= mask[:-1] != mask[1:]
    return borders


# --------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------
def write_mask(path: str, mask: np.ndarray, palette: Sequence[RGB]) -> None:
    """Write a mask as a palette PNG: its values are the class ids, and viewers show the classes' colours.

    Shape: mask (H, W) uint8.
    Raises: DataError: if the file cannot be written; none is left half-written.
    """
    from PIL import Image
    picture = Image.fromarray(np.ascontiguousarray(mask))
    picture.putpalette(colour_table(palette)[:, ::-1].tobytes(), "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    _write(path, buffer.getvalue())


def write_image(path: str, image: np.ndarray) -> None:
    """Write a picture; the ending of `path` says in which format.

    Shape: image (H, W, 3) uint8, BGR.
    Raises: DataError: if the format is unknown or the file cannot be written; none is left half-written.
    """
    ending = os.path.splitext(path)[1]
    if not ending or not cv2.haveImageWriter("picture" + ending):
        raise DataError("cannot write %s: OpenCV has no picture format '%s'; use .png or .jpg." % (path, ending))
    _write(path, cv2.imencode(ending, image)[1].tobytes())


def _write(path: str, data: bytes) -> None:
    folder = os.path.dirname(path) or "."
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".", suffix=".tmp", dir=folder, delete=False) as file:
            temporary = file.name
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise DataError("cannot write %s: %s." % (path, error.strerror or error)) from None
    finally:
        if temporary is not None:
            os.remove(temporary)
