"""Regions of rare classes, pasted from other images of the training set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np

from ppliteseg_paddle.data.arguments import class_ids, scales, share
from ppliteseg_paddle.data.randomness import generator_of_globals
from ppliteseg_paddle.data.rare_classes import of_class
from ppliteseg_paddle.errors import ConfigError, DataError
from ppliteseg_paddle.progress import bar
from ppliteseg_paddle.reading.images import image_size
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.planes import read_planes

_MIN_PIXELS = 16  # of a region as it is pasted; smaller ones are noise


class _Region(NamedTuple):
    """Pixels to paste: `inside` (h, w) bool says which."""

    image: np.ndarray
    label: np.ndarray
    inside: np.ndarray


class CopyPaste:
    """Paste regions of rare classes from other images of the training set. It is to be the first of the transforms.

    For each region: a class is drawn among `rare_classes`, and one of its pixels in the whole set, so that large
    regions are likely; the region is what is connected to that pixel, corners included. It is scaled, flipped and laid
    at a place where it fits, with hard edges: pixels of both are never mixed. Its label is pasted with it.

    How many pixels of each class an image holds is read from the labels once, in the process that begins the first
    epoch, in seconds to a minute.

    Args:
        rare_classes: class ids, in a multi-label set those of its files.
        prob: share of the samples that get regions.
        max_regions: of a sample; their number is drawn from 1 to it.
        min_scale_factor, max_scale_factor: of a region.
        flip_prob: of a horizontal flip of a region.
        max_shift: how far a region may move up or down, as a share of the image's height, from where it was in its own
            image; to the left and right any place is as good. So in street scenes people stay on the ground. 1: any
            place.
    Shape: image (H, W, C) or (H, W), label (H, W) or planes (H, W, classes); gives the same.
    Raises: ConfigError: for a value out of range.
    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
        CVPR 2021.
    """

    def __init__(
        self,
        rare_classes: Sequence[int],
        prob: float = 0.5,
        max_regions: int = 3,
        min_scale_factor: float = 0.75,
        max_scale_factor: float = 1.5,
        flip_prob: float = 0.5,
        max_shift: float = 0.1,
    ):
        self.rare_classes = class_ids(rare_classes)
        if not self.rare_classes:
            raise ConfigError("CopyPaste: rare_classes names no class: give their ids.")
        if isinstance(max_regions, bool) or not isinstance(max_regions, int) or max_regions < 1:
            raise ConfigError(f"max_regions is {max_regions!r}: give an integer of at least 1.")
        self.max_regions = max_regions
        self.scale_factors = scales(min_scale_factor, max_scale_factor, 0)[:2]
        self.prob, self.flip_prob = share("prob", prob), share("flip_prob", flip_prob)
        self.max_shift = share("max_shift", max_shift)
        self._dataset: Any = None
        self._index: dict[int, np.ndarray] | None = None  # of `cumulative_pixels`, of the classes that are there

    # --- the data set -----------------------------------------------------------------------
    def attach(self, dataset: Any) -> None:
        """Take regions from this data set, a `CheckedDataset`."""
        self._dataset, self._index = dataset, None

    def set_progress(self, share: float) -> None:
        """Called where an epoch begins, before its workers are started, so that they need not index the classes."""
        self._pixels()

    def _pixels(self) -> dict[int, np.ndarray]:
        if self._index is None:
            if self._dataset is None:
                raise ConfigError(
                    "CopyPaste takes regions from other images of the training set, and this data set gives none: use "
                    "type Dataset (or Cityscapes, CamVid)."
                )
            counts = cumulative_pixels(self._dataset, self.rare_classes)
            self._index = {number: count for number, count in counts.items() if count[-1]}
            if not self._index:
                raise ConfigError(
                    f"CopyPaste: no label of the training set holds one of rare_classes {list(self.rare_classes)}: "
                    "give other class ids, or remove CopyPaste."
                )
        return self._index

    # --- a sample ---------------------------------------------------------------------------
    def sample(
        self, image: np.ndarray, label: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw and paste. Neither `image`, as `reading.images.read_image` gives it, nor `label` is changed."""
        pixels = self._pixels()
        if generator.random() >= self.prob:
            return image, label
        image, label = image.copy(), label.copy()
        present = list(pixels)
        for _ in range(int(generator.integers(self.max_regions)) + 1):
            number = present[generator.integers(len(present))]
            source = int(np.searchsorted(pixels[number], generator.integers(pixels[number][-1]), "right"))
            self._paste(image, label, number, source, generator)
        return image, label

    def _paste(self, image, label, number: int, source: int, generator: np.random.Generator) -> None:
        source_image, source_label = self._dataset.read_or_replace(source)
        found = connected_region(source_label, number, generator)
        if found is None:  # another pair in place of one that cannot be read
            return
        (left, top, width, height), inside = found
        scale = min(generator.uniform(*self.scale_factors), image.shape[1] / width, image.shape[0] / height)
        part = slice(top, top + height), slice(left, left + width)
        region = _scaled(_Region(source_image[part], source_label[part], inside), scale)
        if generator.random() < self.flip_prob:
            region = _Region(*(pixels[:, ::-1] for pixels in region))
        rows, columns = region.inside.shape
        x = int(generator.integers(image.shape[1] - columns + 1))
        foot = (top + height) / source_label.shape[0] + generator.uniform(-self.max_shift, self.max_shift)
        y = int(np.clip(round(foot * image.shape[0]) - rows, 0, image.shape[0] - rows))
        if np.count_nonzero(region.inside) >= _MIN_PIXELS:
            for target, pixels in ((image, region.image), (label, region.label)):
                target[y : y + rows, x : x + columns][region.inside] = pixels[region.inside]

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """As PaddleSeg's `Compose` calls it, with an RGB or gray image. Our data sets call `sample` where they can."""
        others = [key for key in data.get("gt_fields", []) if key != "label"]
        if others or "label" not in data.get("gt_fields", []):
            raise ConfigError(f"CopyPaste takes an image with its label, and nothing else ({', '.join(others)}).")
        generator = generator_of_globals()
        image = np.asarray(data["img"])
        color = image.ndim == 3 and image.shape[2] == 3
        bgr, data["label"] = self.sample(image[..., ::-1] if color else image, data["label"], generator)
        data["img"] = np.ascontiguousarray(bgr[..., ::-1] if color else bgr)
        return data


