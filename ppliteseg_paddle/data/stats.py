"""Statistics of a data set: how frequent classes are, which loss weights follow, mean and deviation of the images."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.data.check import Form
from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.labels import read_label

ENET_CONSTANT = 1.02


class _PairSums(NamedTuple):
    pixels: np.ndarray  # int64: pixels of each label value
    sums: np.ndarray  # float64 (C,), RGB or gray, of values from 0 to 1
    squares: np.ndarray
    area: int


def dataset_stats(
    dataset, names: Sequence[str], num_workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Statistics over all pairs of a data set.

    Args: dataset: with `file_list`, `num_classes`, `ignore_index`; names: of its classes.
    Returns: "images"; "classes": rows with id, name, pixels, share (of labelled pixels), images, image_share,
        "median_frequency" and "enet" (loss weights, None for a class that does not occur); "ignored_share";
        "mean", "std" of the images (RGB, values 0 to 1).
    Raises: DataError: for a file that cannot be read; `data check` finds all of them.
    """
    count, ignored = dataset.num_classes, dataset.ignore_index
    channels = getattr(dataset, "img_channels", 3)
    pixels, images, area_of = (np.zeros(count, np.int64) for _ in range(3))
    void, total, area = 0, 0, 0
    sums, squares = np.zeros(channels), np.zeros(channels)
    for pair in run_parallel(
        functools.partial(_pair_sums, form=Form(count, ignored, channels)),
        dataset.file_list,
        num_workers,
        "counting",
        progress=progress,
    ):
        known = pair.pixels[:count].copy()
        if 0 <= ignored < count:
            known[ignored] = 0
        pixels += known
        images += known > 0
        area_of[known > 0] += int(known.sum())
        void += int(pair.pixels.sum() - known.sum())
        total += int(pair.pixels.sum())
        sums, squares, area = sums + pair.sums, squares + pair.squares, area + pair.area
    if not pixels.sum():
        raise DataError(f"no pixel of the data set is labelled with one of its {count:d} classes.")
    share = pixels / pixels.sum()
    median, enet = class_weights(pixels, area_of)
    rows = [
        {
            "id": i,
            "name": names[i],
            "pixels": int(pixels[i]),
            "share": float(share[i]),
            "images": int(images[i]),
            "image_share": float(images[i] / len(dataset.file_list)),
            "median_frequency": median[i],
            "enet": enet[i],
        }
        for i in range(count)
    ]
    mean = sums / area
    return {
        "images": len(dataset.file_list),
        "classes": rows,
        "ignored_share": void / total,
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(squares / area - mean**2, 0)).tolist(),
    }


def _pair_sums(pair, form: Form) -> _PairSums:
    image, label = read_image(pair[0], form.img_channels), read_label(pair[1])
    if label.size and (label.min() < 0 or label.max() >= form.values):
        raise DataError(
            f"label {pair[1]} holds values above {form.values - 1:d} or below 0; 'ppliteseg data check' lists all such "
            "files."
        )
    histograms = [
        np.bincount(image[..., c].ravel() if image.ndim == 3 else image.ravel(), minlength=256)
        for c in (range(image.shape[2])[::-1] if image.ndim == 3 else (0,))
    ]  # BGR -> RGB
    values = np.arange(256) / 255
    return _PairSums(
        np.bincount(label.ravel(), minlength=form.values),
        np.array([h @ values for h in histograms]),
        np.array([h @ values**2 for h in histograms]),
        image.shape[0] * image.shape[1],
    )


def class_weights(pixels: np.ndarray, area_of: np.ndarray):
    """Loss weights from class pixels.

    Args: pixels: (C,), of each class; area_of: (C,), labelled pixels of the images in which the class occurs.
    Returns: two lists with None for classes that do not occur. Median frequency balancing: median(f) / f with
        f = pixels / area_of. ENet: 1 / ln(1.02 + share of all labelled pixels).
    Source: Eigen and Fergus, arXiv 1411.4734, section 6.3.2 (as SegNet uses it); Paszke et al., arXiv 1606.02147,
        section 5.2.
    """
    present = pixels > 0
    frequency = pixels[present] / area_of[present]
    middle = float(np.median(frequency))
    share = pixels / pixels.sum()
    median: list[float | None] = [None] * len(pixels)
    for i, f in zip(np.flatnonzero(present), frequency):
        median[i] = float(middle / f)
    return median, [1 / math.log(ENET_CONSTANT + float(s)) if p else None for s, p in zip(share, present)]
