"""Crops around classes that are rare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppliteseg_paddle.data.arguments import class_ids, pair, share
from ppliteseg_paddle.data.randomness import generator_of_globals
from ppliteseg_paddle.errors import ConfigError

_GRID = 512  # a label with more rows or columns is looked at in a grid of about so many


def of_class(label: np.ndarray, number: int) -> np.ndarray:
    """(H, W) bool: the pixels of a class, in class ids or in its plane."""
    return label == number if label.ndim == 2 else (label[..., number : number + 1] == 1).any(axis=-1)


def rare_offset(
    label: np.ndarray,
    rare_classes: Sequence[int],
    size: tuple[int, int],
    crop_size: tuple[int, int],
    generator: np.random.Generator,
) -> tuple[int, int] | None:
    """The upper left corner of a crop that holds a pixel of a rare class: a class drawn among those that the label
    holds, then one of its pixels, then its place in the crop. None if the label holds none of them.

    Args: size: (width, height) to which the image of this label is scaled before the crop; crop_size: (width, height).
    Shape: label (H, W), or planes (H, W, classes).
    """
    step = max(max(label.shape[:2]) // _GRID, 1)
    small = label[::step, ::step]
    present = [c for c in rare_classes if of_class(small, c).any()]
    if not present:
        return None
    pixels = np.flatnonzero(of_class(small, present[generator.integers(len(present))]))
    row, column = divmod(int(pixels[generator.integers(len(pixels))]), small.shape[1])
    place = [(column + 0.5) * step * size[0] / label.shape[1], (row + 0.5) * step * size[1] / label.shape[0]]
    inside = generator.random(2) * crop_size
    margins = [max(have - want, 0) for have, want in zip(size, crop_size)]
    x, y = (int(np.clip(p - i, 0, margin)) for p, i, margin in zip(place, inside, margins))
    return x, y


class RareClassCrop:
    """A random crop, of which a share is laid around a pixel of a rare class: in place of PaddleSeg's
    `RandomPaddingCrop`, whose distribution it has with `prob` 0.

    Args:
        crop_size: [width, height].
        rare_classes: class ids, in a multi-label set those of its planes; see `rare_offset`.
        prob: share of the samples whose crop holds such a pixel, if their label has one.
        im_padding_value, label_padding_value: what fills a crop larger than the image, at the right and below.
    Shape: image (H, W, C) or (H, W), label (H, W) or (H, W, classes); gives (h, w, ...) of the crop's size.
    Raises: ConfigError: for a value out of range.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        rare_classes: Sequence[int],
        prob: float = 0.5,
        im_padding_value: float = 127.5,
        label_padding_value: int = 255,
    ):
        self.crop_size, self.rare_classes, self.prob = pair(crop_size), class_ids(rare_classes), share("prob", prob)
        if not self.rare_classes:
            raise ConfigError("RareClassCrop: rare_classes names no class: give their ids.")
        self.im_padding_value, self.label_padding_value = im_padding_value, label_padding_value

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """As PaddleSeg's `Compose` calls it; draws belong to NumPy's global seed."""
        generator = generator_of_globals()
        height, width = data["img"].shape[:2]
        fields = data.get("gt_fields", [])
        margins = [max(have - want, 0) for have, want in zip((width, height), self.crop_size)]
        offset = int(generator.integers(margins[0] + 1)), int(generator.integers(margins[1] + 1))
        if "label" in fields and generator.random() < self.prob:
            found = rare_offset(data["label"], self.rare_classes, (width, height), self.crop_size, generator)
            offset = found or offset
        data["img"] = self._crop(data["img"], offset, self.im_padding_value)
        for key in fields:
            data[key] = self._crop(data[key], offset, self.label_padding_value)
        return data

    def _crop(self, pixels: np.ndarray, offset: tuple[int, int], fill: float) -> np.ndarray:
        (x, y), (width, height) = offset, self.crop_size
        part = pixels[y : y + height, x : x + width]
        if part.shape[:2] == (height, width):
            return np.ascontiguousarray(part)
        result = np.full((height, width, *pixels.shape[2:]), fill, pixels.dtype)
        result[: part.shape[0], : part.shape[1]] = part
        return result