def connected_region(
    label: np.ndarray, number: int, generator: np.random.Generator
) -> tuple[tuple[int, int, int, int], np.ndarray] | None:
    """The region of a class around one of its pixels, drawn at random: its box (left, top, width, height), and in it
    (height, width) bool. None if the label does not hold the class.

    OpenCV's `connectedComponents` is not used: in several releases it writes out of bounds.
    """
    of_number = of_class(label, number)
    pixels = np.flatnonzero(of_number)
    if not pixels.size:
        return None
    y, x = divmod(int(pixels[generator.integers(len(pixels))]), label.shape[1])
    filled = np.zeros((label.shape[0] + 2, label.shape[1] + 2), np.uint8)
    flags = 8 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
    box = cv2.floodFill(of_number.astype(np.uint8), filled, (x, y), 0, flags=flags)[3]
    left, top, width, height = box
    return (left, top, width, height), filled[top + 1 : top + 1 + height, left + 1 : left + 1 + width] == 1


def _scaled(region: _Region, scale: float) -> _Region:
    height, width = region.inside.shape
    size = max(int(width * scale), 1), max(int(height * scale), 1)
    if size == (width, height):
        return region
    columns, rows = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
        for new, old in zip(size, (width, height))
    )
    image = cv2.resize(np.ascontiguousarray(region.image), size, interpolation=cv2.INTER_LINEAR)
    return _Region(image, region.label[rows][:, columns], region.inside[rows][:, columns])


def cumulative_pixels(dataset: Any, classes: Sequence[int]) -> dict[int, np.ndarray]:
    """For each class how many pixels the images of a data set hold up to each of them. Labels that cannot be read count
    as empty: whoever reads the pair says what is wrong.

    Args: dataset: with `file_list` and `planes`, as `CheckedDataset` has them.
    Shape: returns (images,) int64 for each class.
    """

    def count(pair: Sequence[str]) -> list[int]:
        try:
            label = _label(pair, dataset.planes)
        except DataError:
            return [0] * len(classes)
        return [int(np.count_nonzero(of_class(label, number))) for number in classes]

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as threads:
        results = threads.map(count, dataset.file_list)
        shown = bar(results, desc="rare classes", unit="label", total=len(dataset.file_list), leave=False)
        counts = np.cumsum(list(shown), axis=0, dtype=np.int64)
    return dict(zip(classes, counts.T))


def _label(pair: Sequence[str], planes: int) -> np.ndarray:
    if not planes:
        return read_label(pair[1])
    size = image_size(pair[0])
    return read_planes(pair[1], planes, size and (size[1], size[0]))
