"""Statistics of a data set: how frequent classes are, which loss weights follow, mean and deviation of the images."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle.data.check_pair import Form, count_values
from ppliteseg_paddle.data.parallel import run_parallel
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.images import read_values
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.reading.planes import read_planes

ENET_CONSTANT = 1.02


_RANGE_SHARES = (0.001, 0.999)  # of the values: the ends of a suggested range
_SAMPLED = 4096  # pixels of an image that the range is taken from


class _PairSums(NamedTuple):
    pixels: np.ndarray  # int64: pixels of each label value
    sums: np.ndarray  # float64 (C,), in the file's order: of values from 0 to 1, or without a range as they are
    squares: np.ndarray
    area: int
    label_area: int
    values: np.ndarray | None  # (n, C): some values as they are; None for 8 bits


def dataset_stats(
    dataset, names: Sequence[str], num_workers: int | None = None, progress: bool = True
) -> dict[str, Any]:
    """Statistics over all pairs of a data set.

    Args: dataset: with `file_list`, `num_classes`, `ignore_index`; names: of its classes.
    Returns: "images"; "classes": rows with id, name, pixels, share (of labelled pixels), images, image_share,
        "median_frequency" and "enet" (loss weights, None for a class that does not occur); "ignored_share";
        "mean", "std" of the images, one a channel in the file's order (RGB), values 0 to 1; "img_range", of images of
        more than 8 bits: what the configuration says or, without, what is suggested, [low, high] for each channel;
        "found_range": the 0.1th and 99.9th percentile of each channel's values, None for 8 bits.
    Raises: DataError: for a file that cannot be read; `data check` finds all of them.
    """
    count, ignored = dataset.num_classes, dataset.ignore_index
    form = Form.of(dataset)
    image_form, channels = form.image, form.image.channels
    samples: list[np.ndarray] = []
    pixels, images, area_of = (np.zeros(count, np.int64) for _ in range(3))
    void, total, area, labelled = 0, 0, 0, 0
    sums, squares = np.zeros(channels), np.zeros(channels)
    for pair in run_parallel(
        functools.partial(_pair_sums, form=form), dataset.file_list, num_workers, "counting", progress=progress
    ):
        known = pair.pixels[:count].copy()
        if 0 <= ignored < count:
            known[ignored] = 0
        pixels += known
        images += known > 0
        own = (
            pair.label_area if form.planes else int(known.sum())
        )  # where each pixel may be of several classes, or none
        area_of[known > 0] += own
        labelled += own
        void += int(pair.pixels.sum() - known.sum())
        total += pair.label_area * max(form.planes, 1)
        sums, squares, area = sums + pair.sums, squares + pair.squares, area + pair.area
        samples += [] if pair.values is None else [pair.values]
    if not pixels.sum():
        raise DataError(f"no pixel of the data set is labelled with one of its {count:d} classes.")
    share = pixels / labelled
    median, enet = class_weights(pixels, area_of, labelled)
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
    std = np.sqrt(np.maximum(squares / area - mean**2, 0))
    found = _found_range(samples) if samples else None
    used = image_form.to_plain() or found
    if found is not None and image_form.value_range is None:  # the sums are of the values themselves
        lows, highs = np.array(found).T
        mean, std = (mean - lows) / (highs - lows), std / (highs - lows)
    return {
        "images": len(dataset.file_list),
        "classes": rows,
        "ignored_share": void / total,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "img_range": used,
        "found_range": found,
    }


def _found_range(samples: Sequence[np.ndarray]) -> list[list[float]]:
    """For each channel the values that nearly all lie between, rounded outward to three digits."""
    values = np.concatenate(samples)
    pairs = []
    for channel in values.T:
        finite = channel[np.isfinite(channel)]
        low, high = np.quantile(finite, _RANGE_SHARES) if finite.size else (0.0, 1.0)
        unit = 10.0 ** (math.floor(math.log10(max(abs(low), abs(high), high - low, 1e-30))) - 2)
        low, high = math.floor(low / unit) * unit, math.ceil(high / unit) * unit
        pairs.append([float(f"{low:.6g}"), float(f"{high if high > low else low + 1:.6g}")])
    return pairs


def _pair_sums(pair, form: Form) -> _PairSums:
    image = read_values(pair[0], form.image.channels)
    if form.planes:
        label = read_planes(pair[1], form.planes, (image.shape[0], image.shape[1]), form.ignore_index)
    else:
        label = read_label(pair[1])
    if label.size and (label.min() < 0 or label.max() >= form.values):
        raise DataError(
            f"label {pair[1]} holds values above {form.values - 1:d} or below 0; 'ppliteseg data check' lists all such "
            "files."
        )
    pixels, label_area = count_values(label, form), label.shape[0] * label.shape[1]
    channels = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype == np.uint8 and form.image.value_range is None:
        planes = [image] if channels == 1 else [image[..., place] for place in _file_order(channels)]
        histograms = [np.bincount(plane.ravel(), minlength=256) for plane in planes]
        values = np.arange(256) / 255
        sums = np.array([h @ values for h in histograms]), np.array([h @ values**2 for h in histograms])
        return _PairSums(pixels, *sums, image.shape[0] * image.shape[1], label_area, None)
    flat = image.reshape(-1, channels)[:, list(_file_order(channels))]
    levels = form.image.levels(image).reshape(-1, channels)[:, list(_file_order(channels))] / 255.0
    used = (flat if form.image.value_range is None else levels).astype(np.float64)
    known = np.isfinite(used).all(axis=1)
    used = used[known]
    sample = flat[:: max(1, len(flat) // _SAMPLED)].astype(np.float64)
    return _PairSums(pixels, used.sum(axis=0), (used**2).sum(axis=0), len(used), label_area, sample)


def _file_order(channels: int) -> Sequence[int]:
    """Where each channel of a file lies in an image: three are BGR."""
    return (2, 1, 0) if channels == 3 else range(channels)


def class_weights(pixels: np.ndarray, area_of: np.ndarray, labelled: int | None = None):
    """Loss weights from class pixels.

    Args: pixels: (C,), of each class; area_of: (C,), labelled pixels of the images in which the class occurs;
        labelled: pixels of all labels; None takes the sum of `pixels`.
    Returns: two lists with None for classes that do not occur. Median frequency balancing: median(f) / f with
        f = pixels / area_of. ENet: 1 / ln(1.02 + share of all labelled pixels).
    Source: Eigen and Fergus, arXiv 1411.4734, section 6.3.2 (as SegNet uses it); Paszke et al., arXiv 1606.02147,
        section 5.2.
    """
    present = pixels > 0
    frequency = pixels[present] / area_of[present]
    middle = float(np.median(frequency))
    share = pixels / (labelled or pixels.sum())
    median: list[float | None] = [None] * len(pixels)
    for i, f in zip(np.flatnonzero(present), frequency):
        median[i] = float(middle / f)
    return median, [1 / math.log(ENET_CONSTANT + float(s)) if p else None for s, p in zip(share, present)]
