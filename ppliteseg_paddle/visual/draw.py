"""Masks as colors, and as overlays on their images. `png` writes them into files."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.palettes import OPACITY
from ppliteseg_paddle.reading.planes import side_by_side

RGB = tuple[int, int, int]

# Pixels of no class: dark with lighter stripes, which no palette color resembles.
VOID_COLOR: RGB = (38, 38, 42)
VOID_STRIPE: RGB = (84, 84, 92)
_STRIPE_PERIOD, _STRIPE_WIDTH = 10, 2  # pixels
_VALUES = {np.dtype(np.uint8): 256, np.dtype(np.uint16): 65536}


def color_table(palette: Sequence[RGB], void: RGB = VOID_COLOR, values: int = 256) -> np.ndarray:
    """(values, 3) uint8 BGR: the color of every value that a mask may hold; values without a class are void."""
    table = np.empty((values, 3), np.uint8)
    table[:] = void[::-1]
    table[: len(palette)] = np.asarray(palette, np.uint8).reshape(-1, 3)[:, ::-1]
    return table


def colorize(mask: np.ndarray, palette: Sequence[RGB], stripes: bool = True) -> np.ndarray:
    """Draw a mask in its classes' colors.

    Args: stripes: whether pixels of no class are striped, or plainly dark.
    Shape: mask (H, W) uint8 or uint16, or planes (H, W, classes), where a pixel of several classes gets the mean of
        their colors and one of none is black; returns (H, W, 3) uint8, BGR.
    """
    if mask.ndim == 3:
        return _mixed(mask == 1, palette)
    table = color_table(palette, values=_VALUES[mask.dtype])
    drawn = cv2.LUT(cv2.merge([mask] * 3), table.reshape(256, 1, 3)) if len(table) == 256 else table[mask]
    if stripes:
        void = mask >= len(palette)
        if void.any():
            drawn[void & stripe_pattern(*mask.shape)] = VOID_STRIPE[::-1]
    return drawn


def _mixed(planes: np.ndarray, palette: Sequence[RGB]) -> np.ndarray:
    total = np.zeros((*planes.shape[:2], 3), np.float32)
    for plane, color in zip(np.moveaxis(planes, -1, 0), palette):
        total[plane] += color[::-1]
    return np.rint(total / np.maximum(planes.sum(axis=-1, keepdims=True), 1)).astype(np.uint8)


def stripe_pattern(height: int, width: int) -> np.ndarray:
    """(H, W) bool: diagonal stripes."""
    rows, columns = np.ogrid[:height, :width]
    return (rows + columns) % _STRIPE_PERIOD < _STRIPE_WIDTH


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    palette: Sequence[RGB],
    opacity: float = OPACITY,
    transparent: Collection[int] = (),
) -> np.ndarray:
    """Lay a mask's colors over its image. Pixels of no class stay as they are; borders of the classes are drawn, of
    planes the border of each.

    Args: opacity: of the colors, 0 to 1; transparent: ids of classes whose pixels stay as they are, too.
    Shape: image (H, W, 3) uint8, BGR; mask (H, W) uint8 or uint16, or planes (H, W, classes); returns (H, W, 3) uint8,
        BGR.
    Raises: DataError: if image and mask differ in size.
    """
    if image.shape[:2] != mask.shape[:2]:
        raise DataError(
            f"the mask has {mask.shape[1]:d}x{mask.shape[0]:d} pixels and its image "
            f"{image.shape[1]:d}x{image.shape[0]:d}; they must be of one size."
        )
    if mask.ndim == 3 and transparent:
        mask = mask.copy()
        mask[..., list(transparent)] = 0
    colored = colorize(mask, palette, stripes=False)
    blended = cv2.addWeighted(image, 1 - opacity, colored, opacity, 0)
    if mask.ndim == 2:
        bare = (mask >= len(palette)) | np.isin(mask, list(transparent))
        borders = class_borders(mask)
        borders[:, 1:] |= bare[:, :-1]  # a class that ends at bare pixels has its border on all sides
        borders[1:] |= bare[:-1]
    else:
        planes = [mask[..., i] == 1 for i in range(mask.shape[2])]
        bare = ~np.any(planes, axis=0)
        borders = np.any([class_borders(plane) for plane in planes], axis=0)
    # OpenCV copies pixels many times faster than an index of truth values does.
    if opacity > 0:
        cv2.copyTo(colored, borders.view(np.uint8), blended)
    cv2.copyTo(image, bare.view(np.uint8), blended)
    return blended


def draw_confidence(confidence: np.ndarray) -> np.ndarray:
    """Draw confidences: dark violet for none, over green, to yellow for certain; those of planes side by side.

    Shape: confidence (H, W), or (H, W, classes), 0 to 1; returns (H, W, 3) or (H, classes * W, 3) uint8, BGR.
    """
    values = confidence_values(confidence)
    return cv2.applyColorMap(side_by_side(values) if values.ndim == 3 else values, cv2.COLORMAP_VIRIDIS)


def confidence_values(confidence: np.ndarray) -> np.ndarray:
    """uint8: 0 (none) to 255 (certain)."""
    return np.rint(np.clip(confidence, 0, 1) * 255).astype(np.uint8)


def class_borders(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour has another value."""
    borders = np.zeros(mask.shape, bool)
    borders[:, :-1] = mask[:, :-1] != mask[:, 1:]
    borders[:-1] |= mask[:-1] != mask[1:]
    return borders
