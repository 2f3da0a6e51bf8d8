"""Figures of samples: some pairs of a data set, and a model's masks of the richest scenes."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

from ppliteseg_paddle.reading.images import read_image
from ppliteseg_paddle.reading.label_sets import LabelSet
from ppliteseg_paddle.reading.labels import read_label
from ppliteseg_paddle.visual.bands import shown_image
from ppliteseg_paddle.visual.grid import Row, grid


def samples_grid(dataset: Any, label_set: LabelSet, count: int, seed: int, subtitle: str) -> np.ndarray:
    """Images of a data set, drawn at random, with their labels. Shape: returns (H, W, 3) uint8, BGR.

    Args: dataset: with `read(index)` and `file_list`; seed: which images.
    """
    rng = random.Random(seed)  # noqa: S311 - a choice that can be repeated, no secret
    chosen = sorted(rng.sample(range(len(dataset)), min(count, len(dataset))))
    rows = []
    for index in chosen:
        image, label = dataset.read(index)
        rows.append(Row(shown_image(image), None, label, os.path.basename(dataset.file_list[index][0])))
    return grid(rows, label_set, "Samples", subtitle, headings=("Image", "", "Label"))


def richest_scenes_grid(
    pairs: Sequence[tuple[str, str]],
    predict: Callable[[np.ndarray], np.ndarray],
    label_set: LabelSet,
    count: int,
    title: str,
    subtitle: str,
) -> np.ndarray:
    """The scenes whose labels hold most classes, with label and prediction. Shape: returns (H, W, 3) uint8, BGR.

    Args: pairs: paths of (image, label); predict: BGR image -> mask.
    """
    labelled = [(image, read_label(label)) for image, label in pairs]
    labelled.sort(key=lambda pair: -len(np.unique(pair[1])))
    rows = []
    for path, label in labelled[:count]:
        image = read_image(path)
        rows.append(Row(image, label, predict(image)))
    return grid(rows, label_set, title=title, subtitle=subtitle)
