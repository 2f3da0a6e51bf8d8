"""Which pairs are for training and which for validation: by lists that lie beside the images, else by chance."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import NamedTuple

from ppliteseg_paddle.data.prepare.writing import list_path
from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.lists import read_list

VAL_SHARE, MAX_VAL = 0.2, 500  # of the pairs for validation, where nothing is asked for; Cityscapes has 500


class Split(NamedTuple):
    """val: indices of the pairs for validation; folder: whose train.txt and val.txt say so, None for a random split."""

    val: frozenset[int]
    folder: str | None = None


def split_of(images: Sequence[str], val: float | None = None, seed: int | None = None) -> Split:
    """Split pairs, given by their images.

    Args: val: share for validation, None for the split of lists beside the images, else for `VAL_SHARE` and at most
        `MAX_VAL`; seed: of a random split.
    Raises: DataError: if there are too few.
    """
    listed = _listed(images) if val is None and seed is None else None
    if listed is not None:
        return listed
    share = VAL_SHARE if val is None else val
    held_out = max(1, round(share * len(images))) if share > 0 else 0
    held_out = held_out if val is not None else min(held_out, MAX_VAL)
    if held_out >= len(images):
        raise DataError(
            f"{len(images):d} pairs are too few for a training and a validation list; add images, or pass --val 0."
        )
    order = list(range(len(images)))
    random.Random(seed or 0).shuffle(order)  # noqa: S311 - a split that can be repeated, no secret
    return Split(frozenset(order[:held_out]))


def _listed(images: Sequence[str]) -> Split | None:
    """The split of train.txt and val.txt in the images' folder or the one above, if they name each image once."""
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in images])
    for where in (folder, os.path.dirname(folder)):
        try:
            train, val = (
                {os.path.realpath(row.image) for row in read_list(list_path(where, split), where, needs_label=False)}
                for split in ("train", "val")
            )
        except DataError:  # none there, or lists of something else
            continue
        real = [os.path.realpath(path) for path in images]
        if train and val and all((path in train) != (path in val) for path in real):
            return Split(frozenset(i for i, path in enumerate(real) if path in val), where)
    return None
