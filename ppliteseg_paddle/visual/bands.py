"""Images of any number of channels, and of levels in floating point, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import ConfigError


def shown_image(image: NDArray[Any], bands: Sequence[int] | None = None) -> NDArray[np.uint8]:
    """An image as `reading.images.read_image` gives it, as a picture.

    Args: bands: numbers, from 1, of the channels to show as red, green and blue, or of one to show as gray; None shows
        the first three, of fewer the first.
    Shape: image (H, W) or (H, W, C), of three channels BGR, uint8 or levels in float32; returns (H, W, 3) uint8, BGR.
    Raises: ConfigError: for a band that the image does not have.
    """
    levels: NDArray[np.uint8] = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    planes = levels[..., np.newaxis] if levels.ndim == 2 else levels
    count = planes.shape[2]
    if bands is None:
        if count == 3:
            return levels
        bands = (1, 2, 3) if count > 3 else (1,)
    wrong = [band for band in bands if not 1 <= band <= count]
    if wrong or len(bands) not in (1, 3):
        raise ConfigError(
            f"bands are {' '.join(map(str, bands))}: give three numbers from 1 to {count:d} for red, green and blue, "
            "or one for gray."
        )
    order = range(count)[::-1] if count == 3 else range(count)  # where each band of the file lies
    red, *others = (planes[..., order[band - 1]] for band in bands)
    green, blue = others or (red, red)
    return np.ascontiguousarray(np.stack([blue, green, red], axis=-1))
